from __future__ import annotations

import errno
import logging
import os

import numpy as np
import pytest
from numba import config
from numba.core.registry import cpu_target

from numbaglm.kernels import _jit
from numbaglm.kernels._jit import exact_kernel, kernel


class Compiled:
    """What numba makes of a function, as far as its cache is concerned."""

    def __init__(self, function):
        self.py_func = function


def test_kernels_stay_as_they_are_where_nothing_can_be_kept(caplog):
    namespace = {}
    exec(compile("def nowhere(x): return 2 * x", "<no file>", "exec"), namespace)
    _jit._tell_of_no_cache.cache_clear()
    with caplog.at_level(logging.WARNING, "numbaglm"):
        first, second = kernel(namespace["nowhere"]), exact_kernel(namespace["nowhere"])
        assert first(2.0) == second(2.0) == 4.0
        assert _jit._cached(Compiled(namespace["nowhere"]))._cache.load_overload((), None) is None
    assert len(caplog.records) == 1, "once for all kernels"
    assert "NUMBA_CACHE_DIR" in caplog.text


def some_function(x):
    return x


def test_any_kernel_that_changes_makes_all_of_them_stale(monkeypatch):
    def stamp():
        return _jit._Cache(some_function)._cache_file._source_stamp

    before = stamp()
    assert stamp() == before
    monkeypatch.setattr(_jit, "_sources", lambda: "kernels as they are written tomorrow")
    assert stamp() != before


def test_what_was_compiled_is_found_by_its_signature_and_of_the_same_sources(tmp_path):
    files = _jit._CacheFiles(str(tmp_path), "kernel", "today")
    files.save("int32", 32)
    files.save("int64", 64)
    again = _jit._CacheFiles(str(tmp_path), "kernel", "today")
    assert [again.load(key) for key in ("int32", "int64", "float32")] == [32, 64, None]
    later = _jit._CacheFiles(str(tmp_path), "kernel", "tomorrow")
    assert later.load("int32") is None
    later.save("int32", 33)
    assert later.load("int32") == 33
    assert files.load("int32") is None


def test_processes_that_compile_at_once_never_get_each_others_code(tmp_path, monkeypatch):
    # Neither sees what the other has written in the meantime, at any moment.
    monkeypatch.setattr(_jit._CacheFiles, "_load_index", lambda self: {})
    for signature in ("int32", "int64"):
        _jit._CacheFiles(str(tmp_path), "kernel", "today").save(signature, signature)
    monkeypatch.undo()
    files = _jit._CacheFiles(str(tmp_path), "kernel", "today")
    assert [files.load(signature) for signature in ("int32", "int64")] == [None, "int64"]
    assert len(list(tmp_path.glob("*.nbc"))) == 2, "a file of its own for each"


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 40])
def test_a_file_that_was_cut_short_is_written_anew(tmp_path, ending, left):
    files = _jit._CacheFiles(str(tmp_path), "kernel", "today")
    files.save("int32", "code" * 100)
    (file,) = tmp_path.glob(f"*{ending}")
    file.write_bytes(file.read_bytes()[:left])
    assert files.load("int32") is None
    files.save("int32", "code")
    assert files.load("int32") == "code"


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled (NUMBA_DISABLE_JIT)")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_a_kernel_runs_uncached_where_nothing_can_be_written(tmp_path, monkeypatch, caplog, number):
    def refuse(self, path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_jit._CacheFiles, "_open_for_write", refuse)
    with caplog.at_level(logging.WARNING, "numbaglm"):
        assert [kernel(lambda x: 2 * x)(2.0), kernel(lambda x: 3 * x)(2)] == [4.0, 6]
    (record,) = caplog.records  # once for all kernels
    assert str(tmp_path) in record.getMessage()
    assert os.strerror(number) in record.getMessage()
    assert "NUMBA_CACHE_DIR" in record.getMessage()


def test_code_of_another_layout_or_processor_is_not_found(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    cache, codegen = _jit._Cache(some_function), cpu_target.target_context.codegen()
    cache._cache_file.save(cache._index_key("int32", codegen), "code")
    assert cache._cache_file.load(cache._index_key("int32", codegen)) == "code"
    with monkeypatch.context() as patch:
        patch.setattr(_jit, "LAYOUT", (16, 2, 4))
        assert cache._cache_file.load(cache._index_key("int32", codegen)) is None
    monkeypatch.setattr(codegen, "_tm_features", "+sse2")
    assert cache._cache_file.load(cache._index_key("int32", codegen)) is None


def test_exact_kernels_round_as_numpy_does():
    def less_its_square(x, out):
        for i in range(x.size):
            out[i] = 1.0 - x[i] * x[i]

    x = np.random.default_rng(0).random(1000)
    out = np.empty(1000)
    exact_kernel(less_its_square)(x, out)
    np.testing.assert_array_equal(out, 1.0 - x * x)

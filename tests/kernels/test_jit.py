from __future__ import annotations

import logging

import numpy as np

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
        _jit._cached(Compiled(namespace["nowhere"]))
    assert first(2.0) == second(2.0) == 4.0
    assert len(caplog.records) == 1, "once for all kernels"
    assert "NUMBA_CACHE_DIR" in caplog.text


def some_function(x):
    return x


def test_any_kernel_that_changes_makes_all_of_them_stale(monkeypatch):
    def stamp():
        return _jit._cached(Compiled(some_function))._cache._cache_file._source_stamp

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


def test_exact_kernels_round_as_numpy_does():
    def less_its_square(x, out):
        for i in range(x.size):
            out[i] = 1.0 - x[i] * x[i]

    x = np.random.default_rng(0).random(1000)
    out = np.empty(1000)
    exact_kernel(less_its_square)(x, out)
    np.testing.assert_array_equal(out, 1.0 - x * x)

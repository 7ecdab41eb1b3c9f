"""The one kernel decorator.

Serial and without the GIL: Dask brings the parallelism (numba's own threading layer aborts when two threads
enter it). The compiler may fuse a product and a sum, and divide by way of a reciprocal; it may not change the order
of sums, which would then follow the width of vectors. So nulls are the same bits on all x86 processors of one maker
that fuse (AVX2 to AVX-512); partial t may differ in the last bit between makers, whose estimates of reciprocal roots
differ, and all nulls between processors that fuse and those that don't, by 1e-6 of the largest (TFCE 3e-6): below what
counts as a tie. Compiled code is cached on disk.
"""

# numba has no types.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.ccallback import CFunc

from numbaglm.kernels._llvm import LAYOUT, score_signature

F = TypeVar("F", bound=Callable[..., object])

_FASTMATH = {"contract", "arcp"}
# A C entry to every kernel would only take time to compile.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def kernel(function: F) -> F:
    """Compile a kernel: arrays and scalars in, arrays out."""
    return _compile(function, _FASTMATH)


def exact_kernel(function: F) -> F:
    """Compile a kernel whose every operation rounds as numpy's does."""
    return _compile(function, False)


def callback(function: Callable[..., None], dtype: np.dtype[Any]) -> Any:
    """Compile a score kernel (`scores`) as what has an address, by which other kernels call it."""
    signature = score_signature(numba.from_dtype(dtype))
    how = {"error_model": "numpy", "fastmath": _FASTMATH}
    compiled: Any = CFunc(function, (signature.args, signature.return_type), {}, how)
    with suppress(RuntimeError):  # of a function that stands in no file
        compiled._cache = _Cache(function)
    compiled.compile()
    return compiled


def _compile(function: F, fastmath: Any) -> F:
    return cast(F, _cached(numba.njit(**_OPTIONS, fastmath=fastmath)(function)))


def _cached(compiled: Any) -> Any:
    """Have compiled code kept on disk, where there is a place for it."""
    if hasattr(compiled, "py_func"):  # where NUMBA_DISABLE_JIT is set it is the function itself
        compiled._cache = _Unopened(compiled)
    return compiled


class _Unopened(NullCache):
    """What a kernel has for a cache until its code is asked for, which begins with a look whether it is kept.

    Nine in ten kernels are called by others alone, with which they are kept, and a process of a second need not look
    for the places of all of them.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            self._compiled._cache = _Cache(self._compiled.py_func)
        except RuntimeError:
            _tell_of_no_cache()
            self._compiled._cache = NullCache()
        return self._compiled._cache.load_overload(sig, target_context)


class _Cache(FunctionCache):
    """numba's cache, but for what makes it stale, what it tells apart, and what happens where it cannot write.

    numba's looks at a kernel's own file, not at the kernels it calls, knows no layout of memory, and ends the caller's
    work when the disk is full: here the kernel runs uncached.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp(), _sources()
        self._cache_file = _CacheFiles(self.cache_path, self._impl.filename_base, stamp)

    def _index_key(self, signature: Any, codegen: Any) -> tuple[Any, ...]:
        # numba's own part holds all that the layout follows from; this holds if that should ever change.
        return super()._index_key(signature, codegen), LAYOUT

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            _tell_of_lost_code(self.cache_path, error.strerror or str(error))


class _CacheFiles(IndexDataCacheFile):
    """Compiled forms of a kernel by their signatures.

    Files are named by the signature. numba numbers them, and processes that compile different signatures at once
    may give them one number: the index of one then leads to the code of the other.

    A file that cannot be read, or was cut short, is as good as none: the kernel is compiled, and the file written anew.
    """

    def load(self, key: Any) -> Any:
        try:
            return super().load(key)
        except Exception:  # a pickle that is cut short raises anything
            return None

    def save(self, key: Any, data: Any) -> None:
        signature = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        name = f"{self._index_name.removesuffix('.nbi')}.{signature}.nbc"
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except Exception:  # as in load
            return {}


@cache
def _sources() -> str:
    """Hash of all kernels as they are written."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@cache
def _tell_of_no_cache() -> None:
    logging.getLogger("numbaglm").warning(
        "No folder can be written to keep compiled code in, so that every process compiles anew: "
        "set NUMBA_CACHE_DIR to one that can."
    )


@cache
def _tell_of_lost_code(folder: str, why: str) -> None:
    logging.getLogger("numbaglm").warning(
        "Compiled code cannot be kept in %s (%s), so that every process compiles anew: make room there, "
        "or set NUMBA_CACHE_DIR to a folder that can be written.",
        folder,
        why,
    )

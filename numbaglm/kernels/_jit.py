"""The one kernel decorator.

Serial and without the GIL: Dask brings the parallelism (numba's own threading layer aborts when two threads
enter it). Fast-math is the subset that keeps NaN and infinity meaningful. Compiled code is cached on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

_FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}


def kernel(function: F) -> F:
    """Compile a kernel: arrays and scalars in, arrays out."""
    compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FASTMATH)(function)
    return cast(F, compiled)

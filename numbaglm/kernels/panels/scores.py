"""What makes scores of products: functions that the loops over shufflings and voxels call by their address.

So these loops are compiled once for each precision, whatever families of statistics there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import config
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.kernels import _llvm
from numbaglm.kernels._jit import callback

Function = Callable[[Floats, Floats, NDArray[np.int64], Floats], None]


class Score:
    """A score kernel, compiled where it is first needed.

    Its function takes, for a few shufflings of a panel of voxels, side by side:

    products
        (n_rows + n_kept + n_scratch, n) products of the rows, those of the first layer first, then what is known of
        the patterns of the voxels (`numbaglm.stats.families.family.OfPatterns`). The score is left in the first row;
        where it has to be finished (`numbaglm.stats.families.family.Finish`), in the second what that needs. The others
        are scratch.
    fixed
        (n_fixed, width) what no shuffling changes; entry v of the products is of voxel v % width.
    sizes, constants
        (any,) int64 and floats: what it must know of the design.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self.__module__, self.__doc__ = function.__module__, function.__doc__
        self._compiled: dict[np.dtype[Any], Any] = {}

    def __reduce__(self) -> Any:
        return self.function.__qualname__  # the name under which its module has it

    def __call__(self, products: Floats, fixed: Floats, sizes: NDArray[np.int64], constants: Floats) -> None:
        """Fill the first row of ``products`` as the compiled form does."""
        self.function(products, fixed, sizes, constants)

    def address(self, dtype: np.dtype[Any]) -> Any:
        """Where its compiled form is: what `call` takes."""
        if is_plain:
            return self.function
        if dtype not in self._compiled:
            self._compiled[dtype] = callback(self.function, dtype)
        return self._compiled[dtype].address


def call_plain(address: Any, products: Floats, fixed: Floats, sizes: NDArray[np.int64], constants: Floats) -> None:
    """Call a score kernel by its address.

    numba takes functions as arguments too, but asks Python where each of them is, in every call.
    """
    address(products, fixed, sizes, constants)


is_plain: bool = config.DISABLE_JIT  # type: ignore[attr-defined]
_compiled: Any = _llvm.call
call: Callable[[Any, Floats, Floats, NDArray[np.int64], Floats], None] = call_plain if is_plain else _compiled


class Scoring(NamedTuple):
    """A score kernel and what it is told.

    Attributes
    ----------
    score
        The kernel; None where the product of the first row is the score.
    sizes, constants
        See `Score`; constants in the precision of the products.
    n_scratch
        Rows of scratch that it needs beside the products.
    n_kept
        Rows between them and the products, of numbers of patterns.
    """

    score: Score | None
    sizes: NDArray[np.int64]
    constants: Floats
    n_scratch: int = 0
    n_kept: int = 0

    def address(self, dtype: np.dtype[Any]) -> Any:
        """See `Score.address`; 0 for no kernel."""
        return 0 if self.score is None else self.score.address(dtype)

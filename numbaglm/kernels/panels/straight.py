"""Score kernels without loops: what they make of the products of a voxel stays in registers.

Where there are few rows, a pass over each from the cache and back takes longer than the arithmetic. So a kernel is
compiled for the numbers of rows that there are, as one line of vector code. It is written once, as a recipe: Python
that makes scores of rows of numpy, and that emits the code where it is given vectors of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.kernels import _llvm
from numbaglm.kernels.panels.scores import Function, Score, is_plain

Recipe = Callable[..., tuple[int, Any]]
"""Of `Numbers`, and of sizes: the row that the score is left in, and the score."""

vector_code: Callable[[Recipe], Any] = _llvm.straight
"""Compiled form of `follow`, of products, constants, and sizes in words (`in_words`)."""


class Numbers:
    """Rows and constants, and what a recipe may do with them beside + - * / and abs.

    Parameters
    ----------
    products, constants
        See `Score`.
    """

    def __init__(self, products: Floats, constants: Floats) -> None:
        self.products, self.constants = products, constants

    def row(self, number: int) -> Any:
        """Return a row of the products."""
        return self.products[number]

    def constant(self, number: int) -> Any:
        """Return one of the constants."""
        return self.constants[number]

    def sqrt(self, x: Any) -> Any:
        """Return the root."""
        return np.sqrt(x)

    def where_less(self, x: Any, y: Any, yes: Any, no: Any) -> Any:
        """Return the one where x < y; the other elsewhere, and where either is NaN."""
        return np.where(x < y, yes, no).astype(self.products.dtype)


def follow(recipe: Recipe, sizes: tuple[int, ...], products: Floats, constants: Floats) -> None:
    """Go through a recipe with rows of numpy."""
    with np.errstate(over="ignore", invalid="ignore"):  # as compiled
        place, score = recipe(Numbers(products, constants), *sizes)
    products[place] = score


def in_words(sizes: tuple[int, ...]) -> str:
    """Sizes in words."""
    return " ".join(map(str, sizes))


class Straight(Score):
    """A score kernel that is compiled for some sizes.

    Parameters
    ----------
    function, plain
        The kernel as it is compiled, and as Python calls it.
    make, sizes
        A function of a module that makes the same again, of these.
    double
        The kernel that double precision takes; None for this one.
    """

    def __init__(
        self,
        function: Function,
        plain: Function,
        make: Callable[..., Score],
        sizes: tuple[int, ...],
        double: Score | None = None,
    ) -> None:
        super().__init__(function)
        self.plain, self.make, self.sizes, self.double = plain, make, sizes, double

    def __reduce__(self) -> Any:
        return self.make, self.sizes

    def __call__(self, products: Floats, fixed: Floats, sizes: NDArray[np.int64], constants: Floats) -> None:
        """See `Score`."""
        kernel = self.plain if self.double is None or products.itemsize == 4 else self.double
        kernel(products, fixed, sizes, constants)

    def address(self, dtype: np.dtype[Any]) -> Any:
        """See `Score`."""
        if self.double is not None and dtype.itemsize == 8:
            return self.double.address(dtype)
        return self.plain if is_plain else super().address(dtype)

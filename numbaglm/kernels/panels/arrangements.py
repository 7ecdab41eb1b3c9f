"""All distinct arrangements of items, some of which are alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.kernels._jit import kernel


@kernel
def enumerate_arrangements(classes: NDArray[np.int32], items: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """All distinct arrangements of items whose classes repeat, in lexicographic order of the classes.

    Items move along with their classes, so that which of a class's items stands where follows from the steps.

    Parameters
    ----------
    classes
        (n,) class of each item, ascending; overwritten.
    items
        (n,) items; overwritten.
    out
        (n_arrangements, n), filled; the first row is the items as given.

    References
    ----------
    Knuth, The Art of Computer Programming 4A, section 7.2.1.2, Algorithm L.
    """
    n = classes.shape[0]
    for row in range(out.shape[0]):
        for i in range(n):  # to assign the row as a whole takes five times as long to compile
            out[row, i] = items[i]
        j = n - 2
        while j >= 0 and classes[j] >= classes[j + 1]:
            j -= 1
        if j < 0:
            return
        last = n - 1
        while classes[j] >= classes[last]:
            last -= 1
        classes[j], classes[last] = classes[last], classes[j]
        items[j], items[last] = items[last], items[j]
        left, right = j + 1, n - 1
        while left < right:
            classes[left], classes[right] = classes[right], classes[left]
            items[left], items[right] = items[right], items[left]
            left += 1
            right -= 1

"""Values of a map in order: where each stands, from the lowest absolute value to the highest.

Heights are put on the grid as integers of their order, by which neighbours are compared: a value's bits where it is
single, and where it is double, for which there is no room, its rank with its sign. Whatever follows the order is then
the same for both precisions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Ints
from numbaglm.kernels._jit import kernel

Keys = NDArray[np.int64]

N_DIGITS = 2048

_LOW = 0xFFFFFFFF
_DIGIT = N_DIGITS - 1
_ZERO, _MAGNITUDE = np.int32(0), np.int32(0x7FFFFFFF)  # all but the sign


@kernel
def rank_singles(
    values: NDArray[np.float32],
    position: Ints,
    two_sided: bool,
    height: Ints,
    order: Keys,
    absolute: NDArray[np.float64],
    keys: Keys,
    counts: Ints,
) -> int:
    """Rank the voxels that count: those that are not 0; if one-sided those above 0.

    Parameters
    ----------
    values
        (n_voxels,), finite.
    position
        (n_voxels,) of each voxel on the grid.
    height
        (n_positions,) the voxels' own are filled; 0 for those that don't count.
    order
        (n_voxels,), as many filled as are returned: positions by rank, in the low half. Equal values keep the order of
        their voxels.
    absolute
        (n_voxels,), as many filled as are returned: absolute values by rank.
    keys, counts
        (n_voxels,) and (3, N_DIGITS) scratch.

    Returns
    -------
    How many voxels count.
    """
    bits = values.view(np.int32)
    least = -_MAGNITUDE if two_sided else _ZERO
    n_ranked = np.uint32(0)
    for n in range(bits.size):
        x = bits[n]
        p = np.uint32(position[n])
        signed = max(x if x >= 0 else -(x & _MAGNITUDE), least)
        height[p] = signed
        keys[n_ranked] = (np.int64(abs(signed)) << 32) | np.int64(p)
        # Without a branch: the next key overwrites this one if this voxel does not count.
        n_ranked = np.uint32(n_ranked + np.uint32(signed != 0))
    _sort(keys, n_ranked, counts, order)
    halves = order.view(np.float32)  # the key is a value's bits: (low, high) as all of numpy's wheels have it
    for r in range(n_ranked):
        absolute[r] = halves[2 * r + 1]
    return int(n_ranked)


@kernel
def rank_doubles(
    values: NDArray[np.float64],
    position: Ints,
    two_sided: bool,
    height: Ints,
    order: Keys,
    absolute: NDArray[np.float64],
    keys: Keys,
    counts: Ints,
) -> int:
    """Do the same in double precision: a sort by the low words of the values, and one by the high words.

    It leaves in `keys` the voxels by rank, in the low half.
    """
    bits = values.view(np.int64)
    n_ranked = np.uint32(0)
    for n in range(values.size):
        height[np.uint32(position[n])] = 0
        keys[n_ranked] = ((bits[n] & _LOW) << 32) | n
        n_ranked = np.uint32(n_ranked + np.uint32(values[n] != 0 if two_sided else values[n] > 0))
    _sort(keys, n_ranked, counts, order)
    for r in range(n_ranked):
        n = order[r] & _LOW
        order[r] = ((bits[np.uint32(n)] >> 32 & _MAGNITUDE) << 32) | n
    _sort(order, n_ranked, counts, keys)
    for r in range(n_ranked):
        voxel = np.uint32(keys[r])
        p = position[voxel]
        sign = bits[voxel] >> 63  # 0 or -1: a branch would be mispredicted half the time
        absolute[r] = abs(values[voxel])
        order[r] = p
        height[np.uint32(p)] = ((r + 1) ^ sign) - sign
    return int(n_ranked)


@kernel
def _sort(keys: Keys, n: int | np.uint32, counts: Ints, out: Keys) -> None:
    """Sort the first n keys by their high halves, stably, into ``out``; the keys are overwritten.

    Positive floats compare as their bits do: a radix sort, of three digits.
    """
    counts[:] = 0
    for r in range(n):
        key = keys[r]
        counts[0, (key >> 32) & _DIGIT] += 1
        counts[1, (key >> 43) & _DIGIT] += 1
        counts[2, (key >> 54) & _DIGIT] += 1
    for digit in range(3):
        begin = 0
        for k in range(N_DIGITS):
            here = counts[digit, k]
            counts[digit, k] = begin
            begin += here
    a, b = keys, out
    for digit in range(3):
        count = counts[digit]
        shift = 32 + 11 * digit
        for r in range(n):
            key = a[r]
            d = np.uint32((key >> shift) & _DIGIT)
            b[np.uint32(count[d])] = key
            count[d] += 1
        a, b = b, a

"""Which neighbours a voxel follows when voxels enter from the highest to the lowest.

The higher neighbours of a voxel, in their 3 x 3 x 3 cube, mostly touch one another: they are then in one
component already, which any one of them stands for. A voxel without higher neighbours is a local maximum,
one whose higher neighbours are in one piece follows one of them, and only the few others, the saddles, have
to ask which components they join. The masks of higher neighbours come from comparisons along rows, and the
pieces from shifts of masks: the compiler vectorises both, so that 26 neighbours cost little more than 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Ints
from numbaglm.kernels._jit import kernel

Bits = NDArray[np.signedinteger[Any]]
Measure = tuple[()] | tuple[NDArray[np.int64], float]

SEGMENT = 2048  # positions whose masks stay in the first cache
_GAP = 64  # a gap in the mask that is cheaper to compute through than to start anew after


class Volume(NamedTuple):
    """Where the voxels lie, and which touch. Read only: threads share it.

    Voxels have a position in a grid cropped to the mask, where rows share one cell of padding; voxels outside
    the mask have height 0 there and never count.

    Attributes
    ----------
    position
        (n_voxels,) int32, increasing.
    n_positions
        Size of the grid.
    segments
        (n_segments, 2) int64, start and length of the stretches of positions that hold the mask.
    offset
        (37,) int64, from a voxel to its neighbour of bit b (0 to 26, C order of the cube), at ``2**b % 37``.
        2 is a primitive root of 37: no two bits meet, and the table spares a logarithm.
    before
        (connectivity / 2,) int64, from a voxel to its neighbours that come before it.
    measure
        (): voxels are counted.
    strides
        Positions to the next plane and to the next row.
    connectivity
        6, 18 or 26.
    """

    position: Ints
    n_positions: int
    segments: NDArray[np.int64]
    offset: NDArray[np.int64]
    before: NDArray[np.int64]
    measure: tuple[()]
    strides: tuple[int, int]
    connectivity: int


def new_volume(padded_index: Ints, padded_shape: tuple[int, int, int], connectivity: int) -> Volume:
    """Prepare a mask.

    Parameters
    ----------
    padded_index
        (n_voxels,) increasing flat indices of the mask's voxels in a grid of `padded_shape` (C order).
    padded_shape
        Shape of that grid.
    connectivity
        6 (faces), 18 (faces and edges) or 26 (faces, edges and corners).
    """
    ijk = np.array(np.unravel_index(padded_index, padded_shape))
    i, j, k = ijk - ijk.min(axis=1, keepdims=True)
    row = int(k.max()) + 2
    plane = (int(j.max()) + 2) * row
    margin = plane + row + 1
    position = margin + i * plane + j * row + k
    segments = []
    for stretch in np.split(position, np.flatnonzero(np.diff(position) > _GAP) + 1):
        end = int(stretch[-1]) + 1
        segments += [(start, min(SEGMENT, end - start)) for start in range(int(stretch[0]), end, SEGMENT)]
    offset = np.zeros(37, dtype=np.int64)
    before = []
    for bit, (a, b, c) in enumerate(np.ndindex(3, 3, 3)):
        offset[2**bit % 37] = (a - 1) * plane + (b - 1) * row + c - 1
        if bit < 13 and _distance(a, b, c) <= {6: 1, 18: 2, 26: 3}[connectivity]:
            before.append(offset[2**bit % 37])
    return Volume(
        position.astype(np.int32),
        int(position[-1]) + 1 + margin,
        np.array(segments, dtype=np.int64),
        offset,
        np.array(before, dtype=np.int64),
        (),
        (plane, row),
        connectivity,
    )


def _cells(chosen: Callable[[int, int, int], bool]) -> np.int32:
    """Mask of the cells (a, b, c) of the cube for which `chosen`; bit 9 a + 3 b + c."""
    return np.int32(sum(1 << bit for bit, cell in enumerate(np.ndindex(3, 3, 3)) if chosen(*cell)))


def _distance(a: int, b: int, c: int) -> int:
    return abs(a - 1) + abs(b - 1) + abs(c - 1)


_CUBE = _cells(lambda a, b, c: True)
_OTHERS = _cells(lambda a, b, c: _distance(a, b, c) >= 1)
_FACES = _cells(lambda a, b, c: _distance(a, b, c) == 1)
_FACES_EDGES = _cells(lambda a, b, c: 1 <= _distance(a, b, c) <= 2)
_PLANE_0, _PLANE_2 = _cells(lambda a, b, c: a == 0), _cells(lambda a, b, c: a == 2)
_ROW_0, _ROW_2 = _cells(lambda a, b, c: b == 0), _cells(lambda a, b, c: b == 2)
_COLUMN_0, _COLUMN_2 = _cells(lambda a, b, c: c == 0), _cells(lambda a, b, c: c == 2)
_OWN_ROW = _cells(lambda a, b, c: (a, b) == (1, 1) and c != 1)
_NONE, _ONE = np.int32(0), np.int32(1)

# int32 all along: numba would widen what is not cast back, and halve the vectors.
_i = np.int32


@kernel
def link_neighbours(height: Bits, volume: Volume, link: Ints, higher_: Ints, floor_: Bits, tie_: Bits) -> None:
    """Find, for every position, which of its neighbours to follow when it enters.

    A neighbour is higher if it enters before: larger, or equal and later in position. Below 0 everything is
    mirrored: the neighbours that are not higher as numbers are those with more height.

    Parameters
    ----------
    height
        (n_positions,) heights as integers of their order, 0 where there is no voxel.
    volume
        From `new_volume`.
    link
        (n_positions,) overwritten: -1 nothing to follow, p >= 0 the voxel at position p, below -1 the
        complement of a mask of neighbours, one or more of each piece. Without meaning where `height` is 0.
    higher_, floor_, tie_
        (SEGMENT,) scratch: mask of higher neighbours; what a neighbour must exceed to be one, where it comes
        before the voxel and where it comes after.
    """
    plane, row = volume.strides
    for segment in range(volume.segments.shape[0]):
        start, size = volume.segments[segment]
        higher, floor, tie = higher_[:size], floor_[:size], tie_[:size]
        centre = height[start : start + size]
        _set_floors(centre, higher, floor, tie)
        for a in range(3):
            begin = start + (a - 1) * plane - 1
            before, beside = height[begin - row : begin - row + size + 2], height[begin : begin + size + 2]
            after = height[begin + row : begin + row + size + 2]
            if a == 1:
                _compare_row(before, floor, 9, higher)
                _compare_own_row(beside, floor, tie, higher)
                _compare_row(after, tie, 15, higher)
            else:
                _compare_plane(before, beside, after, floor if a == 0 else tie, 9 * a, higher)
        _mirror_negative(centre, higher)
        codes = link[start : start + size]
        if volume.connectivity == 26:
            _link_26(higher, _i(start), _i(plane), _i(row), codes)
        elif volume.connectivity == 18:
            _link_18(higher, _i(start), _i(plane), _i(row), codes)
        else:
            _link_6(higher, _i(start), _i(plane), _i(row), codes)


@kernel
def _set_floors(centre: Bits, higher: Ints, floor: Bits, tie: Bits) -> None:
    """Set what neighbours must exceed: the height, or one less where an equal counts; at 0 nothing does."""
    unreachable = np.iinfo(centre.dtype).max
    for k in range(centre.size):
        x = centre[k]
        higher[k] = 0
        floor[k] = unreachable if x == 0 else (x if x > 0 else x - 1)
        tie[k] = unreachable if x == 0 else (x - 1 if x > 0 else x)


@kernel
def _mark(beside: Bits, k: int, floor: int, left: np.int32, middle: np.int32, right: np.int32) -> np.int32:
    sides = _i((left if beside[k] > floor else _NONE) | (right if beside[k + 2] > floor else _NONE))
    return _i(sides | (middle if beside[k + 1] > floor else _NONE))


@kernel
def _compare_plane(before: Bits, beside: Bits, after: Bits, floor: Bits, bit: int, higher: Ints) -> None:
    """Mark the nine neighbours of a plane, bits `bit` to ``bit + 8``."""
    b0, b1, b2 = _i(1 << bit), _i(2 << bit), _i(4 << bit)
    b3, b4, b5 = _i(8 << bit), _i(16 << bit), _i(32 << bit)
    b6, b7, b8 = _i(64 << bit), _i(128 << bit), _i(256 << bit)
    for k in range(higher.size):
        marks = _i(_mark(before, k, floor[k], b0, b1, b2) | _mark(beside, k, floor[k], b3, b4, b5))
        higher[k] = _i(_i(higher[k] | marks) | _mark(after, k, floor[k], b6, b7, b8))


@kernel
def _compare_row(beside: Bits, floor: Bits, bit: int, higher: Ints) -> None:
    """Mark the three neighbours of a row, bits `bit` to ``bit + 2``."""
    left, middle, right = _i(1 << bit), _i(2 << bit), _i(4 << bit)
    for k in range(higher.size):
        higher[k] = _i(higher[k] | _mark(beside, k, floor[k], left, middle, right))


@kernel
def _compare_own_row(beside: Bits, floor: Bits, tie: Bits, higher: Ints) -> None:
    """Mark the neighbours before and after in the voxel's own row, bits 12 and 14."""
    left, right = _i(1 << 12), _i(1 << 14)
    for k in range(higher.size):
        sides = _i((left if beside[k] > floor[k] else _NONE) | (right if beside[k + 2] > tie[k] else _NONE))
        higher[k] = _i(higher[k] | sides)


@kernel
def _mirror_negative(centre: Bits, higher: Ints) -> None:
    for k in range(higher.size):
        higher[k] = _i(higher[k] ^ _OTHERS) if centre[k] < 0 else higher[k]


@kernel
def _shifted(mask: np.int32, by: int, from_above: np.int32, from_below: np.int32) -> np.int32:
    """Add a mask's neighbours along one axis, without those that would come round from the other side."""
    return _i(mask | _i(_i(_i(mask << by) & from_below) | _i(_i(mask >> by) & from_above)))


@kernel
def _widen_c(mask: np.int32) -> np.int32:
    return _shifted(mask, 1, _i(_CUBE ^ _COLUMN_2), _i(_CUBE ^ _COLUMN_0))


@kernel
def _widen_b(mask: np.int32) -> np.int32:
    return _shifted(mask, 3, _i(_CUBE ^ _ROW_2), _i(_CUBE ^ _ROW_0))


@kernel
def _widen_a(mask: np.int32) -> np.int32:
    return _shifted(mask, 9, _CUBE, _CUBE)


@kernel
def _lowest(mask: np.int32) -> np.int32:
    return _i(mask & _i(-mask))


@kernel
def _nearest(mask: np.int32, otherwise: np.int32) -> np.int32:
    own = _i(mask & _OWN_ROW)
    return _lowest(own if own != 0 else otherwise)


@kernel
def _code(first: np.int32, apart: np.int32, position: np.int32, di: np.int32, dj: np.int32) -> np.int32:
    """Encode what a voxel follows.

    `first` is a one-bit mask of the neighbour to follow, `apart` those not seen to be of the same piece.
    """
    a = _i((di if _i(first & _PLANE_2) else _NONE) - (di if _i(first & _PLANE_0) else _NONE))
    b = _i((dj if _i(first & _ROW_2) else _NONE) - (dj if _i(first & _ROW_0) else _NONE))
    c = _i((_ONE if _i(first & _COLUMN_2) else _NONE) - (_ONE if _i(first & _COLUMN_0) else _NONE))
    follow = _i(_i(position + a) + _i(b + c))
    code = follow if apart == 0 else _i(~_i(first | apart))
    return code if first != 0 else _i(-1)


# In each of these the piece of the first neighbour grows through higher voxels for as many rounds as nearly
# all pieces need. A piece not grown to its end costs a search that ends in the same branch, nothing else.


@kernel
def _link_26(higher: Ints, start: np.int32, di: np.int32, dj: np.int32, codes: Ints) -> None:
    for k in range(higher.size):
        mask = higher[k]
        faces = _i(mask & _FACES)
        first = _nearest(mask, faces if faces != 0 else mask)
        piece = _i(_widen_a(_widen_b(_widen_c(first))) & mask)
        piece = _i(_widen_a(_widen_b(_widen_c(piece))) & mask)
        codes[k] = _code(first, _i(mask & ~piece), _i(start + _i(k)), di, dj)


@kernel
def _link_18(higher: Ints, start: np.int32, di: np.int32, dj: np.int32, codes: Ints) -> None:
    for k in range(higher.size):
        mask = higher[k]
        faces, joined = _i(mask & _FACES), _i(mask & _FACES_EDGES)
        first = _nearest(mask, faces if faces != 0 else joined)
        piece = first
        for _ in range(3):
            c = _widen_c(piece)
            piece = _i(_i(_i(_widen_b(c) | _widen_a(c)) | _widen_a(_widen_b(piece))) & mask)
        codes[k] = _code(first, _i(joined & ~piece), _i(start + _i(k)), di, dj)


@kernel
def _link_6(higher: Ints, start: np.int32, di: np.int32, dj: np.int32, codes: Ints) -> None:
    for k in range(higher.size):
        mask = higher[k]
        joined = _i(mask & _FACES)
        first = _nearest(mask, joined)
        piece = first
        for _ in range(4):
            piece = _i(_i(_i(_widen_c(piece) | _widen_b(piece)) | _widen_a(piece)) & mask)
        codes[k] = _code(first, _i(joined & ~piece), _i(start + _i(k)), di, dj)

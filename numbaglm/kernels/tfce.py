"""Exact threshold-free cluster enhancement (TFCE) of one map.

TFCE(v) is the integral, over the heights h from 0 to the height of voxel v, of extent(v, h)^E h^H, where
extent(v, h) counts the voxels of the connected component of {x : height(x) >= h} that holds v. Voxels enter one
by one, from the highest to the lowest; between two that enter the same component its extent is constant, so
that the integral is a finite sum and no step is needed. Stepping packages are served by the same code: only the
antiderivative of h^H becomes a staircase.

What makes it fast is to know before the descent which of a voxel's neighbours matter. Its higher neighbours, in
their 3 x 3 x 3 cube, mostly touch one another and are then one component already, which any one of them stands
for: a voxel without higher neighbours begins a branch (a local maximum), one whose higher neighbours are in one
piece follows one of them, and only the few others, the saddles, ask which branches they join. The masks of
higher neighbours are comparisons along rows, which the compiler vectorises, and 26 neighbours cost little more
than 6. The union-find lives on branches, a hundred times fewer than voxels.

Equal heights are ordered by position. The order among equals changes no result: it only adds terms that are 0.

References
----------
Smith and Nichols (2009), Threshold-free cluster enhancement, NeuroImage 44, 83-98.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numbaglm.kernels._jit import kernel


class Enhancement(NamedTuple):
    """How a map is enhanced.

    Attributes
    ----------
    E, H
        Exponents of extent (in voxels) and of height, H > -1.
    two_sided
        Enhance the negative part as well, apart from the positive part, with negative results. Otherwise only
        values above 0 count, and the others get 0.
    n_steps
        0 for the exact integral. Otherwise the sum over the heights ``peak * k / n_steps``, k = 1 ... n_steps, where
        the peak is the map's own (of both signs when two-sided) and belongs to the last step.
    dh
        0, or a fixed step in the map's unit: the sum over the heights ``dh * k``, whatever `n_steps`.
    times_step
        Whether the sum over steps is multiplied by the step.
    """

    E: float = 0.5
    H: float = 2.0
    two_sided: bool = True
    n_steps: int = 0
    dh: float = 0.0
    times_step: bool = True


class Volume(NamedTuple):
    """Where the voxels lie, and which touch. Read only: threads share it.

    Voxels have a position in a grid cropped to the mask, where rows share one cell of padding; voxels outside
    the mask have height 0 there and never count.

    Attributes
    ----------
    position
        (n_voxels,) int32, increasing.
    voxel
        (n_positions,) int32, the inverse; -1 outside the mask.
    segments
        (n_segments, 2) int64, start and length of the stretches of positions that hold the mask.
    offset
        (37,) int64, from a voxel to its neighbour of bit b (0 to 26 in the C order of the cube), at ``2**b % 37``.
        2 is a primitive root of 37: no two bits meet, and the table spares a logarithm.
    strides
        Positions to the next plane and to the next row.
    connectivity
        6, 18 or 26.
    """

    position: NDArray[np.int32]
    voxel: NDArray[np.int32]
    segments: NDArray[np.int64]
    offset: NDArray[np.int64]
    strides: tuple[int, int]
    connectivity: int


class Scratch(NamedTuple):
    """Memory for one map at a time, one a thread, to be reused. Nothing in it outlives a call.

    Attributes
    ----------
    height
        (n_positions,) the values' bits as integers in the order of the values; 0 outside the mask for good.
    link
        (n_positions,) int32: before a voxel enters, which neighbours to follow (see `_link_codes`); then its branch.
    order, order2
        (n_voxels,) int64: the sort's keys, each with its position and sign.
    counts
        (3, 2048) int32, the sort's histograms.
    integral
        (n_voxels,) float64 by rank: the integral of h^H from 0 to the height.
    parent, extent, total, reached
        (n_voxels,) by branch: union-find, voxels, TFCE and `integral` at the voxel last seen.
    merges
        (n_voxels, 3) int32: rank of the saddle, branch that ends, branch that goes on.
    higher, floor, floor_tie
        Of a stretch of positions: mask of higher neighbours; what a neighbour must exceed to be higher, when
        it comes before the voxel and when it comes after.
    """

    height: NDArray[np.signedinteger[Any]]
    link: NDArray[np.int32]
    order: NDArray[np.int64]
    order2: NDArray[np.int64]
    counts: NDArray[np.int32]
    integral: NDArray[np.float64]
    parent: NDArray[np.int32]
    extent: NDArray[np.int32]
    total: NDArray[np.float64]
    reached: NDArray[np.float64]
    merges: NDArray[np.int32]
    higher: NDArray[np.int32]
    floor: NDArray[np.signedinteger[Any]]
    floor_tie: NDArray[np.signedinteger[Any]]


_SEGMENT = 2048  # positions whose masks stay in the first cache
_GAP = 64  # cheaper to compute through than to start anew
_POSITION = 0x7FFFFFFF
_NEGATIVE = 0x80000000
_DIGIT = 2047


def new_volume(padded_index: NDArray[np.int32], padded_shape: tuple[int, int, int], connectivity: int) -> Volume:
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
    voxel = np.full(int(position[-1]) + 1 + margin, -1, dtype=np.int32)
    voxel[position] = np.arange(position.size)
    segments = []
    for stretch in np.split(position, np.flatnonzero(np.diff(position) > _GAP) + 1):
        end = int(stretch[-1]) + 1
        segments += [(start, min(_SEGMENT, end - start)) for start in range(int(stretch[0]), end, _SEGMENT)]
    offset = np.zeros(37, dtype=np.int64)
    for bit, (a, b, c) in enumerate(np.ndindex(3, 3, 3)):
        offset[2**bit % 37] = (a - 1) * plane + (b - 1) * row + c - 1
    return Volume(
        position.astype(np.int32), voxel, np.array(segments, dtype=np.int64), offset, (plane, row), connectivity
    )


def new_scratch(volume: Volume, dtype: DTypeLike) -> Scratch:
    """Allocate the memory to enhance maps of `dtype` (float32 or float64) on `volume`."""
    n_voxels, n_positions = volume.position.size, volume.voxel.size
    bits = np.dtype(f"i{np.dtype(dtype).itemsize}")
    return Scratch(
        height=np.zeros(n_positions, bits),
        link=np.empty(n_positions, np.int32),
        order=np.empty(n_voxels, np.int64),
        order2=np.empty(n_voxels, np.int64),
        counts=np.empty((3, _DIGIT + 1), np.int32),
        integral=np.empty(n_voxels),
        parent=np.empty(n_voxels, np.int32),
        extent=np.empty(n_voxels, np.int32),
        total=np.empty(n_voxels),
        reached=np.empty(n_voxels),
        merges=np.empty((n_voxels, 3), np.int32),
        higher=np.empty(_SEGMENT, np.int32),
        floor=np.empty(_SEGMENT, bits),
        floor_tie=np.empty(_SEGMENT, bits),
    )


@kernel
def tfce_map(
    values: NDArray[np.floating[Any]],
    volume: Volume,
    scratch: Scratch,
    how: Enhancement,
    out: NDArray[np.floating[Any]],
) -> None:
    """Enhance a map.

    Parameters
    ----------
    values
        (n_voxels,) float32 or float64, finite, C-contiguous.
    volume, scratch
        From `new_volume` and, for the dtype of `values`, `new_scratch`.
    how
        Exponents, sides, steps.
    out
        (n_voxels,) any float dtype, overwritten with the TFCE. Sums are float64 before they are stored.
    """
    order, n_nodes = _sort(values, volume, scratch, how.two_sided)
    _integrate(values, order, n_nodes, volume.voxel, how, scratch.integral)
    _link(scratch.height, volume, scratch)
    n_branches, n_merges = _descend(order, n_nodes, volume, scratch)
    out[:] = 0
    _ascend(order, n_nodes, n_branches, n_merges, how.E, volume.voxel, scratch, out)


@kernel
def tfce_max(
    values: NDArray[np.floating[Any]], volume: Volume, scratch: Scratch, how: Enhancement
) -> float:
    """Largest absolute TFCE of a map: exactly the maximum of what `tfce_map` gives in float64.

    TFCE grows along a branch, so that its maximum is at a branch's end; no map is written.

    Parameters
    ----------
    values, volume, scratch, how
        As for `tfce_map`.
    """
    order, n_nodes = _sort(values, volume, scratch, how.two_sided)
    _integrate(values, order, n_nodes, volume.voxel, how, scratch.integral)
    _link(scratch.height, volume, scratch)
    n_branches, n_merges = _descend(order, n_nodes, volume, scratch)
    _ascend(order, n_nodes, n_branches, n_merges, how.E, volume.voxel, scratch, None)
    largest = 0.0
    for branch in range(n_branches):
        largest = max(largest, scratch.total[branch])
    return largest


# ---- order -----------------------------------------------------------------------------------------------------------


@kernel
def _sort(
    values: NDArray[np.floating[Any]], volume: Volume, scratch: Scratch, two_sided: bool
) -> tuple[NDArray[np.int64], int]:
    """Put heights on the grid, and sort their positions by absolute value, stably and increasing.

    Positive floats compare as their bits do: a radix sort, 32 bits at a time, the key in the high half of an
    int64, sign and position in the low half. (Words lie little-endian, as on every platform of numpy's wheels.)
    """
    a, b = scratch.order, scratch.order2
    n_words = values.itemsize // 4
    words = values.view(np.int32)
    n_nodes = _load(values.view(scratch.height.dtype), words, volume.position, scratch.height, a, two_sided)
    for word in range(n_words):
        if word > 0:
            for r in range(n_nodes):
                low = a[r] & 0xFFFFFFFF
                n = volume.voxel[low & _POSITION]
                a[r] = (np.int64(words[n_words * n + word] & 0x7FFFFFFF) << 32) | low
        _count_digits(a, n_nodes, scratch.counts)
        for digit in range(3):
            count = scratch.counts[digit]
            shift = 32 + 11 * digit
            for r in range(n_nodes):
                key = a[r]
                d = np.uint32((key >> shift) & _DIGIT)
                b[np.uint32(count[d])] = key
                count[d] += 1
            a, b = b, a
    return a, n_nodes


@kernel
def _load(
    bits: NDArray[np.signedinteger[Any]],
    words: NDArray[np.int32],
    position: NDArray[np.int32],
    height: NDArray[np.signedinteger[Any]],
    order: NDArray[np.int64],
    two_sided: bool,
) -> int:
    """Write the grid, and the keys of the voxels that count: those that are not 0."""
    magnitude = np.iinfo(bits.dtype).max
    n_words = words.size // bits.size
    mask = 0x7FFFFFFF if n_words == 1 else 0xFFFFFFFF
    n_nodes = np.uint32(0)
    for n in range(bits.size):
        x = bits[n]
        p = np.uint32(position[n])
        absolute = x & magnitude
        negative = x < 0
        if negative and not two_sided:
            absolute = 0
        height[p] = -absolute if negative else absolute
        low = np.int64(p) | (_NEGATIVE if negative else 0)
        order[n_nodes] = ((np.int64(words[n_words * n]) & mask) << 32) | low
        # Without a branch: the next key overwrites this one if this voxel does not count.
        n_nodes = np.uint32(n_nodes + np.uint32(absolute != 0))
    return np.int64(n_nodes)


@kernel
def _count_digits(order: NDArray[np.int64], n_nodes: int, counts: NDArray[np.int32]) -> None:
    """Where each digit's keys begin, for the three digits of the sort."""
    counts[:] = 0
    for r in range(n_nodes):
        key = order[r]
        counts[0, (key >> 32) & _DIGIT] += 1
        counts[1, (key >> 43) & _DIGIT] += 1
        counts[2, (key >> 54) & _DIGIT] += 1
    for digit in range(3):
        begin = 0
        for d in range(_DIGIT + 1):
            n = counts[digit, d]
            counts[digit, d] = begin
            begin += n


@kernel
def _integrate(
    values: NDArray[np.floating[Any]],
    order: NDArray[np.int64],
    n_nodes: int,
    voxel: NDArray[np.int32],
    how: Enhancement,
    integral: NDArray[np.float64],
) -> None:
    """The integral of h^H from 0 to each height (by rank), or its sum over the steps up to that height."""
    if values.itemsize == 4:
        halves = order.view(np.float32)
        for r in range(n_nodes):
            integral[r] = halves[2 * r + 1]
    else:
        for r in range(n_nodes):
            integral[r] = abs(values[voxel[order[r] & _POSITION]])
    if how.n_steps > 0 or how.dh > 0:
        _climb_steps(integral[:n_nodes], how)
    elif how.H == 2.0:
        for r in range(n_nodes):
            h = integral[r]
            integral[r] = h * h * h / 3.0
    else:
        for r in range(n_nodes):
            integral[r] = integral[r] ** (how.H + 1.0) / (how.H + 1.0)


@kernel
def _climb_steps(heights: NDArray[np.float64], how: Enhancement) -> None:
    """Replace increasing heights by the sum of h^H over the steps that they reach."""
    if heights.size == 0:
        return
    peak = heights[-1]
    n_steps = int(peak / how.dh) + 1 if how.dh > 0 else how.n_steps
    dh = how.dh if how.dh > 0 else peak / n_steps
    step = 0
    height = dh
    total = 0.0
    for r in range(heights.size):
        while step < n_steps and height <= heights[r]:
            step += 1
            total += height**how.H * (dh if how.times_step else 1.0)
            # The last step is the peak itself, whatever the rounding of the product.
            height = peak if how.dh == 0 and step + 1 == n_steps else (step + 1) * dh
        heights[r] = total


# ---- links -----------------------------------------------------------------------------------------------------------


def _cells(chosen: Any) -> np.int32:
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
_NONE, _ONE = np.int32(0), np.int32(1)

# int32 all along: numba would widen what is not cast back, and halve the vectors.
_i = np.int32


@kernel
def _link(height: NDArray[np.signedinteger[Any]], volume: Volume, scratch: Scratch) -> None:
    """Find, for every voxel, which of its neighbours to follow when it enters.

    A neighbour is higher if it enters before: larger, or equal and later in position. Below 0 everything is
    mirrored: the neighbours that are not higher as numbers are those with more height.
    """
    plane, row = volume.strides
    for segment in range(volume.segments.shape[0]):
        start, size = volume.segments[segment]
        higher = scratch.higher[:size]
        floor, tie = scratch.floor[:size], scratch.floor_tie[:size]
        centre = height[start : start + size]
        link = scratch.link[start : start + size]
        _set_floors(centre, higher, floor, tie)
        for bit in range(0, 27, 3):
            begin = start + (bit // 9 - 1) * plane + (bit // 3 % 3 - 1) * row - 1
            beside = height[begin : begin + size + 2]
            if bit == 12:
                _compare_own_row(beside, floor, tie, higher)
            else:
                _compare_row(beside, floor if bit < 12 else tie, bit, higher)
        _mirror_negative(centre, higher)
        p, di, dj = _i(start), _i(plane), _i(row)
        if volume.connectivity == 26:
            _link_codes_26(higher, p, di, dj, link)
        elif volume.connectivity == 18:
            _link_codes_18(higher, p, di, dj, link)
        else:
            _link_codes_6(higher, p, di, dj, link)


@kernel
def _set_floors(
    centre: NDArray[np.signedinteger[Any]],
    higher: NDArray[np.int32],
    floor: NDArray[np.signedinteger[Any]],
    tie: NDArray[np.signedinteger[Any]],
) -> None:
    """What neighbours must exceed: the height, or one less where an equal one counts; nothing exceeds a 0's."""
    unreachable = np.iinfo(centre.dtype).max
    for k in range(centre.size):
        x = centre[k]
        higher[k] = 0
        floor[k] = unreachable if x == 0 else (x if x > 0 else x - 1)
        tie[k] = unreachable if x == 0 else (x - 1 if x > 0 else x)


@kernel
def _compare_row(
    beside: NDArray[np.signedinteger[Any]],
    floor: NDArray[np.signedinteger[Any]],
    bit: int,
    higher: NDArray[np.int32],
) -> None:
    """Mark three neighbours in a row, bits `bit` to ``bit + 2``."""
    left, middle, right = _i(1 << bit), _i(2 << bit), _i(4 << bit)
    for k in range(higher.size):
        sides = _i((left if beside[k] > floor[k] else _NONE) | (right if beside[k + 2] > floor[k] else _NONE))
        higher[k] = _i(_i(higher[k] | sides) | (middle if beside[k + 1] > floor[k] else _NONE))


@kernel
def _compare_own_row(
    beside: NDArray[np.signedinteger[Any]],
    floor: NDArray[np.signedinteger[Any]],
    tie: NDArray[np.signedinteger[Any]],
    higher: NDArray[np.int32],
) -> None:
    """Mark the neighbours before and after in the voxel's own row, bits 12 and 14."""
    left, right = _i(1 << 12), _i(1 << 14)
    for k in range(higher.size):
        sides = _i((left if beside[k] > floor[k] else _NONE) | (right if beside[k + 2] > tie[k] else _NONE))
        higher[k] = _i(higher[k] | sides)


@kernel
def _mirror_negative(centre: NDArray[np.signedinteger[Any]], higher: NDArray[np.int32]) -> None:
    for k in range(higher.size):
        higher[k] = _i(higher[k] ^ _OTHERS) if centre[k] < 0 else higher[k]


@kernel
def _shifted(mask: np.int32, by: int, from_above: np.int32, from_below: np.int32) -> np.int32:
    """A mask and its neighbours along one axis, without those that would come round from the other side."""
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
def _code(first: np.int32, apart: np.int32, position: np.int32, di: np.int32, dj: np.int32) -> np.int32:
    """What a voxel follows: -1 nothing, p >= 0 the voxel at position p, and < -1 the complement of a mask.

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
def _link_codes_26(higher: NDArray[np.int32], start: np.int32, di: np.int32, dj: np.int32, link: NDArray[np.int32]) -> None:
    for k in range(higher.size):
        mask = higher[k]
        faces = _i(mask & _FACES)
        first = _lowest(faces if faces != 0 else mask)
        piece = _i(_widen_a(_widen_b(_widen_c(first))) & mask)
        piece = _i(_widen_a(_widen_b(_widen_c(piece))) & mask)
        link[k] = _code(first, _i(mask & ~piece), _i(start + _i(k)), di, dj)


@kernel
def _link_codes_18(higher: NDArray[np.int32], start: np.int32, di: np.int32, dj: np.int32, link: NDArray[np.int32]) -> None:
    for k in range(higher.size):
        mask = higher[k]
        faces, joined = _i(mask & _FACES), _i(mask & _FACES_EDGES)
        first = _lowest(faces if faces != 0 else joined)
        piece = first
        for _ in range(3):
            c = _widen_c(piece)
            piece = _i(_i(_i(_widen_b(c) | _widen_a(c)) | _widen_a(_widen_b(piece))) & mask)
        link[k] = _code(first, _i(joined & ~piece), _i(start + _i(k)), di, dj)


@kernel
def _link_codes_6(higher: NDArray[np.int32], start: np.int32, di: np.int32, dj: np.int32, link: NDArray[np.int32]) -> None:
    for k in range(higher.size):
        mask = higher[k]
        joined = _i(mask & _FACES)
        first = _lowest(joined)
        piece = first
        for _ in range(4):
            piece = _i(_i(_i(_widen_c(piece) | _widen_b(piece)) | _widen_a(piece)) & mask)
        link[k] = _code(first, _i(joined & ~piece), _i(start + _i(k)), di, dj)


# ---- tree ------------------------------------------------------------------------------------------------------------


@kernel
def _branch(parent: NDArray[np.int32], label: np.int32) -> np.int32:
    """Find the branch that goes on from `label`, halving the path.

    Nearly all labels are at most one step from it: that far there is no branch to mispredict.
    """
    above = parent[np.uint32(label)]
    top = parent[np.uint32(above)]
    while above != top:
        parent[np.uint32(label)] = top
        label = top
        above = parent[np.uint32(label)]
        top = parent[np.uint32(above)]
    return above


@kernel
def _descend(order: NDArray[np.int64], n_nodes: int, volume: Volume, scratch: Scratch) -> tuple[int, int]:
    """Let the voxels in, highest first: label each with its branch, and record which branch ends in which.

    Where branches meet, the one with more voxels goes on. Returns the numbers of branches and of merges.
    """
    link, parent, extent, merges = scratch.link, scratch.parent, scratch.extent, scratch.merges
    n_branches, n_merges = 0, 0
    for r in range(n_nodes - 1, -1, -1):
        p = order[r] & _POSITION
        code = link[p]
        if code >= 0:
            branch = _branch(parent, link[np.uint32(code)])
        elif code == -1:
            branch = _i(n_branches)
            parent[branch] = branch
            extent[branch] = 0
            n_branches += 1
        else:
            mask = ~code
            branch = _branch(parent, link[p + volume.offset[(mask & -mask) % 37]])
            mask &= mask - 1
            while mask != 0:
                other = _branch(parent, link[p + volume.offset[(mask & -mask) % 37]])
                mask &= mask - 1
                if other != branch:
                    if extent[other] > extent[branch]:
                        branch, other = other, branch
                    parent[other] = branch
                    extent[branch] += extent[other]
                    merges[n_merges, 0], merges[n_merges, 1], merges[n_merges, 2] = r, other, branch
                    n_merges += 1
        extent[np.uint32(branch)] += 1
        link[p] = branch
    return n_branches, n_merges


@kernel
def _ascend(
    order: NDArray[np.int64], n_nodes: int, n_branches: int, n_merges: int, E: float, voxel: NDArray[np.int32],
    scratch: Scratch, out: NDArray[np.floating[Any]] | None,
) -> None:
    """Add up the integral from the lowest voxel to the highest, along every branch.

    The TFCE of a voxel is that of the voxel that entered its component next, plus
    extent^E (integral of h^H between the two): only sums of what is not negative.
    """
    link, integral = scratch.link, scratch.integral
    extent, total, reached, merges = scratch.extent, scratch.total, scratch.reached, scratch.merges
    total[:n_branches] = 0
    reached[:n_branches] = 0
    next_saddle = merges[n_merges - 1, 0] if n_merges > 0 else -1
    for r in range(n_nodes):
        key = order[r]
        p = key & _POSITION
        branch = np.uint32(link[p])
        n = np.float64(extent[branch])
        power = math.sqrt(n) if E == 0.5 else n**E
        tfce = total[branch] + power * (integral[r] - reached[branch])
        total[branch] = tfce
        reached[branch] = integral[r]
        extent[branch] -= 1
        if out is not None:
            out[np.uint32(voxel[p])] = -tfce if key & _NEGATIVE else tfce
        while r == next_saddle:
            n_merges -= 1
            other = merges[n_merges, 1]
            total[other] = tfce
            reached[other] = integral[r]
            extent[merges[n_merges, 2]] -= extent[other]
            next_saddle = merges[n_merges - 1, 0] if n_merges > 0 else -1

"""Vector code of the permuted statistics: a few shufflings by a few voxels, multiplied and reduced at once.

A thin product (30 subjects, say) costs little more than a look at its result: a general matrix product and a
pass over what it wrote both stay far below the machine's rate. Here ROWS shufflings meet VECTORS vectors of
voxels; their sums stay in registers over all subjects and go straight into counts and maxima.

The two functions are written as LLVM's vectors, by code that runs while numba compiles; LLVM turns them into
what the processor has. Every sum runs over the subjects in order, so that it is the same number wherever its
voxel lies. Without numba's compiler (NUMBA_DISABLE_JIT) their plain forms run, to which tests hold them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from numbaglm.kernels._jit import kernel

Floats = NDArray[np.floating]
Integers = NDArray[np.signedinteger]

_FEATURES = binding.get_host_cpu_features()

BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
"""Of a vector."""

VECTORS = 2
"""Vectors of voxels side by side."""

ROWS = 4 if BYTES == 32 else 8
"""Shufflings at once: with VECTORS sums each, no more than stay in registers (AVX has 16, others 32)."""


def multiply_plain(weights: Floats, panel: Floats, scores: Floats) -> None:
    """Products of ROWS shufflings with as many voxels as VECTORS vectors hold.

    Parameters
    ----------
    weights
        (n_subjects, ROWS).
    panel
        (n_subjects, width) residuals.
    scores
        (ROWS, width), filled.
    """
    np.dot(weights.T, panel, out=scores)


def reduce_plain(
    scores: Floats,
    two_sided: bool,
    reference: Floats,
    threshold: Floats,
    counts: NDArray[np.int32],
    best: Floats,
) -> int:
    """Take scores into counts and maxima. A score or a limit that is NaN counts for nothing.

    Parameters
    ----------
    scores
        (ROWS, width).
    two_sided
        Whether absolute scores count.
    reference
        (width,) what a score must reach to be counted.
    threshold
        (1,) what a score must reach to be told of.
    counts
        (width,), added to.
    best
        (ROWS, width / VECTORS), raised to the largest of the VECTORS scores of a lane.

    Returns
    -------
    Bits: the r-th tells whether a score of shuffling r reaches the threshold.
    """
    height = np.abs(scores) if two_sided else scores
    counts += (height >= reference).sum(axis=0, dtype=np.int32)
    np.fmax(best, np.fmax.reduce(height.reshape(ROWS, VECTORS, -1), axis=1), out=best)
    return sum(1 << r for r in range(ROWS) if (height[r] >= threshold).any())


def _vectors(kind: Any) -> tuple[ir.VectorType, ir.VectorType]:
    """Vector of an array's items, and of integers as wide."""
    bits = kind.dtype.bitwidth
    lanes = 8 * BYTES // bits
    item = ir.FloatType() if bits == 32 else ir.DoubleType()
    return ir.VectorType(item, lanes), ir.VectorType(ir.IntType(bits), lanes)


def _opened(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Arguments as generated code sees them: an array has ``data`` and ``shape``."""
    return [
        context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


def _place(builder: Any, array: Any, item: Any, vector: ir.VectorType) -> Any:
    """Pointer to the vector that begins at an item, a number now or when the code runs."""
    item = ir.IntType(64)(item) if isinstance(item, int) else item
    return builder.bitcast(builder.gep(array.data, [item]), vector.as_pointer())


def _load(builder: Any, array: Any, item: Any, vector: ir.VectorType) -> Any:
    return builder.load(_place(builder, array, item, vector), align=4)


def _store(builder: Any, value: Any, array: Any, item: Any) -> None:
    builder.store(value, _place(builder, array, item, value.type), align=4)


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    """Vector that repeats a number."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(builder.insert_element(empty, value, ir.IntType(32)(0)), empty, first)


@intrinsic
def _multiply(typing: Any, weights: Any, panel: Any, scores: Any) -> Any:
    """Vector code of `multiply_plain`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        W, E, scores = _opened(context, builder, signature, arguments)
        vector, _ = _vectors(signature.args[0])
        lanes = vector.count
        sums = [
            cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(ROWS * VECTORS)
        ]
        with cgutils.for_range(builder, builder.extract_value(W.shape, 0)) as subject:

            def at(item: int, step: int) -> Any:
                i = builder.mul(subject.index, subject.index.type(step))
                return builder.add(i, i.type(item))

            residuals = [_load(builder, E, at(c * lanes, VECTORS * lanes), vector) for c in range(VECTORS)]
            for r in range(ROWS):
                weight = builder.load(builder.gep(W.data, [at(r, ROWS)]))
                repeated = _splat(builder, weight, lanes)
                for place, residual in zip(sums[r * VECTORS :], residuals, strict=False):
                    # Fused into one instruction where there is one.
                    product = builder.fmul(repeated, residual, flags=["contract"])
                    total = builder.fadd(builder.load(place), product, flags=["contract"])
                    builder.store(total, place)
        for i, place in enumerate(sums):
            _store(builder, builder.load(place), scores, i * lanes)
        return context.get_dummy_value()

    return types.void(weights, panel, scores), generate


@intrinsic
def _reduce(
    typing: Any, scores: Any, two_sided: Any, reference: Any, threshold: Any, counts: Any, best: Any
) -> Any:
    """Vector code of `reduce_plain`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scores, two_sided, reference, threshold, counts, best = _opened(
            context, builder, signature, arguments
        )
        vector, integers = _vectors(signature.args[0])
        lanes = vector.count
        tally = ir.VectorType(ir.IntType(32), lanes)

        def raised(lowest: Any, value: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", value, lowest), value, lowest)

        every_bit = integers.element(-1)
        but_the_sign = builder.lshr(every_bit, integers.element(1))
        kept = _splat(builder, builder.select(two_sided, but_the_sign, every_bit), lanes)
        limits = [_load(builder, reference, c * lanes, vector) for c in range(VECTORS)]
        totals = [_load(builder, counts, c * lanes, tally) for c in range(VECTORS)]
        limit = _splat(builder, builder.load(threshold.data), lanes)
        lowest = ir.Constant(vector, [float("-inf")] * lanes)
        rows = ir.IntType(64)(0)
        for r in range(ROWS):
            peak = lowest
            for c in range(VECTORS):
                score = _load(builder, scores, (r * VECTORS + c) * lanes, vector)
                score = builder.bitcast(builder.and_(builder.bitcast(score, integers), kept), vector)
                reached = builder.fcmp_ordered(">=", score, limits[c])
                totals[c] = builder.sub(totals[c], builder.sext(reached, tally))
                peak = raised(peak, score)
            above = builder.bitcast(builder.fcmp_ordered(">=", peak, limit), ir.IntType(lanes))
            bit = builder.select(builder.icmp_unsigned("!=", above, above.type(0)), rows.type(1 << r), rows.type(0))
            rows = builder.or_(rows, bit)
            _store(builder, raised(_load(builder, best, r * lanes, vector), peak), best, r * lanes)
        for c in range(VECTORS):
            _store(builder, totals[c], counts, c * lanes)
        return rows

    return types.int64(scores, two_sided, reference, threshold, counts, best), generate


multiply, reduce = (multiply_plain, reduce_plain) if config.DISABLE_JIT else (_multiply, _reduce)


@kernel
def combine(products: Floats, n_interest: int, is_t: bool) -> None:
    """Make scores of the products of a shuffling's rows, in place.

    Parameters
    ----------
    products
        (n_rows, n) products, rows of interest first; the scores land in the first row, the others are scratch.
    n_interest, is_t
        How many rows are of interest, and whether the score is signed.
    """
    n_rows, n = products.shape
    tiny = products.dtype.type(np.finfo(products.dtype).eps)
    score = products[0]
    if not is_t:
        for v in range(n):
            score[v] *= score[v]
        for k in range(1, n_interest):
            other = products[k]
            for v in range(n):
                score[v] += other[v] * other[v]
    if n_rows == n_interest:
        return
    left = products[n_interest]
    for v in range(n):
        left[v] = products.dtype.type(1.0) - left[v] * left[v]
    for k in range(n_interest + 1, n_rows):
        other = products[k]
        for v in range(n):
            left[v] -= other[v] * other[v]
    for v in range(n):
        rest = left[v] if left[v] > tiny else tiny
        score[v] /= np.sqrt(rest) if is_t else rest


@kernel
def _floats(keys: Integers, out: Floats) -> None:
    """Scores of keys, the way back from `shuffle.order_keys`; the largest key becomes NaN."""
    bits = out.view(keys.dtype)
    top = bits.dtype.type(np.iinfo(keys.dtype).max)
    for v in range(keys.shape[0]):
        bits[v] = keys[v] if keys[v] >= 0 else keys[v] ^ top


@kernel
def _aligned(n: int, like: Floats) -> Floats:
    """(n,) floats that begin where a vector may: one that straddles cache lines costs two loads."""
    room = np.empty(n + BYTES // like.itemsize, like.dtype)
    past = room.ctypes.data % BYTES
    first = (BYTES - past) % BYTES // like.itemsize
    return room[first : first + n]


@kernel
def _grouped(weights: Floats, n_batch: int, n_rows: int) -> Floats:
    """Weights as `multiply` reads them, (n_groups, n_rows, n_subjects, ROWS); NaN for shufflings not there."""
    height, n_subjects = weights.shape[0] // n_rows, weights.shape[1]
    out = np.full(((n_batch + ROWS - 1) // ROWS, n_rows, n_subjects, ROWS), np.nan, weights.dtype)
    for b in range(n_batch):
        for k in range(n_rows):
            for s in range(n_subjects):
                out[b // ROWS, k, s, b % ROWS] = weights[k * height + b, s]
    return out


@kernel
def _in_panels(tile: Floats, panels: Floats) -> None:
    """A tile as (n_panels, n_subjects, width): read in order, since lines a page apart come one by one."""
    width = panels.shape[2]
    for s in range(tile.shape[0]):
        for p in range(panels.shape[0]):
            there, here = tile[s, p * width : (p + 1) * width], panels[p, s]
            for j in range(width):
                here[j] = there[j]


@kernel
def _pick(
    scores: Floats,
    two_sided: bool,
    threshold: Floats,
    rows: int,
    place: tuple[int, int, int],
    picks: tuple[NDArray[np.int32], NDArray[np.int32], Floats],
    n_picks: int,
) -> int:
    """Note the scores that reach the threshold; ``place`` is (first shuffling, first voxel, voxels there)."""
    which, voxel, value = picks
    first, start, stop = place
    for r in range(ROWS):
        if rows >> r & 1:
            for j in range(stop):
                height = abs(scores[r, j]) if two_sided else scores[r, j]
                if height >= threshold[0]:
                    which[n_picks] = first + r
                    voxel[n_picks] = start + j
                    value[n_picks] = scores[r, j]
                    n_picks += 1
    return n_picks


@kernel
def permute_panels(
    weights: Floats,
    tiles: Floats,
    design: tuple[int, int, int, int, bool],
    two_sided: bool,
    reference: Integers,
    threshold: Floats,
    counts: NDArray[np.int32],
    peaks: Floats,
    picks: tuple[NDArray[np.int32], NDArray[np.int32], Floats],
    maps: Floats,
) -> int:
    """Take a batch of shufflings through a block of voxels, a panel at a time.

    Parameters
    ----------
    weights, tiles, design, two_sided, reference, counts, picks, maps
        See `shuffle.permute_batch`.
    threshold
        (1,) score that a score must reach to be picked; NaN picks none.
    peaks
        (n_batch,), filled: maximum of each shuffling.

    Returns
    -------
    How many were picked.
    """
    n_batch, n_rows, n_interest, n_voxels, is_t = design
    n_tiles, n_subjects, n_columns = tiles.shape
    width = VECTORS * BYTES // tiles.itemsize
    packed = _grouped(weights, n_batch, n_rows)
    panels = _aligned(n_columns * n_subjects, tiles).reshape(n_columns // width, n_subjects, width)
    products = _aligned(n_rows * ROWS * width, tiles).reshape(n_rows, ROWS, width)
    flat = products.reshape(n_rows, ROWS * width)
    limits = np.empty(width, tiles.dtype)
    best = np.full((packed.shape[0], ROWS, width // VECTORS), -np.inf, tiles.dtype)
    n_picks = 0
    for t in range(n_tiles):
        _in_panels(tiles[t], panels)
        for column in range(0, n_columns, width):
            start = t * n_columns + column
            n_there = min(width, n_voxels - start)
            if n_there <= 0:
                break
            panel = panels[column // width]
            _floats(reference[t, column : column + width], limits)
            tally = counts[t, column : column + width]
            for g in range(packed.shape[0]):
                for k in range(n_rows):
                    multiply(packed[g, k], panel, products[k])
                if n_rows > 1 or not is_t:
                    combine(flat, n_interest, is_t)
                rows = reduce(products[0], two_sided, limits, threshold, tally, best[g])
                if rows:
                    place = (g * ROWS, start, n_there)
                    n_picks = _pick(products[0], two_sided, threshold, rows, place, picks, n_picks)
                if maps.shape[1]:
                    for r in range(min(ROWS, n_batch - g * ROWS)):
                        kept, score = maps[g * ROWS + r, start : start + n_there], products[0, r]
                        for j in range(n_there):
                            kept[j] = score[j]
    for b in range(n_batch):
        peaks[b] = -np.inf
        for lane in range(best.shape[2]):
            peaks[b] = max(peaks[b], best[b // ROWS, b % ROWS, lane])
    return n_picks

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels.spatial.neighbours import SEGMENT, link_neighbours, new_volume
from reference.neighbours import higher, pieces, steps

every_connectivity = pytest.mark.parametrize("connectivity", [6, 18, 26])


def prepare(mask, connectivity):
    """A volume, and the cell of each of its voxels in a grid with a border."""
    padded = np.pad(mask, 1)
    return new_volume(np.flatnonzero(padded).astype(np.int32), padded.shape, connectivity), np.argwhere(padded)


@every_connectivity
def test_positions_are_those_of_neighbours(connectivity):
    mask = np.random.default_rng(0).random((6, 5, 7)) < 0.6
    volume, cells = prepare(mask, connectivity)
    position = dict(zip(map(tuple, cells.tolist()), volume.position.tolist(), strict=True))
    assert (np.diff(volume.position) > 0).all()
    plane, row = volume.strides
    for bit, step in enumerate(np.ndindex(3, 3, 3)):
        a, b, c = np.subtract(step, 1).tolist()
        assert volume.offset[2**bit % 37] == a * plane + b * row + c
    before = {a * plane + b * row + c for a, b, c in steps(connectivity) if (a, b, c) < (0, 0, 0)}
    assert set(volume.before.tolist()) == before
    # What is beside a voxel outside the mask is no voxel, nor the end of another row.
    taken = set(position.values())
    for cell, p in position.items():
        for step in steps(connectivity):
            there = tuple(np.add(cell, step).tolist())
            q = p + step[0] * plane + step[1] * row + step[2]
            assert (q in taken) == (there in position)
            assert 0 <= q < volume.n_positions


def test_segments_hold_every_voxel_once():
    mask = np.zeros((40, 40, 40), bool)
    mask[3:9, 5:39, 2:38] = mask[30:32, 0:3, 0:2] = True
    volume, _ = prepare(mask, 26)
    covered = np.zeros(volume.n_positions, int)
    for start, size in volume.segments.tolist():
        assert size <= SEGMENT
        covered[start : start + size] += 1
    assert (covered[volume.position] == 1).all()
    assert covered.max() == 1


@every_connectivity
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("most", [2, 10_000])
def test_a_voxel_follows_its_higher_neighbours(connectivity, dtype, most):
    rng = np.random.default_rng(most)
    mask = rng.random((6, 7, 8)) < 0.85
    heights = rng.integers(-most, most + 1, mask.sum())
    volume, cells = prepare(mask, connectivity)
    grid = np.zeros(np.add(mask.shape, 2), int)
    grid[tuple(cells.T)] = heights
    height = np.zeros(volume.n_positions, dtype)
    height[volume.position] = heights
    link = np.full(volume.n_positions, 99, np.int32)
    scratch = np.full(SEGMENT, 3, np.int32), np.full(SEGMENT, 3, dtype), np.full(SEGMENT, 3, dtype)
    link_neighbours(height, volume, link, *scratch)
    cell_at = dict(zip(volume.position.tolist(), map(tuple, cells.tolist()), strict=True))
    seen = set()
    for p, cell in cell_at.items():
        if grid[cell] == 0:
            continue
        expected, code = pieces(grid, cell, connectivity), int(link[p])
        if code == -1:
            followed = set()
        elif code >= 0:
            followed = {cell_at[code]}
        else:
            followed = {cell_at[p + int(volume.offset[2**bit % 37])] for bit in range(27) if ~code >> bit & 1}
        assert followed <= set(higher(grid, cell, connectivity))
        for piece in expected:
            assert followed & piece, "a piece that is not followed is a component that is not joined"
        seen.add(min(len(expected), 2))
    assert seen == {0, 1, 2}

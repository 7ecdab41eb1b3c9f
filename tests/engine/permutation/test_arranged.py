from __future__ import annotations

import numpy as np
import pytest

from numbaglm.data.cohort.presence import Patterns
from numbaglm.engine.permutation.arranged import MOST, Arranged
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.kernels.panels.vectors import BYTES, VECTORS
from numbaglm.stats.families.family import OfPatterns
from numbaglm.stats.scales import Correlation

HOW = OfPatterns(tuple(Correlation(dof) for dof in (9, 8, 7, 6)), lambda present: np.sum(~present, axis=0))


@pytest.mark.parametrize("size", [4, 8])
def test_panels_have_one_grade_and_every_voxel_a_column_of_its_own(size):
    rng = np.random.default_rng(0)
    present = np.ones((12, 3000), bool)
    present[rng.integers(0, 3, 900), rng.integers(0, 3000, 900)] = False
    found = Arranged.by_pattern(Patterns.find([present], 12), HOW, size)
    width = VECTORS * BYTES // size
    assert sorted(found.place[found.own]) == list(range(3000))
    absent = np.sum(~present, axis=0)[found.place]
    dofs = np.array([found.scales[grade].dof for grade in found.grade])
    np.testing.assert_array_equal(dofs, 9 - absent)
    of_panels = found.grades.ravel()[: len(found.place) // width]
    np.testing.assert_array_equal(found.grade.reshape(-1, width), np.repeat(of_panels[:, None], width, axis=1))
    assert found.grades.shape == (-(-len(found.place) // TILE), TILE // width)
    first = 0
    for run in found.runs:
        columns = slice(first * TILE, (first + run.n_tiles) * TILE)
        of = found.of.ravel()[columns][: len(found.place[columns])]
        in_order = run.present.transpose(1, 0, 2).reshape(12, -1)
        np.testing.assert_array_equal(in_order[:, of], present[:, found.place[columns]])
        first += run.n_tiles
    assert first == len(found.of)
    assert len(found.runs) == 1


def test_all_that_is_whole_is_one_grade_in_its_order():
    found = Arranged.by_pattern(Patterns.whole(12, 70), HOW, 4)
    np.testing.assert_array_equal(found.place[found.own], np.arange(70))
    assert [scale.dof for scale in found.scales] == [9]


def test_patterns_are_taken_a_few_tiles_at_a_time():
    n = MOST + 2 * TILE
    present = (np.arange(n) >> np.arange(12)[:, None]) & 1 == 0
    how = OfPatterns((Correlation(9),), lambda present: np.zeros(present.shape[1], int))
    found = Arranged.by_pattern(Patterns.find([present], 12), how, 4)
    assert [run.n_tiles for run in found.runs] == [1, 1, 1]
    assert max(run.n_patterns for run in found.runs) <= max(MOST, TILE)

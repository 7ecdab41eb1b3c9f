from __future__ import annotations

import numpy as np
import pytest

from numbaglm.engine.permutation.records import RunResult
from numbaglm.inference.observed_clusters import ObservedClusters
from numbaglm.results.vocabulary import EVERY_TABLE
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.conventions import CONVENTIONS
from reference.specs import spec_of

GEOMETRY = Geometry(np.ones((9, 1, 1), bool), np.diag([2.0, 3, 4, 1]))
SCORE = np.array([0.7, 0.8, 0.0, -0.9, -0.6, -0.7, 0.0, 0.75, 0.1])  # a pair, a trio below 0, one alone


def find(**options):
    options = {"threshold": 0.5, "precision": "float64"} | options
    spec = spec_of(**options)
    above = np.flatnonzero(spec.height(SCORE) >= spec.threshold).astype(np.int32)
    nothing = np.zeros(9)
    raw = RunResult(
        SCORE,
        spec.family.scale.to_statistic(SCORE),
        nothing,
        nothing[None],
        nothing > 0,
        nothing,
        nothing,
        nothing,
        observed_picks=(above, SCORE[above]),
    )
    return ObservedClusters.find(spec, Space.of(GEOMETRY), raw), raw.statistic


def test_clusters_of_each_sign_with_their_peaks():
    found, t = find()
    assert found.size.tolist() == [2, 3, 1]
    assert found.positive.tolist() == [True, False, True]
    assert found.peak.tolist() == [1, 3, 7]
    np.testing.assert_allclose(found.mass, [t[:2].sum(), -t[3:6].sum(), t[7]])
    assert find(two_sided=False)[0].size.tolist() == [2, 1]
    assert find(threshold=0.95)[0].size.size == 0


def test_the_table_has_the_largest_first_and_its_numbers_are_the_maps():
    found, t = find()
    p = np.linspace(0.1, 0.9, 9)
    table = found.table(t, p)
    assert tuple(table.columns) == tuple(EVERY_TABLE)
    assert table["size_voxels"].tolist() == [3, 2, 1]
    assert table["sign"].tolist() == ["-", "+", "+"]
    assert table["size_mm3"].tolist() == pytest.approx([72, 48, 24])
    assert table["peak_x"].tolist() == [6, 2, 14]
    assert table["peak_stat"].tolist() == t[[3, 1, 7]].tolist()
    assert table["p_fwe_voxel"].tolist() == p[[3, 1, 7]].tolist()
    assert found.numbers().tolist() == [2, 2, 0, 1, 1, 1, 0, 3, 0]


def test_corrected_p_are_counted_and_laid_on_the_map():
    found, _ = find()
    null = np.array([3, 1, 2, 5, 0, 3, 1, 1, 2, 1])
    p = found.corrected("size", null).p
    assert p.tolist() == [0.5, 0.3, 0.9]
    assert found.p_map(p).tolist() == [0.5, 0.5, 1, 0.3, 0.3, 0.3, 1, 0.9, 1]
    masses = found.mass[1] * np.array([1, 1 - 1e-12, 0.5, 0.9, 0.2])
    assert found.corrected("mass", masses).p[1] == 2 / 5, "rounding apart they are equal"


def test_nilearn_counts_the_shuffled_alone():
    found, _ = find(conventions=CONVENTIONS["nilearn"], n_perm=10)
    null = np.array([3, 1, 2, 5, 0, 3, 1, 1, 2, 1, 0])
    p = found.corrected("size", null).p
    np.testing.assert_allclose(p, [0.4, 0.2, 0.8])
    assert found.p_map(p).max() == pytest.approx(0.9)

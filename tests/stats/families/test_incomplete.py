"""Missing data, against a refit of every shuffling, an element at a time."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import Spec
from numbaglm.engine.permutation.scorers import make_scorer
from numbaglm.engine.permutation.voxels import prepare_block
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis, make_incomplete, make_pseudo
from numbaglm.stats.scales import Correlation, Share
from reference.incomplete import scores

N, V, BATCH = 13, 70, 16


def store_of(Y, present):
    where = Geometry(np.ones((Y.shape[1], 1, 1), bool), np.eye(4))
    return CohortStore.from_array(np.where(present, Y, 0), where, present=present)


def spec_of(X, k, errors, precision="float64", n_perm=40, blocks=None, incomplete=True, threshold=1.5, method=None):
    design = Design.parse(X, len(X))
    rows = np.eye(k, X.shape[1])
    contrast = Contrast.parse(rows.tolist() if k > 1 else rows[0].tolist(), design)
    shuffling = {"n_perm": n_perm, "seed": 0, "errors": errors, "blocks": blocks, "block_scheme": "within"}
    shufflings, hypothesis = build_hypothesis(
        design, contrast, [contrast], method or "freedman-lane", shuffling, {"variance_groups": None}
    )
    hypothesis = make_incomplete(hypothesis, shufflings) if incomplete else hypothesis
    return Spec(hypothesis, shufflings, CONVENTIONS["numbaglm"], k == 1, threshold, False, precision)


def run(store, spec):
    """All of a test by a scorer: what is observed, maps, maxima, picks by shuffling, counts."""
    n, n_voxels = spec.shufflings.n_shufflings, store.n_voxels
    block = prepare_block(store, spec, 0, n_voxels)
    plan = Plan(batch=BATCH, blocks=((0, n_voxels),), ranges=((0, n),), resident=True)
    scorer = make_scorer(block, spec, plan, True)
    parts = []
    for first in range(0, n, BATCH):
        parts.append(scorer.batch(first, *spec.shufflings.draw(first, min(first + BATCH, n))))
    picks = [
        dict(zip(part.picks[1][i:j].tolist(), part.picks[2][i:j], strict=True))
        for part in parts
        for i, j in zip(part.picks[0][:-1], part.picks[0][1:], strict=True)
    ]
    maps = np.vstack([part.maps[0] for part in parts])
    return block.observed, maps, np.concatenate([part.maxima for part in parts]), picks, scorer.counts


def data(k, n_confounds, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.normal(size=(N, k)), np.ones(N), rng.normal(size=(N, n_confounds))])
    present = rng.random((N, V)) > 0.25
    present[:, :20], present[:, 20:30] = True, (np.arange(N) != 3)[:, None]
    return X, rng.normal(size=(N, V)) + 1, present


@pytest.mark.parametrize(
    ("errors", "k", "n_confounds", "blocks"),
    [
        ("ee", 1, 0, None),
        ("ee", 1, 1, None),
        ("ise", 1, 1, None),
        ("both", 1, 1, None),
        ("ee", 2, 1, None),
        ("ise", 2, 1, None),
        ("ee", 1, 1, np.arange(N) % 2),
    ],
)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_every_shuffling_is_what_a_refit_gives(errors, k, n_confounds, blocks, precision):
    X, Y, present = data(k, n_confounds)
    spec = spec_of(X, k, errors, precision, blocks=blocks)
    observed, maps, maxima, picks, counts = run(store_of(Y, present), spec)
    tested = ~observed.degenerate
    np.testing.assert_array_equal(~tested, observed.more[-1] > 0)
    filled = np.where(present, Y, 0).astype(np.float32).astype(float)
    number = scores(filled, present, X[:, :k], X[:, k:], *spec.shufflings.draw(0, len(maps)))
    dof = present.sum(axis=0) - X.shape[1]
    scales = [Correlation(d) if k == 1 else Share(d, k) for d in np.maximum(dof, 1)]
    z = np.stack([scale.to_z(one) for scale, one in zip(scales, number.T, strict=True)], axis=1) * tested
    near = 1e-9 if precision == "float64" else 2e-5
    np.testing.assert_allclose(maps, z, atol=near)
    np.testing.assert_allclose(observed.z, z[0], atol=1e-10)
    height, size = (np.abs(z), np.abs(number)) if k == 1 else (z, number)
    np.testing.assert_allclose(maxima, height[:, tested].max(axis=1), atol=near)
    for one, row in zip(picks, height, strict=True):
        assert set(np.flatnonzero(row >= 1.5 + near)) <= set(one) <= set(np.flatnonzero(row >= 1.5 - near))
        assert all(abs(abs(value) - row[voxel]) < near for voxel, value in one.items())
    np.testing.assert_array_equal(counts[tested], (size >= size[0] - 1e-9)[:, tested].sum(axis=0))
    assert observed.more[-3].tolist() == present.sum(axis=0).tolist()
    assert observed.more[-2][tested].tolist() == dof[tested].tolist()


@pytest.mark.parametrize(("errors", "k", "n_confounds"), [("ise", 1, 0), ("ee", 1, 1), ("ee", 2, 0)])
def test_complete_data_are_the_plain_test(errors, k, n_confounds):
    X, Y, present = data(k, n_confounds)
    X = X[:7] if n_confounds == 0 else X  # few enough to enumerate
    Y, present = Y[: len(X)], np.ones((len(X), V), bool)
    own, plain = (spec_of(X, k, errors, incomplete=one, n_perm=6000, threshold=None) for one in (True, False))
    store = store_of(Y, present)
    (here, _, maxima, _, counts), (there, _, others, _, expected) = run(store, own), run(store, plain)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_allclose(maxima, plain.family.scale.to_z(others), atol=1e-9)
    for name in ("statistic", "z", "effect", "length"):
        np.testing.assert_allclose(getattr(here, name), getattr(there, name), rtol=1e-9, atol=1e-12)


def test_a_pattern_that_all_share_is_the_plain_test_of_those_who_are_there():
    X, Y, present = data(1, 0)
    X = np.ones((9, 1))
    there = np.arange(9) != 4
    Y, present = Y[:9], np.repeat(there[:, None], V, axis=1)
    whole = np.ones((8, V), bool)
    here, few = (spec_of(one, 1, "ise", n_perm=511, threshold=None) for one in (X, X[there]))
    found, expected = run(store_of(Y, present), here), run(store_of(Y[there], whole), few)
    for name in ("statistic", "effect", "length"):
        np.testing.assert_allclose(getattr(found[0], name), getattr(expected[0], name), rtol=1e-9)
    np.testing.assert_array_equal(found[4], 2 * expected[4])  # each flip of them comes twice
    plain = run(store_of(Y[there], whole), spec_of(X[there], 1, "ise", n_perm=511, incomplete=False, threshold=None))
    np.testing.assert_array_equal(expected[4], plain[4])


def test_who_can_not_be_tested_leaves_with_a_reason():
    X, Y, present = data(1, 0)
    X[:, 0] = np.arange(N) < 5
    present[:, 40] = np.arange(N) // 2 == 2
    present[:, 41] = np.arange(N) >= 5
    Y[:, 42], present[:, 42] = 3.0, np.arange(N) > 1
    family = spec_of(X, 1, "ee").family
    observed, maps, *_ = run(store_of(Y, present), spec_of(X, 1, "ee"))
    assert observed.more[-1][40:43].tolist() == [1, 2, 0]
    assert observed.degenerate[40:43].all()
    assert (maps[:, 40:43] == 0).all()
    assert observed.statistic[40:43].tolist() == [0, 0, 0]
    assert "fewer than the 4 subjects" in family.reasons[0]


def test_shufflings_that_leave_nothing_to_test_score_0_and_are_counted():
    X = np.column_stack([np.arange(8) < 4, np.ones(8)]).astype(float)
    present = np.repeat((np.arange(8) % 4 < 2)[:, None], 3, axis=1)
    Y = np.random.default_rng(1).normal(size=(8, 3))
    spec, store = spec_of(X, 1, "ee", n_perm=300), store_of(Y, present)
    _, maps, *_ = run(store, spec)
    index, sign = spec.shufflings.draw(0, len(maps))
    filled = np.where(present, Y, 0).astype(np.float32).astype(float)
    number = scores(filled, present, X[:, :1], X[:, 1:], index, sign)
    np.testing.assert_allclose(maps, Correlation(2).to_z(number), atol=1e-9)
    together = np.isin(present[index, 0][:, :4].sum(axis=1), (0, 4))  # all who are there in one group
    assert (number[together] == 0).all()
    assert together.sum() > 1
    plan = Plan(batch=BATCH, blocks=((0, 3),), ranges=((0, len(maps)),), resident=True)
    scorer = make_scorer(prepare_block(store, spec, 0, 3), spec, plan, False)
    for first in range(0, len(maps), BATCH):
        scorer.batch(first, index[first : first + BATCH], sign[first : first + BATCH])
    assert scorer.undefined.tolist() == [together.sum()] * 3


def test_effect_sizes_are_those_of_the_subjects_that_are_there():
    X, Y, present = data(1, 1)
    family = spec_of(X, 1, "ee").family
    observed = run(store_of(Y, present), spec_of(X, 1, "ee"))[0]
    v = int(np.flatnonzero((present.sum(axis=0) < N) & ~observed.degenerate)[-1])
    there = present[:, v]
    plain = spec_of(X[there], 1, "ee", incomplete=False)
    alone = run(store_of(Y[there][:, [v]], np.ones((there.sum(), 1), bool)), plain)[0]
    more = dict(zip(family.more, observed.more[:, v], strict=True))
    np.testing.assert_allclose(observed.effect[0, v], alone.effect[0, 0], rtol=1e-6)
    np.testing.assert_allclose(more["effect_se"], alone.effect[0, 0] / alone.statistic[0], rtol=1e-6)
    np.testing.assert_allclose(more["partial_r2"], alone.score[0] ** 2, rtol=1e-6)
    assert more["effect_lower"] < observed.effect[0, v] < more["effect_upper"]


def test_a_worker_far_away_gets_the_same():
    family = spec_of(*data(1, 1)[:1], 1, "ee").family
    there = pickle.loads(pickle.dumps(family))
    assert there.score is family.score
    assert there.patterns.factor is family.patterns.factor
    np.testing.assert_array_equal(there.patterns.rows.basis, family.patterns.rows.basis)


def test_what_has_no_algebra_is_refused_by_name():
    X = data(1, 0)[0]
    with pytest.raises(InputError, match="'freedman-lane' with missing='element'"):
        spec_of(X, 1, "ee", method="manly")
    plain = spec_of(X, 1, "ee", incomplete=False)
    with pytest.raises(InputError, match="variance_smoothing_fwhm"):
        make_incomplete(make_pseudo(plain.hypothesis, 4.0), plain.shufflings)

"""v and G against the textbook, where groups differ in variance as much as they can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels.scores import call
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.families.welch import LEAST_GROUP, VarianceGroups
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.hypothesis import Hypothesis
from numbaglm.stats.model.setup import build_hypothesis
from numbaglm.stats.scales import TIE_TOLERANCE
from reference import welch as reference


def orthonormal(*columns):
    return np.ascontiguousarray(np.linalg.svd(np.column_stack(columns), full_matrices=False)[0].T)


def observed(Y, groups, basis, n_interest):
    E = Y - basis[n_interest:].T @ (basis[n_interest:] @ Y)
    E /= np.linalg.norm(E, axis=0)
    index, sign = np.arange(len(Y), dtype=np.int32)[None], np.ones((1, len(Y)), np.int8)
    (statistic,), (z,) = groups.statistics(E, index, sign)
    return statistic, z


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("sizes", [(5, 4), (3, 8)])
def test_two_samples_are_welch_s_test(spread, sizes):
    # A group of equal values, all 0 say, has no variance: the other's is that of the difference.
    label = np.repeat([1, 0], sizes)
    Y = np.random.default_rng(0).normal(size=(len(label), 40)) * np.where(label, spread, 1.0)[:, None] + label[:, None]
    a, b = Y[label == 1], Y[label == 0]
    one = np.full(len(label), len(label) ** -0.5)
    x = label - label.mean()
    basis = np.stack([x / np.linalg.norm(x), one])
    v, z = observed(Y, VarianceGroups.build(label, basis, 1, 1.0), basis, 1)
    error = [part.var(axis=0, ddof=1) / len(part) for part in (a, b)]
    expected = (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt(sum(error))
    dof = sum(error) ** 2 / sum(e**2 / (len(part) - 1) for e, part in zip(error, (a, b), strict=True))
    np.testing.assert_allclose(v, expected, rtol=1e-8)
    np.testing.assert_allclose(stats.norm.sf(np.abs(z)), stats.t.sf(np.abs(expected), dof), rtol=1e-6)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5])
def test_g_is_its_formula(spread):
    label, rng = np.repeat([0, 1, 2], [4, 5, 6]), np.random.default_rng(1)
    Y = rng.normal(size=(15, 10)) * np.where(label == 1, spread, 1.0)[:, None]
    M = np.column_stack([label == 0, label == 1, label == 2, rng.normal(size=15)]).astype(float)
    C = np.array([[1.0, -1, 0, 0], [0, 1, -1, 0]])
    D = np.linalg.inv(M.T @ M)
    nuisance = orthonormal(M @ np.linalg.svd(C)[2][2:].T)
    X = M @ D @ C.T
    basis = np.vstack([orthonormal(X - nuisance.T @ (nuisance @ X)), nuisance])
    g, _ = observed(Y, VarianceGroups.build(label, basis, 2, 1.0), basis, 2)
    beta = D @ M.T @ Y
    squares = (Y - M @ beta) ** 2
    free = 1 - np.einsum("ij,jk,ik->i", M, D, M)
    of_group = label[:, None] == np.arange(3)
    dof = free @ of_group
    for v in range(10):
        weight = dof / (squares[:, v] @ of_group)
        W = weight[label]
        effect = C @ beta[:, v]
        form = effect @ np.linalg.solve(C @ np.linalg.inv(M.T @ (W[:, None] * M)) @ C.T, effect)
        excess = ((1 - weight * of_group.sum(axis=0) / W.sum()) ** 2 / dof).sum()
        assert g[v] == pytest.approx(form / (2 * (1 + excess / 4)), rel=1e-5 if spread < 1e-3 else 1e-9)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 6)])
def test_ties_of_groups_without_variance_are_ties(sizes):
    # Maps of 0 but for a few subjects, such as of lesions: with one subject alone |v| is 1 wherever it goes.
    label = np.repeat([1, 0], sizes)
    n = len(label)
    x = label - label.mean()
    basis = np.stack([x / np.linalg.norm(x), np.full(n, n**-0.5)])
    Y = np.zeros((n, 2))
    Y[0, 0], Y[-1, 1] = 3.0, 0.1
    E = Y - Y.mean(axis=0)
    E /= np.linalg.norm(E, axis=0)
    index = np.array([np.roll(np.arange(n), k) for k in range(n)], np.int32)
    v, z = VarianceGroups.build(label, basis, 1, 1.0).statistics(E, index, np.ones(index.shape, np.int8))
    np.testing.assert_allclose(np.abs(v), 1.0, rtol=1e-12)
    for size in sizes:
        expected = stats.norm.isf(stats.t.sf(1.0, size - 1))
        assert (np.abs(np.abs(z) - expected) < 1e-12).any()


def hypothesis_of(label, rng, s, n_nuisance, errors="ee"):
    """A contrast of s group means, or of one covariate, beside nuisance."""
    n = len(label)
    means = (label[:, None] == np.arange(label.max() + 1)).astype(float)
    design = Design.parse(np.column_stack([means, rng.normal(size=(n, n_nuisance))]), n)
    C = np.zeros((s, design.matrix.shape[1]))
    C[np.arange(s), np.arange(s)], C[np.arange(s), np.arange(s) + 1] = 1, -1
    return Hypothesis.build(
        design, Contrast.parse(C, design), errors, np.zeros(n, int), variance_groups=label, v_dof_factor=1.0
    )


def products_of(family, E, index, sign):
    """What the score kernel is given, (n_rows + n_scratch, n_shufflings * n_voxels)."""
    found = []
    for layer in family.layers:
        n_rows, n_units = layer.rows.shape
        rows = np.empty((n_rows, len(index), n_units))
        layer.rows.fill(index, sign, rows)
        found.append((rows @ layer.make(E)).reshape(n_rows, -1))
    return np.vstack([*found, np.full((family.n_scratch, found[0].shape[1]), np.nan)])


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(3, 12), min_size=2, max_size=4),
    n_nuisance=st.integers(0, 2),
    errors=st.sampled_from(["ee", "ise", "both"]),
    spread=st.sampled_from([0.0, 1.0, 3.0]),
    seed=st.integers(0, 999),
    compiled=st.booleans(),
)
def test_products_equal_direct_computation(sizes, n_nuisance, errors, spread, seed, compiled):
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    s = int(rng.integers(1, len(sizes)))
    hypothesis = hypothesis_of(label, rng, s, n_nuisance, errors)
    family, n = hypothesis.family, len(label)
    Y = rng.normal(size=(n, 16)) * np.exp(spread * rng.normal(size=len(sizes)))[label][:, None]
    E = Y - hypothesis.nuisance.T @ (hypothesis.nuisance @ Y)
    E /= np.linalg.norm(E, axis=0)
    index = np.array([np.arange(n) if errors == "ise" else rng.permutation(n) for _ in range(5)], np.int32)
    sign = np.ones((5, n), np.int8) if errors == "ee" else rng.choice(np.array([-1, 1], np.int8), (5, n))
    products, sizes_ = products_of(family, E, index, sign), np.array(family.sizes)
    if compiled:
        called(family.score.address(products.dtype), products, np.empty((0, 16)), sizes_, family.constants)
    else:
        family.score(products, np.empty((0, 16)), sizes_, family.constants)
    number, more = products[:2].reshape(2, 5, 16)
    expected, dof, squares = reference.v_or_g(
        E, hypothesis.design.matrix, hypothesis.contrast.matrix, label, index, sign
    )
    known = (squares > 1.01 * LEAST_GROUP).all(axis=1)
    assert not np.isnan(number[known]).any()
    assert np.isnan(number[(squares < 0.99 * LEAST_GROUP).any(axis=1)]).all()
    # 1e-12 where no group's residuals nearly vanish: what is subtracted is known to 1e-16, not what is left.
    error = 1e-15 / squares.min(axis=1)
    assert (np.abs(number - expected) <= np.maximum(1e-12, error) * np.maximum(np.abs(expected), 1))[known].all()
    assert (np.abs(more - dof) <= np.maximum(1e-12, 4 * error) * dof)[known].all()


@kernel
def called(score, products, fixed, sizes, constants):
    call(score, products, fixed, sizes, constants)


@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(3, 4, 3, 5), (40, 30, 50, 60)])
def test_z_lie_within_their_bounds(s, sizes):
    rng = np.random.default_rng(s)
    label = np.repeat(np.arange(4), sizes)
    groups = hypothesis_of(label, rng, s, 1).family.finish
    numbers, least, largest = groups.bounds
    assert (np.diff(least) >= 0).all()
    assert (np.diff(largest) >= 0).all()
    share = rng.dirichlet(np.full(4, 0.3), 20_000)
    share[:4] = np.eye(4)
    dof = s * (s + 2) / 3 / ((1 - share) ** 2 / groups.residual_dof).sum(axis=1)
    place = rng.integers(0, len(numbers), len(dof))
    z = groups.score(numbers[place], dof)
    assert (least[place] <= z).all()
    assert (z <= largest[place]).all()


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize(("sizes", "s"), [((4, 3), 1), ((3, 4, 3), 2), ((6, 8), 1)])
def test_what_is_counted_is_what_all_z_say(two_sided, sizes, s):
    rng = np.random.default_rng(0)
    label, n_voxels = np.repeat(np.arange(len(sizes)), sizes), 300
    Y = rng.normal(size=(len(label), n_voxels)).astype(np.float32)
    Y[:, :40] *= rng.random((len(label), 40)) < 0.2  # few subjects have a lesion there, or none
    Y[:, 40:80] = np.round(Y[:, 40:80])
    Y[label == 1, 80:100] = 2.0
    design = (label[:, None] == np.arange(len(sizes))).astype(float)
    contrast = np.eye(len(sizes))[:s] - np.eye(len(sizes), k=1)[:s]
    geometry = Geometry(np.ones((3, 10, 10), bool), np.eye(4))
    cohort = Cohort(CohortStore.from_array(Y, geometry))
    options = {"variance_groups": label, "n_perm": 400, "seed": 3, "two_sided": two_sided}
    found = [
        ng.permutation_test(cohort, design, contrast, cluster_forming_threshold=0.1, tfce=tfce, **options)
        for tfce in (False, True)  # few z are made, or all of them
    ]
    hypothesis, shufflings = spec_of(design, contrast, label)
    _, z = hypothesis.family.finish.statistics(hypothesis.observe(Y).E, *shufflings.draw(0, shufflings.n_shufflings))
    height = np.abs(z) if two_sided and s == 1 else z
    counts = (height >= height[0] - TIE_TOLERANCE["float64"]).sum(axis=0)
    counts[hypothesis.observe(Y).degenerate] = len(z)
    for result in found:
        np.testing.assert_array_equal(np.rint(result.maps["p_unc"] * len(z)), counts)
        np.testing.assert_allclose(result.h0["max_z"], height.max(axis=1), rtol=0, atol=1e-10)
        np.testing.assert_array_equal(result.h0["max_size"], found[0].h0["max_size"])
    assert found[0].h0["max_size"].max() > 1


def spec_of(design, contrast, label):
    parsed = Design.parse(design, len(design))
    one = Contrast.parse(contrast, parsed)
    shuffling = {"n_perm": 400, "seed": 3, "errors": None, "blocks": None, "block_scheme": "within"}
    variance = {"variance_groups": label, "v_dof_factor": 1.0}
    shufflings, hypothesis = build_hypothesis(parsed, one, [one], "freedman-lane", shuffling, variance)
    return hypothesis, shufflings


def test_two_groups_cost_one_row_of_each_layer():
    # Their means sum to what no permutation moves, and their squares to 1.
    label = np.repeat([0, 1], [5, 6])
    family = hypothesis_of(label, np.random.default_rng(0), 1, 0).family
    assert [layer.rows.shape for layer in family.layers] == [(1, 11), (1, 11)]

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from numbaglm.errors import InputError
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels.scores import call
from numbaglm.kernels.panels.straight import Straight
from numbaglm.kernels.panels.vectors import BYTES, ROWS, VECTORS
from numbaglm.stats.families.combined import (
    BOTH,
    COMBINING,
    CONCORDANT,
    NODES,
    ONE,
    QUICK,
    Combined,
    ContrastRows,
    Partial,
    combine_tabled,
    combined,
)
from numbaglm.stats.families.family import Shuffled

DEPTHS = np.concatenate([np.linspace(-0.999, 0.999, 801), 1 - np.logspace(-11, -2, 60), -1 + np.logspace(-11, -2, 60)])


@pytest.mark.parametrize("name", COMBINING)
@pytest.mark.parametrize(("dof", "n_rows", "sides"), [(5, None, ONE), (98, None, ONE), (40, None, BOTH), (20, 3, ONE)])
def test_tables_hold_what_partial_tests_add(name, dof, n_rows, sides):
    partial = Partial(name, dof, n_rows, sides, True)
    signed = n_rows is None and sides == ONE
    r = DEPTHS if signed else np.abs(DEPTHS[np.abs(DEPTHS) > 1e-6])
    if name == "winer":  # t of a p below 1e-87 is not to be had
        r = r[np.abs(r) < 0.9]
    products = np.vstack([r, np.zeros(((n_rows or 1) - 1 + 5, r.size))])
    sizes = np.array([1, COMBINING[name].how, sides, NODES, QUICK, 1, n_rows or 1, 0, n_rows is None, 1])
    constants = np.concatenate([[1.0], partial.tables])
    in_single = products.astype(np.float32)
    combine_tabled(products, np.empty((0, 1)), sizes, constants)
    expected = partial(r)
    np.testing.assert_allclose(products[0], expected, rtol=1e-9, atol=1e-9)
    # Polynomials and straight lines stray less than what counts as a tie.
    r = in_single[0].astype(float)
    combine_tabled(in_single, np.empty((0, 1), np.float32), sizes, constants.astype(np.float32))
    scale = Combined(name, (partial,), (1.0,), sides)
    tie = partial(r) - scale.least_equal(partial(r), "float32")
    usual = (np.abs(r) * np.sqrt(dof) < 12) & (signed | (partial(r) >= partial.middle))
    assert (np.abs(in_single[0] - partial(r)) <= tie)[usual].all()
    assert (tie <= 1e-4 * (1 + np.abs(partial(r))))[usual & (np.abs(r) < 0.8) & (np.abs(r) > 0.1)].all()


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(list(COMBINING)),
    dof=st.integers(3, 300),
    kinds=st.lists(st.sampled_from([None, 1, 2, 4]), min_size=1, max_size=4),
    sides=st.sampled_from([ONE, BOTH, CONCORDANT]),
    doubled=st.booleans(),
    moved=st.integers(0, 2),
    seed=st.integers(0, 999),
)
def test_single_precision_gives_what_the_formula_does_within_a_tie(name, dof, kinds, sides, doubled, moved, seed):
    sides = BOTH if sides == CONCORDANT and any(kinds) else sides
    tested = tuple(rows_of(n_rows, moved) for n_rows in kinds)
    family = combined(name, (), tested, np.empty((0, 9)), dof, sides, doubled)
    rng = np.random.default_rng(seed)
    products, r = [], []
    for n_rows in kinds:
        interest = rng.standard_t(4, size=(n_rows or 1, 200)) / np.sqrt(dof + 20)
        nuisance = 0.2 * rng.uniform(-1, 1, size=(moved, 200))
        interest = np.clip(interest, -0.4, 0.4).astype(np.float32)
        products += [*interest, *nuisance.astype(np.float32)]
        left = np.sqrt(1 - (nuisance.astype(np.float32).astype(float) ** 2).sum(axis=0))
        r.append(interest[0] / left if n_rows is None else np.sqrt((interest.astype(float) ** 2).sum(axis=0)) / left)
    exact = joined(family.scale, np.array(r))
    exact = np.maximum(exact, joined(family.scale, -np.array(r))) if sides == CONCORDANT else exact
    table = np.vstack([*products, np.zeros((family.n_scratch, 200))]).astype(np.float32)
    family.score(table, np.empty((0, 1), np.float32), np.array(family.sizes), family.constants.astype(np.float32))
    tie = exact - family.scale.least_equal(exact, "float32")
    # Where a p is near 1, and a score so far down that nobody asks, its logarithm may be further off.
    usual = np.ones(200, bool)
    for partial, one in zip(family.scale.partials, r, strict=True):
        usual &= (partial.n_rows is None and sides != BOTH) | (partial(np.abs(one)) >= partial.middle)
    assert (np.abs(table[0] - exact) <= tie)[usual].all()


@kernel
def called(address, values, fixed, sizes, constants):
    call(address, values, fixed, sizes, constants)


@pytest.mark.parametrize(
    ("name", "kinds", "sides"),
    [
        ("fisher", [None, None], CONCORDANT),
        ("stouffer", [2, None, 1], BOTH),
        ("tippett", [None, None, None], BOTH),
        ("conjunction", [None, None], ONE),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_loops_scores_are_those_of_the_tables(name, kinds, sides, dtype):
    family = combined(name, (), tuple(rows_of(n_rows, 1) for n_rows in kinds), np.empty((0, 9)), 60, sides, True)
    assert isinstance(family.score, Straight)
    rng, n = np.random.default_rng(0), ROWS * VECTORS * BYTES // np.dtype(dtype).itemsize
    products = 0.1 * rng.normal(size=(family.n_rows + family.n_scratch, n))
    products[:, 3] = np.nan  # a shuffling that is not there
    products[:, 8:12] = 0.5  # past polynomials
    products[:, 12:16] *= 1e-6
    ours, expected = products.astype(dtype), products.astype(dtype)
    told = np.empty((0, n), dtype), np.array(family.sizes), family.constants.astype(dtype)
    combine_tabled(expected, *told)
    plain = ours.copy()
    called(family.score.address(np.dtype(dtype)), ours, *told)
    family.score(plain, *told)
    for found in (ours[0], plain[0]):
        np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=1e-5)
        assert np.flatnonzero(np.isnan(found)).tolist() == [3]


def rows_of(n_rows, moved):
    s = n_rows or 1
    return ContrastRows(Shuffled(np.eye(9)[: s + moved]), np.eye(9)[:s], np.eye(9)[:0], n_rows is None)


def joined(scale, r):
    """Scores of correlations by the formula."""
    parts = np.stack([partial(one) for partial, one in zip(scale.partials, r, strict=True)])
    how = COMBINING[scale.function].how
    return np.asarray(scale.weights) @ parts if how == 0 else parts.max(axis=0) if how == 1 else parts.min(axis=0)


def test_shufflings_that_are_not_there_stay_nothing():
    partial = Partial("fisher", 20, None, BOTH, True)
    for dtype in (np.float64, np.float32):
        products = np.vstack([np.full((2, 3), np.nan), np.zeros((5, 3))]).astype(dtype)
        sizes = np.array([2, 0, BOTH, NODES, QUICK, 1, 1, 0, 1, 2, 1, 0, 1, 2])
        constants = np.concatenate([[1.0, 1.0], partial.tables]).astype(dtype)
        combine_tabled(products, np.empty((0, 1), dtype), sizes, constants)
        assert np.isnan(products[0]).all()


def test_p_of_both_sides_are_doubled_or_left():
    r = np.array([-0.5, 0.2])
    t = r * np.sqrt(10 / (1 - r**2))
    p = 2 * stats.t.sf(np.abs(t), 10)
    np.testing.assert_allclose(Partial("fisher", 10, None, BOTH, True)(r), -2 * np.log(p), rtol=1e-10)
    np.testing.assert_allclose(Partial("fisher", 10, None, BOTH, False)(r), -2 * np.log(p / 2), rtol=1e-10)


@pytest.mark.parametrize("name", COMBINING)
@pytest.mark.parametrize("sides", [ONE, CONCORDANT])
def test_scores_of_thresholds_have_their_z(name, sides):
    scale = Combined(name, (Partial(name, 20, None, sides, True),) * 3, (1.0,) * 3, sides)
    for z in (-0.5, 0.0, 1.0, 3.1):
        np.testing.assert_allclose(scale.to_z(np.array([scale.to_score("z", z, False)])), z, atol=1e-7)
    assert scale.to_score("p", 0.01, False) == pytest.approx(scale.to_score("z", -special.ndtri(0.01), False))


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("fisher", lambda p: -2 * np.log(p).sum(axis=0)),
        ("stouffer", lambda p: -special.ndtri(p).sum(axis=0) / np.sqrt(len(p))),
        ("tippett", lambda p: -special.ndtri(p.min(axis=0))),
        ("edgington", lambda p: -p.sum(axis=0)),
    ],
)
def test_parametric_p_of_independent_variables_are_uniform(name, of):
    p = np.random.default_rng(1).uniform(size=(3, 20_000))
    z = Combined(name, (Partial(name, 20, None, ONE, True),) * 3, (1.0,) * 3, ONE).to_z(of(p))
    assert stats.kstest(z, "norm").pvalue > 0.001


def test_weights_are_for_stouffer_alone():
    row = np.array([[0.5, -0.5, 0.5, -0.5]])
    given = {"tested": (ContrastRows(Shuffled(row), row, row[:0], True),), "effect": row, "dof": 3}
    weighted = combined("stouffer", ("b",), sides=ONE, weights=np.array([3.0, 4.0]), **given)
    np.testing.assert_allclose(weighted.constants[:2], [0.6, 0.8])
    with pytest.raises(InputError, match="stouffer"):
        combined("fisher", ("b",), sides=ONE, weights=np.array([3.0, 4.0]), **given)
    with pytest.raises(InputError, match="2 residual degrees of freedom"):
        combined("winer", ("b",), sides=ONE, **(given | {"dof": 2}))

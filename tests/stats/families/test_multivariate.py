import numpy as np
import pytest
from scipy import stats

from numbaglm.stats.families.family import Shuffled
from numbaglm.stats.families.multivariate import (
    LAWLEY,
    ROOT,
    STATISTICS,
    SUM,
    WILKS,
    Roots,
    is_straight,
    multivariate,
    roots,
    straight_roots,
)

SIZES = [(2, 1, 0), (2, 2, 0), (3, 2, 1), (2, 3, 2), (1, 2, 0), (4, 4, 1)]


def kernel(n_variables, s, moved, kind, without_loops):
    """One of the two that make the same scores."""
    if without_loops and not is_straight(n_variables, s, moved, kind):
        pytest.skip("for fewer rows, or roots")
    return straight_roots(n_variables, s, moved, kind, 0) if without_loops else roots


@pytest.mark.parametrize("without_loops", [False, True])
@pytest.mark.parametrize("kind", [SUM, WILKS, LAWLEY, ROOT])
@pytest.mark.parametrize(("n_variables", "s", "moved"), SIZES)
def test_scores_of_products_are_those_of_the_roots(kind, n_variables, s, moved, without_loops):
    rng = np.random.default_rng(0)
    rows, d = s + moved, min(s, n_variables)
    n_scratch = max(n_variables * (n_variables + 1) // 2, d * (d + 1) // 2 + d)
    products = np.vstack([0.2 * rng.normal(size=(n_variables * rows, 9)), np.zeros((n_scratch, 9))])
    products[:, 8] = np.nan  # a shuffling that is not there
    of = products[: n_variables * rows].reshape(n_variables, rows, 9).transpose(2, 1, 0).copy()
    make = kernel(n_variables, s, moved, kind, without_loops)
    make(products, np.empty((0, 1)), np.array([n_variables, s, moved, kind, 0]), np.empty(0))
    assert np.isnan(products[0, 8])
    for one, found in zip(of[:8], products[0], strict=False):
        B, N = one[:s], one[s:]
        total = np.eye(n_variables) - N.T @ N
        r = np.sort(np.linalg.eigvals(np.linalg.solve(total, B.T @ B)).real)[::-1]
        expected = {SUM: r.sum(), WILKS: 1 - np.prod(1 - r), LAWLEY: (r / (1 - r)).sum(), ROOT: r[0]}[kind]
        assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("without_loops", [False, True])
@pytest.mark.parametrize("name", ["wilks", "pillai", "lawley-hotelling", "roy", "cca"])
@pytest.mark.parametrize(("n_variables", "s", "moved"), [(2, 2, 0), (3, 2, 1), (2, 3, 2), (2, 1, 1), (3, 1, 0)])
@pytest.mark.parametrize("size", [0.03, 0.3])
def test_single_precision_strays_less_than_what_ties(name, n_variables, s, moved, size, without_loops):
    rng = np.random.default_rng(3)
    rows, d, kind = s + moved, min(s, n_variables), STATISTICS[name].kind
    n_scratch = max(n_variables * (n_variables + 1) // 2, d * (d + 1) // 2 + d)
    whitened = rng.uniform(-size, size, size=(n_variables * rows, 4000)).astype(np.float32)
    products = np.vstack([whitened, np.zeros((n_scratch, 4000), np.float32)])
    double = products.astype(np.float64)
    make = kernel(n_variables, s, moved, kind, without_loops)
    for one in (products, double):
        make(one, np.empty((0, 1)), np.array([n_variables, s, moved, kind, 0]), np.empty(0))
    scale = Roots(name, n_variables, s, 40)
    assert (products[0] >= scale.least_equal(double[0], "float32")).all()
    assert (double[0] >= scale.least_equal(products[0].astype(float), "float32")).all()


def test_roots_but_the_largest_take_double_precision():
    row = np.eye(9)[:2]
    how = {"others": ("b",), "rows": Shuffled(row), "interest": row, "nuisance": row[:0], "effect": row, "dof": 7}
    assert multivariate("roy", **how).precision is None
    assert multivariate("cca", which=1, **how).precision == "float64"
    three = np.eye(9)[:3]
    how |= {"others": ("b", "c"), "rows": Shuffled(three), "interest": three}
    assert multivariate("roy", **how).precision == "float64"
    assert multivariate("wilks", **how).precision is None


@pytest.mark.parametrize("name", ["hotelling", "wilks", "pillai", "lawley-hotelling"])
def test_parametric_p_are_uniform_where_nothing_is(name):
    rng = np.random.default_rng(2)
    n, k, s = 24, 2, 1 if name == "hotelling" else 2
    E = rng.normal(size=(4000, n, k))
    q, _ = np.linalg.qr(E)
    B = q[:, :s]  # of rows of interest that are unit vectors
    M = B @ B.transpose(0, 2, 1)
    r = np.clip(np.linalg.eigvalsh(M), 0, 1)
    kind = STATISTICS[name].kind
    score = {SUM: r.sum(axis=1), WILKS: 1 - np.prod(1 - r, axis=1), LAWLEY: (r / (1 - r)).sum(axis=1)}[kind]
    assert stats.kstest(Roots(name, k, s, n - s).to_z(score), "norm").pvalue > 0.001


@pytest.mark.parametrize("name", STATISTICS)
def test_z_of_maps_come_from_a_table(name):
    scale = Roots(name, 3, 1 if name == "hotelling" else 2, 30)
    scores = np.array([scale.to_score("z", z, False) for z in (-3.0, 0.0, 2.3, 5.0)])
    np.testing.assert_allclose(scale.to_z(scores), [-3.0, 0.0, 2.3, 5.0], atol=1e-8)
    out = np.empty(4)
    scale.fill_statistic(scores, out)
    np.testing.assert_allclose(out[1:], [0.0, 2.3, 5.0], atol=1e-7)
    assert out[0] == pytest.approx(-1, abs=1e-6)

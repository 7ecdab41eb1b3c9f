import numpy as np
import pytest

from numbaglm.stats.families.family import Given
from numbaglm.stats.families.variables import Heights, directions, loadings, unit_residuals, variables_of


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 6, 3)).astype(np.float32)
    other[:, 1] = 7.0
    return Given(first, {"other": other})


def test_residuals_of_each_variable_have_unit_length_or_none(given):
    one = np.full((1, 6), 6**-0.5)
    E, lengths = unit_residuals(given, ("other",), one)
    expected = given.data - given.data.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(E[0] * lengths[0], expected, atol=1e-12)
    np.testing.assert_allclose((E**2).sum(axis=1), [[1, 1, 1], [1, 0, 1]], atol=1e-12)
    assert lengths[1, 1] == 0


def test_sums_of_maps_stand_in_their_place(given):
    first, other = given.data.astype(float), given.layers["other"].astype(float)
    found = variables_of(given, ("other",), np.array([[1.0, -1.0], [0.0, 2.0]]))
    np.testing.assert_array_equal(found, [first - other, 2 * other])
    assert variables_of(given, ("other",))[0] is given.data
    E, lengths = unit_residuals(given, ("other",), np.empty((0, 6)), np.array([[1.0, -1.0]]))
    np.testing.assert_allclose(E[0] * lengths[0], first - other, atol=1e-12)


def test_loadings_are_correlations_with_the_sum_that_goes_with_the_rows():
    rng = np.random.default_rng(1)
    E = rng.normal(size=(3, 9, 4))
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    E[:, :, 3] = 0.0
    X = np.linalg.qr(rng.normal(size=(9, 2)))[0].T
    B = np.einsum("si,kin->nsk", X, E)
    weights = directions(B)
    for v in range(3):
        rows = np.linalg.svd(B[v])[2]
        np.testing.assert_allclose(np.abs(weights[v] @ rows[0]), 1)
    variate = np.einsum("nk,kin->in", weights, E)
    found = loadings(E, variate, signed=False)
    for v in range(3):
        cosines = E[:, :, v] @ variate[:, v] / np.linalg.norm(variate[:, v])
        assert found[:, v].max() == np.abs(found[:, v]).max()
        np.testing.assert_allclose(np.abs(found[:, v]), np.abs(cosines))
    assert not found[:, 3].any()
    one = directions(B[:, :1])
    np.testing.assert_allclose((one[:3] * B[:3, 0]).sum(axis=1), np.linalg.norm(B[:3, 0], axis=1))
    assert not one[3].any()


def test_heights_order_scores_and_go_back():
    scale = Heights(4.0, 3.0)
    scores = np.array([0.0, 0.5, 2.0, 4.0])
    z = scale.to_z(scores)
    np.testing.assert_allclose(z[:3], 3 * np.arctanh(np.sqrt(scores[:3]) / 2))
    assert np.isfinite(z).all()
    np.testing.assert_allclose([scale.to_score("z", float(one), False) for one in z[:3]], scores[:3], atol=1e-12)
    out = np.empty(4, np.float32)
    scale.fill_statistic(scores.astype(np.float32), out)
    np.testing.assert_allclose(out[:3], z[:3], rtol=1e-6)
    assert (scale.relative_error(scores, "float32") <= 0.01).all()

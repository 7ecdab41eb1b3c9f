import numpy as np

from numbaglm.stats.families.family import Given
from numbaglm.stats.families.variables import unit_residuals


def test_residuals_of_each_variable_have_unit_length_or_none():
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 6, 3)).astype(np.float32)
    other[:, 1] = 7.0
    one = np.full((1, 6), 6**-0.5)
    E, lengths = unit_residuals(Given(first, {"other": other}), ("other",), one)
    expected = first - first.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(E[0] * lengths[0], expected, atol=1e-12)
    np.testing.assert_allclose((E**2).sum(axis=1), [[1, 1, 1], [1, 0, 1]], atol=1e-12)
    assert lengths[1, 1] == 0

import numpy as np
from numpy.testing import assert_allclose

from numbaglm.stats.model.regression import Regression


def test_parts_of_a_fit():
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(9, 4)).astype(np.float32)
    Y[:, 3] = 0
    x = rng.normal(size=9)
    M = np.column_stack([x, np.ones(9), 1 - x])  # the third says nothing new
    fit = Regression(lambda: Y, M, 2)
    slope, intercept = np.polyfit(x, Y.astype(float), 1)
    assert_allclose(fit.predicted, np.outer(x, slope) + intercept, atol=1e-12)
    assert_allclose(fit.residuals, Y - fit.predicted, atol=1e-12)
    assert_allclose(fit.MSE, (fit.residuals**2).sum(axis=0) / 7)
    assert_allclose(fit.r_square[:3], [np.corrcoef(x, y)[0, 1] ** 2 for y in Y.T[:3].astype(float)])
    assert fit.r_square[3] == 0
    assert fit.theta.shape == (3, 4)

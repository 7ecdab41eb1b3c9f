"""Flips of residuals beside the slow way, and boundaries of regions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from numbaglm.stats import effects
from numbaglm.stats.confidence import Flips, at_unit_length, boundary, reach
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.hypothesis import Hypothesis
from reference.confidence import flipped_t, influence_of_d, t_of_means

DESIGNS = {
    "one sample": (np.ones((12, 1)), [1]),
    "two samples and a covariate": (
        np.column_stack([np.arange(12) % 2, np.linspace(3, 8, 12) ** 2, np.ones(12)]),
        [1, 0, 0],
    ),
    "a difference of two columns": (np.column_stack([np.arange(12) < 5, np.arange(12) >= 5]).astype(float), [1, -1]),
}


def flips(name, standardised, n_flips=30):
    M, c = DESIGNS[name]
    rng = np.random.default_rng(1)
    Y = (rng.normal(size=(12, 7)) + M @ rng.normal(size=(M.shape[1], 7))).astype(np.float32)
    design = Design.parse(pd.DataFrame(M), 12)
    hypothesis = Hypothesis.build(design, Contrast.parse(c, design), "ise", np.arange(12), "ter-braak")
    sign = rng.choice(np.array([-1, 1], np.int8), size=(n_flips, 12))
    return Flips(hypothesis, sign, standardised), Y.astype(float), M, np.array(c, float)


@pytest.mark.parametrize("name", DESIGNS)
def test_flips_are_the_model_fitted_again(name):
    one, Y, M, c = flips(name, standardised=False)
    found = one.estimate(Y.astype(np.float32))
    np.testing.assert_allclose(found.value, c @ np.linalg.pinv(M) @ Y, rtol=1e-6)
    sd = np.sqrt(((Y - M @ np.linalg.pinv(M) @ Y) ** 2).sum(axis=0) / (12 - M.shape[1]))
    np.testing.assert_allclose(found.error, sd * np.linalg.norm(c @ np.linalg.pinv(M)), rtol=1e-5)
    np.testing.assert_allclose(one.heights(found.rows), flipped_t(Y, M, c, one.sign), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DESIGNS)
def test_flips_of_sizes_are_those_of_their_influence(name):
    one, Y, M, c = flips(name, standardised=True)
    found = one.estimate(Y.astype(np.float32))
    w, dof = effects.swing(M, c), 12 - M.shape[1]
    psi = influence_of_d(Y, M, c, w)
    np.testing.assert_allclose(found.rows, at_unit_length(psi), atol=1e-5)
    t = np.array([t_of_means(sign[:, None] * psi) for sign in one.sign])
    expected = t / np.sqrt(1 + t**2 / (2 * dof))
    np.testing.assert_allclose(one.heights(found.rows), expected, rtol=1e-4, atol=1e-6)
    d = effects.cohens_d(c @ np.linalg.pinv(M) @ Y, np.sqrt(((Y - M @ np.linalg.pinv(M) @ Y) ** 2).sum(0) / dof), w)
    np.testing.assert_allclose(found.value, effects.hedges_g(d, dof), rtol=1e-5)
    assert (found.error > 0).all()


def test_the_influence_is_what_a_subject_adds():
    """Of 200,000 subjects: its sum of squares is the variance of d, of which the standard error is the normal one."""
    rng = np.random.default_rng(0)
    n = 200_000
    Y = rng.normal(size=(n, 1)) + 0.7
    psi = influence_of_d(Y, np.ones((n, 1)), np.ones(1), 1.0)
    assert (psi**2).sum() * n == pytest.approx(1 + 0.7**2 / 2, rel=0.02)


def test_a_voxel_without_variance_has_no_error():
    one, Y, _, _ = flips("one sample", standardised=True)
    Y[:, 3] = 0
    for flip in (one, Flips(one.hypothesis, one.sign, False)):
        found = flip.estimate(Y.astype(np.float32))
        assert (found.value[3], found.error[3]) == (0, 0)
        assert not flip.heights(found.rows)[:, 3].any()


def test_a_boundary_is_where_neighbours_lie_on_either_side():
    value = np.array([0.0, 2.0, 1.0, 5.0, 0.5])
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [0, 4]])
    elements, crossing, weight = boundary(value, pairs, 1.5)
    assert elements.tolist() == [0, 1, 2, 3, 4]
    assert elements[crossing].tolist() == [[1, 0], [1, 2], [3, 2], [3, 4]]
    np.testing.assert_allclose(weight, [0.75, 0.5, 0.125, 1 / 4.5])
    np.testing.assert_allclose(weight * value[elements[crossing[:, 0]]] + (1 - weight) * value[crossing[:, 1]], 1.5)
    assert boundary(value, pairs, 9.0)[0].size == 0


def test_a_reach_is_not_exceeded_by_its_share():
    maxima = np.arange(1.0, 101)
    assert reach(maxima, 0.95) in (95, 96)
    assert np.mean(maxima > reach(maxima, 0.95)) <= 0.05

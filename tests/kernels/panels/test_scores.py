from __future__ import annotations

import pickle

import numpy as np
import pytest

from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels.scores import Scoring, call
from numbaglm.stats.families.t_f import combine

SIZES, CONSTANTS = np.array([3, 2, 0]), np.empty(0)


def products(dtype):
    return np.random.default_rng(0).uniform(-0.4, 0.4, (3, 8)).astype(dtype)


@kernel
def called(address, values, fixed, sizes, constants):
    call(address, values, fixed, sizes, constants)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_called_by_its_address_it_does_what_it_does_plainly(dtype):
    values, constants = products(dtype), CONSTANTS.astype(dtype)
    expected, fixed = values.copy(), np.empty((0, 8), dtype)
    combine(expected, fixed, SIZES, constants)
    called(combine.address(np.dtype(dtype)), values, fixed, SIZES, constants)
    np.testing.assert_allclose(values[0], expected[0], rtol=1e-6 if dtype == "float32" else 1e-14)
    assert combine.address(np.dtype(dtype)) == combine.address(np.dtype(dtype))


def test_no_kernel_has_no_address():
    assert not Scoring(None, SIZES, CONSTANTS).address(np.dtype("float64"))


def test_a_kernel_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(combine)) is combine
    scoring = pickle.loads(pickle.dumps(Scoring(combine, SIZES, CONSTANTS, 2)))
    assert scoring.score is combine
    assert scoring.n_scratch == 2


def test_called_plainly_it_leaves_scores_in_the_first_row():
    values = products("float64")
    before = values.copy()
    combine(values, np.empty((0, 8)), SIZES, CONSTANTS)
    # F of two rows of interest and one of nuisance that shuffling moved.
    np.testing.assert_allclose(values[0], (before[:2] ** 2).sum(axis=0) / (1 - before[2] ** 2))

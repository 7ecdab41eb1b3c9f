from __future__ import annotations

import pickle

import numpy as np
import pytest
from numba import config

from numbaglm.kernels.panels.scores import Scoring
from numbaglm.stats.families.t_f import combine

SIZES, CONSTANTS = np.array([3, 2, 0]), np.empty(0)


def products(dtype):
    return np.random.default_rng(0).uniform(-0.4, 0.4, (3, 8)).astype(dtype)


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled (NUMBA_DISABLE_JIT)")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_compiled_form_is_compiled_once_for_a_precision(dtype):
    one = combine.compiled(np.dtype(dtype))
    assert combine.compiled(np.dtype(dtype)) is one
    assert combine.compiled(np.dtype("float32")) is not combine.compiled(np.dtype("float64"))


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

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.errors import InputError, InputTypeError, NumbaglmFutureWarning, NumbaglmWarning
from numbaglm.faces.nilearn.model import permuted as models

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("given", "expected"), [(3, 3), (np.int64(0), 0), (-5, 0)])
def test_numbers_of_permutations(given, expected):
    assert models.check_n_perm(given) == expected
    for wrong in (True, 10.0, "10", None):
        with pytest.raises(InputTypeError, match="'n_perm'"):
            models.check_n_perm(wrong)


def test_seeds_of_every_kind_of_random_state():
    assert models.seed_of(np.int32(7)) == 7
    for kind in (np.random.RandomState, np.random.default_rng):
        assert models.seed_of(kind(1)) == models.seed_of(kind(1)) != models.seed_of(kind(2))
    assert models.seed_of(None) >= 0
    for wrong, error in ((-1, InputError), ("1", InputTypeError), (1.0, InputTypeError)):
        with pytest.raises(error, match="'random_state'"):
            models.seed_of(wrong)


def test_nuisance_is_orthonormal_with_a_constant_where_one_is_missing():
    x, Z = RNG.normal(size=8), np.column_stack([RNG.normal(size=8), np.zeros(8), np.full(8, 3.0)])
    ones = np.ones(8)
    for columns, intercept, rank in ((Z, True, 2), (Z[:, :1], True, 2), (Z[:, :1], False, 1), (None, False, 0)):
        found = models.nuisance_of(x, columns, intercept, as_nilearn=False)
        assert found.shape == (8, rank)
        np.testing.assert_allclose(found.T @ found, np.eye(rank), atol=1e-12)
        if intercept:
            np.testing.assert_allclose(found @ (found.T @ ones), ones)
    # To nilearn zeros are a constant; a constant that is tested is not among the nuisance.
    assert models.nuisance_of(x, Z[:, :2], True, as_nilearn=True).shape == (8, 1)
    assert models.nuisance_of(x, Z[:, :2], True, as_nilearn=False).shape == (8, 2)
    assert models.nuisance_of(ones, Z, True, as_nilearn=False).shape == (8, 1)


def test_residuals_are_at_unit_length_and_0_where_nothing_is_left():
    Z = np.linalg.qr(np.column_stack([np.ones(9), RNG.normal(size=9)]))[0]
    Y = 1e6 + RNG.normal(size=(9, 5))
    Y[:, 2] = Z @ [3.0, 4.0]
    with pytest.warns(NumbaglmWarning, match="1 columns of target_vars"):
        E = models.unit_residuals(Y, Z)
    expected = Y - Z @ (Z.T @ Y)
    expected[:, 2] = 0
    lengths = np.linalg.norm(expected, axis=0)
    np.testing.assert_allclose(E, expected / np.where(lengths > 0, lengths, 1), atol=1e-6)
    with pytest.raises(InputError, match="'target_vars'"):
        models.unit_residuals(np.full((9, 1), np.nan), Z)


def test_legacy_output_is_told_off():
    assert not models.is_legacy("dict", True, 0.01)
    with pytest.warns(NumbaglmFutureWarning, match="deprecated"):
        assert models.is_legacy("legacy", False, None)
    with pytest.warns(NumbaglmWarning, match="a dict is returned"):
        assert not models.is_legacy("legacy", True, None)
    with pytest.raises(InputError, match="'output_type'"):
        models.is_legacy("tuple", False, None)


def test_cluster_forming_thresholds():
    assert models.t_threshold(("t", 3.0), True, 5) == ("t", 3.0)
    assert models.t_threshold(None, True, 5) is None
    kind, value = models.t_threshold(0.05, True, 10)
    assert (kind, value) == ("t", pytest.approx(2.2281388519649385))
    for wrong, error in ((3.1, InputError), ("0.05", InputTypeError)):
        with pytest.raises(error, match="'threshold'"):
            models.check_threshold(wrong)


def test_rows_of_unequal_length_are_filled_up():
    found = models.stack_rows([np.array([1.0, 2.0]), np.array([3.0])])
    np.testing.assert_array_equal(found, [[1, 2], [3, np.nan]])


@pytest.mark.parametrize(
    ("tested", "targets", "confounds", "error", "message"),
    [
        (np.ones(4), np.ones(4), None, InputError, "should be a 2D array"),
        (np.ones(3), np.ones((4, 2)), None, InputError, "'tested_vars'"),
        (np.ones(4), np.ones((4, 2)), np.full(4, np.inf), InputError, "'confounding_vars'"),
        (np.array(list("abcd")), np.ones((4, 2)), None, InputTypeError, "'tested_vars'"),
        (None, np.ones((4, 2)), None, InputError, "at least one regressor"),
    ],
)
def test_refused_arrays(tested, targets, confounds, error, message):
    with pytest.raises(error, match=message):
        models.check_arrays(tested, targets, confounds)

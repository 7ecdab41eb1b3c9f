from __future__ import annotations

import numpy as np
import pytest

from numbaglm.stats.families.family import Gathered, Layer, Shuffled, as_they_are
from numbaglm.stats.families.table import FAMILIES
from reference.specs import spec_of

RNG = np.random.default_rng(0)


def signed_permutation(index, sign):
    """The matrix P of a shuffling: subject r goes to place index[r], with its sign."""
    P = np.zeros((len(index), len(index)))
    P[np.arange(len(index)), index] = sign
    return P


def test_rows_are_shuffled_as_a_matrix_would():
    basis = RNG.normal(size=(2, 6))
    index = np.array([RNG.permutation(6) for _ in range(4)], np.int32)
    sign = RNG.choice(np.array([-1, 1], np.int8), (4, 6))
    rows = Shuffled(basis)
    assert rows.shape == (2, 6)
    out = np.full((2, 5, 6), 9.0)
    rows.fill(index, sign, out)
    data = RNG.normal(size=6)
    for i in range(4):
        shuffled = sign[i] * data[index[i]]
        np.testing.assert_allclose(out[:, i] @ data, basis @ shuffled)
        np.testing.assert_allclose(out[:, i], basis @ signed_permutation(index[i], sign[i]))


@pytest.mark.parametrize("inverse", [False, True])
def test_places_are_where_a_matrix_would_bring_them(inverse):
    index = np.array([RNG.permutation(6) for _ in range(4)], np.int32)
    sign = RNG.choice(np.array([-1, 1], np.int8), (4, 6))
    rows = Gathered(6, 0, inverse)
    assert rows.shape == (1, 6)
    out = np.full((1, 5, 6), 99, np.int32)
    rows.fill(index, sign, out)
    data = RNG.normal(size=6)
    for i in range(4):
        P = signed_permutation(index[i], sign[i])
        np.testing.assert_array_equal(np.append(data, -data)[out[0, i]], (P.T if inverse else P) @ data)
    assert (out[0, 4] == 99).all()


def test_layers_are_stacked_one_below_the_other():
    family = spec_of().family
    E = RNG.normal(size=(12, 5))
    out = np.empty((family.n_units, 5))
    family.stack(E, out)
    np.testing.assert_array_equal(out, E)
    assert as_they_are(E) is E
    assert (family.n_rows, family.n_units) == (1, 12)
    assert isinstance(family.layers[0], Layer)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_have_names_of_their_own(name):
    assert name.strip()
    assert list(FAMILIES).count(name) == 1

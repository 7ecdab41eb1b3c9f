from __future__ import annotations

import re

import pytest

from numbaglm.errors import InputError
from numbaglm.stats.families.combined import COMBINING
from numbaglm.stats.families.multivariate import STATISTICS
from numbaglm.stats.methods import METHODS, OF_P, OF_VALUES, find_method


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("freedman-lane", "freedman-lane"),
        ("Freedman Lane", "freedman-lane"),
        ("TER_BRAAK", "ter-braak"),
        ("terbraak", "ter-braak"),
        ("Dekker/Smith", "dekker"),
        ("smith", "dekker"),
        ("Huh\N{EN DASH}Jhun", "huh-jhun"),
    ],
)
def test_names_are_found_however_they_are_written(typed, name):
    assert find_method(typed) is METHODS[name]


@pytest.mark.parametrize("typed", ["", "freedman", "dekker-manly", None])
def test_others_are_refused(typed):
    with pytest.raises(InputError, match=r"'method'.*'freedman-lane', 'huh-jhun'"):
        find_method(typed)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_records_tell_their_model_and_source(method):
    assert re.search(r"\bP\b", method.model)
    assert re.search(r"\((19|20)\d\d\)", method.reference)
    # A model with Z on its right fits nuisance again; where the data are shuffled that takes rows of nuisance.
    if "Z g" in method.model:
        assert method.nuisance_rows != method.refit
    else:
        assert not method.nuisance_rows
        assert not method.refit


def test_combinations_are_listed_where_nothing_heavy_is_imported():
    assert tuple(COMBINING) == OF_P
    assert (*STATISTICS, "pls") == OF_VALUES

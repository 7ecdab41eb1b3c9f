from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from numbaglm.errors import InputError
from numbaglm.stats.conventions import _ALLOWED, CONVENTIONS, Conventions, is_number


def test_each_option_says_what_it_may_be():
    told = [name for names, _, _ in _ALLOWED for name in names]
    assert sorted(told) == sorted(one.name for one in fields(Conventions) if one.name != "name")


@pytest.mark.parametrize("name", CONVENTIONS)
def test_records_are_found_by_their_names_and_allowed(name):
    assert Conventions.parse(name) == CONVENTIONS[name]
    assert CONVENTIONS[name].name == name
    assert Conventions.parse(CONVENTIONS[name]) is not None


def test_options_override_a_record_and_none_leaves_it():
    found = Conventions.parse("nilearn", tfce_H=3, strict=None, fdr="bky")
    assert found == replace(CONVENTIONS["nilearn"], tfce_H=3, fdr="bky")
    assert found.strict
    assert not CONVENTIONS["numbaglm"].strict


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cluster_connectivity", 8),
        ("tfce_connectivity", "6"),
        ("mass", "excesses"),
        ("structures", "together"),
        ("over_domains", "box-cox"),
        ("statistic", "f"),
        ("fdr", "by"),
        ("strict", 1),
        ("tfce_E", 20.5),
        ("tfce_H", True),
        ("tfce_dh", -0.1),
        ("tfce_dh", np.inf),
        ("tfce_steps", 100.0),
        ("tfce_steps", -1),
        ("v_dof_factor", 0),
    ],
)
def test_values_that_are_not_allowed_are_named(option, value):
    with pytest.raises(InputError, match=f"'{option}': got "):
        Conventions.parse("numbaglm", **{option: value})


@pytest.mark.parametrize(("given", "message"), [("afni", "'palm'"), (3, "or a record")])
def test_unknown_records_and_options(given, message):
    with pytest.raises(InputError, match=message):
        Conventions.parse(given)
    with pytest.raises(InputError, match=r"Unknown option\(s\) \['tfce_h'\].*'tfce_H'"):
        Conventions.parse("palm", tfce_h=2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, True),
        (np.float32(2.5), True),
        (np.int64(3), True),
        (True, False),
        (np.nan, False),
        ("1", False),
        (1j, False),
    ],
)
def test_numbers(value, expected):
    assert is_number(value) is expected

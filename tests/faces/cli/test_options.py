from __future__ import annotations

import inspect
from dataclasses import fields

import click
import pytest

from numbaglm import permutation_test
from numbaglm.faces.cli.options import CONTRASTS, TEST
from numbaglm.faces.shell import grouped
from numbaglm.stats.conventions import Conventions


@click.command()
@grouped(CONTRASTS, TEST)
def command(**options):
    pass


def test_options_are_parameters_of_the_call_with_its_defaults():
    parameters = inspect.signature(permutation_test).parameters
    usual = command.make_context("command", []).params
    for name in {one.name for one in fields(Conventions)} & set(usual):  # single options of the record
        assert usual.pop(name) is None
    assert set(usual) <= set(parameters)
    for name in set(usual) - {"contrast", "cluster_forming_threshold"}:  # which are text here
        expected = parameters[name].default
        assert usual[name] == (() if expected is None and usual[name] == () else expected), name  # () is none typed


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--n-perm", "0"], "--n-perm"),
        (["--seed", "-1"], "--seed"),
        (["--p-interval", "1"], "--p-interval"),
        (["--variance-smoothing-fwhm", "0"], "--variance-smoothing-fwhm"),
        (["--method", "ols"], "--method"),
        (["--errors", "iid"], "--errors"),
    ],
)
def test_values_that_are_typed_wrong(typed, words):
    with pytest.raises(click.BadParameter) as error:
        command.make_context("command", typed)
    assert words in error.value.format_message()

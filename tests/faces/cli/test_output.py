from __future__ import annotations

import json

import pytest

from numbaglm.engine.permutation.plan import Plan
from numbaglm.errors import ContrastError
from numbaglm.faces.cli.output import Target, describe_fit, tell_plans

PLAN = Plan(batch=16, blocks=((0, 100), (100, 150)), ranges=((0, 401),), resident=True)


def test_contrasts_must_be_names_of_folders():
    several = Target("out", False, bids=False, several=True)
    several.check({"a + b_1-c": "a", "\u00e4ge": "age"})
    for name in ("../a", ".a", "", "a/b", "x" * 61):
        with pytest.raises(ContrastError, match="can't name a folder"):
            several.check({name: "a"})
    Target("out", False, bids=False).check("a/b")
    with pytest.raises(ContrastError):
        Target("out", False, bids=True, several=True).check({"a b": 1, "aB": 2})


def test_folders_of_several_contrasts():
    names = ["patient > control", "age"]
    assert Target("o", False, bids=False, several=True).folders(names) == {name: name for name in names}
    found = Target("o", False, bids=True, several=True).folders(names)
    assert found["age"] == "numbaglm/contrast-age"
    kinds = {(bids, several): Target("o", False, bids, several).marker("own") for bids in (0, 1) for several in (0, 1)}
    assert kinds[0, 0] == "own"
    assert len({kinds[0, 1], kinds[1, 1], "own"}) == 3
    assert kinds[1, 0] == kinds[1, 1]


def test_plans_are_told_one_or_by_name():
    told, text = tell_plans({"": PLAN})
    assert json.loads(json.dumps(told))["batch"] == 16
    assert text == f"Plan: {PLAN.describe()}."
    told, text = tell_plans({"a": PLAN, "b": PLAN})
    assert list(told["contrasts"]) == ["a", "b"]
    assert text.splitlines()[1].startswith("Plan of b: ")


def test_a_fit_is_told_with_its_place():
    summary = {
        "contrast": "x", "statistic": "t", "dof": 9, "n_subjects": 11, "n_voxels": 12345, "maximum": 3.456,
        "maximum_mm": [-0.2, 12.0, 3.0], "voxel_sizes_mm": [3.0, 3.0, 3.0], "n_uncorrected_0.001": 1200,
        "n_bonferroni_0.05": 0,
    }  # fmt: skip
    lines = describe_fit(summary).splitlines()
    assert lines[0] == "x: 12,345 voxels, 11 subjects, 9 degrees of freedom"
    assert lines[1] == "largest t: 3.46 at (0, 12, 3) mm"
    assert lines[2].endswith(": 1,200")

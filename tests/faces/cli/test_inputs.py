from __future__ import annotations

from types import SimpleNamespace

import click
import numpy as np
import pandas as pd
import pytest

from numbaglm.errors import DesignError, InputError, MissingFileError
from numbaglm.faces.cli import inputs
from numbaglm.faces.cli.bids_options import ENTITY_OF
from reference.maps import AFFINE, volumes
from reference.spm_mat import write_images

DESIGN = pd.DataFrame({"age": [1.0, 2.0], "a=b": [0.0, 1.0], "intercept": 1.0})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.001", 0.001),
        ("p:0.05", 0.05),
        ("t:3.1", ("t", 3.1)),
        ("Z:2.3", ("z", 2.3)),
        ("f:6", ("f", 6.0)),
        ("NONE", None),
    ],
)
def test_thresholds(text, expected):
    assert inputs.parse_threshold(text) == expected


@pytest.mark.parametrize("text", ["3.1", "0", "t:-1", "t:inf", "t:", "q:2", "high", ""])
def test_refused_thresholds(text):
    with pytest.raises(InputError, match="cluster_forming_threshold"):
        inputs.parse_threshold(text)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ((), "age"),
        (("intercept",), "intercept"),
        (("age; intercept",), ["age", "intercept"]),
        (("slope=age",), {"slope": "age"}),
        (("age", "mean = intercept"), {"age": "age", "mean": "intercept"}),
        (("a=b",), "a=b"),
        (("age;intercept", "age"), {"age; intercept": ["age", "intercept"], "age": "age"}),
    ],
)
def test_contrasts_and_their_names(typed, expected):
    assert inputs.pick_contrasts(typed, DESIGN, ["age"]) == expected


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("=age",), "NAME=EXPR"),
        (("x=age", "X=intercept"), "named 'x' and 'X', and each has a folder.*--contrast 'NAME=intercept'"),
        (("x=age", "x=intercept"), r"Two contrasts are named 'x'\. Give"),
        ((";",), "an expression over"),
        (("age;",), "on each side of a ';'"),
        (("age;;intercept",), "on each side of a ';'"),
    ],
)
def test_refused_contrasts(typed, message):
    with pytest.raises(InputError, match=message):
        inputs.pick_contrasts(typed, DESIGN, ["age"])


def test_maps_are_files_or_a_table_of_their_paths(tmp_path):
    (tmp_path / "list.txt").write_text("a.nii\nsub/b.nii\n")
    pd.DataFrame({"subject_label": ["x"], "effects_map_path": ["a.nii"]}).to_csv(tmp_path / "t.csv", index=False)
    assert inputs.listed_maps(["a.nii", "b.nii"]) == ["a.nii", "b.nii"]
    assert inputs.listed_maps(["4d.nii"]) == "4d.nii"
    assert inputs.listed_maps(["s3://bucket/a.nii"]) == ["s3://bucket/a.nii"]
    assert inputs.listed_maps([str(tmp_path / "list.txt")]) == [str(tmp_path / "a.nii"), str(tmp_path / "sub/b.nii")]
    table = inputs.listed_maps([str(tmp_path / "t.csv")])
    assert table["effects_map_path"].tolist() == [str(tmp_path / "a.nii")]
    with pytest.raises(MissingFileError, match=r"No file matches .*\*\.nii"):
        inputs.listed_maps([str(tmp_path / "*.nii")])
    (tmp_path / "b.img").touch()
    (tmp_path / "a.img").touch()
    quoted = [str(tmp_path / "*.img")]
    assert inputs.listed_maps(quoted) == [str(tmp_path / "a.img"), str(tmp_path / "b.img")]
    assert inputs.read_layers([f"x={quoted[0]}"]) == {"x": inputs.listed_maps(quoted)}


def test_a_cohort_stands_alone(tmp_path):
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(InputError, match=r"c\.zarr is a cohort, which stands alone.* got also 'age'.*--model sex"):
        inputs.listed_maps([str(tmp_path / "c.zarr"), "age"])


def test_maps_of_first_levels_are_picked_by_their_number(tmp_path):
    write_images(tmp_path, volumes(2), AFFINE, "sub-{:02d}/nback/con_0003.nii")
    none = dict.fromkeys(ENTITY_OF, ()) | {"bids_dir": None, "entities": (), "con": 3, "spm_folder": None}
    none["leave_out"] = ()
    given = none | {"spm_dir": str(tmp_path)}
    found, covariates = inputs.pop_maps([], dict(given))
    assert (list(found["subject_label"]), covariates) == (["sub-01", "sub-02"], None)
    assert len(inputs.pop_maps([], given | {"spm_folder": "nback"})[0]) == 2
    assert list(inputs.pop_maps([], given | {"leave_out": ("1",)})[0]["subject_label"]) == ["sub-02"]
    for arguments, options, match in (
        ([], none | {"spm_dir": None}, "--con is for first levels: add --spm-dir"),
        ([], given | {"con": None}, "add --con 1"),
        (["a.nii"], given, "MAPS .* and --spm-dir exclude each other"),
        ([], given | {"bids_dir": "d"}, "--bids-dir and --spm-dir exclude"),
        ([], none | {"spm_dir": None, "con": None}, "name the maps, or a dataset with --bids-dir, or SPM's first"),
    ):
        with pytest.raises(click.UsageError, match=match):
            inputs.pop_maps(arguments, dict(options))


def test_subjects_are_left_out_of_maps_however_they_are_named(tmp_path):
    files = [f"sub-{k:02d}/con.nii" for k in range(1, 4)]
    assert inputs.without_subjects(files, ["2"]) == [files[0], files[2]]
    assert inputs.without_subjects({"left": files, "right": files}, ["2", "sub-01"]) == dict.fromkeys(
        ("left", "right"), files[2:]
    )
    table = pd.DataFrame({"subject_label": ["sub-2", "sub-1"], "effects_map_path": files[:2], "age": [3, 4]})
    assert inputs.without_subjects(table, ["1"])["age"].tolist() == [3]
    parcels = pd.DataFrame({"participant_id": ["a", "b", "c"], "insula": [1.0, 2.0, 3.0]})
    assert inputs.without_subjects(parcels, ["b"])["insula"].tolist() == [1.0, 3.0]
    assert inputs.without_subjects("all.nii", ()) == "all.nii"
    for listed, match in ((files, "got 'sub-9'.*sub-01, sub-02, sub-03"), ("all.nii", "a file of all maps.*Convert")):
        with pytest.raises(InputError, match=match):
            inputs.without_subjects(listed, ["sub-9"])


def test_blocks_are_more_than_labels_of_the_maps(tmp_path):
    pd.DataFrame({"participant_id": ["1", "1"], "session_id": ["a", "b"]}).to_csv(tmp_path / "b.csv", index=False)
    question = SimpleNamespace(cohort=None, named=None, by_order=False)
    with pytest.raises(InputError, match=r"'--blocks'.*participant_id, session_id, which are labels of the maps"):
        inputs.Labels.read(str(tmp_path / "b.csv"), "--blocks").of(question)


def test_layers_are_maps_by_name(tmp_path):
    for name in ("v2.nii", "v1.nii"):
        (tmp_path / name).touch()
    found = inputs.read_layers([f"var={tmp_path}/v*.nii", "gm=one.nii"])
    assert found == {"var": [str(tmp_path / "v1.nii"), str(tmp_path / "v2.nii")], "gm": "one.nii"}
    assert inputs.read_layers([]) is None
    for typed in (["v.nii"], ["=v.nii"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(click.UsageError, match="write NAME=MAPS"):
            inputs.read_layers(typed)


def test_labels_of_a_table(tmp_path):
    assert inputs.Labels.read(None, "--blocks").of(None) is None
    assert inputs.Labels.read("auto", "--variance-groups", "auto").of(None) == "auto"
    (tmp_path / "eb.csv").write_text("1,1\n1,2\n")
    table = inputs.Labels.read(str(tmp_path / "eb.csv"), "--blocks").table
    np.testing.assert_array_equal(table.to_numpy(), [[1, 1], [1, 2]])


def test_several_columns_of_text_are_told_as_a_formula_of_all_columns():
    table = pd.DataFrame(
        {"group": ["control", "patient"], "age": [1.0, 2.0], "body mass": [1.0, 3.0], "sex": ["F", "M"]}
    )
    told = r"--design '~ group \+ age \+ `body mass` \+ sex' --contrast 'group\[patient\]'"
    with pytest.raises(DesignError, match=told):
        inputs._columns(table, ["group", "age", "body mass", "sex"], intercept=True)

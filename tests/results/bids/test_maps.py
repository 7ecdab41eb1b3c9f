import json
import re

import numpy as np
import pandas as pd
import pytest

from numbaglm import Cohort, bids_maps
from numbaglm.errors import InputError, MissingFileError
from reference.bids import DERIVATIVE, SUBJECTS, N, put


@pytest.fixture
def dataset(tmp_path):
    """A derivatives dataset within a raw one, of two contrasts, with participants."""
    folder = tmp_path / "raw" / "derivatives" / "glm"
    name = "SUB/func/SUB_task-emo_space-MNI_contrast-{}_stat-{}_statmap.nii.gz"
    put(folder, *(name.format(*pair) for pair in (("yVsN", "effect"), ("yVsN", "t"), ("nVsY", "effect"))))
    (folder / "dataset_description.json").write_text(json.dumps(DERIVATIVE))
    (tmp_path / "raw" / "dataset_description.json").write_text(json.dumps({"DatasetType": "raw"}))
    table = pd.DataFrame({"participant_id": [f"sub-{subject}" for subject in SUBJECTS], "age": range(20, 20 + N)})
    table.iloc[::-1].to_csv(tmp_path / "raw" / "participants.tsv", sep="\t", index=False)
    return folder


def test_one_map_a_subject_with_its_covariates(dataset):
    maps = bids_maps(dataset, contrast="yVsN")
    assert list(maps.columns) == ["subject_label", "effects_map_path", "age"]
    assert maps["subject_label"].tolist() == [f"sub-{subject}" for subject in SUBJECTS]
    assert maps["age"].tolist() == list(range(20, 20 + N))
    for label, path in zip(maps["subject_label"], maps["effects_map_path"], strict=True):
        assert path == str(
            dataset / label / "func" / f"{label}_task-emo_space-MNI_contrast-yVsN_stat-effect_statmap.nii.gz"
        )
    some = bids_maps(dataset, contrast="nVsY", stat="effect", task="emo", subject=["02", "sub-04"])
    assert some["subject_label"].tolist() == ["sub-02", "sub-04"]
    # It is what every call takes.
    cohort = Cohort.from_maps(maps, covariates=maps.drop(columns="effects_map_path"))
    assert cohort.covariates["age"].tolist() == maps["age"].tolist()


def test_what_is_left_open_is_listed_with_how_to_pick(dataset):
    with pytest.raises(InputError, match=r"12 maps of 6 subjects .*contrast: nVsY, yVsN\..* such as contrast='nVsY'"):
        bids_maps(dataset)
    with pytest.raises(
        InputError, match=r"no map with stat F .* among those with contrast yVsN.* there is effect, t\."
    ):
        bids_maps(dataset, contrast="yVsN", stat="F")
    with pytest.raises(InputError, match=r"sub-01 has more than one map: .*nVsY.* and .*yVsN"):
        bids_maps(dataset, contrast=["yVsN", "nVsY"])
    with pytest.raises(InputError, match="Of taks there is"):
        bids_maps(dataset, taks="emo")
    with pytest.raises(InputError, match="Invalid value for 'task'"):
        bids_maps(dataset, task=1.5)


def test_runs_and_nodes_of_fitlins(dataset):
    run = "node-runLevel/SUB/SUB_contrast-c_run-{}_stat-effect_statmap.nii.gz"
    subject = "node-subjectLevel/SUB/SUB_contrast-c_stat-effect_statmap.nii.gz"
    put(dataset / "more", run.format("01"), run.format("02"), subject)
    (dataset / "more" / "dataset_description.json").write_text(json.dumps(DERIVATIVE))
    with pytest.raises(InputError, match=r"node: runLevel, subjectLevel; run: 01, 02, \(none\)"):
        bids_maps(dataset / "more")
    pooled = bids_maps(dataset / "more", run=None)
    assert all("node-subjectLevel" in path for path in pooled["effects_map_path"])
    assert pooled.equals(bids_maps(dataset / "more", node="subjectLevel"))
    assert all("run-02" in path for path in bids_maps(dataset / "more", run=2)["effects_map_path"])


def test_other_suffixes_and_names_of_nilearn(tmp_path):
    put(tmp_path, "SUB/SUB_space-MNI_label-GM_probseg.nii.gz", "SUB/SUB_task-a_contrast-b_stat-effect_statmap.nii.gz")
    put(tmp_path, "SUB/SUB_task-a_stat-rsquared_statmap.nii.gz", "SUB/SUB_task-a_stat-errorts_statmap.nii.gz")
    (tmp_path / "dataset_description.json").write_text(json.dumps(DERIVATIVE))
    put(tmp_path / "group", "contrast-b_stat-effect_statmap.nii.gz")  # no subject's
    assert len(bids_maps(tmp_path)) == N
    assert all("probseg" in path for path in bids_maps(tmp_path, suffix="probseg")["effects_map_path"])


def test_links_are_followed_and_empty_ones_told(dataset, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for place in dataset.iterdir():
        (linked / place.name).symlink_to(place)
    (linked / "sub-01" / "func" / "loop").symlink_to(linked)
    assert len(bids_maps(linked, contrast="yVsN")) == N
    lost = next((dataset / "sub-03" / "func").glob("*yVsN_stat-effect*"))
    lost.unlink()
    lost.symlink_to(tmp_path / "annex" / "none")
    with pytest.raises(MissingFileError, match=r"1 of 6 maps are links to files that are not here.*datalad get"):
        bids_maps(dataset, contrast="yVsN")


def test_subjects_that_lack_something_are_told(dataset, caplog):
    next((dataset / "sub-03" / "func").glob("*yVsN_stat-effect*")).unlink()
    (dataset / "sub-01" / "func" / "sub-01_contrast-a_vs_b_statmap.nii.gz").touch()
    table = pd.read_csv(dataset.parents[1] / "participants.tsv", sep="\t")
    # The dataset's own goes before that of the raw data; labels without "sub-" are understood, n/a is nothing.
    table["participant_id"] = table["participant_id"].str.removeprefix("sub-")
    table["age"] = table["age"].astype(object)
    table.loc[table["participant_id"] == "02", "age"] = "n/a"
    table[table["participant_id"] != "05"].to_csv(dataset / "participants.tsv", sep="\t", index=False)
    maps = bids_maps(dataset, contrast="yVsN")
    assert maps["subject_label"].tolist() == ["sub-01", "sub-02", "sub-04", "sub-05", "sub-06"]
    np.testing.assert_array_equal(maps["age"], [20, np.nan, 23, np.nan, 25])
    assert "1 of 6 subjects have no such map, and are left out: sub-03." in caplog.text
    assert "no row for sub-05" in caplog.text
    assert "1 files are left out, whose names are not BIDS's: sub-01_contrast-a_vs_b_statmap.nii.gz." in caplog.text


def test_what_is_no_derivatives_dataset(dataset, tmp_path, caplog):
    raw = dataset.parents[1]
    with pytest.raises(InputError, match=rf"is a raw BIDS dataset.*There is {re.escape(str(dataset))}\."):
        bids_maps(raw)
    with pytest.raises(InputError, match=rf"Name one of them: {re.escape(str(dataset))}\."):
        bids_maps(dataset.parent)
    with pytest.raises(MissingFileError, match="does not exist, or is no folder"):
        bids_maps(tmp_path / "nothing")
    description = dataset / "dataset_description.json"
    description.write_text("{")
    with pytest.raises(InputError, match="It needs to be a JSON file"):
        bids_maps(dataset)
    for text, message in (("{}", 'does not say "DatasetType"'), ("", "has no dataset_description.json")):
        description.write_text(text) if text else description.unlink()
        assert len(bids_maps(dataset, contrast="yVsN")) == N
        assert message in caplog.text
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "dataset_description.json").write_text(json.dumps(DERIVATIVE))
    with pytest.raises(MissingFileError, match="no file is named such as sub-01_contrast-a_stat-effect_statmap"):
        bids_maps(tmp_path / "empty")


def test_participants_must_be_a_table_of_subjects(dataset):
    table = dataset / "participants.tsv"
    table.write_text("participant_id\tage\nsub-01\t20\n01\t21\n")
    with pytest.raises(InputError, match="sub-01 in more than one row"):
        bids_maps(dataset, contrast="yVsN")
    table.write_text("name\tage\nsub-01\t20\n")
    with pytest.raises(InputError, match="has no column participant_id"):
        bids_maps(dataset, contrast="yVsN")

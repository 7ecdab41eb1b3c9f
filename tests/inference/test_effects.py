"""Effects, subjects and kinship as they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from numbaglm.data.labels import MapLabels
from numbaglm.errors import InputError
from numbaglm.inference import effects as read

NAMES = ["a1", "a2", "b1", "c1", "d1", "d2"]
MAPS = MapLabels(NAMES, known=True)
BLOCKS = np.array(["x", "x", "x", "y", "y", "y"])
SUBJECTS = np.array(["a", "a", "b", "c", "d", "d"])
OF_PEOPLE = pd.DataFrame(
    [[1, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.25], [0, 0, 0.25, 1]], index=list("abcd"), columns=list("abcd")
)
OF_MAPS = OF_PEOPLE.loc[list("aabcdd"), list("aabcdd")].to_numpy()


def blocks_of(kinship, subjects=SUBJECTS):
    return [one.tolist() for one in read.read_kinship(kinship, MAPS, BLOCKS, subjects).blocks]


EXPECTED = [OF_MAPS[:3, :3].tolist(), OF_MAPS[3:, 3:].tolist()]


def test_a_matrix_may_come_in_many_forms(tmp_path):
    labelled = pd.DataFrame(OF_MAPS, index=NAMES, columns=NAMES).sample(frac=1, random_state=0)
    labelled = labelled[labelled.index]
    OF_PEOPLE.to_csv(tmp_path / "rows.csv")
    OF_PEOPLE.to_csv(tmp_path / "columns.tsv", sep="\t", index=False)
    by_block = {"y": OF_PEOPLE.loc[["c", "d"], ["c", "d"]], "x": OF_MAPS[:3, :3], "z": np.eye(1)}
    mixed = {"x": np.ones((2, 2)) / 2 + np.eye(2) / 2, "y": OF_MAPS[3:, 3:]}
    for one in (
        OF_MAPS,
        OF_PEOPLE,
        0.5 * OF_PEOPLE.to_numpy(),
        labelled,
        by_block,
        mixed,
        tmp_path / "rows.csv",
        str(tmp_path / "columns.tsv"),
    ):
        assert blocks_of(one) == EXPECTED
    assert read.read_kinship(None, MAPS, BLOCKS, None) is None
    assert blocks_of(OF_MAPS, None) == EXPECTED


def test_labels_of_a_matrix_are_those_of_the_maps_in_another_form():
    maps = MapLabels([f"sub-{number:03d}" for number in (7, 11, 30, 31, 42, 100)], known=True)
    numbers = [7, 11, 30, 31, 42, 100]
    table = pd.DataFrame(OF_MAPS, index=numbers, columns=numbers).iloc[::-1, ::-1]
    for given in (table, table.rename(index="sub-{}".format, columns="sub-{}".format)):
        kinship = read.read_kinship(given, maps, BLOCKS, None)
        assert [one.tolist() for one in kinship.blocks] == EXPECTED
    with pytest.raises(InputError, match="no row for sub-100"):
        read.read_kinship(table.iloc[1:, 1:], maps, BLOCKS, None)


def test_labels_of_a_matrix_are_read_whatever_they_are():
    numbers = np.array([3, 3, 2, 1, 0, 0])
    for index in (range(4), [0.0, 1.0, 2.0, 3.0]):
        table = pd.DataFrame(OF_PEOPLE.to_numpy()[::-1, ::-1], index=index, columns=index)
        for of_maps in (numbers, numbers.astype(float)):
            subjects = read.read_subjects(of_maps, MAPS, pd.DataFrame())
            assert blocks_of(table.iloc[::-1, ::-1], subjects) == EXPECTED
            assert blocks_of(table, subjects) == EXPECTED
    mixed = OF_PEOPLE.loc[list("dbca"), list("cadb")]
    for one in (mixed, mixed.reset_index(), mixed.loc[list("cadb")].reset_index(drop=True)):
        assert blocks_of(one) == EXPECTED
    by_block = {0.0: OF_MAPS[:3, :3], 1.0: OF_MAPS[3:, 3:]}
    kinship = read.read_kinship(by_block, MAPS, np.repeat([0, 1], 3), None)
    assert [one.tolist() for one in kinship.blocks] == EXPECTED


@pytest.mark.parametrize(
    ("kinship", "message"),
    [
        (OF_PEOPLE.set_axis(list("abca"), axis=0), "a more than once"),
        (OF_PEOPLE.set_axis(list("abce"), axis=1), "rows of a, b, c and 1 more and columns of"),
        (OF_MAPS + 0.01, "relates maps of block 'x' with those of others.*set to 0"),
        (np.eye(5), r"shape \(5, 5\).*6 rows, for the maps, or of 4"),
        (np.ones((6, 5)), "shape"),
        ("none.tsv", "none.tsv"),
        ("text.csv", "text.csv"),
        ({"x": np.eye(3)}, "none for y"),
        ({"x": np.eye(3), "y": np.triu(np.ones((3, 3)))}, "block 'y' that is not symmetric"),
        (OF_PEOPLE.drop(index="c", columns="c"), "no row for c"),
        (OF_MAPS.astype(str) + "?", "'kinship'"),
    ],
)
def test_what_is_no_kinship_of_these_maps_is_refused(tmp_path, monkeypatch, kinship, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, FileNotFoundError), match=message):
        read.read_kinship(kinship, MAPS, BLOCKS, SUBJECTS)


def test_subjects_are_labels():
    for given in (SUBJECTS, pd.DataFrame({"who": SUBJECTS}), pd.Series(SUBJECTS, NAMES).iloc[::-1]):
        assert read.read_subjects(given, MAPS, pd.DataFrame()).tolist() == SUBJECTS.tolist()
    for given, message in ((SUBJECTS[:5], "a label"), (np.array([None] * 6), "label")):
        with pytest.raises(InputError, match=message):
            read.read_subjects(given, MAPS, pd.DataFrame())


def test_effects_are_those_that_there_is_something_for():
    assert read.read_effects(None, None, None) == ("family", "error")
    assert read.read_effects(None, "person", OF_MAPS) == ("family", "subject", "kinship", "error")
    assert read.read_effects(["kinship", "error"], None, OF_MAPS) == ("kinship", "error")


@pytest.mark.parametrize(
    ("effects", "subjects", "kinship", "message"),
    [
        ("family", None, None, "'effects'.*two or more"),
        (("family",), None, None, "two or more"),
        (("family", "subject"), "x", None, "'error' among them"),
        (("family", "twin", "error"), None, None, "two or more of"),
        (("family", "family", "error"), None, None, "each once"),
        (("family", "subject", "error"), None, None, "'subject' with subjects="),
        (("family", "error"), None, OF_MAPS, "'kinship'.*None without 'kinship'"),
    ],
)
def test_effects_that_there_are_not_are_refused(effects, subjects, kinship, message):
    with pytest.raises(InputError, match=message):
        read.read_effects(effects, subjects, kinship)


@pytest.mark.parametrize(("bins", "interval"), [(0, None), (2.5, None), (101, None), (True, None), (20, 95), (20, 1.0)])
def test_bins_and_intervals_out_of_range_are_refused(bins, interval):
    with pytest.raises(InputError, match="component_"):
        read.check_bins(bins, interval)

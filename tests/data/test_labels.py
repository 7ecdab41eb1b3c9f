from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numbaglm.data.labels import (
    MapLabels,
    check_labels,
    further_columns,
    in_another_order,
    labels_of,
    match_labels,
    match_rows,
    people_of,
    rows_without,
    sorted_frame,
    warn_of_visits,
    without_labels,
)
from numbaglm.errors import InputError

AGES = [30, 10, 20]  # of rows 3, 1, 2


def named(paths):
    labels = labels_of([Path(path) for path in paths], len(paths))
    return MapLabels(labels, True, tuple(paths))


def table(labels, column="participant_id"):
    return pd.DataFrame({column: labels, "age": AGES})


PATHS = {
    "BIDS": [f"/d/sub-0{k}/sub-0{k}_con.nii.gz" for k in (1, 2, 3)],
    "SPM": [f"/d/s0{k}/con_0001.nii" for k in (1, 2, 3)],
    "SPM, a level up": [f"/d/s0{k}/stats/con_0001.nii" for k in (1, 2, 3)],
    "file names": [f"/d/s0{k}.nii" for k in (1, 2, 3)],
    "within file names": [f"/d/con_s0{k}_smooth.nii" for k in (1, 2, 3)],
}


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (PATHS["BIDS"], ["sub-03", "sub-01", "sub-02"]),
        (PATHS["BIDS"], ["03", "01", "02"]),
        (PATHS["BIDS"], [3, 1, 2]),
        (PATHS["BIDS"], ["sub-3", "sub-1", "sub-2"]),
        (PATHS["SPM"], ["s03", "s01", "s02"]),
        (PATHS["SPM, a level up"], ["s03", "s01", "s02"]),
        (PATHS["file names"], ["s03", "s01", "s02"]),
        (PATHS["within file names"], ["s03", "s01", "s02"]),
    ],
)
def test_rows_are_matched_by_label(paths, labels):
    for frame in (
        table(labels),
        table(labels, "subject_label"),
        table(labels, "Subject_ID"),
        table(list(map(str, labels)), "Unnamed: 0"),
        table(list(map(str, labels))).set_index("participant_id"),
        pd.DataFrame({"age": AGES}, index=[f"{label}" for label in labels]),
    ):
        rows, _ = match_rows(frame, named(paths), "covariates")
        assert rows.to_dict("list") == {"age": [10, 20, 30]}


def test_labels_of_one_form_that_are_two_are_told_apart():
    maps = MapLabels(["01", "1", "2"], True)
    assert match_rows(table(["2", "01", "1"]), maps, "x")[0]["age"].tolist() == [10, 20, 30]
    with pytest.raises(InputError, match="no row for"):
        match_rows(table(["sub-1", "sub-01", "sub-2"]), maps, "x")


def test_what_can_be_matched_in_two_ways_is_refused():
    paths = ["/d/1/con_2.nii", "/d/2/con_3.nii", "/d/3/con_1.nii"]
    with pytest.raises(InputError, match="no row for con_2, con_3, con_1"):
        match_rows(table(["1", "2", "3"]), named(paths), "x")
    assert match_rows(table(["con_1", "con_2", "con_3"]), named(paths), "x")[0]["age"].tolist() == [10, 20, 30]


@pytest.mark.parametrize("known", [True, False])
def test_labels_of_one_side_alone_are_refused(known):
    maps = MapLabels(["subject-001", "subject-002", "subject-003"], False) if not known else named(PATHS["SPM"])
    with pytest.raises(InputError, match="subjects="):
        match_rows(table(["c", "a", "b"]), maps, "covariates")
    rows, notes = match_rows(table(["c", "a", "b"]), maps, "covariates", by_order=True)
    assert rows["age"].tolist() == AGES
    assert notes == ["Rows of covariates are matched to the 3 maps by their order."]


def test_rows_without_labels_go_by_order_unless_the_maps_were_sorted():
    frame = pd.DataFrame({"age": AGES})
    assert match_rows(frame, named(PATHS["BIDS"]), "covariates")[0]["age"].tolist() == AGES
    with pytest.raises(InputError, match="sorted by their labels"):
        match_rows(frame, MapLabels(["a", "b", "c"], True, moved=True), "covariates")
    with pytest.raises(InputError, match="sort the maps by theirs"):
        match_rows(table(["c", "a", "b"]), MapLabels(["a", "b", "c"], True, moved=True), "covariates", by_order=True)


@pytest.mark.parametrize("labels", [["c", "a", "b"], [3, 1, 2]])
def test_labels_are_dropped_where_rows_are_to_go_by_their_order(labels):
    rows = without_labels(pd.DataFrame({"participant_id": labels, "age": AGES}, index=[5, 6, 7]))
    assert rows.to_dict("list") == {"age": AGES}
    assert rows.index.tolist() == [0, 1, 2]


def test_a_first_column_of_groups_is_no_label():
    groups = pd.DataFrame({"group": ["a", "b", "a"], "age": AGES})
    maps = MapLabels(["subject-001", "subject-002", "subject-003"], False)
    for frame in (groups, groups[["age", "group"]]):
        assert match_rows(frame, maps, "covariates")[0].to_dict("list") == frame.to_dict("list")


def test_the_numbers_that_pandas_writes_are_no_labels():
    rows, _ = match_rows(pd.DataFrame({"Unnamed: 0": [0, 1, 2], "age": AGES}), named(PATHS["BIDS"]), "design_matrix")
    assert rows.to_dict("list") == {"age": AGES}


def test_rows_of_nobody_are_told_and_rows_twice_refused():
    maps = named(PATHS["SPM"][:2])
    rows, notes = match_rows(table(["s03", "s01", "s02"]), maps, "covariates")
    assert rows["age"].tolist() == [10, 20]
    assert notes == ["Rows of covariates for 1 subject(s) without a map are not used: s03."]
    with pytest.raises(InputError, match="s01 in more than one row"):
        match_rows(table(["s01", "s01", "s02"]), maps, "covariates")


def test_maps_of_people_who_are_not_in_the_table_are_left_out_by_whoever_asks():
    with pytest.raises(InputError, match=r"no row for s03'.* Add the rows, or leave these maps out"):
        match_rows(table(["s01", "s02", "s04"]), named(PATHS["SPM"]), "covariates")


def test_a_table_without_rows_is_told():
    with pytest.raises(InputError, match=r"no row for .*by label \(the table has none\)"):
        match_rows(table(["1", "2", "3"])[:0], named(PATHS["BIDS"]), "covariates")


def test_labels_of_blocks_follow_an_index():
    maps = named(PATHS["SPM"])
    assert list(match_labels(pd.Series([3, 1, 2], index=["s03", "s01", "s02"]), maps, "blocks")) == [1, 2, 3]
    assert list(match_labels(pd.Series([3, 1, 2]), maps, "blocks")) == [3, 1, 2]
    with pytest.raises(InputError, match="no row for s01"):
        match_labels(pd.Series([3, 1, 2], index=["x", "y", "z"]), maps, "blocks")


def test_labels_of_blocks_follow_a_column_of_labels():
    maps = named(PATHS["SPM"])
    table = pd.DataFrame({"family": [3, 1, 2], "subject_label": ["s03", "s01", "s02"]})
    assert match_labels(table, maps, "blocks").to_numpy().tolist() == [[1], [2], [3]]
    visits = pd.DataFrame({"subject_label": ["s03", "s01", "s02"], "visit": ["c", "a", "b"]})
    assert match_labels(visits, maps, "visits").to_numpy().tolist() == [["a"], ["b"], ["c"]]
    with pytest.raises(InputError, match=r"'blocks'.*of subject_label, visit, which are labels.*further column"):
        match_labels(visits, maps, "blocks")


def test_another_order():
    maps = named(PATHS["SPM"])
    assert in_another_order(table(["s03", "s01", "s02"]), maps)
    assert not in_another_order(table(["s01", "s02", "s03"]), maps)
    assert not in_another_order(pd.DataFrame({"age": AGES}), maps)


VISITS = [f"/d/sub-0{k}/ses-{v}/sub-0{k}_ses-{v}_con.nii.gz" for k, v in ((1, "a"), (1, "b"), (2, "a"), (3, "b"))]


@pytest.mark.parametrize(
    ("subject", "visit"),
    [("participant_id", "session_id"), ("subject", "visit"), ("Subject ID", "Session")],
)
@pytest.mark.parametrize("prefix", ["sub-0", ""])
def test_visits_of_a_subject_are_told_apart_by_their_session(subject, visit, prefix):
    assert named(VISITS).labels == ["sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a", "sub-03_ses-b"]
    who = [f"{prefix}{k}" for k in (3, 1, 2, 1)]
    frame = pd.DataFrame({subject: who, visit: ["ses-b", "b", "a", "ses-a"], "age": [4, 2, 3, 1]})
    rows, _ = match_rows(frame, named(VISITS), "covariates", people=True)
    assert rows["age"].tolist() == [1, 2, 3, 4]
    assert rows[subject].tolist() == [f"{prefix}{k}" for k in (1, 1, 2, 3)]
    assert list(match_rows(frame, named(VISITS), "design_matrix")[0]) == ["age"]  # words are no regressor
    alone = match_rows(frame[[subject, visit]], named(VISITS), "visits", regressors=False)[0]
    assert alone[visit].tolist() == ["ses-a", "b", "a", "ses-b"]


def test_visits_that_nothing_tells_apart_are_refused():
    frame = pd.DataFrame({"participant_id": ["01", "01", "02", "03"], "age": [1, 2, 3, 4]})
    with pytest.raises(InputError, match=r"01 in more than one row.*session_id"):
        match_rows(frame, named(VISITS), "covariates")


def test_numbers_of_subjects_and_visits_are_labels():
    paths = [f"/d/sub-{k:02d}_ses-{v}.nii" for k in (1, 2) for v in (1, 2)]
    frame = pd.DataFrame({"subject": [2, 2, 1, 1], "visit": [2, 1, 2, 1], "age": [4, 3, 2, 1]})
    assert match_rows(frame, named(paths), "covariates")[0]["age"].tolist() == [1, 2, 3, 4]
    assert list(match_rows(frame, named(paths), "design_matrix")[0]) == ["visit", "age"]
    assert list(match_rows(frame, named(paths), "blocks", regressors=False)[0]) == ["age"]


def test_visits_that_became_floats_are_the_same_labels():
    maps = MapLabels(["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], known=True)
    table = pd.DataFrame({"participant_id": ["sub-02", "sub-01", "sub-01"], "visit": [1.0, 2.0, 1.0], "age": [3, 2, 1]})
    assert match_rows(table, maps, "covariates")[0]["age"].tolist() == [1, 2, 3]


def test_people_have_several_maps(caplog):
    labels = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    nothing = pd.DataFrame(index=labels)
    assert people_of(labels, nothing) == ["sub-01", "sub-01", "sub-02"]
    assert people_of(["a", "b"], pd.DataFrame({"participant_id": [7.0, 7.0]})) == ["7", "7"]
    warn_of_visits(labels[1:], nothing)
    assert not caplog.records
    warn_of_visits(labels, nothing)
    assert "3 maps are of 2 people" in caplog.text


def test_further_columns_of_a_table_of_maps_follow_its_labels():
    maps = pd.DataFrame({"subject_label": ["b", "a"], "effects_map_path": ["2.nii", "1.nii"], "age": [20, 10]})
    assert further_columns(maps, ["a", "b"]).to_dict("list") == {"age": [10, 20]}
    assert further_columns(["1.nii", "2.nii"], ["1", "2"]).shape == (2, 0)


NONE = pd.Series(["sub-01", None, "sub-03"])


@pytest.mark.parametrize(
    "rows",
    [
        table(NONE),
        table([1, np.nan, 3]),
        table(NONE, "subject"),
        pd.DataFrame({"age": AGES}, index=pd.Index(NONE)),
        pd.DataFrame({"participant_id": ["sub-01", " ", "sub-03"], "age": AGES}),
        pd.DataFrame({"participant_id": ["sub-01", "sub-01", "sub-03"], "session_id": ["a", None, "b"], "age": AGES}),
    ],
)
def test_rows_without_a_label_among_those_with_one_are_refused(rows):
    with pytest.raises(InputError, match=r"'covariates': got 'no label in row 1 \(counted from 0\).*leave the row out"):
        match_rows(rows, named(PATHS["BIDS"]), "covariates")


def test_maps_without_a_label_among_those_with_one_are_refused():
    with pytest.raises(InputError, match=r"'subjects': got 'no label in rows 1, 2 "):
        check_labels(["a", np.nan, None], 3)
    with pytest.raises(InputError, match=r"'maps': got 'no label in row 1 .*leave the row out"):
        sorted_frame(pd.DataFrame({"subject_label": ["a", None], "effects_map_path": ["a.nii", "b.nii"]}))


def test_subjects_are_left_out_by_their_labels():
    labels = ["sub-01", "sub-02", "s3"]
    assert rows_without(labels, []) == [0, 1, 2]
    assert rows_without(labels, ["1", "s3"]) == [1]
    assert rows_without(["sub-01", "sub-01", "sub-2"], ["1"]) == [2], "of each visit"
    assert rows_without(["1", "01", "2"], ["01"]) == [0, 2], "as it is written, where it may be two"
    with pytest.raises(InputError, match=r"'leave_out': got 'sub-1o'.*sub-01, sub-02, s3.*Did you mean 'sub-01'"):
        rows_without(labels, ["sub-1o"])
    with pytest.raises(InputError, match=r"'subjects': got 'sub-1'.*1, 01, 2"):
        rows_without(["1", "01", "2"], ["2", "sub-1"], "subjects")
    with pytest.raises(InputError, match="all 3 subjects"):
        rows_without(labels, labels)


@pytest.mark.parametrize("values", [["x", "y", "x"], pd.Series([1, 2, 1]), [[1, 2], [1, 3], [1, 4]]])
def test_values_by_their_order_are_refused_for_maps_that_were_sorted(values):
    maps = MapLabels(["a", "b", "c"], known=True, moved=True)
    with pytest.raises(InputError, match=r"'weights': got 'values by their order, for maps that were sorted by their"):
        match_labels(values, maps, "weights")
    labelled = pd.Series(["z", "x", "y"], index=["c", "a", "b"])
    assert match_labels(labelled, maps, "weights").tolist() == ["x", "y", "z"]
    assert match_labels("auto", maps, "variance_groups") == "auto"
    assert match_labels(None, maps, "visits") is None


@pytest.mark.parametrize("column", ["eid", "src_subject_id", "RID", "record_id", "number"])
def test_numbers_of_people_are_labels_whatever_their_column_is_called(column):
    maps = MapLabels(["sub-100307", "sub-100408", "sub-101107"], known=True)
    table = pd.DataFrame({column: [101107, 100307, 100408], "age": [3.0, 1.0, 2.0]})
    assert list(match_rows(table, maps, "covariates")[0]["age"]) == [1, 2, 3]


def test_small_numbers_that_may_be_labels_are_asked_about():
    maps = MapLabels(["sub-01", "sub-02", "sub-03"], known=True)
    table = pd.DataFrame({"rank": [3, 1, 2], "age": [3.0, 1.0, 2.0]})
    with pytest.raises(InputError, match="'rank', holds the numbers that the maps are called by"):
        match_rows(table, maps, "covariates")
    assert list(match_rows(table[["age", "rank"]].assign(age=[3.5, 1, 2]), maps, "covariates")[0]["rank"]) == [3, 1, 2]
    assert list(match_rows(table.sort_values("rank"), maps, "covariates")[0]["rank"]) == [1, 2, 3]


def test_numbers_that_became_floats_in_a_file_are_the_same_labels():
    maps = MapLabels(["sub-01", "sub-02"], known=True)
    table = pd.DataFrame({"participant_id": ["2.0", "1.0"], "age": [2.0, 1.0]})
    assert list(match_rows(table, maps, "covariates")[0]["age"]) == [1, 2]

import numpy as np
import pytest

from numbaglm.errors import InputError, MissingFileError
from numbaglm.faces.afni.command import mvm
from numbaglm.faces.afni.mvm import _terms, parse_mvm

ROWS = ("s1 m 20 a.nii", "s2 f 30 b.nii", "s3 m 40 c.nii", "s4 f 50 d.nii", "s5 f 10 e.nii")
TABLE = " ".join(["Subj sex age InputFile", *ROWS]).split()


def parse(*words, table=TABLE):
    return parse_mvm(mvm.make_context("3dMVM", [*words, "-dataTable", *table]).params["given"])


def test_terms_of_formulas():
    assert _terms("a*b+c") == [("a",), ("b",), ("c",), ("a", "b")]
    assert _terms("1") == []
    assert _terms("a+a:b") == [("a",), ("a", "b")]


def test_a_table_between_subjects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        "-gltLabel",
        "1",
        "m_f",
        "-gltCode",
        "1",
        "sex : 1*m -1*f",
        "-gltLabel",
        "2",
        "old",
        "-gltCode",
        "2",
        "age :",
    )
    asked = parse("-prefix", "out", "-bsVars", "sex+age", "-qVars", "age", "-qVarCenters", "30", *code)
    assert [test.statistic for test in asked.tests] == ["(Intercept) F", "sex F", "age F", "m_f t", "old t"]
    np.testing.assert_array_equal(asked.tests[0].matrix[:, 2], [-10, 0, 10, 20, -20])
    np.testing.assert_array_equal(asked.tests[3].weights, [[0, -2, 0]])  # levels in their order: f, then m
    np.testing.assert_array_equal(asked.tests[4].weights, [[0, 0, 1]])
    assert asked.tests[0].maps == ["a.nii", "b.nii", "c.nii", "d.nii", "e.nii"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-bsVars", "iq"), "no column iq"),
        (("-bsVars", "sex-1"), "can't be read"),
        (("-bsVars", "sex", "-wsVars", "sex"), "s1 has 1 maps for the 2 cells"),
        (("-bsVars", "sex", "-wsVars", "age+sex"), "are crossed"),
        (("-bsVars", "sex", "-qVars", "sex"), "holds what is no number"),
        (("-bsVars", "sex", "-gltLabel", "1", "x"), "go together"),
        (("-bsVars", "sex", "-gltLabel", "1", "x", "-gltCode", "1", "sex : 1*q"), "1.q is no weight"),
        (("-bsVars", "sex", "-gltLabel", "1", "x", "-gltCode", "1", "site : 1*q"), "site is none of"),
        (("-bsVars", "sex", "-num_glt", "2"), "-num_glt says 2"),
    ],
)
def test_what_can_not_be_read_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        parse("-prefix", "out", *words)


def test_tables_that_are_none():
    for table, error, message in (
        (["@none.txt"], MissingFileError, "no such file"),
        (["Subject", "InputFile"], InputError, "begins with the headings"),
        (["Subj", "InputFile", "s1"], InputError, "rows are not full"),
    ):
        with pytest.raises(error, match=message):
            parse("-prefix", "out", table=table)


def test_a_table_in_a_file(tmp_path, monkeypatch):
    """Lines may end in a backslash, as they do where the table is typed; what is no text is refused."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "table.txt"
    file.write_text(" \\\n".join(["Subj sex age InputFile", *ROWS]))
    asked = parse("-prefix", "out", "-bsVars", "sex", table=["@table.txt"])
    assert asked.tests[0].maps == ["a.nii", "b.nii", "c.nii", "d.nii", "e.nii"]
    file.write_bytes(file.read_bytes().replace(b"s2", b"s\xff"))
    with pytest.raises(InputError, match=r"-dataTable.*UTF-8"):
        parse("-prefix", "out", "-bsVars", "sex", table=["@table.txt"])

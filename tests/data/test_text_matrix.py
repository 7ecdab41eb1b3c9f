import os
from pathlib import Path

import numpy as np
import pytest

from numbaglm.data.text_matrix import read_text_matrix
from numbaglm.errors import InputError, MissingFileError

GOOD = "/NumWaves\t2\n/NumPoints 3\n/PPheights\t1 1\n\n/Matrix\n1 0\n\n1.0e+00\t-2.5\n0 1 \n"


@pytest.mark.skipif("NUMBAGLM_DATA" not in os.environ, reason="needs NUMBAGLM_DATA")
@pytest.mark.parametrize(
    ("file", "shape", "names"),
    [
        ("fsl_con_f_multiple/design.mat", (104, 2), {}),
        ("fsl_con_f_multiple/design.con", (2, 2), {1: "tone counting vs baseline", 2: "tone counting probe"}),
        ("fsl_con_f_multiple/design.fts", (3, 2), {}),
        ("fsl_group_btw/design.mat", (14, 2), {}),
        ("fsl_group_btw/design.con", (1, 2), {1: "group A > group B"}),
        ("fsl_group_btw/design.grp", (14, 1), {}),
        ("fsl_group_ols/design.mat", (14, 1), {}),
    ],
)
def test_what_fsl_wrote_is_read(file, shape, names):
    text = read_text_matrix(Path(os.environ["NUMBAGLM_DATA"]) / "fsl_designs" / file)
    assert text.values.shape == shape
    assert text.names == names


@pytest.mark.parametrize(("ending", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8-sig")])
def test_keywords_and_rows(tmp_path, ending, encoding):
    (tmp_path / "design.mat").write_bytes(GOOD.replace("\n", ending).encode(encoding))
    text = read_text_matrix(tmp_path / "design.mat")
    np.testing.assert_array_equal(text.values, [[1, 0], [1, -2.5], [0, 1]])
    assert text.names == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0 1 \n", "0 x1\n", r"design.mat, line 9: 'x1' is not a finite number"),
        ("0 1 \n", "0 nan\n", r"line 9: 'nan' is not a finite number"),
        ("0 1 \n", "0 1 2\n", r"rows of 2 and 3 numbers after /Matrix"),
        ("Points 3", "Points 4", r"line 2: /NumPoints says 4, but the matrix has 3 rows"),
        ("Waves\t2", "Waves\t3", r"line 1: /NumWaves says 3, but the matrix has 2 columns"),
        ("Points 3", "Points three", r"line 2: /NumPoints 'three' is not a whole number"),
        ("/Matrix\n", "", r"line 5: '1 0' comes before /Matrix"),
        (GOOD, "/NumWaves 2\n", r"no line /Matrix"),
        (GOOD, "/Matrix\n", r"no row after /Matrix"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, old, new, message):
    assert old in GOOD
    (tmp_path / "design.mat").write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_text_matrix(tmp_path / "design.mat")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"design\.mat does not exist"):
        read_text_matrix(tmp_path / "design.mat")
    with pytest.raises(InputError, match="can't be read"):
        read_text_matrix(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "design.mat")
    with pytest.raises(InputError, match="a pipe or a device"):
        read_text_matrix(tmp_path / "design.mat")

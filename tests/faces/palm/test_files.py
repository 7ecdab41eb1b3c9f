import numpy as np
import pytest

from numbaglm.errors import InputError, MissingFileError
from numbaglm.faces.palm.files import read_labels, read_numbers, read_sets


@pytest.mark.parametrize("text", ["1,2\n3,4.5\n", "1 2\n\n3\t4.5", "1, 2,\n3, 4.5,\n"])
def test_numbers_with_commas_or_blanks_between(tmp_path, text):
    (tmp_path / "d.csv").write_text(text)
    np.testing.assert_array_equal(read_numbers(str(tmp_path / "d.csv")), [[1, 2], [3, 4.5]])


def test_matrices_of_fsl(tmp_path):
    (tmp_path / "d.mat").write_text("/NumWaves 2\n/NumPoints 1\n/Matrix\n1 2\n")
    np.testing.assert_array_equal(read_numbers(str(tmp_path / "d.mat")), [[1, 2]])


def test_sets_of_matrices(tmp_path):
    (tmp_path / "c.mset").write_text("Matrix 1 2\n1 -1\n\nMatrix 2 2\n1 0\n0 1\n")
    one, two = read_sets(str(tmp_path / "c.mset"))
    np.testing.assert_array_equal(one, [[1, -1]])
    np.testing.assert_array_equal(two, np.eye(2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no line 'Matrix rows columns'"),
        ("1 2\n", "numbers come before"),
        ("Matrix 1\n1\n", "Allowed: Matrix, rows, columns"),
        ("Matrix 2 2\n1 2\n", "a matrix of 2 rows and 2 columns is announced"),
    ],
)
def test_sets_that_are_none(tmp_path, text, message):
    (tmp_path / "c.mset").write_text(text)
    with pytest.raises(InputError, match=message):
        read_sets(str(tmp_path / "c.mset"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "there is no row"), ("1,2\n3\n", "rows of 1 and 2 numbers"), ("1,x\n", "line 1: 'x' is not a finite number")],
)
def test_numbers_that_are_none(tmp_path, text, message):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_numbers(str(tmp_path / "d.csv"))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        read_numbers(str(tmp_path / "d.csv"))
    with pytest.raises(InputError):
        read_numbers(str(tmp_path))


def test_labels_are_whole(tmp_path):
    (tmp_path / "e.csv").write_text("1\n-2\n")
    assert read_labels(str(tmp_path / "e.csv")).tolist() == [[1], [-2]]
    (tmp_path / "e.csv").write_text("1.5\n")
    with pytest.raises(InputError, match="not whole"):
        read_labels(str(tmp_path / "e.csv"))


def test_labels_can_be_counted(tmp_path):
    (tmp_path / "e.csv").write_text("1\n1e300\n")
    with pytest.raises(InputError, match="not whole"):
        read_labels(str(tmp_path / "e.csv"))

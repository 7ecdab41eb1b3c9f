import numpy as np
import pytest

from numbaglm.data.freesurfer import matrix_text, read_descriptor, read_matrix
from numbaglm.errors import InputError, MissingFileError

TEXT = """GroupDescriptorFile 1
Title an example with spaces
CLASS control plus blue
Class patient
SomeTag is passed over
Variables  Age  IQ
# Input nobody control 1 2
Input s1 control 20 100
Input s2 patient 30 90\t
Input s3 control 40 110
Input s4 patient 50 120
DefaultVariable Age
"""


def write(path, text):
    path.write_text(text)
    return str(path)


def test_slopes_of_each_class_or_of_all(tmp_path):
    found = read_descriptor(write(tmp_path / "g.fsgd", TEXT))
    assert found.inputs == ("s1", "s2", "s3", "s4")
    X, names = found.design()
    assert names == ("control", "patient", "control:Age", "patient:Age", "control:IQ", "patient:IQ")
    np.testing.assert_array_equal(X[1], [0, 1, 0, 30, 0, 90])
    np.testing.assert_array_equal(X[2], [1, 0, 40, 0, 110, 0])
    X, names = found.design("doss")
    assert names == ("control", "patient", "Age", "IQ")
    np.testing.assert_array_equal(X[3], [0, 1, 50, 120])


def test_flags_methods_and_contrasts_of_the_file(tmp_path):
    more = "DOSS\nDeMeanFlag 1\nReScaleFlag 1\nContrast diff 1 -1 0 0\nContrast age 0 0 1 0\nFContrast any diff age\n"
    found = read_descriptor(write(tmp_path / "g.fsgd", TEXT.replace("\n", "\r\n") + more))
    X, names = found.design()
    assert names[2:] == ("Age", "IQ")
    np.testing.assert_allclose(X[:, 2:].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(X[:, 2:].std(axis=0), 1)
    np.testing.assert_array_equal(found.contrasts["any"], [[1, -1, 0, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("GroupDescriptorFile 1\n", "Title x\n", "begins with 'Title'"),
        ("File 1", "File 2", "version 2"),
        ("s2 patient", "s2 Patient", "line 9: the class 'Patient'"),
        ("30 90", "30", "s2 has 1 values, and there are 2 variables"),
        ("30 90", "30 high", "'high' is not a finite number"),
        ("s3", "s1", "subject s1 is there twice"),
        ("Class patient", "Class patient\nClass other", "nobody is in the class other"),
        ("Age  IQ", "Age  Age", "variable Age is there twice"),
        ("SomeTag", "VariableFromASeg", "is not read"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        read_descriptor(write(tmp_path / "g.fsgd", TEXT.replace(old, new)))


def test_subjects_may_be_there_twice_where_that_is_allowed(tmp_path):
    assert read_descriptor(write(tmp_path / "g.fsgd", TEXT.replace("s3", "s1")), repeats=True).inputs[2] == "s1"


def test_matrices_are_text(tmp_path):
    path = write(tmp_path / "c.mtx", "# group\n 1 -1 0\n0 0  .5 # age\n\n")
    np.testing.assert_array_equal(read_matrix(path), [[1, -1, 0], [0, 0, 0.5]])
    assert read_matrix(write(tmp_path / "again.mtx", matrix_text(read_matrix(path)))).shape == (2, 3)
    for text, message in (("1 2\n3\n", "rows of 1, 2 numbers"), ("", "no number"), ("a b\n", "line 1: 'a'")):
        with pytest.raises(InputError, match=message):
            read_matrix(write(tmp_path / "bad.mtx", text))
    with pytest.raises(MissingFileError):
        read_matrix(str(tmp_path / "none.mtx"))
    (tmp_path / "x.mat").write_bytes(b"\0\1")
    with pytest.raises(InputError, match="no text"):
        read_matrix(str(tmp_path / "x.mat"))

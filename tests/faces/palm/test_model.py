import numpy as np
import pytest

from numbaglm.errors import ContrastError, InputError
from numbaglm.faces.palm.flags import read_words
from numbaglm.faces.palm.model import read_models
from numbaglm.faces.palm.request import Request

GROUPS = np.repeat(np.eye(2), 3, axis=0)
AGE = np.array([1.0, 4, 2, 8, 5, 7])


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"d": np.column_stack([GROUPS, AGE]), "t": [[1, -1, 0], [0, 0, 1]], "f": [[1, 1], [1, 0]]}
    for name, rows in files.items():
        np.savetxt(f"{name}.csv", rows, delimiter=",")
    return tmp_path


def models(text="", n_subjects=6):
    return read_models(Request.parse(read_words(f"-i a.nii -d d.csv {text or '-t t.csv'}".split())), n_subjects)


def test_contrasts_come_before_f_tests_and_one_row_is_t(place):
    (model,) = models("-t t.csv -f f.csv")
    assert [(one.number, one.is_f) for one in model.tests] == [(1, False), (2, False), (3, True), (4, False)]
    assert list(model.contrasts) == ["c1", "c2", "c3", "c4"]
    assert model.dof == 3
    assert [one.number for one in models("-t t.csv -f f.csv -fonly -conskipcount 4")[0].tests] == [5, 6]


def test_contrasts_of_a_set(place):
    (place / "c.mset").write_text("Matrix 1 3\n1 -1 0\nMatrix 2 3\n1 -1 0\n0 0 1\n")
    assert [one.is_f for one in models("-con c.mset")[0].tests] == [False, True]
    assert len(models("-con c.mset -tonly")[0].tests) == 1


def test_contrasts_of_the_inputs_are_one_for_each_test_or_one_for_all(place):
    (place / "c.mset").write_text("Matrix 1 3\n1 -1 0\nMatrix 2 3\n1 -1 0\n0 0 1\n")
    (place / "one.mset").write_text("Matrix 1 2\n1 -1\n")
    (place / "two.mset").write_text("Matrix 1 2\n1 -1\nMatrix 2 2\n1 0\n0 1\n")
    (place / "three.mset").write_text("Matrix 1 3\n1 -1 0\n" * 2)

    def of(name):
        (model,) = models(f"-i b.nii -con c.mset {name}.mset -mv")
        return [one.of_variables.tolist() for one in model.tests]

    assert of("one") == [[[1, -1]], [[1, -1]]]
    assert of("two") == [[[1, -1]], [[1, 0], [0, 1]]]
    with pytest.raises(ContrastError, match=r"3 columns\. It needs one for each of the 2 inputs"):
        of("three")
    with pytest.raises(ContrastError, match=r"has 2 matrices\. It needs one for each of the 1 contrasts"):
        models("-i b.nii -con c.mset two.mset -mv -tonly")
    with pytest.raises(InputError, match="contrasts of the variables of -mv: add -mv"):
        models("-con c.mset one.mset")


def test_demeaning_is_a_constant_beside_what_varies(place):
    (model,) = models("-t t.csv -demean")
    np.testing.assert_allclose(model.matrix[:, -1], 1)
    assert model.dof == 3
    y = np.random.default_rng(0).normal(size=6)
    full = np.linalg.lstsq(np.column_stack([GROUPS, AGE]), y, rcond=None)[0]
    mine = np.linalg.lstsq(model.matrix, y, rcond=None)[0]
    np.testing.assert_allclose(model.contrasts["c1"] @ mine, full[0] - full[1])


def test_columns_of_voxels_leave_the_design_and_come_last(place):
    (model,) = models("-t t.csv -evperdat ev.nii 1")
    np.testing.assert_array_equal(model.matrix, np.column_stack([GROUPS[:, 1], AGE]))
    np.testing.assert_array_equal(model.contrasts["c1"], [-1, 0, 1])
    assert model.glm(1) is None


def test_what_effects_are_scaled_with(place):
    found = models()[0].glm(1)
    x = GROUPS[:, 0] - GROUPS[:, 1]
    rest = np.column_stack([GROUPS.sum(axis=1), AGE])
    x = x - rest @ np.linalg.lstsq(rest, x, rcond=None)[0]
    assert found.unit == pytest.approx(4 / (x @ x))
    assert found.palm == pytest.approx(np.ptp(np.append(x / 2, 0)))
    assert found.ours == 1.0


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("-t f.csv", ContrastError, "has 2 columns, but the design has 3"),
        ("-t t.csv -f t.csv", ContrastError, "a 0 or a 1 for each of the 2 contrasts"),
        ("-t t.csv -evperdat ev.nii 4", InputError, "has 3 columns, counted from 1"),
        ("-t t.csv -evperdat ev.nii 1 2", InputError, "there is no design 2"),
        ("-t t.csv -pmethodr Guttman", InputError, "takes other residuals for contrast 1"),
    ],
)
def test_what_does_not_fit(place, text, error, message):
    with pytest.raises(error, match=message):
        models(text)


def test_rows_are_subjects(place):
    with pytest.raises(InputError, match="has 6 rows, but there are 5 maps"):
        models(n_subjects=5)

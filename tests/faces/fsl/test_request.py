from __future__ import annotations

import logging

import numpy as np
import pytest

from numbaglm.data.text_matrix import TextMatrix
from numbaglm.errors import ContrastError, InputError
from numbaglm.faces.fsl.request import Request, make_tests

OFF = {
    "maps": "4d", "root": "out", "mask": None, "design": None, "contrasts": None, "f_tests": None, "groups": None,
    "permute_blocks": False, "one_sample": False, "demean": False, "sigma": None, "voxel": False, "extent": None,
    "mass": None, "f_extent": None, "f_mass": None, "tfce": False, "tfce_2d": False, "tfce_h": None, "tfce_e": None,
    "tfce_c": None, "f_only": False, "n_shufflings": 5000, "seed": 0, "raw": False, "nulls": False,
    "uncorrected": False, "own_columns": None, "own_files": None, "skip_to": 0, "confound_mode": "1",
    "count_only": False, "vectors": False, "glm": False,
}  # fmt: skip
FILES = {"design": "d.mat", "contrasts": "d.con"}


def request(**typed):
    return Request.parse(OFF | FILES | typed)


def text(rows, **names):
    return TextMatrix("file", np.atleast_2d(np.asarray(rows, float)), {int(k[1:]): name for k, name in names.items()})


def made_of(design, contrasts, f_tests=None, **typed):
    texts = {"design": text(design), "contrasts": contrasts}
    if f_tests is not None:
        texts["f_tests"], typed["f_tests"] = text(f_tests), "d.fts"
    return make_tests(request(**typed), texts, len(design))


GROUPS = np.repeat(np.eye(2), 4, axis=0)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"tfce": True}, {}),
        ({"tfce_2d": True}, {"tfce_H": 2.0, "tfce_E": 1.0, "tfce_connectivity": 26}),
        ({"tfce_2d": True, "tfce_e": 0.7}, {"tfce_H": 2.0, "tfce_E": 0.7, "tfce_connectivity": 26}),
        ({"tfce": True, "tfce_c": 18.0}, {"tfce_connectivity": 18}),
    ],
)
def test_both_flags_of_tfce_enhance_and_one_has_exponents_of_its_own(typed, expected):
    found = request(**typed)
    assert found.tfce
    assert found.tfce_options == expected


def test_kinds_of_inference_are_those_of_t_or_of_f():
    found = request(f_tests="d.fts", voxel=True, tfce=True, extent=2.3, f_extent=4.0, f_mass=5.0)
    assert found.kinds(False) == ["vox", "tfce", "clustere"]
    assert found.kinds(True) == ["vox", "tfce", "clustere", "clusterm"]
    assert found.thresholds(True) == {"clustere": 4.0, "clusterm": 5.0}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"one_sample": True}, "-1 makes its own design: leave -d and -t out"),
        ({"f_only": True}, "^--fonly needs F tests"),
        ({"f_tests": "f", "f_only": True, "sigma": 2.0}, "-v smooths variances of t"),
        ({"f_tests": "f", "f_only": True, "mass": 2.0}, "-c and -C are for t"),
        ({"tfce_h": 1.0}, "need -T or --T2"),
        ({"design": None}, "^A design and its contrasts"),
    ],
)
def test_flags_that_exclude_or_need_each_other(typed, message):
    with pytest.raises(InputError, match=message):
        request(**typed)


def test_t_contrasts_come_first_and_f_tests_after_them():
    found = made_of(GROUPS, text([[1, -1], [0, 1]], _1="A > B"), [[1, 1], [1, 0]])
    assert [one.label for one in found] == ["tstat1", "tstat2", "fstat1", "fstat2"]
    assert [one.name for one in found] == ["A > B", "contrast 2", "A > B & contrast 2", "A > B"]
    assert [one.is_f for one in found] == [False, False, True, True]
    assert [one.squared for one in found] == [False, False, False, True]
    assert [one.label for one in made_of(GROUPS, text([[1, -1]]), [[1]], f_only=True)] == ["fstat1"]
    (mean,) = make_tests(request(one_sample=True, design=None, contrasts=None), {}, 5)
    np.testing.assert_array_equal(mean.matrix, np.ones((5, 1)))


def test_demeaning_is_a_constant_beside_what_varies():
    (one,) = made_of(np.arange(6.0)[:, None], text([[1]]), demean=True)
    np.testing.assert_allclose(one.matrix, np.column_stack([np.arange(6) - 2.5, np.ones(6)]))
    np.testing.assert_array_equal(one.weights, [[1, 0]])


def test_dependent_columns_are_written_in_as_many_as_their_rank(caplog):
    caplog.set_level(logging.INFO, "numbaglm")
    design = np.column_stack([GROUPS, np.ones(8)])
    (one,) = made_of(design, text([[1, -1, 0]]))
    assert one.matrix.shape == (8, 2)
    assert "3 columns of rank 2" in caplog.text
    # What is estimated stays: the difference of the groups.
    y = np.random.default_rng(0).normal(size=8)
    estimate = one.weights @ np.linalg.lstsq(one.matrix, y, rcond=None)[0]
    assert estimate[0] == pytest.approx(y[:4].mean() - y[4:].mean())
    with pytest.raises(ContrastError, match="is not estimable"):
        made_of(design, text([[1, 0, 0]]))


@pytest.mark.parametrize(
    ("contrasts", "f_tests", "message"),
    [
        ([[1, -1, 0]], None, "has 3 columns, but .* has 2"),
        ([[0, 0]], None, "all weights of a contrast are 0"),
        ([[1, -1]], [[1, 0]], "has 2 columns, but .* has 1 contrasts"),
        ([[1, -1]], [[2]], "a 0 or a 1"),
        ([[1, -1]], [[0]], "one 1 at least"),
    ],
)
def test_files_that_do_not_fit(contrasts, f_tests, message):
    with pytest.raises(ContrastError, match=message):
        made_of(GROUPS, text(contrasts), f_tests)


def test_columns_that_differ_between_voxels_leave_the_design_and_come_last_in_contrasts():
    matrix = np.column_stack([GROUPS[:, 0], np.zeros(8), GROUPS[:, 1]])
    tests = made_of(
        matrix, text([[1, 0, -1], [0, 1, 0], [1, 0.5, -1]]), own_columns="2", own_files=" gm.nii ", demean=False
    )
    for test, weights in zip(tests, ([1, -1, 0], [0, 0, 1], [1, -1, 0.5]), strict=True):
        np.testing.assert_array_equal(test.matrix, GROUPS)
        np.testing.assert_array_equal(test.weights, [weights])
        assert test.regressors == {"ev2": "ev2"}
    assert request(own_columns="3, 1", own_files="a,b").own == ((3, "a"), (1, "b"))
    (centred,) = made_of(matrix, text([[0, 1, 0]]), own_columns="2", own_files="gm", demean=True)
    np.testing.assert_array_equal(centred.weights, [[0, 0, 1]])  # of one column of groups, a constant, and the last
    np.testing.assert_array_equal(centred.matrix[:, -1], 1.0)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"own_columns": "2"}, "don't go together"),
        ({"own_columns": "2,3", "own_files": "gm"}, "don't go together"),
        ({"own_columns": "2,2", "own_files": "a,b"}, "don't go together"),
        ({"own_columns": "two", "own_files": "a"}, "don't go together"),
        ({"own_columns": "2", "own_files": "gm", "sigma": 2.0}, "-v smooths no variances"),
        ({"own_columns": "2", "own_files": "gm", "one_sample": True, "design": None, "contrasts": None}, "--vxl names"),
    ],
)
def test_columns_that_differ_between_voxels_need_images(typed, message):
    with pytest.raises(InputError, match=message):
        request(**typed)


def test_a_column_that_the_design_has_not():
    with pytest.raises(InputError, match="--vxl 3: file has 2 columns"):
        made_of(GROUPS, text([[1, -1]]), own_columns="3", own_files="gm")

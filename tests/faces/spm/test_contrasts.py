import numpy as np
import pytest

from numbaglm.errors import ContrastError, InputError, ShufflingError
from numbaglm.faces.spm.contrasts import make_tests, pick
from numbaglm.faces.spm.design import read_study
from reference.spm_mat import design, indicators, save

N = 12
FILES = [f"/study/s{k:02d}/con_0001.nii" for k in range(N)]
SUBJECT, TIME = np.repeat(np.arange(1, 7), 2), np.tile([1, 2], 6)
GROUP = np.repeat([1, 2], 6)


def study(tmp_path, made, con):
    return read_study(save(tmp_path / "SPM.mat", FILES, made, con=con))


def flexible(tmp_path):
    """Group by time with a column for each subject: columns depend on each other."""
    cell, names = indicators(2 * (GROUP - 1) + TIME, "Group*time")
    made = design(H=(cell, names), B=indicators(SUBJECT, "subject"), title="Flexible factorial")
    first, second = np.full(6, 1 / 3) * (np.arange(6) < 3), np.full(6, 1 / 3) * (np.arange(6) > 2)
    con = [
        ("time", "T", [1, -1, 1, -1, *np.zeros(6)]),
        ("group by time", "T", [1, -1, -1, 1, *np.zeros(6)]),
        ("group", "T", [0.5, 0.5, -0.5, -0.5, *(first - second)]),
        ("all", "F", [[1, -1, 0, 0, *np.zeros(6)], [0, 0, 1, -1, *np.zeros(6)], [1, -1, 1, -1, *np.zeros(6)]]),
        ("nothing", "T", [1, 0, 0, 0, *np.zeros(6)]),
    ]
    return study(tmp_path, made, con)


def test_contrasts_within_people_are_over_independent_columns(tmp_path):
    given = flexible(tmp_path)
    tests = make_tests(given, ("1", "group by time", "4"), None)
    assert [(test.label, test.name, test.is_f) for test in tests] == [
        ("0001", "time", False),
        ("0002", "group by time", False),
        ("0004", "all", True),
    ]
    y = np.random.default_rng(0).normal(size=N)
    for test, one in zip(tests, (given.contrasts[0], given.contrasts[1], given.contrasts[3]), strict=True):
        X = test.frame.to_numpy()
        assert np.linalg.matrix_rank(X) == X.shape[1] == 8
        assert test.scheme == "within"
        assert "within people; scans change places" in test.why
        np.testing.assert_array_equal(test.blocks, SUBJECT)
        whole, own = np.linalg.pinv(given.matrix) @ y, np.linalg.pinv(X) @ y
        if not test.is_f:
            np.testing.assert_allclose(test.contrast @ own, (one.weights @ whole)[0])
    assert tests[2].weights.shape[0] == 2, "rows that depend on others are left out"


def test_contrasts_of_people_without_error_between_them_are_refused(tmp_path):
    with pytest.raises(ShufflingError, match=r"Contrast 3 \(group\) compares people.*column for each.*Average"):
        make_tests(flexible(tmp_path), ("3",), None)


def test_contrasts_that_can_t_be_told_are_refused(tmp_path):
    with pytest.raises(ContrastError, match="not estimable"):
        make_tests(flexible(tmp_path), ("5",), None)


def test_people_as_wholes_where_there_is_error_between_them(tmp_path):
    linked = np.kron(np.eye(6), [[0.0, 1.0], [1.0, 0.0]])
    made = design(H=indicators(2 * (GROUP - 1) + TIME, "cell"), Vi=[np.eye(N), linked], title="Full factorial")
    given = study(
        tmp_path, made, [("group", "T", [1, 1, -1, -1]), ("time", "T", [1, -1, 1, -1]), ("a", "T", [1, 0, 0, 0])]
    )
    group, time, both = make_tests(given, (), None)
    assert (group.scheme, time.scheme, both.scheme) == ("whole", "within", "whole")
    assert "compares people; people change places, or sign" in group.why
    assert make_tests(given, ("2",), "both")[0].scheme == "both"


def test_contrasts_are_picked_by_number_or_name(tmp_path):
    given = flexible(tmp_path)
    assert [one.number for one in pick(given, ("time", "2", "1"))] == [1, 2]
    assert len(pick(given, ())) == 5
    with pytest.raises(ContrastError, match=r"--contrast 9: no contrast.*1 \(T\): time"):
        pick(given, ("9",))
    bare = read_study(save(tmp_path / "SPM.mat", FILES, design(H=(np.ones((N, 1)), ["mean"]))))
    with pytest.raises(ContrastError, match=r"no contrasts of t or F.*contrast manager"):
        pick(bare, ())
    alone = study(tmp_path, design(H=(np.ones((N, 1)), ["mean"])), [("mean", "T", [1])])
    (test,) = make_tests(alone, (), None)
    assert (test.blocks, test.why) == (None, "")
    with pytest.raises(InputError, match=r"--block-scheme: .* of one person"):
        make_tests(alone, (), "within")
    (squared,) = make_tests(study(tmp_path, design(H=(np.ones((N, 1)), ["mean"])), [("mean", "F", [1])]), (), None)
    assert squared.squared
    assert squared.contrast.shape == (1,)

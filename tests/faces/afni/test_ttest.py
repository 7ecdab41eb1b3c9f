import numpy as np
import pytest

from numbaglm.errors import InputError, MissingFileError
from numbaglm.faces.afni.command import ttest
from numbaglm.faces.afni.ttest import parse_ttest
from reference.afni import write_brik


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k in range(4):
        write_brik(f"s{k}+tlrc", np.ones((2, 3, 3, 3)), ("a", "b"))
    (tmp_path / "cov.txt").write_text("subject age iq\ns0 1 9\ns1 2 8\ns2 3 7\ns3 5 6\n")
    return tmp_path


def parse(*words):
    return parse_ttest(ttest.make_context("3dttest++", list(words)).params["given"])


def test_short_and_long_forms(place):
    short = parse("-setA", "s?+tlrc.HEAD[b]", "-prefix", "out", "-covariates", "cov.txt[0,2]")
    assert [test.statistic for test in short.tests] == ["SetA_Tstat", "SetA_iq_Tstat"]
    np.testing.assert_allclose(short.tests[0].matrix, [[1, 1.5], [1, 0.5], [1, -0.5], [1, -1.5]])
    words = [word for k in range(4) for word in (f"s{k}", f"s{k}+tlrc[1]")]
    long = parse("-setA", "Green", *words, "-prefix", "out", "-covariates", "cov.txt", "-center", "NONE", "-toz")
    assert [test.effect for test in long.tests] == ["Green_mean", "Green_age", "Green_iq"]
    assert long.tests[0].matrix[:, 1].tolist() == [1, 2, 3, 5]
    assert len(parse("-setA", "s0+tlrc", "s1+tlrc[1]", "-prefix", "out").tests[0].maps) == 3  # all sub-bricks of a file
    assert parse("-setA", "s0+tlrc", "-prefix", "out", "-nomeans").tests[0].effect == ""


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("-prefix", "out"), InputError, "-setA is needed"),
        (("-setA", "s?+tlrc.HEAD[0]"), InputError, "-prefix is needed"),
        (("-setA", "none+tlrc"), MissingFileError, "no such data set"),
        (("-setA", "G", "s0", "none+tlrc"), MissingFileError, "-setA none.tlrc"),
        (("-setA", "s0+tlrc[5]", "s1+tlrc[0]"), InputError, "no sub-brick 5"),
        (("-setA", "s0+tlrc", "-paired"), InputError, "-paired needs -setB"),
        (("-setA", "s?+tlrc.HEAD[0]", "-setB", "s0+tlrc", "-paired"), InputError, "4 maps in -setA and 2"),
        (("-setA", "s0+tlrc", "-setB", "s1+tlrc", "-zskip"), InputError, "-zskip goes with one set"),
        (("-setA", "s0+tlrc", "-zskip", "9"), InputError, "-zskip 9"),
        (("-setA", "s0+tlrc", "-covariates", "cov.txt[1]"), InputError, "column 0, the labels, comes first"),
        (("-setA", "s0+tlrc", "-center", "some"), InputError, "-center SOME"),
        (("-setA", "s0+tlrc", "-prefix", "out", "-pthr", "2", "-perm", "9"), InputError, "-pthr 2"),
    ],
)
def test_what_contradicts_is_refused(place, words, error, message):
    with pytest.raises(error, match=message):
        parse(*words)


def test_covariates_that_are_no_text_are_refused(place):
    (place / "cov.txt").write_bytes(b"subject age\ns0 1\ns1 \xff\n")
    with pytest.raises(InputError, match=r"-covariates.*UTF-8"):
        parse("-setA", "s?+tlrc.HEAD[b]", "-prefix", "out", "-covariates", "cov.txt")

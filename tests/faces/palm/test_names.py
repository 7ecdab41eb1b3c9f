import numpy as np
import pytest
from scipy import stats

from numbaglm.faces.palm.flags import read_words
from numbaglm.faces.palm.names import Demeaned, Joint, suffix
from numbaglm.faces.palm.request import Request


def test_numbers_stand_where_there_are_several():
    asked = Request.parse(read_words(["-i", "a", "-d", "d", "-t", "t"]))
    counts = {"m": 2, "d": 1, "c": 3}
    assert suffix(asked, counts, {"m": 2, "d": 1, "c": 3}) == "_m2_c3"
    assert suffix(asked, counts, {"m": None, "d": 1, "c": 1}) == "_c1"
    long = Request.parse(read_words(["-i", "a", "-d", "d", "-t", "t", "-verbosefilenames"]))
    assert suffix(long, counts, {"m": 2, "d": 1, "c": 3}) == "_m2_d1_c3"


@pytest.mark.parametrize("n_rows", [None, 3])
def test_a_mean_that_takes_no_degree_of_freedom(n_rows):
    demeaned = Demeaned(7, n_rows)
    values = np.array([0.5, 2.0, 4.0])
    theirs = demeaned.statistic(values)
    gain = 8 / 7
    np.testing.assert_allclose(theirs, values * (gain if n_rows else np.sqrt(gain)))
    p = stats.f.sf(theirs, n_rows, 8) if n_rows else stats.t.sf(theirs, 8)
    np.testing.assert_allclose(demeaned.z(values), stats.norm.isf(p))
    z = float(demeaned.z(values)[1])  # a map above their threshold is above ours
    ours = stats.norm.isf(stats.f.sf(2.0, n_rows, 7) if n_rows else stats.t.sf(2.0, 7))
    assert demeaned.threshold(z) == pytest.approx(ours)


@pytest.mark.parametrize(
    ("joint", "value", "p"),
    [
        (Joint("fisher", 3, 1, 9, False), 12.0, stats.chi2.sf(12.0, 6)),
        (Joint("tippett", 3, 1, 9, False), 0.01, 1 - 0.99**3),
        (Joint("hotelling", 2, 1, 9, False), 8.0, stats.f.sf(8.0 * 8 / 18, 2, 8)),
        (Joint("stouffer", 2, 1, 9, True), 2.0, 2 * stats.norm.sf(2.0) - stats.norm.sf(2.0) ** 2),
    ],
)
def test_statistics_of_the_z_of_their_p(joint, value, p):
    assert joint.of_z(np.array([stats.norm.isf(p)]))[0] == pytest.approx(value, rel=1e-7)

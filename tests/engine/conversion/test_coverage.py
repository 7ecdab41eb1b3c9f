from __future__ import annotations

import numpy as np
import pytest

from numbaglm.engine.conversion.coverage import MaskRule, Survey, judge, parse_min_coverage, parse_min_subjects
from numbaglm.errors import InputError, MaskError

N_PLACES = 60


def maps(n, seed=0, lacking=0.1):
    """(n, 60) values, some missing: NaN, infinite or 0; some places the same everywhere, or lacking everywhere."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, N_PLACES)).astype(np.float32)
    values[:, :3] = 2.5
    kinds = np.array([np.nan, np.inf, 0], np.float32)
    lost = rng.random(values.shape) < lacking
    values[lost] = kinds[rng.integers(0, 3, np.count_nonzero(lost))]
    values[:, 5] = 0
    return values


def surveyed(values, rule, candidates=None, parts=1):
    """Survey of maps, in parts that are merged."""
    where = slice(None) if candidates is None else candidates
    n = len(values)
    n_candidates = N_PLACES if candidates is None else len(candidates)
    surveys = [Survey(N_PLACES, n_candidates, n, rule) for _ in range(parts)]
    for number, row in enumerate(values):
        surveys[number * parts // n].add(number, row, row[where])
    total = surveys[0]
    for other in surveys[1:]:
        total.merge(other)
    total.settle()
    return total


# Bytes count to 255; maps that lack the same values one after another, or no two of them.
@pytest.mark.parametrize(("n", "lacking"), [(3, 0.01), (300, 0.01), (300, 0.0005), (300, 0.2)])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("zero_is_missing", [True, False])
def test_a_survey_counts(n, lacking, parts, zero_is_missing):
    values = maps(n, lacking=lacking)
    survey = surveyed(values, MaskRule(zero_is_missing), parts=parts)
    nonfinite, zero = ~np.isfinite(values), values == 0
    np.testing.assert_array_equal(survey.n_nonfinite, nonfinite.sum(axis=0))
    np.testing.assert_array_equal(survey.n_zero, zero.sum(axis=0))
    np.testing.assert_array_equal(survey.nonfinite_in, nonfinite.sum(axis=1))
    np.testing.assert_array_equal(survey.zero_in, zero.sum(axis=1))
    lost = nonfinite | zero if zero_is_missing else nonfinite
    once = lost.sum(axis=0) == 1
    assert once.any() == (lacking < 0.1)
    np.testing.assert_array_equal(survey.absent[once], lost.argmax(axis=0)[once])
    finite = np.where(np.isinf(values), np.nan, values)
    whole = ~np.isnan(finite).any(axis=0)
    least, greatest = finite.min(axis=0)[whole], finite.max(axis=0)[whole]
    low, high = survey.low[whole], survey.high[whole]
    np.testing.assert_array_equal(low == high, least == greatest)
    assert (least == greatest).any()
    assert ((least <= low) & (low <= high) & (high <= greatest)).all()


def test_what_a_survey_found_can_be_kept():
    values = maps(8)
    rule = MaskRule(True)
    again = Survey(N_PLACES, N_PLACES, 8, rule)
    for part in (values[:5], values[5:]):
        one = Survey(N_PLACES, N_PLACES, 8, rule)
        for number, row in enumerate(part):
            one.add(number + 5 * (len(part) == 3), row, row)
        again.add_arrays(one.arrays())
    expected = surveyed(values, rule).arrays()
    once = again.n_missing == 1
    arrays = again.arrays()
    for name in ("n_nonfinite", "n_zero", "nonfinite_in", "zero_in"):
        np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)
    np.testing.assert_array_equal(arrays["absent"][once], expected["absent"][once])
    np.testing.assert_array_equal(arrays["low"] == arrays["high"], expected["low"] == expected["high"])


@pytest.mark.parametrize("min_coverage", [1.0, 0.9, 0.75, 0.3])
@pytest.mark.parametrize("zero_is_missing", [True, False])
def test_the_places_that_stay(min_coverage, zero_is_missing):
    values = maps(20)
    rule = MaskRule(zero_is_missing, min_coverage)
    present = rule.present(values)
    enough = present.mean(axis=0) >= min_coverage - 1e-12
    with np.errstate(invalid="ignore"):
        held = [np.unique(values[present[:, place], place]) for place in range(N_PLACES)]
    differ = np.array([len(values_held) > 1 for values_held in held])
    # Those that may stay: where one of so many maps has a value that one of them must.
    candidates = np.flatnonzero(present[: 1 + rule.n_allowed(20)].any(axis=0))
    for chosen in (None, candidates):
        verdict = judge(surveyed(values, rule, chosen), [f"s{i}" for i in range(20)], candidates=chosen)
        np.testing.assert_array_equal(verdict.keep, enough & differ)
        assert f"{np.count_nonzero(~verdict.keep)} of 60 grid voxels are left out" in verdict.report[0]
        n_lost = np.count_nonzero(~present[:, verdict.keep])
        assert len(verdict.report) == 1 + (n_lost > 0)
        if n_lost:
            assert verdict.report[1].startswith(f"{n_lost} values (")


def test_coverage_counts_whole_maps():
    # 0.95 of 20 maps are 19 in decimals, and a little more in binary.
    assert [MaskRule(True, share).n_allowed(20) for share in (1.0, 0.99, 0.95, 0.9, 0.5)] == [0, 0, 1, 2, 10]
    assert MaskRule(True, 0.7).n_allowed(10) == 3


def test_a_cohort_that_is_extended_counts_its_own():
    values = maps(10, lacking=0)
    values[:2, 20] = 0
    rule = MaskRule(True, 0.75)
    before = np.zeros(N_PLACES, int)
    before[20] = 2  # of 4: with the two of ten that is 4 of 14
    before[21] = 3
    verdict = judge(surveyed(values, rule), [f"s{i}" for i in range(10)], before=(4, before))
    assert not verdict.keep[20]
    assert verdict.keep[21]


@pytest.mark.parametrize("share", [0, -0.1, 1.01, np.nan, "0.9", True, None])
def test_refused_coverage(share):
    with pytest.raises(InputError, match="min_coverage"):
        parse_min_coverage(share)


def test_no_place_left_says_who_costs_most():
    values = maps(4, lacking=0)
    values[2] = np.nan
    with pytest.raises(MaskError, match=r"of 60 grid voxels, .*59 NaN or infinite in at least.*most of them in c: 59"):
        judge(surveyed(values, MaskRule(True)), list("abcd"))


@pytest.mark.parametrize(("given", "share"), [(0.5, 0.5), (1.0, 1.0), (6, 0.5), (12, 1.0), (1, 1 / 12)])
def test_how_many_must_have_a_value_is_a_number_or_a_share(given, share):
    assert parse_min_subjects(given, 12) == share


@pytest.mark.parametrize("given", [0, 13, 1.5, -0.5, "half", True, np.nan])
def test_a_number_of_subjects_that_makes_no_sense_is_refused(given):
    with pytest.raises(InputError, match="min_subjects"):
        parse_min_subjects(given, 12)


def test_one_element_is_told_as_one():
    values = maps(10, lacking=0)[:, 10:20]
    values[3, 0] = 0
    survey = Survey(10, 10, 10, MaskRule(True))
    for number, row in enumerate(values):
        survey.add(number, row, row)
    (warning,) = judge(survey, [f"s{i}" for i in range(10)], nouns="parcels").warnings
    assert warning.startswith("s3 alone costs 1 parcel (10% of those")


def test_a_background_that_is_not_zero_is_told():
    values = maps(6, lacking=0)
    values[:, :20] = np.linspace(1e-5, 2e-5, 6, dtype=np.float32)[:, None]
    verdict = judge(surveyed(values, MaskRule(True)), list("abcdef"))
    assert verdict.warnings[0].startswith(
        "6 maps have one value other than 0 at many voxels, a at 20 of 60 grid voxels"
    )
    assert not judge(surveyed(values, MaskRule(False)), list("abcdef")).warnings, "with a mask it is left out"


def test_zeros_that_were_stored_as_other_numbers_are_told():
    values = maps(6, lacking=0)
    survey = Survey(N_PLACES, N_PLACES, 6, MaskRule(True))
    for number, row in enumerate(values):
        survey.add(number, row, row, is_rounded=number < 4)
    report = judge(survey, list("abcdef")).report
    assert report[-1].startswith("4 maps are stored as whole numbers with a scale that does not hold 0")

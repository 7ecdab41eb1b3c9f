"""What was asked beyond a p, in the report."""

from __future__ import annotations

import numpy as np
import pytest

import numbaglm as ng
from numbaglm.errors import InputError, InputTypeError
from numbaglm.results import report
from numbaglm.results.reporting.finding import check_findings
from reference.pages import Tags
from reference.reports import analysed, asked, of_parcels


@pytest.fixture(scope="module")
def result():
    return analysed(tfce=False)


@pytest.fixture(scope="module")
def findings(result):
    cohort = asked()[0]
    return [
        result.interval(0.9, simultaneous=True, cohort=cohort, n_flips=100),
        result.interval(),
        result.confidence_set(1.0, of="cohens_d", cohort=cohort, n_flips=100),
        ng.power(result, [9, 30], cohort=cohort, effect=2.0, n_cohorts=10, n_perm=99),
    ]


def test_each_has_a_part_with_its_promise_and_its_picture(result, findings):
    page = report.make_page(result, beyond=findings)
    tags, plain = Tags(page), Tags(report.make_page(result))
    assert not tags.open
    assert len(tags.named("img")) == len(plain.named("img")) + 4
    assert "Beyond p" not in plain.text
    for one in findings:
        assert one.title in tags.text
        assert one.found in tags.text
        assert one.promise in tags.text
    assert "With 90%, in large samples, the intervals of all voxels hold" in tags.text
    assert "to find something in 80 % of studies" in tags.text


def test_one_alone_will_do_and_others_are_refused(result, findings):
    assert check_findings(findings[0], result.space) == findings[:1]
    with pytest.raises(InputTypeError, match="what interval, confidence_set and power return"):
        check_findings([np.ones(3)], result.space)
    with pytest.raises(InputError, match="of the result"):
        report.make_page(result, beyond=of_parcels().interval())


def test_intervals_are_drawn_by_the_end_that_is_nearer_to_0(result, tmp_path):
    found = result.interval()
    assert f"{int(found.beyond(0).sum()):,} of {result.space.n:,}" in found.found
    assert found.plot(tmp_path / "least.png", cuts=3) is not None
    assert (tmp_path / "least.png").is_file()
    bars = of_parcels().interval()
    assert "parcels" in bars.found
    assert bars.plot() is not None

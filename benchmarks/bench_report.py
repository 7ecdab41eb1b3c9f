"""The report at its smallest: sections measure what they say, and its texts hold together."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nibabel.loadsave import load

import mrtrix
import report
from bench_missing import MissingCase, own_patterns
from cases import SIZES, ours, run_child, whole_case
from measure import Budget, Curve, Row, Section, Times, figure, in_turn, times
from numbaglm import simulate_button_press

SMALL = replace(SIZES["small"], rounds=1)


@pytest.mark.parametrize("key", sorted(set(report.SECTIONS) - {"whole", "latency", "memory"}))
def bench_section(tmp_path: Path, key: str) -> None:
    section = report.SECTIONS[key](SMALL)
    for row in section.rows:
        assert np.isfinite(row.ours)
        assert row.ratio is None or row.other is not None
    assert section.markdown().count("\n| ") == (len(section.rows) + 2 if section.rows else 0)
    for draw in (report.figures.beside, report.figures.growth):
        draw({key: section}, tmp_path / f"{draw.__name__}.png")
    drawn = len(list(tmp_path.glob("*.png")))
    assert drawn == (1 if section.rows and key in ("kernel", "nilearn", "mrtrix", "tfce", "scaling") else 0)


@pytest.mark.skipif(mrtrix.version() is None, reason="the peer, MRtrix3, is not installed")
def bench_mrtrix_agreement(tmp_path: Path) -> None:
    case = whole_case(SMALL.subjects[0], SMALL.voxel_size)
    mrtrix.save(case, tmp_path)
    mrtrix.run(tmp_path, "clusters", case.n_subjects, 1, 50)
    subprocess.run(["mrconvert", "-quiet", "out_tvalue.mif", "t.nii"], cwd=tmp_path, check=True)
    theirs = np.asarray(load(tmp_path / "t.nii").dataobj)
    found = ours(case.cohort, "clusters", 50, two_sided=False)
    inside = theirs[np.isfinite(theirs) & (theirs != 0)]
    np.testing.assert_allclose(np.sort(inside), np.sort(found.maps["t"]), rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(mrtrix.version() is None, reason="the peer, MRtrix3, is not installed")
def bench_vectorstats_agreement(tmp_path: Path) -> None:
    case = MissingCase("small", 30)
    present = own_patterns(case.n, case.data.shape[1])
    mrtrix.save_vectors(np.where(present, case.data, np.float32(np.nan)), case.design, "x", tmp_path)
    mrtrix.run_vectors(tmp_path, 1, 2)
    theirs = np.loadtxt(tmp_path / "out_tvalue.csv", delimiter=",")
    found = case.side(own_patterns, "element", n_perm=2)()
    np.testing.assert_allclose(theirs.ravel(), found.maps["t"], rtol=1e-3, atol=1e-4)


def bench_a_section_takes_the_place_of_its_own() -> None:
    text = "# Results\n\nAll.\n\n## One\n\nold\n\n## Two\n\nstays\n\n![a.png](a.png)\n"
    rows = (Row("a row", "s", 1.0),)
    sections = {"one": Section("One", "new", rows), "three": Section("Three", "more", rows)}
    found = report.updated(text, sections, "load 0.1")
    assert [line for line in found.splitlines() if line[:2] in ("##", "![")] == [
        "## One",
        "## Two",
        "## Three",
        "![a.png](a.png)",
    ]
    assert "old" not in found
    assert "--only three --update`: " in found
    assert found.count("stays") == found.count("All.") == 1
    once = report.updated(found, sections, "load 0.1")
    assert once == found


def bench_first_test(tmp_path: Path) -> None:
    simulate_button_press(tmp_path / "maps", n_subjects=6, voxel_size=10.0)
    assert "shufflings" in run_child("first", str(tmp_path / "maps"))


def bench_texts() -> None:
    row = Row("a", "ms", 0.0123, 4.56, 370.7, 1.25, (Budget("ours", "≤", 0.01), Budget("ratio", "≥", 100)), "of a")
    section = Section("A", "How.", (row, Row("b", "s", 12.0)), "theirs", "theirs / ours")
    assert "| a | 0.0123 ms | 4.56 ms | 371x | 1.25 | ≤ 0.01 ms **missed**; ≥ 100x |" in section.markdown()
    assert "missed" not in section.without_budgets().markdown()
    assert [figure(x, "s") for x in (1234.5, 0.5, 0.0)] == ["1,234 s", "0.500 s", "0 s"]
    assert [times(x) for x in (0.914, 12.34, 370.7)] == ["0.91x", "12.3x", "371x"]
    assert Curve((1, 2, 4), (3, 6, 12), "").slope == pytest.approx(1)
    assert Curve((1, 2, 4), (5, 8, 14), "").line == pytest.approx((2, 3, 0))
    assert Times((3.0, 1.0, 2.0)).median == 2.0
    calls: list[str] = []
    in_turn({"x": lambda: calls.append("x"), "y": lambda: calls.append("y")}, 2)
    assert "".join(calls) == "xyxyxy"


def bench_readme() -> None:
    text = report.README.read_text()
    section = Section("A", "How.", (Row("a", "ms", 1.0, 2.0, 2.0, headline="of a"), Row("b", "s", 1.0)), "", "")
    once = report.into_readme(text, report.speed_table({"nilearn": section}, 1000))
    assert "| of a | 1.00 ms | 2.00 ms (nilearn) | 2.00x |" in once
    assert report.into_readme(once, report.speed_table({"nilearn": section}, 1000)) == once
    outside = [part.partition(report.BEGIN)[0] + part.partition(report.END)[2] for part in (text, once)]
    assert outside[0] == outside[1]
    with pytest.raises(ValueError, match="no line"):
        report.into_readme("", "")

from __future__ import annotations

from numbaglm.results.result import PermutationResult


def test_a_notebook_shows_the_summary_and_the_largest_clusters(result):
    page = result._repr_html_()
    _, *lines = result.summary().splitlines()
    assert page.startswith("<div><b>")
    assert page.count("<li>") == len(lines)
    assert page.count("<tr") == 1 + min(5, len(result.clusters))
    named = dict(result.provenance) | {"contrast": {"name": "<b>", "weights": [[1.0, 0.0]]}}
    other = PermutationResult(result.maps, result.h0, result.clusters.head(0), result.geometry, named)
    assert "&lt;b&gt;" in other._repr_html_()
    assert "<table" not in other._repr_html_()


def test_a_figure_and_a_report_are_written(result, tmp_path):
    result.plot(tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert result.report(tmp_path / "r.html") == tmp_path / "r.html"

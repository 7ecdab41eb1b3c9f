from __future__ import annotations

import pytest

from numbaglm import plotting
from numbaglm.results import figures
from numbaglm.results.words import display_threshold


@pytest.fixture
def drawn(monkeypatch):
    """What is asked of plotting."""
    calls = []
    for name in ("glass_brain", "logp_panel", "null_histograms", "design_matrix"):
        monkeypatch.setattr(plotting, name, lambda *args, _name=name, **options: calls.append((_name, args, options)))
    return calls


def test_the_statistic_is_drawn_from_its_threshold_on(result, drawn):
    figures.statistic(result, "a.png", titled=True)
    ((name, (geometry, values), options),) = drawn
    assert name == "glass_brain"
    assert geometry is result.geometry
    assert values is result.maps["t"]
    assert options["threshold"] == display_threshold(result)[0]
    assert options["title"] == f"intercept: |t| \u2265 {options['threshold']:.2f}"
    assert (options["two_sided"], options["save"]) == (True, "a.png")


def test_corrected_p_stand_side_by_side(result, drawn):
    figures.corrected(result)
    ((_, (_, panels), _),) = drawn
    assert [values.tolist() for values in panels.values()] == [
        result.maps[f"logp_fwe_{kind}"].tolist() for kind in ("voxel", "size", "mass", "tfce")
    ]


def test_nulls_are_drawn_with_what_was_observed(result, drawn):
    figures.nulls(result)
    figures.design(result)
    (_, (nulls, observed), _), (_, (rows, columns, subjects), _) = drawn
    assert observed == {name: null[0] for name, null in nulls.items()}
    assert rows.shape == (14, 2)
    assert columns[0] == "intercept"
    assert len(subjects) == 14

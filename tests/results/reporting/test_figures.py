from __future__ import annotations

import numpy as np
import pytest

from numbaglm import plotting
from numbaglm.errors import InputError, UnknownNameError
from numbaglm.results.reporting import figures
from numbaglm.results.reporting.words import display_threshold
from numbaglm.results.vocabulary import map_of
from reference.reports import hemispheres, in_network, of_parcels, on_surfaces


@pytest.fixture
def drawn(monkeypatch):
    """What is asked of plotting."""
    calls = []
    for name in ("glass_brain", "maps", "null_histograms", "design_matrix"):
        where = figures if name == "null_histograms" else plotting
        monkeypatch.setattr(where, name, lambda *args, _name=name, **options: calls.append((_name, args, options)))
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


@pytest.mark.parametrize("make", [on_surfaces, of_parcels, in_network])
def test_maps_of_other_spaces_are_drawn_by_one_function(make, monkeypatch):
    calls = []
    monkeypatch.setattr(plotting, "maps", lambda *args, **options: calls.append((args, options)))
    result = make()
    figures.statistic(result, titled=True)
    figures.corrected(result)
    ((space, statistic), shown), ((_, corrected), options) = calls
    assert space is result.space
    assert statistic[""] is result.maps["t"]
    assert shown["threshold"] == display_threshold(result)[0]
    assert shown["two_sided"] is True
    assert set(corrected) == {map_of(name).label for name in result.maps if name.startswith("logp_fwe_")}
    assert options["threshold"] == pytest.approx(1.30103)


def test_one_map_is_drawn_at_its_threshold(result, tmp_path):
    assert [ax.get_title(loc="left") for ax in result.plot(name="logp_fwe_voxel").axes][-1].startswith("\u2212log10 p")
    low = result.plot(name="t", threshold=1.0).axes[0].images[0].get_array().compressed()
    high = result.plot(name="t").axes[0].images[0].get_array().compressed()
    assert 1.0 <= np.abs(low).min() < np.abs(high).min()
    with pytest.raises(InputError, match=r"'threshold'.*name="):
        result.plot(threshold=1.0)
    with pytest.raises(UnknownNameError, match="no map"):
        result.plot(name="nothing")


def test_nulls_of_the_least_p_run_upward():
    result = on_surfaces(with_voxels=True)
    figure = figures.nulls(result)
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert "\u2212log10 least p by extent over domains" in labels
    assert len(labels) == len(result.h0)
    assert not figures.can_draw(hemispheres(with_mesh=False))

"""A test that is shown in a notebook while it runs."""

from __future__ import annotations

import base64
import re

import numpy as np

import numbaglm as ng
from numbaglm.engine import progress
from reference.reports import asked, on_surfaces

OPTIONS = {"contrast": "intercept", "n_perm": 400, "stop": "decided"}


class Notebook:
    """A display that keeps what it shows."""

    def __init__(self, interrupt_at=None):
        self.shown, self.interrupt_at = [], interrupt_at

    def HTML(self, html):
        return html

    def display(self, html, display_id):
        self.update(html)
        return self

    def update(self, html):
        self.shown.append(html)
        if len(self.shown) == self.interrupt_at:
            raise KeyboardInterrupt


def test_maps_and_table_of_each_look_replace_those_before(monkeypatch):
    notebook = Notebook()
    monkeypatch.setattr(progress, "_notebook", lambda: notebook)
    found = ng.permutation_test(*asked(), **OPTIONS, progress=True)
    n = found.provenance["stopped"]["n_random"]
    for k, html in zip((100, 200, 400), notebook.shown, strict=False):  # it may end early
        assert f"{k} of 400 random shufflings" in html
    assert f"{n} of 400 random shufflings, ended" in notebook.shown[-1]
    assert all("goes on" in html for html in notebook.shown[:-1])
    for html in notebook.shown:
        assert base64.b64decode(re.search(r"base64,([^\"]*)", html)[1]).startswith(b"\x89PNG")
        assert "<table" in html
    assert found._repr_html_() in notebook.shown[-1], "the last is what is returned"
    plain = ng.permutation_test(*asked(), **OPTIONS)
    np.testing.assert_array_equal(plain.maps["p_fwe_voxel"], found.maps["p_fwe_voxel"])


def test_without_a_bar_or_a_notebook_nothing_is_made(monkeypatch):
    notebook = Notebook()
    monkeypatch.setattr(progress, "_notebook", lambda: notebook)
    ng.permutation_test(*asked(), **OPTIONS)
    assert notebook.shown == []


def test_an_interrupt_as_it_is_shown_returns_that_look(monkeypatch):
    notebook = Notebook(interrupt_at=1)
    monkeypatch.setattr(progress, "_notebook", lambda: notebook)
    found = ng.permutation_test(*asked(), **OPTIONS, progress=True)
    assert (found.provenance["stopped"]["n_random"], found.provenance["stopped"]["interrupted"]) == (100, True)


def test_maps_that_can_not_be_drawn_have_their_table(monkeypatch):
    notebook = Notebook()
    monkeypatch.setattr(progress, "_notebook", lambda: notebook)
    monkeypatch.setattr("numbaglm.results.reporting.figures.can_draw", lambda space: False)
    on_surfaces(n_perm=200, stop="decided", progress=True)
    assert all("<img" not in html and "<table" in html for html in notebook.shown)
    assert notebook.shown

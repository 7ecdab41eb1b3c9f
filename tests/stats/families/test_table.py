"""Every family of statistics, in the form that all have."""

from __future__ import annotations

import importlib
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from numbaglm.kernels.scores import as_it_is
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.design import Contrast, Design
from numbaglm.stats.families.table import FAMILIES
from numbaglm.stats.setup import build_hypothesis, make_pseudo

PAGE = Path(__file__).parents[3] / "docs" / "adding_a_family.md"
N, SHAPE = 14, (5, 4, 3)
GROUP = np.arange(N) % 3


def hypothesis_of(kind):
    rng = np.random.default_rng(0)
    design = Design.parse(np.column_stack([GROUP[:, None] == np.arange(3), rng.normal(size=N)]).astype(float), N)
    contrast = Contrast.parse([1.0, -1, 0, 0] if kind.rows == "one" else [[1.0, -1, 0, 0], [0, 1, -1, 0]], design)
    shuffling = {"n_perm": 20, "seed": 0, "errors": None, "blocks": None, "block_scheme": "within"}
    variance = {"variance_groups": GROUP if kind.option == "variance_groups" else None, "v_dof_factor": 1.0}
    shufflings, hypothesis = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)
    if kind.option == "variance_smoothing_fwhm":
        hypothesis = make_pseudo(hypothesis, 4.0)
    return hypothesis, shufflings


def scores_of(family, E, length, index, sign):
    """Scores (n_shufflings, n_voxels) by the record alone: what an engine has to do."""
    products, first = [], 0
    tile = np.empty((family.n_units, E.shape[1]))
    family.stack(E, tile)
    for layer in family.layers:
        n_rows, n_units = layer.rows.shape
        rows = np.empty((n_rows, len(index), n_units))
        layer.rows.fill(index, sign, rows)
        products.append(rows @ tile[first : first + n_units])
        first += n_units
    fixed = np.empty((0, E.shape[1])) if family.fixed is None else family.fixed(length)
    products = np.vstack(products)
    if family.whole is not None:
        bound = family.whole.bind(Geometry(np.ones(SHAPE, bool), np.diag([2.0, 2, 2, 1])))
        return np.array([bound.score(*maps) for maps in zip(*family.whole.fields(products, fixed), strict=True)])
    shape = products.shape[1:]
    flat = np.vstack([products.reshape(len(products), -1), np.zeros((family.n_scratch, shape[0] * shape[1]))])
    (family.score or as_it_is)(flat, fixed, np.array(family.sizes, np.int64), family.constants)
    score = flat[0].reshape(shape)
    return score if family.finish is None else family.finish.score(score, flat[1].reshape(shape))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_record_gives_what_is_observed_and_what_is_shuffled(name):
    hypothesis, shufflings = hypothesis_of(FAMILIES[name])
    Y = np.random.default_rng(1).normal(size=(N, np.prod(SHAPE))).astype(np.float32)
    observed = hypothesis.observe(Y)
    index, sign = shufflings.draw(0, 5)
    found = scores_of(hypothesis.family, observed.E, observed.length, index, sign)
    if hypothesis.family.whole is None:
        np.testing.assert_allclose(found[0], observed.score, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(found[0], hypothesis.family.observe(observed.E)[0], rtol=1e-9, atol=1e-11)
    for i, s, score in zip(index, sign, found, strict=True):
        E = s[:, None] * observed.E[i]
        again = scores_of(hypothesis.family, E, observed.length, index[:1], sign[:1])
        np.testing.assert_allclose(again[0], score, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_worker_far_away_gets_the_same_record(name):
    hypothesis, _ = hypothesis_of(FAMILIES[name])
    family, there = hypothesis.family, pickle.loads(pickle.dumps(hypothesis)).family
    assert there.score is family.score
    assert (there.sizes, there.n_rows, there.n_units) == (family.sizes, family.n_rows, family.n_units)
    np.testing.assert_array_equal(there.constants, family.constants)
    E = np.random.default_rng(0).normal(size=(N, 4))
    np.testing.assert_array_equal(there.observe(E)[0], family.observe(E)[0])


def test_the_page_lists_the_families():
    rows = re.findall(r"(?m)^\| ([^|]+) \| `([\w.]+)` \|", PAGE.read_text())
    assert dict(rows) == {kind.name: kind.made for kind in FAMILIES.values()}
    for kind in FAMILIES.values():
        module, function = kind.made.split(".")
        assert callable(getattr(importlib.import_module(f"numbaglm.stats.families.{module}"), function))

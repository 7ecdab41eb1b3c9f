"""Every family of statistics, in the form that all have."""

from __future__ import annotations

import importlib
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from numbaglm.results.vocabulary import MAPS
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.families.family import Gathered, Given
from numbaglm.stats.families.table import FAMILIES
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.joint import make_joint
from numbaglm.stats.model.setup import (
    build_hypothesis,
    make_correlation,
    make_gls,
    make_incomplete,
    make_pseudo,
    make_weighted,
)
from numbaglm.stats.variance.components import Components
from numbaglm.stats.variance.covariance import Binned, Sandwich

PAGE = Path(__file__).parents[3] / "docs" / "adding_a_family.md"
N, SHAPE = 14, (5, 4, 3)
GROUP = np.arange(N) % 3


def hypothesis_of(kind):
    rng = np.random.default_rng(0)
    design = Design.parse(np.column_stack([GROUP[:, None] == np.arange(3), rng.normal(size=N)]).astype(float), N)
    weights = [[1.0, -1, 0, 0]] if kind.rows == "one" else [[1.0, -1, 0, 0], [0, 1, -1, 0]]
    if "own regressors" in kind.name:
        design, weights = design.with_own({"gm": "gm"}), np.pad(weights, ((0, 0), (0, 1)))
    contrast = Contrast.parse(weights, design)
    shuffling = {"n_perm": 20, "seed": 0, "errors": None, "blocks": None, "block_scheme": "within"}
    variance = {
        "variance_groups": GROUP if kind.name[0] in "vG" and kind.name[1:2] != "L" else None,
        "v_dof_factor": 1.0,
    }
    if kind.option in ("covariance", "estimator") or kind.name.startswith("sandwich"):
        if not kind.name.startswith("GLS"):
            variance["sandwich"] = Sandwich(estimator="modified" if kind.option == "estimator" else "classic")
        variance["visits"] = np.arange(N) % 2, np.arange(N) // 2 % 2
        shuffling |= {"errors": "ise", "blocks": np.arange(N) // 2, "block_scheme": "whole"}
    shufflings, hypothesis = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)
    if kind.name.startswith("GLS"):
        components = Components.build(("family", "error"), np.arange(N) // 2)
        hypothesis = make_gls(hypothesis, components, Binned(), 0)
    if kind.option == "variance_smoothing_fwhm":
        hypothesis = make_pseudo(hypothesis, 4.0)
    if kind.option == "correlation":
        hypothesis = make_correlation(hypothesis, shufflings)
    if kind.name.startswith("weighted"):
        lacks = kind.option == "missing"
        return make_weighted(hypothesis, shufflings, "variance", "reml", "knapp-hartung", lacks), shufflings
    if kind.option == "missing":
        hypothesis = make_incomplete(hypothesis, shufflings, variance.get("sandwich"))
    if kind.option == "combine":
        name = {"T2": "hotelling", "MANOVA": "wilks", "PLS": "pls"}.get(kind.name, "fisher")
        asked = {"two_sided": True, "concordant": False, "weights": None, "conventions": CONVENTIONS["numbaglm"]}
        hypothesis = make_joint([hypothesis], name, ("second", "third"), **asked)
    return hypothesis, shufflings


def scores_of(family, E, length, index, sign):
    """Scores (n_shufflings, n_voxels) by the record alone: what an engine has to do."""
    tile = np.empty((family.n_units, E.shape[1]))
    family.stack(E, tile)
    fixed = np.empty((0, E.shape[1])) if family.fixed is None else family.fixed(length)
    return scores_of_tile(family, tile, fixed, index, sign)


def scores_of_tile(family, tile, fixed, index, sign):
    """The same of layers (n_units, n_voxels) that are made."""
    products, first = [], 0
    begins = np.cumsum([0, *(layer.rows.shape[1] for layer in family.layers)])
    for layer in family.layers:
        n_rows, n_units = layer.rows.shape
        if isinstance(layer.rows, Gathered):
            places = np.empty((1, len(index), n_units), np.int32)
            layer.rows.fill(index, sign, places)
            permuted = tile[begins[layer.rows.permuted] :][:n_units]
            moved = np.vstack([permuted, -permuted])[places]
            products.append((moved * tile[first : first + n_units]).sum(axis=2))
            first += n_units
            continue
        rows = np.empty((n_rows, len(index), n_units))
        layer.rows.fill(index, sign, rows)
        products.append(rows @ tile[first : first + n_units])
        first += n_units
    products = np.vstack(products)
    if family.whole is not None:
        bound = family.whole.bind(Geometry(np.ones(SHAPE, bool), np.diag([2.0, 2, 2, 1])))
        return np.array([bound.score(*maps) for maps in zip(*family.whole.fields(products, fixed), strict=True)])
    shape = products.shape[1:]
    if family.patterns is not None and family.patterns.rows is not None:
        products = np.vstack([products, numbers_of_all(family.patterns, index, sign, shape)])
    flat = np.vstack([products.reshape(len(products), -1), np.zeros((family.n_scratch, shape[0] * shape[1]))])
    if family.score is not None:
        family.score(flat, fixed, np.array(family.sizes, np.int64), family.constants)
    score = flat[0].reshape(shape)
    if family.patterns is not None:
        (grade,) = family.patterns.grade(np.ones((N, 1), bool))
        return family.patterns.scales[grade].to_z(score)
    return score if family.finish is None else family.finish.score(score, flat[1].reshape(shape))


def numbers_of_all(patterns, index, sign, shape):
    """Numbers (n_kept, *shape) of the pattern that all have who have all subjects."""
    everyone = np.ones((N, 1), bool)
    rows = np.empty((patterns.rows.shape[0], len(index), N))
    patterns.rows.fill(index, sign, rows)
    flat = np.vstack([(rows @ everyone)[:, :, 0], np.zeros((patterns.n_scratch, len(index)))])
    fixed = np.empty((0, 1)) if patterns.fixed is None else patterns.fixed(everyone)
    patterns.factor(flat, fixed, np.array(patterns.sizes, np.int64), patterns.constants)
    return np.broadcast_to(flat[: patterns.n_kept, :, None], (patterns.n_kept, *shape))


BY_RESIDUALS = [name for name, kind in FAMILIES.items() if hypothesis_of(kind)[0].family.prepare is None]
BY_THEMSELVES = [name for name in FAMILIES if name not in BY_RESIDUALS]


@pytest.mark.parametrize("name", BY_THEMSELVES)
def test_what_a_family_prepares_gives_what_is_observed(name):
    hypothesis, shufflings = hypothesis_of(FAMILIES[name])
    rng, family = np.random.default_rng(1), hypothesis.family
    Y, layers = rng.normal(size=(N, 60)), {one: rng.uniform(0.5, 2, (N, 60)) for one in family.needs}
    made = family.prepare(Given(Y.astype(np.float32), layers))
    tile = np.empty((family.n_units, 60))
    family.lay(made.layers, tile)
    found = scores_of_tile(family, tile, made.fixed, *shufflings.draw(0, 5))
    np.testing.assert_allclose(found[0], made.score, rtol=1e-9, atol=1e-11)
    by_z = family.patterns is not None or family.finish is not None
    if not by_z and FAMILIES[name].option not in ("combine", "correlation"):  # whose maps don't show z
        np.testing.assert_allclose(made.statistic, family.scale.to_statistic(made.score))
    assert len(made.more) == len(family.more)
    assert all(more in MAPS for more in family.more)
    some = family.prepare(Given(Y[:, 7:9].astype(np.float32), {one: values[:, 7:9] for one, values in layers.items()}))
    np.testing.assert_allclose(some.score, made.score[7:9], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", BY_RESIDUALS)
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
    assert (there.needs, there.more) == (family.needs, family.more)
    if family.observe is not None:
        E = np.random.default_rng(0).normal(size=(N, 4))
        np.testing.assert_array_equal(there.observe(E)[0], family.observe(E)[0])


def test_the_page_lists_the_families():
    rows = re.findall(r"(?m)^\| ([^|]+) \| `([\w.]+)` \|", PAGE.read_text())
    assert dict(rows) == {kind.name: kind.made for kind in FAMILIES.values()}
    for kind in FAMILIES.values():
        module, _, function = kind.made.rpartition(".")
        assert callable(getattr(importlib.import_module(f"numbaglm.stats.families.{module}"), function))

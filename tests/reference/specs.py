"""Specifications of a small test."""

from __future__ import annotations

import numpy as np

from numbaglm.engine.permutation.records import Spec
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis, make_pseudo


def spec_of(pseudo=False, n_perm=400, **options):
    """A test of a mean; options as those of `Spec`."""
    design = Design.parse(np.ones((12, 1)), 12)
    contrast = Contrast.parse([1.0], design)
    shuffling = {"n_perm": n_perm, "seed": 0, "errors": None, "blocks": None, "block_scheme": "within"}
    shufflings, hypothesis = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, {})
    hypothesis = make_pseudo(hypothesis, 4.0) if pseudo else hypothesis
    options = {
        "conventions": CONVENTIONS["numbaglm"],
        "two_sided": True,
        "threshold": None,
        "tfce": False,
        "precision": "float32",
    } | options
    return Spec(hypothesis, shufflings, **options)

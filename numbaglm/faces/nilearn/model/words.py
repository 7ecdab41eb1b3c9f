"""Sentences of the report of a model: its data, how maps were thresholded, what was found, and a methods paragraph.

A part of `numbaglm.faces.nilearn.model.report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.data.images import is_image
from numbaglm.faces.nilearn.maskers import Masker
from numbaglm.faces.nilearn.model.options import Asked
from numbaglm.faces.nilearn.model.record import Fitted, ModelRecord
from numbaglm.results.provenance import versions
from numbaglm.results.reporting.tables import number, times

Facts = list[tuple[str, str]]

_MOST_LETTERS = 200
_SOURCES = {
    "fdr": "Benjamini, Y., & Hochberg, Y. (1995). Controlling the false discovery rate: A practical and powerful "
    "approach to multiple testing. Journal of the Royal Statistical Society: Series B, 57(1), 289\u2013300. "
    "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x",
}


def parameters(model: ModelRecord) -> Facts:
    """List what the model was made with."""
    return [(name, _shown(value)) for name, value in model.parameters.items()]


def about_model(model: Fitted) -> Facts:
    """List what was fitted to what."""
    masker, design = model.masker, model.design
    noun = "Voxels" if isinstance(masker, Masker) else "Vertices"
    facts = [
        ("Model", "general linear model, ordinary least squares"),
        ("Subjects", f"{len(design.matrix):,}"),
        (noun, f"{masker.n_elements_:,}"),
        ("Regressors", f"{len(design.columns)}: {', '.join(design.columns)}"),
        ("Residual degrees of freedom", str(design.dof)),
        ("Smoothing", _smoothing(model) or "none by numbaglm"),
    ]
    return facts


def about_mask(model: Fitted) -> str:
    """Say what the mask holds."""
    masker = model.masker
    if not isinstance(masker, Masker):
        share = masker.n_elements_ / masker.vertices.inside.size
        return f"The mask includes {masker.n_elements_:,} vertices, {share:.1%} of the surface."
    geometry = masker.geometry
    return (
        f"The mask includes {geometry.n_voxels:,} voxels of {times(geometry.voxel_sizes)} mm, "
        f"{number(geometry.n_voxels * geometry.voxel_volume / 1000, 0)} cm\u00b3: "
        f"{geometry.n_voxels / geometry.mask.size:.1%} of a grid of {times(geometry.shape)}."
    )


def about_threshold(asked: Asked, threshold: float, noun: str) -> Facts:
    """List how a map was thresholded.

    Parameters
    ----------
    asked, threshold
        How, and at which z.
    noun
        What a map is of.
    """
    facts = [("Height control", _CONTROLS[asked.height_control])]
    if asked.height_control is not None:
        facts.append(("\u03b1", f"{asked.alpha:g}"))
    facts.append(("Threshold", reach(asked, threshold)))
    facts.append(("Sides", "both" if asked.two_sided else "one"))
    facts.append(
        ("Least size of a cluster", f"{asked.cluster_threshold:g} {noun}" if asked.cluster_threshold else "any")
    )
    if noun == "voxels":
        facts.append(("Least distance of peaks", f"{asked.min_distance:g} mm"))
    return facts


def what_was_found(asked: Asked, table: pd.DataFrame, n_clusters: int) -> str:
    """Say how many clusters there are, of which sign, and how high they get."""
    if table.empty:
        return "No suprathreshold cluster."
    peaks = table["Peak Stat"].to_numpy(float)
    highest = float(peaks[np.abs(peaks).argmax()])
    count = "1 cluster is" if n_clusters == 1 else f"{n_clusters:,} clusters are"
    signs = ""
    if asked.two_sided and (peaks > 0).all():
        signs = ", none of them negative"
    elif asked.two_sided and (peaks < 0).all():
        signs = ", none of them positive"
    return f"{count} listed{signs}. The {'lowest' if highest < 0 else 'highest'} peak has a z of {number(highest)}."


def reach(asked: Asked, threshold: float) -> str:
    """Write what a value has to reach."""
    if not np.isfinite(threshold):
        return "out of reach: no voxel is significant at this rate"
    if asked.two_sided:
        return f"|z| \u2265 {number(threshold, 3)}"
    sign = "\u2265" if threshold >= 0 else "\u2264"
    return f"z {sign} {number(threshold, 3)}"


def methods_paragraph(model: Fitted, contrasts: Sequence[tuple[str, bool]], asked: Asked) -> tuple[str, list[str]]:
    """Write the paragraph for a paper, and the sources that it cites.

    Parameters
    ----------
    model
        Fitted.
    contrasts
        Name of each, and whether it is one of t.
    asked
        How the maps are thresholded.
    """
    masker, design = model.masker, model.design
    noun, element, size = "vertices", "vertex", ""
    if isinstance(masker, Masker):
        noun, element, size = "voxels", "voxel", f" of {times(masker.geometry.voxel_sizes)} mm"
    smoothing = _smoothing(model)
    smoothed = f", smoothed with a {smoothing}" if smoothing else ""
    regressors = "one regressor" if len(design.columns) == 1 else f"{len(design.columns)} regressors"
    sentences = [
        f"Group-level inference was made with numbaglm {versions()['numbaglm']} on the maps of {len(design.matrix)} "
        f"subjects ({masker.n_elements_:,} {noun}{size}{smoothed}).",
        f"A general linear model with {regressors} ({', '.join(design.columns)}) was fitted at each "
        f"{element} by ordinary least squares ({design.dof} residual degrees of freedom).",
    ]
    if not contrasts:
        return " ".join(sentences), []
    named = {kind: [f"\u201c{name}\u201d" for name, is_t in contrasts if is_t == (kind == "t")] for kind in ("t", "F")}
    one = {"t": "a t test", "F": "an F test"}
    tests = [
        f"{_joined(names)} with {one[kind] if len(names) == 1 else f'{kind} tests'}"
        for kind, names in named.items()
        if names
    ]
    sentences += [
        f"{'Contrasts were' if len(contrasts) > 1 else 'A contrast was'} tested: {' and '.join(tests)}, whose "
        "parametric p-values are given as z.",
        _on_height(asked, noun),
    ]
    return " ".join(sentences), [_SOURCES[asked.height_control]] if asked.height_control in _SOURCES else []


def origins(model: Fitted) -> Facts:
    """List what makes the page again."""
    return [("cohort fingerprint", model.cohort.fingerprint), *versions().items()]


_CONTROLS = {
    "fpr": "false positive rate of each voxel (uncorrected)",
    "fdr": "false discovery rate (Benjamini and Hochberg)",
    "bonferroni": "family-wise error (Bonferroni)",
    None: "none: a threshold of z",
}


def _on_height(asked: Asked, noun: str) -> str:
    sides = "both tails" if asked.two_sided else "one tail"
    how = {
        "fpr": f"at an uncorrected p of {asked.alpha:g}, {sides}, which is not corrected for the number of {noun}",
        "fdr": f"at a false discovery rate of {asked.alpha:g}, {sides} (Benjamini & Hochberg, 1995)",
        "bonferroni": f"at a family-wise error rate of {asked.alpha:g}, {sides}, by Bonferroni's correction",
        None: f"at {reach(asked, asked.threshold or 0.0)}, which is not corrected for the number of {noun}",
    }[asked.height_control]
    small = ""
    if asked.cluster_threshold > 0:
        small = f", and clusters of fewer than {asked.cluster_threshold:g} {noun} were left out"
    return f"Maps were thresholded {how}{small}."


def _smoothing(model: Fitted) -> str:
    fwhm = model.cohort.store.smoothing_fwhm
    if fwhm is None:
        return ""
    return f"Gaussian of {times(fwhm) if isinstance(fwhm, tuple) else f'{fwhm:g}'} mm FWHM"


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shown(value: Any) -> str:
    """A parameter in a line: images by their kind and shape."""
    if is_image(value) or hasattr(value, "mesh"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = " ".join(str(value).split())
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}\u2026"

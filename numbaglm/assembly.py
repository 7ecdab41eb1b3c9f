"""From raw nulls and counts to corrected maps, the cluster table and provenance."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.engine.outcome import RunResult
from numbaglm.engine.voxels import Spec
from numbaglm.observed_clusters import MAP_TOLERANCE, ObservedClusters
from numbaglm.results import CLUSTER_COLUMNS, PermutationResult
from numbaglm.stats import pvalues
from numbaglm.stats.inference import TIE_TOLERANCE

Arrays = dict[str, NDArray[Any]]


def assemble(
    cohort: Cohort, outcomes: Sequence[tuple[Spec, RunResult]], asked: dict[str, Any], *, joint: bool
) -> list[PermutationResult]:
    """Correct raw results for multiple testing, and name everything.

    Parameters
    ----------
    cohort
        What was analysed.
    outcomes
        Specification and raw results of each contrast.
    asked
        Arguments to note in the provenance.
    joint
        Whether to correct over the contrasts as well.
    """
    corrected = [_correct(cohort, spec, raw) for spec, raw in outcomes]
    if joint:
        _correct_jointly(outcomes, corrected)
    return [
        PermutationResult(one.maps, one.h0, one.table, cohort.geometry, provenance(cohort, spec, asked))
        for (spec, _), one in zip(outcomes, corrected, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Corrected:
    """Maps, nulls and clusters of one contrast."""

    maps: Arrays
    h0: Arrays
    table: pd.DataFrame
    clusters: ObservedClusters | None


def _correct(cohort: Cohort, spec: Spec, raw: RunResult) -> _Corrected:
    """Correct one contrast over the map."""
    hypothesis, scale = spec.hypothesis, spec.hypothesis.scale
    p = scale.parametric_p(np.abs(raw.score) if spec.two_sided else raw.score) * (1 + spec.two_sided)
    maps: Arrays = {
        hypothesis.statistic_name: raw.statistic,
        "z": scale.to_z(raw.score),
        "effect": raw.effect[0] if hypothesis.is_t else raw.effect,
        "p_parametric": np.where(raw.degenerate, 1.0, np.clip(p, np.finfo(float).tiny, 1.0)),
    }
    if raw.tfce is not None:
        maps["tfce"] = raw.tfce
    h0: Arrays = {}
    table, clusters = pd.DataFrame({column: [] for column in CLUSTER_COLUMNS}), None
    if spec.shufflings.n_shufflings > 1:
        maps |= _voxel_maps(spec, raw)
        h0[f"max_{scale.name}"] = scale.to_statistic(raw.max_score)
        if spec.conventions.statistic == "z":
            h0["max_z"] = scale.to_z(raw.max_score)
        if raw.tfce is not None and raw.max_tfce is not None:
            maps["p_fwe_tfce"] = _tfce_p(spec, raw.tfce, raw.max_tfce)
            h0["max_tfce"] = raw.max_tfce
        if raw.max_size is not None and raw.max_mass is not None:
            h0 |= {"max_size": raw.max_size, "max_mass": raw.max_mass}
            clusters = ObservedClusters.find(spec, cohort.geometry, raw)
            p_size = clusters.corrected_p("size", raw.max_size)
            p_mass = clusters.corrected_p("mass", raw.max_mass)
            table = clusters.table(raw.statistic, maps["p_fwe_voxel"], p_size, p_mass)
            maps |= {
                "size": clusters.as_map(clusters.size, 0.0),
                "mass": clusters.as_map(clusters.mass, 0.0),
                "p_fwe_size": clusters.p_map(p_size),
                "p_fwe_mass": clusters.p_map(p_mass),
            }
    return _Corrected(maps, h0, table, clusters)


def _correct_jointly(outcomes: Sequence[tuple[Spec, RunResult]], corrected: Sequence[_Corrected]) -> None:
    """Add p corrected over contrasts: each null becomes the maximum over them.

    Voxels are compared as z, which statistics of different kinds share.
    """
    kinds = [kind for kind in ("size", "mass", "tfce") if all(f"max_{kind}" in one.h0 for one in corrected)]
    nulls = {kind: np.max([one.h0[f"max_{kind}"] for one in corrected], axis=0) for kind in kinds}
    null_z = np.max([spec.hypothesis.scale.to_z(raw.max_score) for spec, raw in outcomes], axis=0)
    for (spec, raw), one in zip(outcomes, corrected, strict=True):
        z = np.abs(one.maps["z"]) if spec.two_sided else one.maps["z"]
        p = pvalues.from_maxima(z, null_z, MAP_TOLERANCE[spec.precision] * np.maximum(1.0, np.abs(z)))
        one.maps["p_fwe_voxel_contrasts"] = np.where(raw.degenerate, 1.0, p)
        one.h0["max_z_contrasts"] = null_z
        for kind, null in nulls.items():
            if kind == "tfce":
                one.maps["p_fwe_tfce_contrasts"] = _tfce_p(spec, one.maps["tfce"], null)
            elif one.clusters is not None:
                p = one.clusters.corrected_p(kind, null)
                one.maps[f"p_fwe_{kind}_contrasts"] = one.clusters.p_map(p)


def _voxel_maps(spec: Spec, raw: RunResult) -> Arrays:
    score = np.abs(raw.score) if spec.two_sided else raw.score
    p_unc = pvalues.from_counts(raw.counts, spec.shufflings.n_shufflings)
    p_unc[raw.degenerate] = 1.0
    p_fwe = pvalues.from_maxima(score, raw.max_score, TIE_TOLERANCE[spec.precision])
    p_fwe[raw.degenerate] = 1.0
    return {"p_unc": p_unc, "p_fdr": pvalues.FDR[spec.conventions.fdr](p_unc), "p_fwe_voxel": p_fwe}


def _tfce_p(spec: Spec, tfce: NDArray[np.float64], maxima: NDArray[np.float64]) -> NDArray[np.float64]:
    height = np.abs(tfce)
    return pvalues.from_maxima(height, maxima, height * MAP_TOLERANCE[spec.precision])


def provenance(cohort: Cohort, spec: Spec, asked: dict[str, Any]) -> dict[str, Any]:
    """Everything that determines the result, as JSON types."""
    hypothesis, shufflings = spec.hypothesis, spec.shufflings
    return {
        "contrast": {"name": hypothesis.contrast.name, "weights": hypothesis.contrast.matrix.tolist()},
        "statistic": hypothesis.statistic_name,
        "dof": hypothesis.design.dof,
        "two_sided": spec.two_sided,
        "cluster_forming_statistic": None
        if spec.threshold is None
        else float(hypothesis.scale.to_statistic(np.array([spec.threshold]))[0]),
        **asked,
        "n_shufflings": shufflings.n_shufflings,
        "exhaustive": shufflings.exhaustive,
        "errors": shufflings.errors,
        "shuffling": shufflings.reason,
        "seed": shufflings.seed,
        "method": hypothesis.method.name,
        "variance_smoothing_fwhm": spec.variance_fwhm,
        "conventions": asdict(spec.conventions),
        "precision": spec.precision,
        "n_subjects": cohort.n_subjects,
        "n_voxels": cohort.n_voxels,
        "smoothing_fwhm": cohort.store.smoothing_fwhm,
        "cohort_fingerprint": cohort.fingerprint,
        "subjects": list(cohort.subjects),
        "left_out": list(cohort.report),
        "design": {
            "columns": list(hypothesis.design.columns),
            "rows": hypothesis.design.matrix.tolist(),
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("numbaglm", "numba", "numpy", "scipy", "dask", "zarr", "nibabel")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

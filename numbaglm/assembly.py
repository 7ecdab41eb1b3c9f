"""From raw nulls and counts to corrected maps, the cluster table and provenance."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.engine.maps import ClusterTask
from numbaglm.engine.run import RunResult
from numbaglm.engine.voxels import Spec
from numbaglm.results import CLUSTER_COLUMNS, PermutationResult
from numbaglm.stats import pvalues
from numbaglm.stats.inference import TIE_TOLERANCE

Arrays = dict[str, NDArray[Any]]

_MAP_TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
"""Relative: masses and TFCE scores closer than this are equal. They are sums of statistics."""


def assemble(cohort: Cohort, spec: Spec, raw: RunResult, provenance: dict[str, Any]) -> PermutationResult:
    """Correct raw results for multiple testing, and name everything."""
    hypothesis, scale = spec.hypothesis, spec.hypothesis.scale
    name = hypothesis.statistic_name
    p = scale.parametric_p(np.abs(raw.score) if spec.two_sided else raw.score) * (1 + spec.two_sided)
    maps: Arrays = {
        name: raw.statistic,
        "z": scale.to_z(raw.score),
        "effect": raw.effect[0] if hypothesis.is_t else raw.effect,
        "p_parametric": np.where(raw.degenerate, 1.0, np.clip(p, np.finfo(float).tiny, 1.0)),
    }
    h0: Arrays = {}
    clusters = pd.DataFrame({column: [] for column in CLUSTER_COLUMNS})
    if spec.shufflings.n_shufflings > 1:
        maps |= _voxel_maps(spec, raw)
        h0[f"max_{scale.name}"] = scale.to_statistic(raw.max_score)
        if spec.conventions.statistic == "z":
            h0["max_z"] = scale.to_z(raw.max_score)
        if raw.tfce is not None and raw.max_tfce is not None:
            maps |= {"tfce": raw.tfce, "p_fwe_tfce": _tfce_p(spec, raw.tfce, raw.max_tfce)}
            h0["max_tfce"] = raw.max_tfce
        if raw.observed_picks is not None and raw.max_size is not None and raw.max_mass is not None:
            h0 |= {"max_size": raw.max_size, "max_mass": raw.max_mass}
            clusters, corrected = _clusters(cohort, spec, raw, raw.statistic, maps["p_fwe_voxel"])
            maps |= corrected
    return PermutationResult(maps, h0, clusters, cohort.geometry, provenance)


def _voxel_maps(spec: Spec, raw: RunResult) -> Arrays:
    score = np.abs(raw.score) if spec.two_sided else raw.score
    p_unc = pvalues.from_counts(raw.counts, spec.shufflings.n_shufflings)
    p_unc[raw.degenerate] = 1.0
    p_fwe = pvalues.from_maxima(score, raw.max_score, TIE_TOLERANCE[spec.precision])
    p_fwe[raw.degenerate] = 1.0
    return {"p_unc": p_unc, "p_fdr": pvalues.FDR[spec.conventions.fdr](p_unc), "p_fwe_voxel": p_fwe}


def _tfce_p(spec: Spec, tfce: NDArray[np.float64], maxima: NDArray[np.float64]) -> NDArray[np.float64]:
    height = np.abs(tfce)
    return pvalues.from_maxima(height, maxima, height * _MAP_TOLERANCE[spec.precision])


def _clusters(
    cohort: Cohort,
    spec: Spec,
    raw: RunResult,
    statistic: NDArray[np.float64],
    p_fwe_voxel: NDArray[np.float64],
) -> tuple[pd.DataFrame, Arrays]:
    """Table of the observed clusters, and the maps of their corrected p."""
    assert raw.observed_picks is not None
    voxel, value = raw.observed_picks
    task = ClusterTask.build(spec, cohort.geometry)
    label = task.label(voxel, value) - 1
    n_clusters = int(label.max(initial=-1)) + 1
    size = np.bincount(label, minlength=n_clusters)
    mass = np.bincount(label, weights=task.contributions(value), minlength=n_clusters)
    p_size = _cluster_p(spec, size, raw.max_size, 0.5)
    p_mass = _cluster_p(spec, mass, raw.max_mass, mass * _MAP_TOLERANCE[spec.precision])
    order = np.lexsort((-mass, -size))
    peaks = _peaks(label, np.abs(statistic[voxel]), n_clusters)
    peak = voxel[peaks].astype(np.intp)
    xyz = cohort.geometry.coordinates(peak)
    table = pd.DataFrame(
        {
            "cluster": 0,
            "sign": np.where(value[peaks] < 0, "-", "+"),
            "peak_x": xyz[:, 0],
            "peak_y": xyz[:, 1],
            "peak_z": xyz[:, 2],
            "peak_stat": statistic[peak],
            "size_voxels": size,
            "size_mm3": size * cohort.geometry.voxel_volume,
            "mass": mass,
            "p_fwe_size": p_size,
            "p_fwe_mass": p_mass,
            "p_fwe_voxel": p_fwe_voxel[peak],
        },
        columns=pd.Index(CLUSTER_COLUMNS),
    ).iloc[order]
    table["cluster"] = np.arange(1, n_clusters + 1)
    maps = {}
    for name, p in (("p_fwe_size", p_size), ("p_fwe_mass", p_mass)):
        background = 1.0 - 1.0 / _n_random(spec) if spec.conventions.clipped_cluster_p else 1.0
        maps[name] = np.full(cohort.n_voxels, background)
        maps[name][voxel] = p[label]
    return table.reset_index(drop=True), maps


def _peaks(label: NDArray[np.int64], height: NDArray[np.float64], n_clusters: int) -> NDArray[np.intp]:
    """Number of the highest voxel of each cluster, the first of equal ones."""
    order = np.lexsort((-height, label))
    return order[np.searchsorted(label[order], np.arange(n_clusters))]


def _n_random(spec: Spec) -> int:
    return spec.shufflings.n_shufflings - 1


def _cluster_p(spec: Spec, observed: NDArray[Any], maxima: Any, tolerance: Any) -> NDArray[np.float64]:
    if not spec.conventions.clipped_cluster_p:
        return pvalues.from_maxima(observed, maxima, tolerance)
    n_random = _n_random(spec)
    reached = pvalues.from_maxima(observed, maxima[1:], tolerance)
    below = np.asarray(observed) - tolerance > maxima[1:].max(initial=0)
    return np.clip(np.where(below, 0.0, reached), 1 / n_random, 1 - 1 / n_random)


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

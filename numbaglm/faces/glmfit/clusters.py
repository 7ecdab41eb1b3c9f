"""Clusters as mri_glmfit-sim reports them: maps, a table as text, an annotation, and means of each subject."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.cohort import Cohort
from numbaglm.data.images.atlases import read_atlas
from numbaglm.data.images.formats.freesurfer import save_annotation, save_freesurfer
from numbaglm.data.storage.files import write_file
from numbaglm.faces.glmfit.request import Permutations, Request, Surface
from numbaglm.results.result import PermutationResult
from numbaglm.spaces.space import Space
from numbaglm.version import __version__

_BLOCK = 65536  # voxels whose data are read at once


def write_clusters(
    request: Request,
    permutations: Permutations,
    cohort: Cohort,
    name: str,
    result: PermutationResult,
    sig: Doubles,
    interval: float,
) -> dict[str, Any]:
    """Write what mri_glmfit-sim writes for a contrast.

    Parameters
    ----------
    request, permutations, cohort
        What was asked for, and the maps.
    name
        Of the contrast: its folder.
    result
        Of its permutation.
    sig
        (n,) signed -log10 p.
    interval
        Coverage of the intervals of p.

    Returns
    -------
    What was found, as JSON types.
    """
    folder, space = request.glmdir / name, cohort.store.space
    kept = _kept(result, permutations)
    numbers = np.asarray(result.maps["clusters"], np.int64)
    of = np.zeros(numbers.max(initial=0) + 1, np.int64)  # cluster of the result -> its number here
    of[kept["cluster"].to_numpy(np.int64)] = np.arange(1, len(kept) + 1)
    ocn = of[numbers]
    logp = np.concatenate([[0.0], -np.log10(kept["cwp"].to_numpy(np.float64))])
    corrected = permutations.over_spaces(np.asarray(result.maps["p_fwe_voxel"], np.float64))
    signs = np.where(sig < 0, -1.0, 1.0)
    peaks = np.array([_peak(sig, ocn == k) for k in range(1, len(kept) + 1)], np.int64)
    sign_of = np.concatenate([[1.0], signs[peaks] if len(kept) else []])
    maps = {
        "sig.cluster": (logp * sign_of)[ocn],
        "sig.masked": np.where(ocn > 0, sig, 0.0),
        "sig.voxel": -np.log10(corrected) * signs,
        "sig.ocn": ocn,
    }
    for kind, values in maps.items():
        save_freesurfer(space, values, folder / f"{permutations.base}.{kind}.{request.ending}")
    largest = f"{float(np.abs(maps['sig.voxel']).max()):10.5f}\n"
    write_file(folder / f"{permutations.base}.sig.voxel.max.dat", largest.encode(), "text")
    places = _places(request, space, peaks)
    summary = folder / f"{permutations.base}.sig.cluster.summary"
    text = _summary(request, permutations, name, space, result, sig, ocn, kept, peaks, places, interval)
    write_file(summary, text.encode(), "summary")
    if request.surface is not None and request.out_annot:
        labels = space.unmask(ocn.astype(np.float64), 0.0).astype(np.int64)
        names = [f"cluster-{k:03d}" for k in range(1, len(kept) + 1)]
        save_annotation(labels, names, folder / f"{permutations.base}.sig.ocn.annot")
    if request.cluster_means:
        means = _means(cohort, ocn, len(kept))
        lines = "".join(" ".join(f"{value:.6g}" for value in row) + "\n" for row in means) if len(kept) else ""
        write_file(folder / f"{permutations.base}.y.ocn.dat", lines.encode(), "text")
    return {
        "n_clusters": len(kept),
        "cwp": permutations.cwp,
        "least_cwp": float(kept["cwp"].min()) if len(kept) else None,
        "n_shufflings": result.provenance["n_shufflings"],
        "shuffling": result.provenance["shuffling"],
        "summary": str(summary),
    }


def _kept(result: PermutationResult, permutations: Permutations) -> pd.DataFrame:
    """Rows of the clusters that are reported, with p over spaces and its interval, the least p first."""
    table = result.clusters
    ends = {"cwp": "p_fwe_size", "low": "p_fwe_size_lower", "high": "p_fwe_size_upper"}
    p = {key: permutations.over_spaces(table[name].to_numpy(np.float64)) for key, name in ends.items()}
    size = table["size_mm3"] if "size_mm3" in table else table["size"]
    n = table["size_voxels"] if "size_voxels" in table else table["size_elements"]
    found = pd.DataFrame({"cluster": table["cluster"], "area": size, "n": n, **p})
    found = found.loc[found["cwp"] <= permutations.cwp]
    return found.sort_values(["cwp", "area"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _peak(sig: Doubles, inside: NDArray[np.bool_]) -> int:
    members = np.flatnonzero(inside)
    return int(members[np.abs(sig[members]).argmax()])


def _places(request: Request, space: Space, peaks: NDArray[np.int64]) -> list[str] | None:
    """Names of the regions that peaks lie in; None where there is no annotation."""
    surface = request.surface
    annotation = None if surface is None else surface.label(f"{request.annot}.annot")
    if surface is None or annotation is None:
        return None
    regions = read_atlas({surface.side: str(annotation)}).regions(space)
    return [regions[peak] or "unknown" for peak in peaks]


def _means(cohort: Cohort, ocn: NDArray[np.int64], n_clusters: int) -> Doubles:
    """(n_subjects, n_clusters) mean of each subject's map in each cluster."""
    sums = np.zeros((cohort.n_subjects, n_clusters))
    for start in range(0, cohort.n_voxels, _BLOCK):
        stop = min(start + _BLOCK, cohort.n_voxels)
        inside = np.flatnonzero(ocn[start:stop])
        if inside.size:
            block = cohort.store.read(start, stop)[:, inside].astype(np.float64)
            member = np.zeros((inside.size, n_clusters))
            member[np.arange(inside.size), ocn[start:stop][inside] - 1] = 1.0
            sums += block @ member
    return np.asarray(sums / np.bincount(ocn, minlength=n_clusters + 1)[1:])


def _of_surface(surface: Surface | None) -> list[str]:
    if surface is None:
        return []
    return [f"srcsubj {surface.subject or surface.file}", f"hemi {surface.hemi}", f"surface {surface.name}"]


def _summary(
    request: Request,
    permutations: Permutations,
    name: str,
    space: Space,
    result: PermutationResult,
    sig: Doubles,
    ocn: NDArray[np.int64],
    kept: pd.DataFrame,
    peaks: NDArray[np.int64],
    places: list[str] | None,
    interval: float,
) -> str:
    """Table of clusters as text, in the columns of mri_surfcluster or mri_volcluster."""
    surface, volume = request.surface, space.is_volume
    xyz = space.coordinates(peaks.astype(np.intp))
    index = np.arange(space.n) if volume else np.flatnonzero(space.mask)
    unit = "mm3" if volume else "mm2"
    head = [
        f"Cluster Growing Summary ({'mri_volcluster' if volume else 'mri_surfcluster'}), by numbaglm {__version__}",
        f"cmdline {request.command}",
        "",
        f"Input      {request.glmdir / name / f'sig.{request.ending}'}",
        *_of_surface(surface),
        *([] if places is None else [f"annot {request.annot}"]),
        f"SearchSpace_{unit} {space.measure.sum():g}",
        f"SearchSpace_{'vox' if volume else 'vtx'} {space.n}",
        f"Bonferroni {permutations.n_spaces if permutations.n_spaces > 1 else 0}",
        f"Minimum Threshold {permutations.threshold:g}",
        "Maximum Threshold infinity",
        f"Threshold Sign    {permutations.sign}",
        "AdjustThreshWhenOneTail 1",
        f"CW PValue Threshold: {permutations.cwp:g}",
        f"CSD thresh  {permutations.threshold:f}",
        f"CSD nreps    {result.provenance['n_shufflings']}",
        "CSD simtype  perm",
        f"CSD contrast {name}",
        f"CSD confint  {100 * interval:f}",
        f"Overall max {sig.max():g} at {'voxel' if volume else 'vertex'} {index[int(sig.argmax())]}",
        f"Overall min {sig.min():g} at {'voxel' if volume else 'vertex'} {index[int(sig.argmin())]}",
        f"NClusters          {len(kept)}",
        "FixMNI = 0",
        "",
    ]
    if volume:
        head.append("Cluster   Size(n)   Size(mm^3)     MNIX   MNIY    MNIZ              Max    CWP    CWPLow    CWPHi")
    else:
        head.append(
            "ClusterNo  Max   VtxMax   Size(mm^2)  MNIX   MNIY   MNIZ    CWP    CWPLow    CWPHi   NVtxs    WghtVtx"
            + ("" if places is None else "   Annot")
        )
    lines = [f"# {line}" for line in head]
    rows = kept[["n", "area", "cwp", "low", "high"]].itertuples(index=False, name=None)
    for number, (n, area, *p) in enumerate(rows):
        x, y, z = xyz[number]
        peak, found = peaks[number], "  ".join(f"{value:7.5f}" for value in p)
        if volume:
            place = f"{n:5d}     {area:8.1f}    {x:7.2f} {y:7.2f} {z:7.2f}   {sig[peak]:15.5f}   {found}"
            lines.append(f"{number + 1:3d}      {place}")
            continue
        weight = float(sig[ocn == number + 1].sum())
        place = f"{sig[peak]:9.4f}  {index[peak]:6d}  {area:8.2f}   {x:6.1f} {y:6.1f} {z:6.1f}  {found}"
        region = "" if places is None else f"  {places[number]}"
        lines.append(f"{number + 1:4d}     {place}  {n:5d}  {weight:10.2f}{region}")
    return "\n".join([*lines, ""])

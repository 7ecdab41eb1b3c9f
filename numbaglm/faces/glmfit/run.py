"""What `numbaglm glmfit` does: tests of FreeSurfer's files, results under FreeSurfer's names."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from numbaglm.arrays import Doubles
from numbaglm.cohort import Cohort
from numbaglm.data.freesurfer import matrix_text
from numbaglm.data.images import load_mask, load_meshes, side_values
from numbaglm.data.images.formats.freesurfer import save_freesurfer
from numbaglm.data.storage.files import write_file
from numbaglm.engine.fit import fit_model
from numbaglm.errors import DesignError, InputError, OutputError
from numbaglm.faces.glmfit.clusters import write_clusters
from numbaglm.faces.glmfit.request import LOG, Model, Request, Surface
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.result import PermutationResult
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.model.design import Design
from numbaglm.version import __version__

log = logging.getLogger("numbaglm")

_WEIGHTS = "variance"
_INTERVAL = 0.9  # of CWPLow and CWPHi


def run_request(request: Request, progress: bool) -> tuple[dict[str, Any], str]:
    """Read, fit, test and write.

    Returns
    -------
    A summary, as JSON types and as text.
    """
    _check_folder(request.glmdir)
    try:
        cohort = _cohort(request, progress)
    except InputError as error:  # of as many labels as the descriptor has inputs
        told = error.refusal
        raise (error.naming("fsgd") if told is not None and told.parameter == "subjects" else error) from error
    model = request.model
    if model.matrix is not None and len(model.matrix) != cohort.n_subjects:
        raise DesignError(f"The design has {len(model.matrix)} rows, but --y has {cohort.n_subjects} frames.")
    matrix = np.ones((cohort.n_subjects, 1)) if model.matrix is None else model.matrix
    own = {f"pvr{k}": f"pvr{k}" for k in range(1, len(request.regressors) + 1)}
    design = Design.parse(_frame(matrix, model), cohort.n_subjects, own or None)
    results = {name: _test(request, cohort, matrix, own, name, C, progress) for name, C in model.contrasts.items()}
    fit = fit_model(cohort.store, design, None if request.weights is None else _WEIGHTS, progress=progress)
    sd = np.sqrt(fit.variance)
    writer = _Writer(request, cohort)
    writer.maps(
        "",
        mask=np.ones(cohort.n_voxels),
        beta=fit.beta,
        rvar=fit.variance,
        rstd=sd,
        **_residuals(request, cohort, design, fit.beta),
    )
    writer.texts(matrix, design.dof)
    found = []
    for name, C in model.contrasts.items():
        found.append(_write_contrast(writer, name, C, results[name], sd, design))
    lines = [f"{one['contrast']}: {_told(one)}" for one in found]
    summary = {"glmdir": str(request.glmdir), "n_subjects": cohort.n_subjects, "dof": design.dof, "contrasts": found}
    return summary, "\n".join([*lines, f"Results are in {request.glmdir}."])


def _check_folder(folder: Path) -> None:
    """Refuse early a folder of results that can't be made or written to."""
    above = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"--glmdir {folder}: {above} is not a folder that may be written to. Choose another.")


def _frame(matrix: Doubles, model: Model) -> pd.DataFrame:
    """Columns by numbers: names of classes and variables may be the same."""
    names = [f"{k} ({name})" for k, name in enumerate(model.columns, 1)]
    return pd.DataFrame(matrix, columns=pd.Index(names))


def _cohort(request: Request, progress: bool) -> Cohort:
    """Read the maps, on a surface or in a volume, with weights and regressors as layers."""
    own = {f"pvr{k}": file for k, file in enumerate(request.regressors, 1)}
    layers = own | ({} if request.weights is None else {_WEIGHTS: request.weights})
    descriptor, subjects = request.model.descriptor, None
    if descriptor is not None and len(set(descriptor.inputs)) == len(descriptor.inputs):
        subjects = list(descriptor.inputs)
    choices: dict[str, Any] = {"zero_is_missing": request.prune, "subjects": subjects, "progress": progress}
    surface = request.surface
    if surface is None:
        mask: Any = request.mask
        if request.mask_inv and mask is not None:
            geometry = load_mask(mask)
            assert geometry is not None
            mask = Geometry(~geometry.mask, geometry.affine, geometry.codes)
        return Cohort.from_maps(request.maps, mask, request.smoothing_fwhm, layers=layers or None, **choices)
    side, areas = surface.side, surface.areas
    return Cohort.from_maps(
        {side: request.maps},
        _mask_of_surface(request, surface),
        layers={name: {side: file} for name, file in layers.items()} or None,
        surfaces={side: str(surface.file)},
        areas=None if areas is None else {side: str(areas)},
        **choices,
    )


def _mask_of_surface(request: Request, surface: Surface) -> dict[str, Any] | None:
    given = request.mask if request.label is None else request.label
    if given is None:
        return None
    if not request.mask_inv:
        return {surface.side: given}
    n = load_meshes({surface.side: str(surface.file)}, [surface.side])[surface.side].n
    values = side_values(given, n, surface.side, "mask")
    return {surface.side: (~(np.isfinite(values) & (values != 0))).astype(np.uint8)}


def _test(
    request: Request, cohort: Cohort, matrix: Doubles, own: dict[str, str], name: str, C: Doubles, progress: bool
) -> PermutationResult:
    """Test a contrast; under "neg" its sign is turned, which `_write_contrast` turns back."""
    permutations = request.permutations
    options: dict[str, Any] = {"n_perm": 0, "cluster_forming_threshold": None}
    if permutations is not None:
        both = permutations.sign == "abs" or len(C) > 1
        options = {
            "n_perm": permutations.n,
            "cluster_forming_threshold": permutations.p,
            "two_sided": both,
            "merge_signs": both,
            "p_interval": _INTERVAL,
            "errors": "ise" if permutations.flips else None,
        }
        if len(C) == 1 and permutations.sign == "neg":
            C = -C
    if request.weights is not None:
        options |= {"weights": _WEIGHTS, "between": 0}
    weights = C if len(C) > 1 else C[0]
    result = permutation_test(
        cohort,
        _frame(matrix, request.model),
        {name: weights},
        seed=request.seed,
        regressors=own or None,
        variance_smoothing_fwhm=request.variance_smoothing_fwhm,
        progress=progress,
        **options,
    )
    return result[name]


def _residuals(request: Request, cohort: Cohort, design: Design, beta: Doubles) -> dict[str, Any]:
    """Fitted values and residuals (n_subjects, n_voxels), where they are to be saved."""
    if not (request.eres or request.yhat):
        return {}
    fitted = design.matrix @ beta
    found = {"yhat": fitted} if request.yhat else {}
    if request.eres:
        found["eres"] = cohort.store.read(0, cohort.n_voxels) - fitted
    return found


class _Writer:
    """Writes into the folder of the results."""

    def __init__(self, request: Request, cohort: Cohort) -> None:
        self.request, self.cohort, self.space = request, cohort, cohort.store.space

    def maps(self, folder: str, **maps: Any) -> None:
        """Write maps by FreeSurfer's names."""
        for name, values in maps.items():
            file = f"{name.replace('__', '.')}.{self.request.ending}"
            save_freesurfer(self.space, values, self.request.glmdir / folder / file)

    def text(self, name: str, text: str) -> None:
        """Write a text file."""
        write_file(self.request.glmdir / name, text.encode(), "text")

    def texts(self, matrix: Doubles, dof: int) -> None:
        """Write what tells of the model: log, design, degrees of freedom, the subjects and the surface."""
        request = self.request
        self.text(LOG, f"numbaglm {__version__}\ncwd {Path.cwd()}\ncmdline {request.command}\n")
        self.text("Xg.dat", matrix_text(matrix))
        self.text("dof.dat", f"{dof}\n")
        descriptor, surface = request.model.descriptor, request.surface
        if descriptor is not None:
            self.text("y.fsgd", "\n".join([*descriptor.lines, f"PlotFile {request.maps}", ""]))
        if surface is not None and surface.subject:
            self.text("surface", f"{surface.subject} {surface.hemi}\n")


def _write_contrast(
    writer: _Writer, name: str, C: Doubles, result: PermutationResult, sd: Doubles, design: Design
) -> dict[str, Any]:
    """Write the maps of a contrast, and its clusters; tell what was found."""
    permutations, is_t = writer.request.permutations, len(C) == 1
    turned = -1.0 if is_t and permutations is not None and permutations.sign == "neg" else 1.0
    maps = result.maps
    effect = turned * np.atleast_2d(np.asarray(maps["effect"], np.float64))
    z = turned * np.asarray(maps["z"], np.float64)
    statistic = np.asarray(maps[result.statistic], np.float64)
    F = statistic**2 if is_t else statistic
    sig = significance(z, is_t)
    found: dict[str, Any] = {"gamma": effect, "F": F, "sig": sig, "z": z}
    if is_t:
        found["gammavar"] = np.divide(effect[0], turned * statistic, out=np.zeros_like(F), where=statistic != 0) ** 2
        found["cnr"] = np.divide(effect[0], sd, out=np.zeros_like(sd), where=sd > 0)
        if "partial_r2" in maps and writer.request.model.matrix is not None:
            found["pcc"] = np.sign(effect[0]) * np.sqrt(np.maximum(maps["partial_r2"], 0.0))
    writer.maps(name, **found)
    writer.text(f"{name}/C.dat", matrix_text(C))
    peak = int(np.abs(sig).argmax())
    where = _index(writer, peak)
    writer.text(f"{name}/maxvox.dat", f"{sig[peak]:e}  {F[peak]:e}    {where}     {writer.request.seed}\n")
    if not design.own:
        spread = C @ np.linalg.inv(design.matrix.T @ design.matrix) @ C.T
        writer.text(f"{name}/efficiency.dat", f"{1 / np.trace(spread):g}\n")
    told: dict[str, Any] = {"contrast": name, "largest_sig": float(sig[peak]), "at": where}
    if permutations is None:
        return told
    return told | write_clusters(writer.request, permutations, writer.cohort, name, result, sig, _INTERVAL)


def significance(z: Doubles, is_t: bool) -> Doubles:
    """Return -log10 of the p of both sides, with the sign of z; of F that of its one side."""
    if not is_t:
        return np.asarray(-special.log_ndtr(-z) / np.log(10))
    logs = special.log_ndtr(-np.abs(z)) + np.log(2.0)
    return np.asarray(np.sign(z) * np.maximum(-logs / np.log(10), 0.0))


def _index(writer: _Writer, element: int) -> str:
    """Column, row and slice of a voxel; number of a vertex."""
    space = writer.space
    if space.is_volume:
        return " ".join(str(int(axis[element])) for axis in np.nonzero(space.volume.mask))
    return f"{int(np.flatnonzero(space.mask)[element])} 0 0"


def _told(one: dict[str, Any]) -> str:
    text = f"largest sig {one['largest_sig']:.3f} at {one['at']}"
    if "n_clusters" not in one:
        return text
    least = "none" if one["least_cwp"] is None else f"{one['least_cwp']:.5f}"
    return f"{text}; {one['n_clusters']} clusters of cwp {one['cwp']:g} or less, the least {least}: {one['summary']}"

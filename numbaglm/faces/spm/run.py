"""What `numbaglm spm` does: the contrasts of a SPM.mat by shuffling, results beside SPM's."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.data.images import MapSource, Meaning, grid_of, read_map, save_image, to_image
from numbaglm.data.storage.files import write_file
from numbaglm.errors import InputError, OutputError, OutputExistsError, invalid
from numbaglm.faces.spm.contrasts import Tested, make_tests
from numbaglm.faces.spm.design import Study, read_study
from numbaglm.faces.spm.volumes import find_images, make_cohort
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.result import PermutationResult

log = logging.getLogger("numbaglm")

SUMMARY = "numbaglm_spm.json"

# Name of a file -> the map it holds; 0001 and so on follow.
FILES = {
    "perm{stat}": "",
    "permTFCE": "tfce",
    "lP": "logp_unc",
    "lP_FDR": "logp_fdr",
    "lP_FWE": "logp_fwe_voxel",
    "lP_FWE_size": "logp_fwe_size",
    "lP_FWE_mass": "logp_fwe_mass",
    "lP_FWE_TFCE": "logp_fwe_tfce",
}
"""What is written of each contrast, by its name: -log10 of p where it begins with lP."""

_OWN = re.compile(r"(spm[TF]|con|ess|beta|ResI|Res)_\d{4}\.|(mask|ResMS|RPV)\.|SPM\.mat$")
_LONGEST_NAME = 200  # of a contrast, as `permutation_test` takes it


@dataclass(frozen=True)
class Request:
    """What was asked for; see `numbaglm.faces.spm.command` for what each option means."""

    spm: str
    contrast: tuple[str, ...]
    output: str | None
    overwrite: bool
    n_perm: int
    threshold: float | None
    tfce: bool
    data_dir: str | None
    mask: str | None
    smoothing_fwhm: float | None
    unequal_variances: bool
    block_scheme: str | None
    errors: str | None
    seed: int
    n_workers: int | None
    memory_limit: str | None
    dry_run: bool


def run_request(request: Request, progress: bool) -> tuple[dict[str, Any], str]:
    """Read, test and write.

    Each image is written whole or not at all, those of a contrast when it is done.

    Returns
    -------
    A summary, as JSON types and as text.
    """
    study = read_study(request.spm)
    folder = study.path.absolute().parent if request.output is None else Path(request.output).expanduser()
    tests = make_tests(study, request.contrast, request.block_scheme)
    groups = _variance_groups(study) if request.unequal_variances else None
    for test in tests:
        _threshold(test, request)
    if not request.dry_run:
        _check_folder(folder, tests, request)
    for sentence in (told := [*study.told(), *_on_errors(study, groups is not None), *_on_scaling(study)]):
        log.info(sentence)
    files = find_images(study, request.data_dir)
    cohort = make_cohort(
        *(study, files, request.mask, request.data_dir),
        smoothing_fwhm=request.smoothing_fwhm,
        n_workers=request.n_workers,
        progress=progress,
    )
    outcomes = []
    for test in tests:
        if test.why:
            log.info(test.why)
        made = _test(cohort, test, request, groups, progress)
        if isinstance(made, PermutationResult):
            outcomes.append(_write(folder, study, test, made))
        else:
            outcomes.append({"contrast": test.label, "name": test.name, "plan": made.describe()})
    summary = {
        "spm": str(study.path),
        "design": study.title,
        "n_images": study.n_scans,
        "n_voxels": cohort.n_voxels,
        "columns": [{"name": name, "role": role} for name, role in zip(study.columns, study.roles, strict=True)],
        "notes": [*told, *cohort.report],
        "contrasts": outcomes,
    }
    if request.dry_run:
        return summary, "\n".join(f"Plan of {one['contrast']} ({one['name']}): {one['plan']}." for one in outcomes)
    write_file(folder / SUMMARY, f"{json.dumps(summary, indent=2)}\n".encode(), "summary")
    lines = [_found(one) for one in outcomes]
    return {"output": str(folder), **summary}, "\n".join([*lines, f"All is in {folder}; {SUMMARY} tells how."])


def _check_folder(folder: Path, tests: Sequence[Tested], request: Request) -> None:
    """Refuse before any work a folder that can't be written to, or that holds what would be written."""
    if not folder.is_dir():
        if request.output is None or folder.exists():
            raise OutputError(f"{folder} is not a folder. Name one with --output.")
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"{folder} can't be made ({error.strerror}). Name another with --output.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} may not be written to. Name another folder with --output.")
    names = [file_name(name, test) for test in tests for name in FILES]
    there = [name for name in names if (folder / name).exists()]
    if there and not request.overwrite:
        raise OutputExistsError(
            f"{folder} holds {there[0]} already, of an earlier run. Replace it with --overwrite, or name another "
            "folder with --output."
        )


def file_name(name: str, test: Tested) -> str:
    """Name of a file of a contrast."""
    made = f"{name.format(stat='F' if test.is_f else 'T')}_{test.label}.nii"
    assert not _OWN.match(made)
    return made


def _variance_groups(study: Study) -> NDArray[np.int64]:
    groups = study.variance_groups()
    if groups is None:
        what = "lets images depend on each other" if study.depends else "has one variance for all images"
        raise InputError(
            f"--unequal-variances: {study.path} {what}. Allowed where SPM lets variances of groups differ "
            "(non-sphericity of independent images). Leave it out."
        )
    return groups


def _on_errors(study: Study, by_groups: bool) -> list[str]:
    """Say what becomes of SPM's non-sphericity."""
    if len(study.components) < 2 and not study.depends:
        return []
    n = len(study.components)
    if study.depends:
        return [
            f"SPM lets images depend on each other ({n} components), and whitens all voxels by one estimate of that. "
            "Here t and F are by ordinary least squares, and differ from SPM's; shufflings keep to what the blocks of "
            "people allow."
        ]
    if by_groups:
        return [f"Variances differ between {n} groups, and are each voxel's own: t is Aspin-Welch's v, F is G."]
    return [
        f"SPM lets variances of {n} groups differ, and weighs the images by one estimate for all voxels. Here t and F "
        "are by ordinary least squares, and differ from SPM's where groups do; --unequal-variances gives every group a "
        "variance at each voxel."
    ]


def _on_scaling(study: Study) -> list[str]:
    if (study.scaling == 1).all():
        return []
    low, high = study.scaling.min(), study.scaling.max()
    return [f"Images are multiplied by SPM's global scaling, {low:.4g} to {high:.4g}."]


def _threshold(test: Tested, request: Request) -> float | tuple[str, float] | None:
    """Cluster-forming threshold: below 1 a p, else a value of the statistic, as SPM's interface takes it.

    Raises
    ------
    InputError
    """
    value = request.threshold
    if value is None or value < 1:
        if value is not None and not (0 < value < 0.5):
            allowed = "a p below 0.5, or a value of t or F of 1 or more, or none"
            raise InputError(invalid("threshold", value, allowed))
        return value
    if request.unequal_variances:
        allowed = "a p with unequal variances, as degrees of freedom differ between voxels"
        raise InputError(invalid("threshold", value, allowed))
    if test.squared:
        return "t", float(np.sqrt(value))
    return ("f" if test.is_f else "t"), value


def _test(
    cohort: Cohort, test: Tested, request: Request, groups: NDArray[np.int64] | None, progress: bool
) -> PermutationResult | Any:
    """Test one contrast; T on the side of its weights, as SPM does.

    F of one row is the square of t: the same clusters at the root of the threshold, those of both signs together, and,
    with h = u^2 in its integral, twice the TFCE of |t| with 2 H + 1 in the place of H.
    """
    options: dict[str, Any] = {"tfce_H": 5.0, "merge_signs": True} if test.squared else {}
    made = permutation_test(
        cohort,
        test.frame,
        {f"{test.name} ({'F' if test.is_f else 'T'} {test.label})"[-_LONGEST_NAME:]: test.contrast},
        n_perm=request.n_perm,
        two_sided=test.squared,
        cluster_forming_threshold=_threshold(test, request),
        tfce=request.tfce,
        seed=request.seed,
        errors=request.errors,
        exchangeability_blocks=test.blocks,
        block_scheme=test.scheme,
        variance_groups=groups,
        conventions="spm",
        memory_limit=request.memory_limit,
        n_workers=request.n_workers,
        progress=progress,
        dry_run=request.dry_run,
        **options,
    )
    (one,) = made.values()
    return one


def _write(folder: Path, study: Study, test: Tested, result: PermutationResult) -> dict[str, Any]:
    """Write the maps and the clusters of a contrast, and tell what was found."""
    files = []
    for name, key in FILES.items():
        key = key or result.statistic
        if key not in result.maps or (test.squared and "mass" in key):
            continue
        values = _as_asked(test, key, np.asarray(result.maps[key], dtype=np.float64))
        file = folder / file_name(name, test)
        meaning = Meaning(description=f"numbaglm {_in_words(key)} [{study.columns and test.name}]")
        save_image(to_image(result.geometry, values, fill=np.nan, meaning=meaning), file)
        files.append(str(file))
    if not result.clusters.empty or any("size" in file for file in files):
        place = folder / f"permClusters_{test.label}.tsv"
        table = result.clusters
        if test.squared:
            table = table.drop(columns=[name for name in table.columns if "mass" in name])
        write_file(place, table.to_csv(sep="\t", index=False).encode(), "table of clusters")
        files.append(str(place))
    statistic = _as_asked(test, result.statistic, np.asarray(result.maps[result.statistic], dtype=np.float64))
    least = {
        name: float(result.maps[f"p_fwe_{name}"].min())
        for name in ("voxel", "size", "mass", "tfce")
        if f"p_fwe_{name}" in result.maps and not (test.squared and name == "mass")
    }
    return {
        "contrast": test.label,
        "name": test.name,
        "statistic": "F" if test.is_f else "T",
        "dof": result.provenance["dof"],
        "n_shufflings": result.provenance["n_shufflings"],
        "shuffling": result.provenance["shuffling"],
        "people": test.why,
        "largest_statistic": float(statistic.max()),
        "least_corrected_p": least,
        "beside_spm": _beside_spm(study, test, result, statistic),
        "files": files,
    }


def _as_asked(test: Tested, key: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A map as it is for F where two-sided t was tested in its place."""
    if not test.squared or key.startswith("logp"):
        return values
    return 2 * np.abs(values) if key == "tfce" else values**2


def _in_words(key: str) -> str:
    return {"tfce": "TFCE", "t": "t", "v": "v", "f": "F", "g": "G"}.get(key, f"-log10 {key[3:]}")


def _beside_spm(
    study: Study, test: Tested, result: PermutationResult, statistic: NDArray[np.float64]
) -> dict[str, float] | None:
    """How far the statistic is from that of SPM's file, where it has estimated the contrast; None where it has not."""
    name = f"spm{'F' if test.is_f else 'T'}_{test.label}"
    place = next((one for end in (".nii", ".img") if (one := study.path.parent / f"{name}{end}").is_file()), None)
    if place is None:
        return None
    source = MapSource(name=str(place), path=place)
    if grid_of(source)[0] != result.geometry.shape:
        return None
    theirs = read_map(source)[result.geometry.mask].astype(np.float64)
    there = np.isfinite(theirs) & (theirs != 0)
    if np.count_nonzero(there) < 2:
        return None
    difference = float(np.abs(theirs[there] - statistic[there]).max())
    correlation = float(np.corrcoef(theirs[there], statistic[there])[0, 1])
    log.info("%s of SPM: differs by %.2g at most, r = %.4f.", name, difference, correlation)
    return {"largest_difference": difference, "correlation": correlation, "n_voxels": int(there.sum())}


def _found(outcome: dict[str, Any]) -> str:
    least = ", ".join(f"{name} {p:.4f}" for name, p in outcome["least_corrected_p"].items())
    what = f"{outcome['contrast']} ({outcome['name']}): {outcome['statistic']}"
    end = f"; least corrected p of {outcome['n_shufflings']:,} shufflings: {least}" if least else ""
    return f"{what} up to {outcome['largest_statistic']:.2f}{end}\n  " + "\n  ".join(outcome["files"])

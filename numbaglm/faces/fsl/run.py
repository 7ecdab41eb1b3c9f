"""What `numbaglm randomise` does: tests of FSL's files, results under FSL's names."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.cohort import Cohort
from numbaglm.data.images import save_image, to_image
from numbaglm.data.storage.files import write_file
from numbaglm.data.text_matrix import TextMatrix, read_text_matrix
from numbaglm.engine.progress import preparing
from numbaglm.errors import DesignError, InputError, OutputError, ShufflingError
from numbaglm.faces.fsl.request import Request, Tested, make_tests, own_name
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.result import PermutationResult
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis
from numbaglm.stats.shuffling.shufflings import ERRORS, Shufflings

log = logging.getLogger("numbaglm")

FWHM_OF_SIGMA = float(np.sqrt(8 * np.log(2)))
MOST_SHUFFLINGS = 2**20
"""How many are enumerated where all are asked for."""

_AT_ONCE = 2**12  # shufflings that are drawn together
_LONGEST_NAME = 200  # of a contrast, as `permutation_test` takes it
_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz")
# Name in FSL's files: the corrected p, the raw map and the null of a result.
_KINDS = {
    "vox": ("p_fwe_voxel", "", ""),  # the statistic has no name of its own
    "tfce": ("p_fwe_tfce", "tfce", "max_tfce"),
    "clustere": ("p_fwe_size", "size", "max_size"),
    "clusterm": ("p_fwe_mass", "mass", "max_mass"),
}


def run_request(request: Request, progress: bool) -> tuple[dict[str, Any], str]:
    """Read, test and write.

    Each image is written whole or not at all, those of a test when it is done.

    Returns
    -------
    A summary, as JSON types and as text.
    """
    _check_root(request.root)
    texts = {name: read_text_matrix(path) for name, path in _text_files(request).items()}
    blocks, held = _blocks(texts["groups"], request) if "groups" in texts else (None, False)
    mask = None if request.mask is None else image_name(request.mask)
    layers = {own_name(number): image_name(file) for number, file in request.own}
    with preparing():
        cohort = Cohort.from_maps(image_name(request.maps), mask, layers=layers or None, progress=progress)
    for name in ("design", "groups"):
        _check_rows(texts.get(name), cohort.n_subjects)
    tests = make_tests(request, texts, cohort.n_subjects)
    shuffling = {
        "seed": request.seed,
        "exchangeability_blocks": blocks,
        "block_scheme": "whole" if request.permute_blocks else "within",
        "errors": "ee" if held else None,
        "method": request.method,
    }
    if request.count_only:
        return _count(request, cohort.n_subjects, tests, shuffling)
    # All before the first takes its time.
    numbers = [_n_perm(cohort.n_subjects, test, request, shuffling) for test in tests]
    outcomes = []
    for test, n_perm in zip(tests, numbers, strict=True):
        results = _run(cohort, test, request, n_perm, shuffling, progress)
        outcomes.append(_write(request, test, results))
        if request.vectors and n_perm:
            outcomes[-1]["files"].append(_write_vectors(request, test, n_perm, shuffling))
    lines = [f"{one['test']} ({one['name']}): {_found(one)}\n  " + "\n  ".join(one["files"]) for one in outcomes]
    return {"root": request.root, "n_subjects": cohort.n_subjects, "tests": outcomes}, "\n".join(lines)


def _text_files(request: Request) -> dict[str, str]:
    paths = {name: getattr(request, name) for name in ("design", "contrasts", "f_tests", "groups")}
    return {name: path for name, path in paths.items() if path is not None}


def _check_root(root: str) -> None:
    """Refuse early a root that nothing can be written under."""
    folder = Path(f"{root}_").expanduser().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"-o {root}: {folder} is not a folder that may be written to. Make it first.")


def image_name(name: str) -> str:
    """Name of an image, with the suffix that FSL's tools let one leave out.

    Raises
    ------
    InputError
        There are several.
    """
    place = Path(name).expanduser()
    if place.exists():
        return name
    found = [f"{name}{suffix}" for suffix in _SUFFIXES if Path(f"{place}{suffix}").exists()]
    if len(found) > 1:
        raise InputError(f"{name} may be {' or '.join(found)}. Name one.")
    return found[0] if found else name  # a name that doesn't exist is refused by who reads it


def _check_rows(text: TextMatrix | None, n_subjects: int) -> None:
    if text is not None and len(text.values) != n_subjects:
        raise DesignError(
            f"{text.path} has {len(text.values)} rows, but there are {n_subjects} volumes. It needs one row for each."
        )


def _blocks(text: TextMatrix, request: Request) -> tuple[NDArray[np.int64], bool]:
    """Label each volume, and tell whether some, those of block 0, are never shuffled: each is a block by itself."""
    labels = text.values
    if labels.shape[1] > 1 or (labels != np.round(labels)).any():
        raise InputError(
            f"{text.path} holds {labels.shape[1]} column(s) of numbers. Allowed after -e: one column of whole numbers, "
            "the block of each volume. Multi-level blocks: numbaglm permute --blocks."
        )
    if labels.min() < 0:
        raise InputError(f"{text.path} holds {labels.min():g}. Allowed after -e: blocks from 1, and 0 for none.")
    blocks = labels[:, 0].astype(np.int64)
    held = blocks == 0
    if held.any() and (request.permute_blocks or request.one_sample):
        raise InputError(
            f"{text.path} holds block 0, whose volumes are never permuted: that goes with permutations within blocks, "
            "without -1 and --permuteBlocks."
        )
    blocks[held] = blocks.max() + 1 + np.arange(held.sum())
    return blocks, bool(held.any())


def _kinds(test: Tested, request: Request) -> list[str]:
    """Inference that is made of a test: all that is asked for, but the mass of clusters of F where t stands for it."""
    return [kind for kind in request.kinds(test.is_f) if not (test.squared and kind == "clusterm")]


def _n_perm(n_subjects: int, test: Tested, request: Request, shuffling: dict[str, Any]) -> int:
    """Shufflings beside the observed one; refuses what can't be tested.

    Raises
    ------
    InputError, DesignError, ShufflingError
    """
    if _kinds(test, request) != request.kinds(test.is_f):
        log.warning(
            "-S is not supported for %s, an F test of one contrast: left out. Take -F, or the t contrast with -C.",
            test.label,
        )
    if not _kinds(test, request) and not request.uncorrected:
        log.warning("%s: no p is asked for (-x, -T, --T2, --uncorrp, -c, -C, -F, -S): its statistic alone.", test.label)
        return 0
    if request.n_shufflings == 1:
        log.warning("%s: with -n 1, the observed data alone, there is no p to write.", test.label)
        return 0
    asked = request.n_shufflings - 1 if request.n_shufflings else MOST_SHUFFLINGS
    try:
        n_shufflings = _shufflings(test, n_subjects, asked, shuffling).n_shufflings
    except ShufflingError as error:
        if request.groups is None:
            raise
        raise ShufflingError(
            f"{test.label} can't be shuffled with the blocks of -e {request.groups}: {error} FEAT's .grp files group "
            "variances, not what may be exchanged: leave -e out if it is one of those."
        ) from error
    if request.n_shufflings == 0 and n_shufflings > MOST_SHUFFLINGS:
        raise InputError(
            f"-n 0 asks for all shufflings of {test.label}, and there are more than the {MOST_SHUFFLINGS:,} that are "
            "enumerated: give a number, such as -n 5000."
        )
    return asked if request.n_shufflings else n_shufflings - 1


def _shufflings(test: Tested, n_subjects: int, n_perm: int, shuffling: dict[str, Any]) -> Shufflings:
    """What a test is shuffled by."""
    design = Design.parse(test.matrix, n_subjects, test.regressors)
    contrast = Contrast.parse(_weights(test), design, test.label)
    how = {
        "n_perm": n_perm,
        "blocks": shuffling["exchangeability_blocks"],
        **{name: shuffling[name] for name in ("seed", "block_scheme", "errors")},
    }
    return build_hypothesis(design, contrast, [contrast], shuffling["method"], how, {})[0]


def _count(
    request: Request, n_subjects: int, tests: list[Tested], shuffling: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Tell how many distinct shufflings each test has, as -q asks."""
    found, lines = [], []
    for test in tests:
        shufflings = _shufflings(test, n_subjects, 1, shuffling)
        n = shufflings.n_distinct_text
        found.append({"test": test.label, "name": test.name, "n_distinct": n})
        lines.append(f"{test.label} ({test.name}): {n} distinct {ERRORS[shufflings.errors].partition(' (')[0]}")
    return {"root": request.root, "n_subjects": n_subjects, "tests": found}, "\n".join(lines)


def _write_vectors(request: Request, test: Tested, n_perm: int, shuffling: dict[str, Any]) -> str:
    """Write a row for each shuffling: which row of the design each subject takes, counted from 1, and its sign."""
    n_subjects = len(test.matrix)
    shufflings = _shufflings(test, n_subjects, n_perm, shuffling)
    lines = []
    for start in range(0, shufflings.n_shufflings, _AT_ONCE):
        index, sign = shufflings.draw(start, min(start + _AT_ONCE, shufflings.n_shufflings))
        rows = np.empty(index.shape, np.int64)
        np.put_along_axis(rows, index.astype(np.int64), sign * np.arange(1, n_subjects + 1), axis=1)
        lines += [" ".join(str(number) for number in rows[k]) for k in range(len(rows))]
    file = f"{request.root}_perm_{test.label}.txt"
    write_file(Path(file).expanduser(), "".join(f"{line}\n" for line in lines).encode(), "shufflings")
    return file


def _weights(test: Tested) -> Doubles:
    """A contrast as `permutation_test` takes it: a vector for t."""
    return test.weights if test.is_f and not test.squared else np.asarray(test.weights[0])


def _run(
    cohort: Cohort, test: Tested, request: Request, n_perm: int, shuffling: dict[str, Any], progress: bool
) -> dict[str, PermutationResult]:
    """Results by kind of inference, "stat" for the statistic; one run for each cluster-forming threshold.

    F of one contrast is the square of t: the same clusters at the root of the threshold and, with h = u^2 in its
    integral, twice the TFCE of |t| with 2 H + 1 in the place of H, as the exact integral.
    """
    conventions = dict(request.tfce_options)
    if test.squared:
        conventions |= {"merge_signs": True, "tfce_steps": 0, "tfce_H": 2 * conventions.get("tfce_H", 2.0) + 1}
    kinds = _kinds(test, request) if n_perm else []
    thresholds = {kind: value for kind, value in request.thresholds(test.is_f).items() if kind in kinds}
    results: dict[str, PermutationResult] = {}
    for threshold in dict.fromkeys(thresholds.values()) or (None,):
        formed = None if threshold is None else ("f" if test.is_f else "t", threshold)
        if threshold is not None and test.squared:
            formed = ("t", float(np.sqrt(threshold)))
        result = permutation_test(
            cohort,
            test.matrix,
            {f"{test.label} ({test.name})"[:_LONGEST_NAME]: _weights(test)},
            n_perm=n_perm,
            two_sided=test.is_f,
            cluster_forming_threshold=formed,
            tfce=request.tfce and not results,
            tfce_uncorrected=request.tfce and request.uncorrected and not results,
            variance_smoothing_fwhm=None if test.is_f or request.sigma is None else request.sigma * FWHM_OF_SIGMA,
            regressors=test.regressors,
            conventions="randomise",
            progress=progress,
            **shuffling,
            **conventions,
        )
        (one,) = result.values()
        if not results:
            results = dict.fromkeys(("stat", "vox", "tfce"), one)
        results |= {kind: one for kind, value in thresholds.items() if value == threshold}
    return results


def _write(request: Request, test: Tested, results: dict[str, PermutationResult]) -> dict[str, Any]:
    """Write what is asked for of one test, and tell what was found."""
    stat = results["stat"]
    geometry, maximum = stat.geometry, f"max_{stat.statistic}"
    images: dict[str, NDArray[Any]] = {test.label: _raw(test, stat, stat.statistic)}
    nulls, least = {}, {}
    if request.uncorrected and stat.h0:
        images[f"vox_p_{test.label}"] = 1 - stat.maps["p_unc"]
        if "p_unc_tfce" in stat.maps:
            images[f"tfce_p_{test.label}"] = 1 - stat.maps["p_unc_tfce"]
    if request.glm and not test.is_f:
        images |= {f"glm_{name}_{test.label}": values for name, values in _glm(test, stat).items()}
    for kind in _kinds(test, request):
        p, raw, null = _KINDS[kind]
        result = results.get(kind, stat)
        if request.raw and raw in result.maps:
            images[f"{kind}_{test.label}"] = _raw(test, result, raw)
        if p in result.maps:
            images[f"{kind}_corrp_{test.label}"] = 1 - result.maps[p]
            nulls[f"{kind}_corrp_{test.label}"] = _raw(test, result, null or maximum)
            least[kind] = float(result.maps[p].min())
    files = [f"{request.root}_{name}.nii.gz" for name in images]
    for file, values in zip(files, images.values(), strict=True):
        save_image(to_image(geometry, values), file)
    if request.nulls:
        for name, null_values in nulls.items():
            files.append(f"{request.root}_{name}.txt")
            text = "".join(f"{value:.9g}\n" for value in null_values)
            write_file(Path(files[-1]).expanduser(), text.encode(), "null")
    return {
        "test": test.label,
        "name": test.name,
        "dof": stat.provenance["dof"],
        "n_shufflings": stat.provenance["n_shufflings"],
        "shuffling": stat.provenance["shuffling"],
        "largest_statistic": float(images[test.label].max()),
        "least_corrected_p": least,
        "files": files,
    }


def _glm(test: Tested, result: PermutationResult) -> dict[str, Doubles]:
    """Effect of a contrast, its variance, and that of the errors where all voxels have one design."""
    variance = np.asarray(result.maps["effect_se"], np.float64) ** 2
    found = {"cope": np.asarray(result.maps["effect"], np.float64), "varcope": variance}
    if test.regressors is None:
        row = test.weights[0]
        found["sigmasqr"] = variance / float(row @ np.linalg.pinv(test.matrix.T @ test.matrix) @ row)
    return found


def _raw(test: Tested, result: PermutationResult, name: str) -> Doubles:
    """A map or a null, as it is for F where t was tested in its place."""
    values = np.asarray(result.maps[name] if name in result.maps else result.h0[name], dtype=np.float64)
    if not test.squared or "size" in name:
        return values
    return 2 * np.abs(values) if "tfce" in name else values**2


def _found(outcome: dict[str, Any]) -> str:
    least = ", ".join(f"{kind} {p:.4f}" for kind, p in outcome["least_corrected_p"].items())
    text = f"{'F' if outcome['test'].startswith('f') else 't'} up to {outcome['largest_statistic']:.2f}"
    if not least:
        return text
    return f"{text}; least corrected p of {outcome['n_shufflings']:,} shufflings: {least}"

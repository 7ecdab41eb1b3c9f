"""Tests of AFNI's commands: run one after the other, and written into one file of labelled volumes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.cohort import Cohort
from numbaglm.data.images.formats.afni import Brick, save_bricks
from numbaglm.data.storage.files import write_file
from numbaglm.errors import InputError, OutputError, OutputExistsError
from numbaglm.faces.flags import Given
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.result import PermutationResult
from numbaglm.spaces.volume import Geometry

_CONNECTIVITY = {1: 6, 2: 18, 3: 26}
SHUFFLINGS = 10_000
"""Of -Clustsim, where AFNI_TTEST_NUMCSIM does not say otherwise."""


@dataclass(frozen=True, eq=False)
class Tested:
    """One test.

    Attributes
    ----------
    effect, statistic
        Labels of its volumes; "" for one that is not written.
    maps
        Paths or images, a map a row of the design.
    matrix, weights
        Design, and (n_rows, n_columns) of the contrast.
    options
        Of `permutation_test`, beside those that all share.
    choices
        Of `Cohort.from_maps`.
    is_f
        Whether F is written, of one row too: t with both signs stands for it.
    """

    effect: str
    statistic: str
    maps: Sequence[Any]
    matrix: Doubles
    weights: Doubles
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    is_f: bool = False


@dataclass(frozen=True, eq=False)
class Asked:
    """What all tests of a call share.

    Attributes
    ----------
    tests
        In the order of the volumes.
    path
        Where these are written.
    mask
        As typed.
    n_perm, seed, p, neighbours
        Shufflings, and how clusters are formed.
    as_z
        Whether z is written for t.
    """

    tests: Sequence[Tested]
    path: Path
    mask: str | None
    n_perm: int
    seed: int
    p: float
    neighbours: int
    as_z: bool

    @classmethod
    def parse(cls, given: Given, tests: Sequence[Tested], as_z: bool) -> Asked:
        """Check what both commands have.

        Raises
        ------
        InputError, OutputExistsError, OutputError
        """
        if "prefix" not in given:
            raise InputError("-prefix is needed: the name of the results.")
        name = given.word("prefix").removesuffix("+tlrc").removesuffix("+orig")
        path = Path(name if name.endswith((".nii", ".nii.gz")) else f"{name}.nii.gz").expanduser()
        if path.exists() and "overwrite" not in given:
            raise OutputExistsError(f"{path} exists: choose another -prefix, or -overwrite to replace it.")
        if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK | os.X_OK):
            raise OutputError(f"-prefix {name}: {path.absolute().parent} is not a folder that may be written to.")
        shuffled = "clustsim" in given or "perm" in given
        n = given.number("perm", float(os.environ.get("AFNI_TTEST_NUMCSIM", SHUFFLINGS))) if shuffled else 0
        p, nn, seed = (given.number(name, other) for name, other in (("pthr", 0.001), ("nn", 1), ("seed", 0)))
        allowed = {
            f"-perm {n:g}: a whole number from 0": n == round(n) >= 0,
            f"-pthr {p:g}: a p between 0 and 1": 0 < p < 1,
            f"-NN {nn:g}: 1, 2 or 3": nn in _CONNECTIVITY,
            f"-seed {seed:g}: a whole number from 0": seed == round(seed) >= 0,
        }
        for why, is_fine in allowed.items():
            if not is_fine:
                raise InputError(f"{why} is allowed.")
        return cls(tests, path, given.word("mask"), int(n), int(seed), p, _CONNECTIVITY[int(nn)], as_z)


def run_tests(asked: Asked, progress: bool) -> tuple[dict[str, Any], str]:
    """Run all tests, and write their volumes.

    Returns
    -------
    A summary, as JSON types and as text.
    """
    results: list[PermutationResult] = []
    cohorts: dict[int, Cohort] = {}
    for test in asked.tests:
        key = id(test.maps)
        if key not in cohorts:
            cohorts = {key: Cohort.from_maps(list(test.maps), asked.mask, progress=progress, **_choices(test))}
        results.append(_run(asked, test, cohorts[key], progress))
    union = np.logical_or.reduce([one.geometry.mask for one in results])
    grid = results[0].geometry
    geometry = Geometry(union, grid.affine, grid.codes)
    bricks: list[Brick] = []
    told, files = [], [str(asked.path)]
    for test, result in zip(asked.tests, results, strict=True):
        for brick in _bricks(asked, test, result):
            values = result.geometry.unmask(np.asarray(brick.values, np.float32), 0.0)[union]
            bricks.append(Brick(brick.label, values, brick.statistic, brick.parameters))
        told.append(_told(asked, test, result))
        if asked.n_perm:
            files.append(_write_clusters(asked, test, result))
    save_bricks(geometry, bricks, asked.path)
    lines = [f"{one['test']}: {one['statistic']} from {one['least']:.2f} to {one['most']:.2f}{_p(one)}" for one in told]
    return {"files": files, "labels": [one.label for one in bricks], "tests": told}, "\n".join([*lines, *files])


def _choices(test: Tested) -> dict[str, Any]:
    labels = [f"map-{number}" for number in range(1, len(test.maps) + 1)]  # a map may stand in several tests
    return {"zero_is_missing": False, "subjects": labels} | dict(test.choices)


def _run(asked: Asked, test: Tested, cohort: Cohort, progress: bool) -> PermutationResult:
    options: dict[str, Any] = {"n_perm": asked.n_perm, "seed": asked.seed, "progress": progress, **test.options}
    options["cluster_forming_threshold"] = asked.p if asked.n_perm else None
    weights = test.weights[0] if len(test.weights) == 1 else test.weights
    name = test.statistic or test.effect
    return permutation_test(cohort, test.matrix, {name: weights}, cluster_connectivity=asked.neighbours, **options)[
        name
    ]


def _bricks(asked: Asked, test: Tested, result: PermutationResult) -> list[Brick]:
    """Volumes of a test: its effect, its statistic, and p where there are shufflings."""
    found = []
    maps = result.maps
    if test.effect:
        found.append(Brick(test.effect, maps["effect"]))
    if not test.statistic:
        return found
    name, values, parameters = _statistic(asked, test, result)
    found.append(Brick(test.statistic, values, name.lower(), parameters))
    if asked.n_perm:
        found.append(Brick(f"{test.statistic}_logpVoxel", maps["logp_fwe_voxel"]))
        found.append(Brick(f"{test.statistic}_logpCluster", maps["logp_fwe_size"]))
    return found


def _statistic(asked: Asked, test: Tested, result: PermutationResult) -> tuple[str, Doubles, tuple[float, ...]]:
    """Name, map and degrees of freedom of what is written: F of one row is the square of the t that was tested."""
    maps, dof = result.maps, float(len(test.matrix) - test.matrix.shape[1])
    if test.is_f:
        values = np.asarray(maps[result.statistic], np.float64)
        return "F", values if result.statistic == "f" else values**2, (float(len(test.weights)), dof)
    if asked.as_z or result.statistic != "t" or not test.statistic:
        return "z", np.asarray(maps["z"], np.float64), ()
    return "t", np.asarray(maps["t"], np.float64), (dof,)


def _write_clusters(asked: Asked, test: Tested, result: PermutationResult) -> str:
    stem = str(asked.path).removesuffix(".gz").removesuffix(".nii")
    label = "".join(letter if letter.isalnum() or letter in "-_#" else "_" for letter in test.statistic or test.effect)
    text = StringIO()
    result.clusters.to_csv(text, sep="\t", index=False)
    path = Path(f"{stem}.{label}_clusters.tsv")
    write_file(path, text.getvalue().encode(), "table")
    return str(path)


def _told(asked: Asked, test: Tested, result: PermutationResult) -> dict[str, Any]:
    """What was found, of the statistic that is written."""
    name, values, _ = _statistic(asked, test, result)
    least = {
        kind: float(result.maps[f"p_fwe_{kind}"].min()) for kind in ("voxel", "size") if f"p_fwe_{kind}" in result.maps
    }
    return {
        "test": test.statistic or test.effect,
        "statistic": name,
        "least": float(values.min()),
        "most": float(values.max()),
        "n_shufflings": result.provenance["n_shufflings"],
        "shuffling": result.provenance["shuffling"],
        "least_corrected_p": least,
    }


def _p(one: dict[str, Any]) -> str:
    least = ", ".join(f"{kind} {p:.4f}" for kind, p in one["least_corrected_p"].items())
    return f"; least corrected p of {one['n_shufflings']:,} shufflings: {least}" if least else ""

"""What is asked of `numbaglm randomise`: flags checked against each other, and the tests that FSL's files make."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.data.text_matrix import TextMatrix
from numbaglm.errors import ContrastError, InputError
from numbaglm.stats.model.estimable import full_rank, independent_rows

log = logging.getLogger("numbaglm")

METHODS = ("kennedy", "freedman-lane", "manly", "ter-braak")
"""What -U 0 to 3 do about nuisance."""


@dataclass(frozen=True)
class Request:
    """The flags of a call, checked against each other; see `numbaglm.faces.fsl.command` for what each means.

    Attributes
    ----------
    own
        Columns of the design, counted from 1, that differ between voxels, and the image of each.
    skip_to
        Number of the only test, F tests counted first; 0 for all.
    method
        What is done about nuisance, by the names of `numbaglm.stats.methods`.
    """

    maps: str
    root: str
    mask: str | None
    design: str | None
    contrasts: str | None
    f_tests: str | None
    groups: str | None
    permute_blocks: bool
    own: tuple[tuple[int, str], ...]
    one_sample: bool
    demean: bool
    sigma: float | None
    voxel: bool
    extent: float | None
    mass: float | None
    f_extent: float | None
    f_mass: float | None
    tfce: bool
    tfce_options: dict[str, float]
    f_only: bool
    n_shufflings: int
    seed: int
    raw: bool
    nulls: bool
    uncorrected: bool
    skip_to: int
    method: str
    count_only: bool
    vectors: bool
    glm: bool

    @classmethod
    def parse(cls, options: dict[str, Any]) -> Request:
        """Check what was typed.

        Raises
        ------
        InputError
            Flags that exclude or need each other.
        """
        exponents = {"tfce_H": options["tfce_h"], "tfce_E": options["tfce_e"], "tfce_connectivity": options["tfce_c"]}
        given = {name: float(value) for name, value in exponents.items() if value is not None}
        if "tfce_connectivity" in given:
            given["tfce_connectivity"] = int(given["tfce_connectivity"])
        enhanced = options["tfce"] or options["tfce_2d"]
        _check(options, enhanced, bool(given))
        defaults = {"tfce_H": 2.0, "tfce_E": 1.0, "tfce_connectivity": 26} if options["tfce_2d"] else {}
        made = {
            "own": _own(options),
            "tfce": enhanced,
            "tfce_options": {**defaults, **given},
            "method": METHODS[int(options["confound_mode"])],
        }
        return cls(**{one.name: options[one.name] for one in fields(cls) if one.name not in made}, **made)

    def thresholds(self, is_f: bool) -> dict[str, float]:
        """Cluster-forming threshold of each kind of cluster inference that is asked for."""
        extent, mass = (self.f_extent, self.f_mass) if is_f else (self.extent, self.mass)
        return {name: value for name, value in (("clustere", extent), ("clusterm", mass)) if value is not None}

    def kinds(self, is_f: bool) -> list[str]:
        """Inference that is asked for, by FSL's names."""
        return [*["vox"] * self.voxel, *["tfce"] * self.tfce, *self.thresholds(is_f)]


def _own(options: dict[str, Any]) -> tuple[tuple[int, str], ...]:
    """Columns of --vxl with the images of --vxf."""
    columns, files = (
        [one.strip() for one in (options[name] or "").split(",")] for name in ("own_columns", "own_files")
    )
    if columns == files == [""]:
        return ()
    numbers = [int(one) for one in columns if one.isdecimal() and int(one) > 0]
    if len(set(numbers)) < len(columns) or len(files) != len(columns) or not all(files):
        raise InputError(
            f"--vxl {options['own_columns']} and --vxf {options['own_files']} don't go together. Allowed: columns of "
            "the design, counted from 1, each once, and as many images in their order, with commas between: --vxl 3,4 "
            "--vxf gm.nii.gz,lesions.nii.gz."
        )
    return tuple(zip(numbers, files, strict=True))


def _check(options: dict[str, Any], enhanced: bool, tfce_options: bool) -> None:
    has_f, f_only = options["f_tests"] is not None, options["f_only"]
    own_design = [
        f"-{flag}" for flag, name in zip("dtf", ("design", "contrasts", "f_tests"), strict=True) if options[name]
    ]
    refusals = (
        (options["one_sample"] and own_design, f"-1 makes its own design: leave {' and '.join(own_design)} out, or -1"),
        (
            options["one_sample"] and options["own_columns"],
            "--vxl names columns of -d: give it with -t, or leave -1 out",
        ),
        (options["own_columns"] and options["sigma"], "-v smooths no variances beside --vxl: leave one of them out"),
        (options["one_sample"] and options["demean"], "-D removes the mean, which -1 tests: leave one of them out"),
        (
            not options["one_sample"] and not (options["design"] and options["contrasts"]),
            "a design and its contrasts are needed: -d design.mat -t design.con, or -1 for the mean of all maps",
        ),
        (f_only and not has_f, "--fonly needs F tests: add -f design.fts"),
        ((options["f_extent"] or options["f_mass"]) and not has_f, "-F and -S need F tests: add -f design.fts"),
        (f_only and (options["extent"] or options["mass"]), "-c and -C are for t: with --fonly take -F and -S"),
        (f_only and options["sigma"], "-v smooths variances of t: leave it out with --fonly"),
        (options["permute_blocks"] and not options["groups"], "--permuteBlocks needs blocks: add -e design.grp"),
        (options["tfce"] and options["tfce_2d"], "-T and --T2 exclude each other: leave one out"),
        (tfce_options and not enhanced, "--tfce_H, --tfce_E and --tfce_C need -T or --T2"),
    )
    for refused, why in refusals:
        if refused:
            raise InputError(f"{why[0].upper() if why[0] != '-' else '-'}{why[1:]}.")


@dataclass(frozen=True, eq=False)
class Tested:
    """One test: a t contrast or an F test.

    Attributes
    ----------
    label
        "tstat1", "fstat1" and so on.
    name
        For people.
    matrix
        (n_subjects, n_regressors) design of full rank.
    weights
        (n_rows, n_regressors) independent rows; those of the regressors that differ between voxels are last.
    regressors
        These by name, as `numbaglm.permutation_test` takes them; None for none.
    """

    label: str
    name: str
    matrix: Doubles
    weights: Doubles
    regressors: dict[str, str] | None = None

    @property
    def is_f(self) -> bool:
        """Whether it is an F test."""
        return self.label.startswith("f")

    @property
    def squared(self) -> bool:
        """Whether it is an F test of one contrast: two-sided t, of which F is the square."""
        return self.is_f and len(self.weights) == 1


def make_tests(request: Request, texts: dict[str, TextMatrix], n_subjects: int) -> list[Tested]:
    """Put design and contrasts together: t contrasts first, F tests after them.

    Demeaning data and design is the same as a constant among the nuisance, orthogonal to the demeaned columns: it
    takes one degree of freedom.

    Raises
    ------
    DesignError, ContrastError
        Rows or columns of the files don't match, or a contrast is not estimable.
    """
    if request.one_sample:
        if request.skip_to > 1:
            raise InputError(f"--skipTo {request.skip_to}: -1 is one test. Leave it out.")
        return [Tested("tstat1", "mean", np.ones((n_subjects, 1)), np.ones((1, 1)))]
    design, contrasts = texts["design"], texts["contrasts"]
    M, C = design.values, contrasts.values
    if C.shape[1] != M.shape[1]:
        raise ContrastError(
            f"{contrasts.path} has {C.shape[1]} columns, but {design.path} has {M.shape[1]}. Each contrast needs one "
            "weight for each column of the design."
        )
    names = [contrasts.names.get(k + 1) or f"contrast {k + 1}" for k in range(len(C))]
    wanted = [] if request.f_only else [("tstat", k, [k]) for k in range(len(C))]
    if "f_tests" in texts:
        wanted += [("fstat", k, rows) for k, rows in enumerate(_f_rows(texts["f_tests"], contrasts))]
    if request.skip_to:
        wanted = _only(request.skip_to, wanted)
    numbers = [number - 1 for number, _ in request.own]
    if numbers and max(numbers) >= M.shape[1]:
        raise InputError(f"--vxl {max(numbers) + 1}: {design.path} has {M.shape[1]} columns, counted from 1.")
    M, C = np.delete(M, numbers, axis=1), np.hstack([np.delete(C, numbers, axis=1), C[:, numbers]])
    n_shared, regressors = M.shape[1], {own_name(number): own_name(number) for number, _ in request.own}
    if request.demean:
        log.info("-D: the mean is removed from data and design, which takes one degree of freedom.")
        centred = M - M.mean(axis=0)
        M = np.where(np.abs(centred).max(axis=0) > 1e-10 * np.abs(M).max(axis=0), centred, 0.0)
    tests = []
    for kind, k, rows in wanted:
        name = " & ".join(names[row] for row in rows)
        rows_of_C = independent_rows(C[rows], f"{kind}{k + 1} ({name})")
        matrix, weights = full_rank(M, rows_of_C[:, :n_shared], f"{kind}{k + 1} ({name})")
        if request.demean:
            matrix = np.column_stack([matrix, np.ones(len(matrix))])
            weights = np.column_stack([weights, np.zeros(len(weights))])
        weights = np.hstack([weights, rows_of_C[:, n_shared:]])
        tests.append(Tested(f"{kind}{k + 1}", name, matrix, weights, regressors or None))
    return tests


def own_name(column: int) -> str:
    """Name of a regressor that differs between voxels, by its column in the design, counted from 1."""
    return f"ev{column}"


def _only(number: int, wanted: list[tuple[str, int, list[int]]]) -> list[tuple[str, int, list[int]]]:
    """One of the tests; randomise counts F tests first."""
    counted = sorted(wanted, key=lambda one: one[0] == "tstat")
    if number > len(counted):
        raise InputError(
            f"--skipTo {number}: there are {len(counted)} tests, F tests counted first. Allowed: 0 for all."
        )
    return [counted[number - 1]]


def _f_rows(text: TextMatrix, contrasts: TextMatrix) -> list[list[int]]:
    """Contrasts that each F test joins."""
    chosen = text.values
    if chosen.shape[1] != len(contrasts.values):
        raise ContrastError(
            f"{text.path} has {chosen.shape[1]} columns, but {contrasts.path} has {len(contrasts.values)} contrasts. "
            "Each F test needs a 0 or a 1 for each contrast."
        )
    if not np.isin(chosen, (0, 1)).all() or not chosen.any(axis=1).all():
        raise ContrastError(f"{text.path}: each F test needs a 0 or a 1 for each contrast, and one 1 at least.")
    return [np.flatnonzero(row).tolist() for row in chosen]

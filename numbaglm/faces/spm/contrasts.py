"""Contrasts of a SPM.mat as tests: over independent columns, with what may be exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import ContrastError, InputError, ShufflingError, near
from numbaglm.faces.spm.design import SpmContrast, Study
from numbaglm.stats.model.design import Contrast, Design, independent_columns, orthonormal, partition
from numbaglm.stats.model.estimable import GroupDesign, rows_of_rank

_NOTHING = 1e-8  # of a regressor of unit length


@dataclass(frozen=True, eq=False)
class Tested:
    """One contrast, as `numbaglm.permutation_test` takes it.

    Attributes
    ----------
    label
        As its files are called: "0001".
    frame
        (n_scans, n_columns) independent columns of the design.
    weights
        (n_rows, n_columns) independent rows.
    is_f
        Whether it is an F contrast.
    blocks, scheme
        Which scans are of one person, and how they are shuffled; None and "within" where each is of another.
    why
        The same in words; "" where each is of another.
    """

    label: str
    name: str
    frame: pd.DataFrame
    weights: Doubles
    is_f: bool
    blocks: NDArray[np.int64] | None = None
    scheme: str = "within"
    why: str = ""

    @property
    def squared(self) -> bool:
        """Whether it is F of one row, the square of two-sided t."""
        return self.is_f and len(self.weights) == 1

    @property
    def contrast(self) -> Any:
        """A vector for t, a matrix for F."""
        return self.weights if self.is_f and not self.squared else np.asarray(self.weights[0])


def make_tests(study: Study, wanted: tuple[str, ...], scheme: str | None) -> list[Tested]:
    """Make tests of the contrasts that are wanted.

    Parameters
    ----------
    wanted
        Numbers or names of contrasts; none for all.
    scheme
        "within", "whole" or "both" for how scans of a person are shuffled; None for what each contrast calls for.

    Raises
    ------
    ContrastError, InputError, ShufflingError
        There is no such contrast, it is not estimable, or the design leaves nothing to tell it by.
    """
    kept = tuple(independent_columns(study.matrix))
    whole = GroupDesign(_distinct(study.columns), study.matrix, kept)
    blocks, source = study.blocks()
    if scheme is not None and blocks is None:
        raise InputError(f"--block-scheme: {study.path} names no scans that are of one person. Leave it out.")
    tests = []
    for one in pick(study, wanted):
        design = whole.design
        rows = rows_of_rank(one.weights)  # SPM's F contrasts often have more
        weights = whole.contrast(rows if len(rows) > 1 else rows[0]).matrix
        tested = Tested(f"{one.number:04d}", one.name, design.to_frame(), weights, one.kind == "F")
        if blocks is not None:
            tested = _with_blocks(tested, design, blocks, source, scheme)
        tests.append(tested)
    return tests


def pick(study: Study, wanted: tuple[str, ...]) -> list[SpmContrast]:
    """Contrasts by number or name, in their order; all where none are named.

    Raises
    ------
    ContrastError
    """
    there = study.contrasts
    if not there:
        raise ContrastError(
            f"{study.path} has no contrasts of t or F (SPM.xCon). Define them in SPM's contrast manager (Results) and "
            "save; or give design and contrast yourself: numbaglm permute --design."
        )
    listed = "; ".join(f"{one.number} ({one.kind}): {one.name}" for one in there)
    found = []
    for text in wanted:
        match = [one for one in there if text == str(one.number)] or [one for one in there if text == one.name]
        if len(match) != 1:
            what, hint = "several contrasts" if match else "no contrast", near(text, (one.name for one in there))
            raise ContrastError(f"--contrast {text}: {what} of {study.path}. Allowed: {listed}. {hint}".rstrip())
        found += match
    return sorted({one.number: one for one in found or there}.values(), key=lambda one: one.number)


def _with_blocks(tested: Tested, design: Design, blocks: NDArray[np.int64], source: str, scheme: str | None) -> Tested:
    """Decide what of scans of the same people is exchanged for this contrast."""
    X, Z = partition(design, Contrast(tested.name, tested.weights))
    X = orthonormal(X)
    means = np.stack([X[blocks == one].mean(axis=0) for one in np.unique(blocks)])
    n_blocks = len(means)
    between = means[np.searchsorted(np.unique(blocks), blocks)]
    is_within, is_between = np.linalg.norm(between) < _NOTHING, np.linalg.norm(X - between) < _NOTHING
    if not is_within:
        indicators = (blocks[:, None] == np.unique(blocks)) / np.sqrt(np.bincount(blocks)[np.unique(blocks)])
        left = n_blocks - np.linalg.matrix_rank(indicators.T @ np.hstack([X, Z]), tol=1e-6)
        if left < 1:
            raise ShufflingError(
                f"Contrast {int(tested.label)} ({tested.name}) compares people, and the design has a column for each: "
                "no error between people is left to hold it against, only that within them, by which it would nearly "
                "always seem significant (in SPM as well). Average the images of each person, and compare the averages "
                "in a design of their own."
            )
    chosen = scheme or ("within" if is_within else "whole")
    n, most = len(blocks), np.bincount(blocks).max()
    what = "within people" if is_within else "people" if is_between else "both people and scans of theirs"
    how = {
        "within": "scans change places within each",
        "whole": "people change places, or sign, as wholes",
        "both": "people change places as wholes, and scans within each",
    }[chosen]
    why = f"{n} images of {n_blocks} people, up to {most} each, by the {source}: the contrast compares {what}; {how}."
    frame, weights = tested.frame, tested.weights
    return Tested(tested.label, tested.name, frame, weights, tested.is_f, blocks, chosen, why)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name if names.count(name) == 1 else f"{name} (column {k})" for k, name in enumerate(names, 1))

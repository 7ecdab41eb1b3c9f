"""Designs and contrasts of PALM's files, brought into the form that tests take."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import ContrastError, InputError
from numbaglm.faces.palm.files import read_numbers, read_sets
from numbaglm.faces.palm.request import Own, Request
from numbaglm.stats.effects import swing
from numbaglm.stats.model.estimable import full_rank, independent_rows

log = logging.getLogger("numbaglm")


@dataclass(frozen=True, eq=False)
class Tested:
    """A test of a design.

    Attributes
    ----------
    number
        By which files call it.
    weights
        (n_rows, n_regressors) independent rows; those of the regressors that differ between voxels are last.
    of_variables
        (n_rows, n_inputs) independent rows, of what of the inputs is tested together; None for these themselves.
    """

    number: int
    weights: Doubles
    of_variables: Doubles | None = None

    @property
    def is_f(self) -> bool:
        """Whether it has several rows: one alone is a t contrast, whatever file it comes from."""
        return len(self.weights) > 1

    @property
    def name(self) -> str:
        """For people and messages."""
        return f"c{self.number}"


@dataclass(frozen=True)
class Swings:
    """What Cohen's d and variances of a t contrast are made with.

    Attributes
    ----------
    ours, palm
        How far the tested regressor goes, as we take it and as PALM does, who mixes covariates in.
    unit
        Variance of the contrast where that of the residuals is 1.
    """

    ours: float
    palm: float
    unit: float


@dataclass(frozen=True, eq=False)
class Model:
    """A design, and its tests.

    Attributes
    ----------
    number
        Of the design, from 1.
    matrix
        (n_subjects, n_columns) of full rank, without the columns that differ between voxels.
    own
        Regressors that differ between voxels, in the order of the weights.
    """

    number: int
    matrix: Doubles
    own: tuple[Own, ...]
    tests: tuple[Tested, ...]

    @property
    def contrasts(self) -> dict[str, Doubles]:
        """As `numbaglm.permutation_test` takes them: a vector for t, a matrix for F."""
        return {one.name: one.weights if one.is_f else one.weights[0] for one in self.tests}

    def glm(self, number: int) -> Swings | None:
        """What maps of the model are made with, of the t contrast of a number; None where voxels have regressors."""
        if self.own:
            return None
        M = self.matrix
        c = next(one.weights[0] for one in self.tests if one.number == number)
        Q = np.linalg.pinv(M) @ np.linalg.pinv(M).T
        unit = float(c @ Q @ c)
        return Swings(swing(M, c), float(np.ptp(np.append(M @ Q @ c / unit, 0.0))), unit)

    @property
    def mixes_ranks(self) -> bool:
        """Whether contrasts have different numbers of rows."""
        return len({len(one.weights) for one in self.tests}) > 1

    @property
    def dof(self) -> int:
        """Residual degrees of freedom."""
        return int(self.matrix.shape[0]) - int(self.matrix.shape[1]) - len(self.own)


def read_models(request: Request, n_subjects: int, kept: NDArray[np.bool_] | None = None) -> list[Model]:
    """Read designs and contrasts, of those of ``n_subjects`` that are kept.

    Raises
    ------
    MissingFileError, InputError, DesignError, ContrastError
    """
    designs = [(path, read_numbers(path)) for path in request.designs]
    if not designs:  # of one column, which is the mean or each voxel's own
        designs = [("the design of -evperdat", np.ones((n_subjects, 1)))]
    models = []
    for number, (path, M) in enumerate(designs, 1):
        if len(M) != n_subjects:
            raise InputError(f"{path} has {len(M)} rows, but there are {n_subjects} maps. It needs one row for each.")
        own = tuple(one for one in request.own if one.design == number)
        columns = [one.column for one in own]
        if len(set(columns)) < len(columns) or max(columns, default=0) > M.shape[1]:
            raise InputError(f"-evperdat: {path} has {M.shape[1]} columns, counted from 1, each for one regressor.")
        models.append(_model(request, number, M if kept is None else M[kept], own))
    lost = [one for one in request.own if one.design > len(designs)]
    if lost:
        raise InputError(f"-evperdat {lost[0].file}: there is no design {lost[0].design}.")
    return models


def _model(request: Request, number: int, M: Doubles, own: tuple[Own, ...]) -> Model:
    columns = [one.column - 1 for one in own]
    tests = []
    shared = np.delete(M, columns, axis=1)
    if request.removes_mean:
        centred = shared - shared.mean(axis=0)
        shared = np.where(
            np.abs(centred).max(axis=0, initial=0) > 1e-10 * np.abs(shared).max(axis=0, initial=0), centred, 0.0
        )
    matrix = shared
    contrasts = _contrasts(request, number, M.shape[1])
    variables = _of_variables(request, [place for place, _ in contrasts])
    for place, C in contrasts:
        name = f"contrast {place}"
        rows = independent_rows(C, name)
        if request.guttman and int(rows.any(axis=0).sum()) > len(rows):
            raise InputError(
                f"-pmethodr Guttman takes other residuals for {name}, of {len(rows)} row(s) over more columns. Leave "
                "it out: the partition is Ridgway's."
            )
        matrix, weights = full_rank(shared, np.delete(rows, columns, axis=1), name)
        if request.removes_mean or (request.lacks and not _has_constant(matrix)):
            matrix = np.column_stack([matrix, np.ones(len(matrix))])
            weights = np.column_stack([weights, np.zeros(len(weights))])
        whole = np.hstack([weights, rows[:, columns]])
        tests.append(Tested(place + request.first_number - 1, whole, variables.get(place)))
    return Model(number, matrix, own, tuple(tests))


def _has_constant(M: Doubles) -> bool:
    """Whether the mean is in a model; where subjects are missing PALM puts it there."""
    one = np.ones(len(M))
    return bool(np.allclose(M @ np.linalg.lstsq(M, one, rcond=None)[0], one, atol=1e-8))


def _contrasts(request: Request, design: int, n_columns: int) -> list[tuple[int, Doubles]]:
    """Number and rows of each contrast of a design."""
    if request.matrices is not None:
        every = read_sets(request.matrices)
        path = request.matrices
        _check_width(path, every[0] if every else np.empty((0, n_columns)), n_columns)
        for C in every:
            _check_width(path, C, n_columns)
        chosen = [C for C in every if not (len(C) > 1 and request.t_only) and not (len(C) == 1 and request.f_only)]
        return list(enumerate(chosen, 1))
    if not request.contrasts:  # a column is tested in both directions, several together
        one = np.eye(n_columns)
        every = [one, -one] if n_columns == 1 else [one]
        if request.f_only if n_columns == 1 else request.t_only:
            raise ContrastError(
                f"Without -t a design of {n_columns} columns is tested by {'t' if n_columns == 1 else 'F'}, so that "
                "there is no contrast left. Give contrasts by -t contrasts.csv."
            )
        return list(enumerate(every, 1))
    which = min(design, len(request.contrasts)) - 1
    path = request.contrasts[which]
    T = read_numbers(path)
    _check_width(path, T, n_columns)
    every = [] if request.f_only else [T[k : k + 1] for k in range(len(T))]
    if which < len(request.f_tests) and not request.t_only:
        every += [T[rows] for rows in _joined(request.f_tests[which], path, len(T))]
    return list(enumerate(every, 1))


def _of_variables(request: Request, places: Sequence[int]) -> dict[int, Doubles]:
    """Contrasts of the inputs by number of the test: one for each, or one for all; none where none are given."""
    if request.of_variables is None:
        return {}
    path, n = request.of_variables, len(request.maps)
    every = read_sets(path)
    if len(every) not in (1, len(places)):
        raise ContrastError(
            f"{path} has {len(every)} matrices. It needs one for each of the {len(places)} contrasts, or one for all."
        )
    for D in every:
        if D.shape[1] != n:
            raise ContrastError(f"{path} has {D.shape[1]} columns. It needs one for each of the {n} inputs.")
    rows = [independent_rows(D, f"a contrast of {path}") for D in every]
    return dict(zip(places, rows * (len(places) if len(every) == 1 else 1), strict=True))


def _check_width(path: str, C: Doubles, n_columns: int) -> None:
    if C.shape[1] != n_columns:
        raise ContrastError(
            f"{path} has {C.shape[1]} columns, but the design has {n_columns}. Each contrast needs one weight for each "
            "column of the design."
        )


def _joined(path: str, of: str, n_contrasts: int) -> Sequence[list[int]]:
    """Contrasts that each F test joins."""
    chosen = read_numbers(path)
    if chosen.shape[1] != n_contrasts or not np.isin(chosen, (0, 1)).all() or not chosen.any(axis=1).all():
        raise ContrastError(
            f"{path}: each F test needs a 0 or a 1 for each of the {n_contrasts} contrasts of {of}, and one 1 at least."
        )
    return [np.flatnonzero(row).tolist() for row in chosen]

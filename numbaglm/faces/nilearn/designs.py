"""Designs and contrasts as nilearn's users write them: dependent columns, saturated models, short contrasts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.errors import ContrastError, DesignError, InputError, InputTypeError, warn
from numbaglm.inference.arguments import read_design
from numbaglm.stats.design import Contrast, Design

_NOTHING_NEW = 1e-10  # of a column's length: what is left of it by rounding where others span it


def make_second_level_design_matrix(
    subjects_label: Sequence[str], confounds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Design matrix of confounds and an intercept.

    Parameters
    ----------
    subjects_label
        (n_subjects,) labels; the rows follow them.
    confounds
        DataFrame with a column ``subject_label``; the others are taken.

    Returns
    -------
    DataFrame (n_subjects, n_confounds + 1) of float64, "intercept" last. A warning tells if columns depend on each
    other.

    Raises
    ------
    DesignError
        Labels are missing from the confounds or stand there twice, or values are NaN or infinite.
    InputTypeError
        The confounds are no DataFrame.

    Examples
    --------
    >>> import pandas as pd, numbaglm as ng
    >>> confounds = pd.DataFrame({"subject_label": ["01", "02"], "age": [31, 54]})
    >>> ng.make_second_level_design_matrix(["02", "01"], confounds).to_dict("list")
    {'age': [54.0, 31.0], 'intercept': [1.0, 1.0]}
    """
    labels = [str(label) for label in subjects_label]
    if confounds is None:
        return pd.DataFrame({"intercept": np.ones(len(labels))})
    check_confounds(confounds, least=1)
    table = confounds.assign(subject_label=confounds["subject_label"].astype(str)).set_index("subject_label")
    missing = [label for label in labels if label not in table.index]
    twice = sorted(set(table.index[table.index.duplicated()]))
    if missing or twice:
        what = f"has no rows for {missing}" if missing else f"has more than one row for {twice}"
        raise DesignError(f"The table of confounds {what}. It needs one row for each subject.")
    if "intercept" in table:
        raise DesignError("The confounds have a column 'intercept', which is added here. Leave it out.")
    design = table.loc[labels].assign(intercept=1.0).reset_index(drop=True)
    bad = [str(c) for c in design.columns if design[c].isin([np.nan, np.inf, -np.inf]).any()]
    if bad:
        raise DesignError(
            f"Confounds contain NaN values, or infinite ones, in {bad}. Fill them in, or leave those subjects out."
        )
    words = [str(c) for c in design.columns if not pd.api.types.is_numeric_dtype(design[c].dtype)]
    if words:
        raise DesignError(f"Confounds {words} are not numeric. Code categories as numbers.")
    design = design.astype(np.float64)
    if len(_independent(design.to_numpy())) < design.shape[1]:
        warn(_DEPENDENT.format(list(design.columns)))
    return design


_DEPENDENT = (
    "The design matrix is rank deficient: some of its columns {} can be written by others. Contrasts that don't hinge "
    "on how are tested all the same; others are refused."
)


def check_confounds(confounds: Any, least: int = 2) -> None:
    """Refuse what is no table of confounds, or has fewer columns; None is none."""
    if confounds is None:
        return
    needed = "a column 'subject_label' and at least one more"
    if not isinstance(confounds, pd.DataFrame):
        raise InputTypeError(f"confounds must be a pandas DataFrame with {needed}: got {type(confounds).__name__}.")
    if "subject_label" not in confounds or confounds.shape[1] < least:
        raise DesignError(
            f"confounds DataFrame must contain column 'subject_label', and confounds should contain at least 2 columns "
            f"({needed}): got {list(confounds.columns)}."
        )


def design_table(given: Any) -> pd.DataFrame:
    """Read a design matrix: a DataFrame, the path of a .tsv or .csv file, or numbers (n_subjects, n_regressors)."""
    if isinstance(given, str | os.PathLike):
        if Path(given).suffix not in (".csv", ".tsv"):
            raise InputError(
                f"'design_matrix' names {str(given)!r}. Tables to load can only be TSV or CSV. "
                "Give such a file's path, with a line of column names, or a DataFrame."
            )
        given = read_design(given)
    if isinstance(given, pd.DataFrame):
        return given
    values = np.asarray(given)
    if isinstance(given, str | bytes) or values.ndim == 0 or values.dtype.kind not in "biuf":
        raise InputTypeError(
            "'design_matrix' must be a DataFrame, the path of a .csv or .tsv file, or an array of numbers "
            f"(n_subjects, n_regressors): got {type(given).__name__}."
        )
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise DesignError(f"'design_matrix' has shape {values.shape}. Allowed: (n_subjects, n_regressors).")
    return pd.DataFrame(values, columns=pd.Index([f"x{k}" for k in range(values.shape[1])]))


@dataclass(frozen=True, eq=False)
class GroupDesign:
    """A design matrix that may hold more columns than it has rank, as the full-rank design that says the same.

    Attributes
    ----------
    columns
        A name for each column that was given; unique.
    matrix
        (n_subjects, n_columns) what was given.
    kept
        Numbers of independent columns, the first that can be had.
    """

    columns: tuple[str, ...]
    matrix: NDArray[np.float64]
    kept: tuple[int, ...]

    @classmethod
    def parse(cls, frame: pd.DataFrame, n_subjects: int) -> GroupDesign:
        """Check a design matrix; dependent columns bring a warning.

        Raises
        ------
        DesignError
            It has another number of rows, or columns that aren't numeric, or NaN.
        """
        if len(frame) != n_subjects:
            raise DesignError(
                f"'design_matrix' does not match the number of maps: it has {len(frame)} rows, but there are "
                f"{n_subjects} maps. It needs one row for each map, in their order."
            )
        columns = tuple(_unique([str(column) for column in frame.columns]))
        named = frame.set_axis(list(columns), axis=1)
        numeric = all(pd.api.types.is_numeric_dtype(kind) for kind in named.dtypes)
        matrix = named.to_numpy(dtype=np.float64, na_value=np.nan) if numeric else np.full((n_subjects, 1), np.nan)
        if not np.isfinite(matrix).all() or not columns:
            Design.parse(named, n_subjects)  # it knows what is wrong
        kept = tuple(_independent(matrix))
        if len(kept) < len(columns):
            warn(_DEPENDENT.format(list(columns)))
        return cls(columns, matrix, kept)

    @property
    def dof(self) -> int:
        """Residual degrees of freedom; 0 where the model explains anything."""
        return len(self.matrix) - len(self.kept)

    @property
    def design(self) -> Design:
        """The same model in independent columns.

        Raises
        ------
        DesignError
            No degrees of freedom are left.
        """
        frame = pd.DataFrame(self.matrix[:, list(self.kept)], columns=pd.Index([self.columns[k] for k in self.kept]))
        return Design.parse(frame, len(frame))

    def contrast(self, given: Any, *, short: bool = False) -> Contrast:
        """Read a contrast over the columns that were given, as one over the independent columns.

        Parameters
        ----------
        given
            Column name, expression, vector (t), matrix or list of expressions (F); None where there is one column.
        short
            Whether a contrast with fewer weights than columns is filled up with zeros, with a warning.

        Raises
        ------
        ContrastError
            It can't be read, has no weight, or is not estimable.
        """
        n = len(self.columns)
        if given is None and n > 1:
            raise ContrastError(
                f"No second-level contrast is specified. The design has {n} columns {list(self.columns)}: name one, "
                "or write an expression over them."
            )
        if given is not None and not isinstance(given, str):
            given = self._weights(given, short)
        whole = Contrast.parse(given, Design(self.matrix, self.columns))
        if len(self.kept) == n:
            return whole
        # M = M_kept A, so that C b = (C A^+) (A b) where C lies in the rows of A: elsewhere b says nothing of it.
        scale = np.linalg.norm(self.matrix, axis=0)
        scale[scale == 0] = 1.0
        M, C = self.matrix / scale, whole.matrix / scale
        A = np.linalg.pinv(M[:, list(self.kept)]) @ M
        weights = C @ np.linalg.pinv(A)
        if not np.allclose(weights @ A, C, rtol=0, atol=1e-8 * np.abs(C).max()):
            raise ContrastError(
                f"The contrast {whole.name} is not estimable: the columns {list(self.columns)} depend on each other, "
                "and its value hinges on how. Test a difference that the data can tell, or leave columns out."
            )
        weights[np.abs(weights) < 1e-10 * np.abs(weights).max()] = 0.0  # rounding weighs no column
        return Contrast(whole.name, np.ascontiguousarray(weights * scale[list(self.kept)]))

    def _weights(self, given: Any, short: bool) -> Any:
        """Check the weights of a contrast and fill them up; expressions are left as they are."""
        n = len(self.columns)
        rows = list(given) if np.iterable(given) else [given]
        if rows and all(isinstance(row, str) for row in rows):
            return given
        try:
            weights = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            return given  # refused, with its reason, by who parses it
        if weights.size == 0 or not weights.any():
            raise ContrastError(
                f"Contrast is null: {given!r}. Second_level_contrast must be a valid column name, an expression over "
                f"{list(self.columns)}, or {n} weights that are not all 0."
            )
        length = weights.shape[-1] if weights.ndim else 1
        if weights.ndim > 1 and length > n:
            raise ContrastError(f"F contrasts should have {n} columns, but it has {length}: {list(self.columns)}.")
        if length > n:
            raise ContrastError(
                f"t contrasts should be of length P={n}, but it has length {length}. The columns are "
                f"{list(self.columns)}."
            )
        if short and weights.ndim and length < n:
            warn(f"The contrast has {length} weights for {n} columns: the others get 0.")
            weights = np.concatenate([weights, np.zeros((*weights.shape[:-1], n - length))], axis=-1)
        return weights


def _unique(names: list[str]) -> list[str]:
    """Tell columns of one name apart by their number."""
    return [name if names.count(name) == 1 else f"{name}#{number}" for number, name in enumerate(names)]


def _independent(matrix: NDArray[np.float64]) -> list[int]:
    """Numbers of the columns that add something to those before them."""
    n, p = matrix.shape
    basis = np.empty((n, 0))
    kept: list[int] = []
    for k in range(p):
        length = np.linalg.norm(matrix[:, k])
        column = matrix[:, k] / length if length > 0 else matrix[:, k]
        for _ in range(2):  # what rounding left after the first time
            column = column - basis @ (basis.T @ column)
        left = np.linalg.norm(column)
        if left > _NOTHING_NEW:
            basis = np.column_stack([basis, column / left])
            kept.append(k)
    return kept

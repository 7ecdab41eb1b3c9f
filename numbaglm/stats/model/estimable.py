"""Designs whose columns depend on each other, and the contrasts that can be told in spite of it."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.errors import ContrastError, DesignError, warn
from numbaglm.stats.model.contrasts import listed
from numbaglm.stats.model.design import Contrast, Design, check_sizes, independent_columns

log = logging.getLogger("numbaglm")

_LOST = 1e-8  # of a contrast's length: what rounding takes of it on the way to another basis

DEPENDENT = (
    "The design matrix is rank deficient: some of its columns {} can be written by others. Contrasts that don't hinge "
    "on how are tested all the same; others are refused."
)


def over_basis(
    C: NDArray[np.float64], A: NDArray[np.float64], inverse: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Write rows of a contrast over the columns of M as rows over a basis B of its span, M = B A.

    C b = (C A^+) (A b) where C lies in the rows of A; elsewhere the data say nothing of it.

    Parameters
    ----------
    C
        (n_rows, n_columns) over columns of M, which are best of unit length.
    A
        (rank, n_columns).
    inverse
        (n_columns, rank) A^+.

    Returns
    -------
    (n_rows, rank) weights; None where a row is not estimable.
    """
    weights = C @ inverse
    lost = np.linalg.norm(C - weights @ A, axis=1)
    return None if (lost > _LOST * np.linalg.norm(C, axis=1)).any() else weights


def independent_rows(C: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Rows of a contrast in as many as their rank.

    Raises
    ------
    ContrastError
        A row has no weight.
    """
    if not C.any(axis=1).all():
        raise ContrastError(f"{name}: all weights of a contrast are 0, so that it tests nothing.")
    return rows_of_rank(C)


def rows_of_rank(C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Write rows that depend on each other, or are 0, in as many as their rank."""
    rank = int(np.linalg.matrix_rank(C))
    return C if rank == len(C) else np.asarray(np.linalg.svd(C)[2][:rank])


def full_rank(
    M: NDArray[np.float64], C: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Write a design whose columns depend on each other in as many as its rank, and rows of a contrast likewise.

    Fit, statistic and shufflings of an estimable contrast are the same in any basis of the design's span.

    Parameters
    ----------
    M, C
        (n_subjects, n_columns) and (n_rows, n_columns).
    name
        What messages call the contrast.

    Raises
    ------
    ContrastError
        The contrast is not estimable.
    """
    lengths = np.linalg.norm(M, axis=0)
    lengths[lengths == 0] = 1.0
    scaled, weights = M / lengths, C / lengths
    rank = int(np.linalg.matrix_rank(scaled)) if scaled.size else 0
    if rank == M.shape[1]:
        return M, C
    V = np.linalg.svd(scaled)[2][:rank].T
    found = over_basis(weights, V.T, V) if rank else None
    if found is None:
        raise ContrastError(
            f"{name} is not estimable: the design's {M.shape[1]} columns have rank {rank} (a constant is 0 where the "
            "mean was removed), and tell nothing of it. Leave the contrast out, keep the mean, or mend the design."
        )
    log.info("%s: the design has %d columns of rank %d, and the contrast is estimable.", name, M.shape[1], rank)
    return scaled @ V, found


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
        check_sizes(matrix, columns)
        kept = tuple(independent_columns(matrix))
        if len(kept) < len(columns):
            warn(DEPENDENT.format(listed(columns)))
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
                f"No second-level contrast is specified. The design has {n} columns {listed(self.columns)}: name one, "
                "or write an expression over them."
            )
        if given is not None and not isinstance(given, str):
            given = self._weights(given, short)
        whole = Contrast.parse(given, Design(self.matrix, self.columns))
        if len(self.kept) == n:
            return whole
        scale = np.linalg.norm(self.matrix, axis=0)
        scale[scale == 0] = 1.0
        M, C = self.matrix / scale, whole.matrix / scale
        A = np.linalg.pinv(M[:, list(self.kept)]) @ M
        weights = over_basis(C, A, np.linalg.pinv(A))
        if weights is None:
            raise ContrastError(
                f"The contrast {whole.name} is not estimable: the columns {listed(self.columns)} depend on each other, "
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
                f"{listed(self.columns)}, or {n} weights that are not all 0."
            )
        length = weights.shape[-1] if weights.ndim else 1
        if weights.ndim > 1 and length > n:
            raise ContrastError(f"F contrasts should have {n} columns, but it has {length}: {listed(self.columns)}.")
        if length > n:
            raise ContrastError(
                f"t contrasts should be of length P={n}, but it has length {length}. The columns are "
                f"{listed(self.columns)}."
            )
        if short and weights.ndim and length < n:
            warn(f"The contrast has {length} weights for {n} columns: the others get 0.")
            weights = np.concatenate([weights, np.zeros((*weights.shape[:-1], n - length))], axis=-1)
        return weights


def _unique(names: list[str]) -> list[str]:
    """Tell columns of one name apart by their number."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name}#{number}" for number, name in enumerate(names)]

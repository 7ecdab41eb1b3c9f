"""Design matrices and contrasts: parsed once, checked, partitioned into interest and nuisance."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.errors import ContrastError, DesignError, invalid, near
from numbaglm.stats.model.contrasts import linear_weights, listed

log = logging.getLogger("numbaglm")

_SIZES = 1e-100, 1e100
"""Between these lie numbers whose squares, and products of four, double precision holds."""
LONGEST_NAME = 200
"""Of a contrast, in letters: a line that can be read."""

_NOTHING_NEW = 1e-10  # of a column's length: what is left of it by rounding where others span it

ContrastLike: TypeAlias = "str | Sequence[Any] | NDArray[np.floating] | pd.Series[Any] | pd.DataFrame"


@dataclass(frozen=True, eq=False)
class Regressor:
    """A regressor that is each element's own: a layer of the cohort, perhaps times a column of the design.

    Attributes
    ----------
    name
        As contrasts call it.
    layer
        Name of the layer.
    column, by
        Name of the column that it is multiplied with, and its values (n_subjects,); None for none.
    """

    name: str
    layer: str
    column: str | None = None
    by: NDArray[np.float64] | None = None

    @property
    def source(self) -> str:
        """As it is written: "layer" or "column:layer"."""
        return self.layer if self.column is None else f"{self.column}:{self.layer}"


@dataclass(frozen=True, eq=False)
class Design:
    """A design matrix that has been checked.

    Attributes
    ----------
    matrix
        (n_subjects, n_regressors) float64, of full column rank.
    columns
        A name for each regressor.
    own
        Regressors that each element has for itself, beside the columns, which all share.
    """

    matrix: NDArray[np.float64]
    columns: tuple[str, ...]
    own: tuple[Regressor, ...] = ()

    @classmethod
    def parse(cls, design_matrix: Any, n_subjects: int, regressors: Mapping[str, str] | None = None) -> Design:
        """Check a design matrix.

        Parameters
        ----------
        design_matrix
            DataFrame or array (n_subjects, n_regressors); an array's columns are named x0, x1, ...; None is a
            column of ones named "intercept" (the one-sample test).
        n_subjects
            Rows that it must have.
        regressors
            Regressors that each element has for itself, see `with_own`; with one, columns need not be any.

        Raises
        ------
        DesignError
            It has another number of rows, a column that isn't numeric, NaN, linearly dependent columns, two
            columns of one name, or as many columns as rows (no degrees of freedom).
        """
        if design_matrix is None:
            design_matrix = pd.DataFrame({"intercept": np.ones(n_subjects)})
        frame = _as_frame(design_matrix)
        columns = tuple(str(column) for column in frame.columns)
        if not columns and regressors is not None and len(frame) == n_subjects:
            return cls(np.empty((n_subjects, 0)), ()).with_own(regressors)
        _check_table(frame, columns, n_subjects)
        matrix = np.ascontiguousarray(frame.to_numpy(dtype=np.float64))
        _check_numbers(matrix, columns)
        matrix.flags.writeable = False
        design = cls(matrix, columns)
        return design if regressors is None else design.with_own(regressors)

    def with_own(self, regressors: Mapping[str, str]) -> Design:
        """Add regressors that each element has for itself.

        Parameters
        ----------
        regressors
            A dict from names to layers of the cohort, as text: "layer", or "column:layer" for the product with a column
            of the design.

        Raises
        ------
        DesignError
            A name is taken, a product is of no column, or no degrees of freedom are left.
        """
        twice = sorted(source for source, times in Counter(regressors.values()).items() if times > 1)
        if twice:
            raise DesignError(invalid("regressors", dict(regressors), f"each once, and {listed(twice)} is there twice"))
        own = []
        for name, source in regressors.items():
            if name in self.columns:
                fix = "Give the regressor another name."
                raise DesignError(invalid("regressors", name, "names that no column of the design has", fix))
            column, _, layer = source.rpartition(":")
            if column and column not in self.columns:
                received = f"{source!r}, of which {column!r} is no column of the design"
                allowed = f"products with one of {listed(self.columns)}"
                raise DesignError(invalid("regressors", received, allowed, near(column, self.columns)))
            by = self.matrix[:, self.columns.index(column)] if column else None
            own.append(Regressor(name, layer, column or None, by))
        design = replace(self, own=tuple(own))
        if design.dof < 1:
            raise DesignError(
                f"{self.n_subjects} subjects, {self.rank} columns of the design and {len(own)} regressors of each "
                "element's own leave no degrees of freedom to estimate the variance. Use more subjects or fewer "
                "regressors."
            )
        return design

    @property
    def terms(self) -> tuple[str, ...]:
        """Names that contrasts give weights to: columns, then regressors that each element has for itself."""
        return (*self.columns, *(one.name for one in self.own))

    @property
    def n_subjects(self) -> int:
        """Rows of the design matrix."""
        return int(self.matrix.shape[0])

    @cached_property
    def rank(self) -> int:
        """Rank of the design matrix (its number of columns: dependent ones are refused)."""
        return int(self.matrix.shape[1])

    @property
    def dof(self) -> int:
        """Residual degrees of freedom."""
        return self.n_subjects - self.rank - len(self.own)

    @cached_property
    def pseudo_inverse(self) -> NDArray[np.float64]:
        """(n_regressors, n_subjects) M^+."""
        return np.asarray(np.linalg.pinv(self.matrix / self.lengths) / self.lengths[:, None])

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """(n_regressors,) length of each column: columns in years and in mm3 are brought to one before algebra."""
        return np.asarray(np.linalg.norm(self.matrix, axis=0))

    @property
    def units(self) -> NDArray[np.float64]:
        """(n_terms,) what weights of contrasts are divided by to be compared: lengths, and 1 for what has none."""
        return np.concatenate([self.lengths, np.ones(len(self.own))])

    def to_frame(self) -> pd.DataFrame:
        """Return the design as a DataFrame."""
        return pd.DataFrame(self.matrix, columns=pd.Index(self.columns))


@dataclass(frozen=True, eq=False)
class Contrast:
    """A contrast that has been checked against its design.

    Attributes
    ----------
    name
        What the user called it, or how it was written.
    matrix
        (n_rows, n_terms) float64 of full row rank; one row is a t contrast, more an F contrast.
    """

    name: str
    matrix: NDArray[np.float64]

    @property
    def is_t(self) -> bool:
        """Whether this is a t contrast."""
        return bool(self.matrix.shape[0] == 1)

    @classmethod
    def parse(cls, contrast: ContrastLike | None, design: Design, name: str | None = None) -> Contrast:
        """Check a contrast.

        Parameters
        ----------
        contrast
            Name of a column, an expression over column names (``"patient - control"``), a vector
            (n_regressors,), a matrix (n_rows, n_regressors) or a list of expressions for an F test; None
            where the design has one column. Weights in a Series or DataFrame with labels go to the columns that the
            labels name.
        design
            The design it is over.
        name
            Its name; by default as it is written.

        Raises
        ------
        ContrastError
            It names no column, has another length than the design has columns, is zero, holds NaN, or its
            rows depend on each other.
        """
        if isinstance(contrast, pd.Series | pd.DataFrame):
            contrast = _unlabelled(contrast, design)
        matrix = np.atleast_2d(_weights(contrast, design))
        if matrix.ndim != 2 or matrix.shape[1] != len(design.terms):
            raise ContrastError(
                invalid(
                    "contrast",
                    contrast,
                    f"{len(design.terms)} weights a row, one for each column {listed(design.terms)}",
                )
            )
        if not np.isfinite(matrix).all():
            raise ContrastError(invalid("contrast", contrast, "finite weights"))
        weights = np.abs(matrix[matrix != 0])
        if weights.size and not _SIZES[0] < weights.min() <= weights.max() < _SIZES[1]:
            raise ContrastError(
                invalid("contrast", contrast, f"weights of sizes between {_SIZES[0]:g} and {_SIZES[1]:g}")
            )
        rows = matrix / design.units  # whatever the units of columns and rows
        sizes = np.linalg.norm(rows, axis=1, keepdims=True)
        if np.linalg.matrix_rank(rows / np.where(sizes > 0, sizes, 1)) < matrix.shape[0]:
            what = "all its weights are zero" if not matrix.any() else "its rows depend on each other"
            raise ContrastError(invalid("contrast", contrast, f"independent rows that are not zero ({what})"))
        return cls(name or _describe(contrast, design), np.ascontiguousarray(matrix))


def parse_contrasts(contrast: ContrastLike | Mapping[str, ContrastLike] | None, design: Design) -> list[Contrast]:
    """Check one contrast, or a mapping from names to contrasts."""
    if isinstance(contrast, Mapping):
        if not contrast:
            raise ContrastError(invalid("contrast", {}, "at least one contrast"))
        names = [str(key) for key in contrast]
        if len(set(names)) < len(names):
            raise ContrastError(invalid("contrast", list(contrast), "a mapping whose keys are different as text"))
        long = [name for name in names if not 0 < len(name) <= LONGEST_NAME]
        if long:
            shown = f"{long[0][:100]}..." if long[0] else ""
            raise ContrastError(invalid("contrast", shown, f"names of 1 to {LONGEST_NAME} letters"))
        return [Contrast.parse(value, design, str(key)) for key, value in contrast.items()]
    return [Contrast.parse(contrast, design)]


def partition(design: Design, contrast: Contrast) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split a design into the part that a contrast tests and the nuisance beside it.

    Returns
    -------
    X (n_subjects, n_rows), with coefficients equal to the contrast of the full model, and orthonormal Z
    (n_subjects, n_regressors - n_rows), orthogonal to X; together they span the design.

    References
    ----------
    Winkler et al. (2014), NeuroImage 92, Appendix A (after Ridgway and Beckmann et al.).
    """
    # X is the same whatever the columns' units. It is M D C' (C D C')^-1, D = (M'M)^-1, without M'M, which squares the
    # condition of M: seconds since 1970 beside an intercept would drown.
    M, C = design.matrix / design.lengths, contrast.matrix / design.lengths
    sizes = np.linalg.norm(C, axis=1)
    _, _, rows = np.linalg.svd(C / sizes[:, None])
    Z = orthonormal(M @ rows[C.shape[0] :].T)
    X = M @ np.linalg.pinv(C / sizes[:, None]) / sizes
    for _ in range(2):  # once leaves what rounding makes of columns that are nearly nuisance
        X = X - Z @ (Z.T @ X)
    assert X.shape == (design.n_subjects, C.shape[0])
    return X, Z


def warn_of_lacking_mean(matrix: NDArray[np.float64]) -> None:
    """Warn where no column (n_subjects, n_regressors) has a mean: that of the data is left among the residuals."""
    if (np.abs(matrix.sum(axis=0)) <= 1e-6 * np.abs(matrix).sum(axis=0)).all():
        log.warning(
            "All columns of the design have mean 0, and the data keep theirs, which counts as error: add an intercept, "
            "a column of ones, unless the maps have no mean."
        )


def check_sizes(matrix: NDArray[np.float64], columns: Sequence[str]) -> None:
    """Refuse columns (n_subjects, n_regressors) whose squares are beyond double precision.

    Raises
    ------
    DesignError
    """
    most = np.abs(matrix).max(axis=0, initial=0.0)
    odd = [name for name, size in zip(columns, most, strict=True) if size and not _SIZES[0] < size < _SIZES[1]]
    if odd:
        raise DesignError(
            f"Column(s) {listed(odd)} of the design matrix are too large or too small to be computed with. Allowed: a "
            f"largest value between {_SIZES[0]:g} and {_SIZES[1]:g}, or zeros. Give them in another unit."
        )


def tested_regressors(design: Design, contrast: Contrast) -> NDArray[np.float64]:
    """Columns that the contrast gives any weight (Guttman's partition): they tell shufflings apart.

    Where a regressor is each element's own no two subjects count as equal.
    """
    tested = np.any(contrast.matrix != 0, axis=0)
    p = len(design.columns)
    if tested[p:].any():
        return np.arange(design.n_subjects, dtype=np.float64)[:, None]
    return design.matrix[:, tested[:p]]


def shared_nuisance(design: Design, contrast: Contrast) -> NDArray[np.float64]:
    """Orthonormal basis (n_subjects, k) of what the columns that all elements share span and the contrast leaves out.

    Without regressors of elements' own it is the nuisance of `partition`.
    """
    C = contrast.matrix[:, : len(design.columns)] / design.lengths
    sizes = np.linalg.norm(C, axis=1)
    C = C[sizes > 0] / sizes[sizes > 0, None]
    M = design.matrix / design.lengths
    if not len(C):
        return orthonormal(M)
    _, s, rows = np.linalg.svd(C)
    rank = int(np.sum(s > s[0] * max(C.shape) * np.finfo(float).eps))
    return orthonormal(M @ rows[rank:].T)


def orthonormal(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal basis (n, rank) of the span of columns (n, k)."""
    if columns.shape[1] == 0:
        return columns
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    rank = int(np.sum(s > s[0] * max(columns.shape) * np.finfo(float).eps)) if s[0] > 0 else 0
    return np.ascontiguousarray(u[:, :rank])


def independent_columns(matrix: NDArray[np.float64]) -> list[int]:
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


def _as_frame(design_matrix: Any) -> pd.DataFrame:
    if isinstance(design_matrix, pd.DataFrame):
        return design_matrix
    try:
        values = np.asarray(design_matrix)
        values = values if values.dtype.kind == "c" else values.astype(np.float64)  # complex ones are refused by column
    except (TypeError, ValueError) as error:
        raise DesignError(
            invalid("design_matrix", type(design_matrix).__name__, "a DataFrame or a numeric array")
        ) from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise DesignError(invalid("design_matrix", values.shape, "two dimensions (n_subjects, n_regressors)"))
    return pd.DataFrame(values, columns=pd.Index([f"x{k}" for k in range(values.shape[1])]))


def _check_table(frame: pd.DataFrame, columns: tuple[str, ...], n_subjects: int) -> None:
    if len(frame) != n_subjects:
        raise DesignError(
            f"The design matrix has {len(frame)} rows, but there are {n_subjects} subject maps. "
            "It needs one row for each map, in their order."
        )
    if not columns:
        raise DesignError("The design matrix has no columns. Give it at least one, such as an intercept.")
    twice = sorted(column for column, times in Counter(columns).items() if times > 1)
    if twice:
        raise DesignError(f"The design matrix has more than one column named {listed(twice)}. Give each its own name.")
    kinds = {str(c): frame[c].dtype for c in frame.columns}
    words = [
        f"{c!r} ({kind})" for c, kind in kinds.items() if not pd.api.types.is_numeric_dtype(kind) or kind.kind == "c"
    ]
    if words:
        raise DesignError(
            f"Columns {', '.join(words)} of the design matrix are not real numbers. A formula over covariates, such as "
            "'~ group + age', codes categories, as pandas.get_dummies does; numbers kept as objects become numbers by "
            ".astype(float)."
        )


def _check_numbers(matrix: NDArray[np.float64], columns: tuple[str, ...]) -> None:
    bad_rows, bad_columns = np.nonzero(~np.isfinite(matrix))
    if bad_rows.size:
        where = sorted({columns[c] for c in bad_columns})
        raise DesignError(
            f"The design matrix holds NaN or infinity in column(s) {where}, "
            f"rows {sorted(set(bad_rows.tolist()))[:10]} (counted from 0). "
            "Leave those subjects out, or fill the values in."
        )
    check_sizes(matrix, columns)
    n, p = matrix.shape
    scaled = matrix / np.maximum(np.linalg.norm(matrix, axis=0), np.finfo(float).tiny)
    rank = int(np.linalg.matrix_rank(scaled))
    if rank < p:
        kept = independent_columns(matrix)
        dependent = [name for k, name in enumerate(columns) if k not in kept]
        raise DesignError(
            f"The design matrix is rank deficient: {p} columns {listed(columns)} have rank {rank}. "
            f"Column(s) {listed(dependent)} can be written by the others. "
            "Leave them out; contrasts that were estimable can be written with the columns that stay."
        )
    if n - rank < 1:
        raise DesignError(
            f"The design matrix has {n} rows and rank {rank}: no degrees of freedom are left to estimate the "
            "variance. Use more subjects or fewer columns."
        )


def _weights(contrast: ContrastLike | None, design: Design) -> NDArray[np.float64]:
    if contrast is None:
        if len(design.terms) > 1:
            raise ContrastError(
                f"A contrast is needed: the design has {len(design.terms)} columns {listed(design.terms)}. "
                "Name a column, or write an expression over them."
            )
        return np.ones(1)
    if isinstance(contrast, str):
        return linear_weights(contrast, design.terms)
    rows = list(contrast) if np.iterable(contrast) else []
    if rows and all(isinstance(row, str) for row in rows):
        return np.stack([linear_weights(row, design.terms) for row in rows])
    try:
        return np.asarray(contrast, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ContrastError(
            invalid("contrast", contrast, "a column name, an expression, a vector or a matrix of numbers")
        ) from error


def _unlabelled(weights: pd.Series[Any] | pd.DataFrame, design: Design) -> NDArray[Any]:
    """Weights of a table in the order of the design's columns, or as they are if it has no labels but numbers."""
    table = weights.to_frame().T if isinstance(weights, pd.Series) else weights
    names = [str(name) for name in table.columns]
    if sorted(names) != sorted(design.terms):
        if pd.api.types.is_integer_dtype(table.columns.dtype):
            return weights.to_numpy()
        received = f"a {type(weights).__name__} with the labels {names}"
        fix = "Give each column a weight, 0 to those that don't count."
        raise ContrastError(invalid("contrast", received, f"the columns {listed(design.terms)} as labels", fix))
    ordered = table.set_axis(names, axis=1)[list(design.terms)].to_numpy()
    return ordered[0] if isinstance(weights, pd.Series) else ordered


def _describe(contrast: ContrastLike | None, design: Design) -> str:
    """A contrast as it is written, no longer than a line that can be read."""
    if contrast is None:
        return design.terms[0]
    rows = [contrast] if isinstance(contrast, str) else list(contrast) if np.iterable(contrast) else [contrast]
    if not isinstance(rows[0], str) and np.ndim(rows[0]) == 0:
        rows = [rows]
    text = "; ".join(row if isinstance(row, str) else f"[{', '.join(f'{w:g}' for w in row)}]" for row in rows)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."

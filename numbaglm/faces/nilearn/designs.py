"""Designs and contrasts as nilearn's users write them: dependent columns, saturated models, short contrasts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.data.labels import require_labels, texts
from numbaglm.data.tables import read_table
from numbaglm.errors import DesignError, InputError, InputTypeError, warn
from numbaglm.stats.model.design import independent_columns
from numbaglm.stats.model.estimable import DEPENDENT


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
    labels = texts(subjects_label, strip=False)
    fix = "Name each subject, or leave the row out."
    require_labels(labels, "subjects_label", "a label for each subject", fix)
    if confounds is None:
        return pd.DataFrame({"intercept": np.ones(len(labels))})
    check_confounds(confounds, least=1)
    rows = texts(confounds["subject_label"], strip=False)
    require_labels(rows, "confounds", "a subject_label in every row", fix)
    table = confounds.assign(subject_label=rows).set_index("subject_label")
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
    if len(independent_columns(design.to_numpy())) < design.shape[1]:
        warn(DEPENDENT.format(list(design.columns)))
    return design


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
        if Path(given).suffix.casefold() not in (".csv", ".tsv"):
            raise InputError(
                f"'design_matrix' names {str(given)!r}. Tables to load can only be TSV or CSV. "
                "Give such a file's path, with a line of column names, or a DataFrame."
            )
        given = read_table(given, "design_matrix")
        if "Unnamed: 0" in given.columns[:1]:  # an index that pandas wrote
            given = given.set_index("Unnamed: 0")
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

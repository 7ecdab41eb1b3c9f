"""Design matrices written as formulas over a table of subjects."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from numbaglm.errors import DesignError


def design_from_formula(formula: str, table: pd.DataFrame) -> pd.DataFrame:
    """Make a design matrix of a formula, in the language of R's model formulas.

    Parameters
    ----------
    formula
        For example ``"~ age + group"``, ``"~ center(age) * C(group)"`` or, without an intercept, ``"~ 0 + group"``.
        Categories are coded against their first level; ``center(x)`` and ``scale(x)`` are transforms of columns.
    table
        A row a subject.

    Returns
    -------
    DataFrame (n_subjects, n_regressors) float64, with the columns ``intercept``, ``age``, ``group[patient]``, ...

    Raises
    ------
    DesignError
        The formula can't be read, names what the table doesn't have, or meets missing values.

    Examples
    --------
    >>> import pandas as pd
    >>> from numbaglm.stats.formula import design_from_formula
    >>> table = pd.DataFrame({"age": [20.0, 30.0, 40.0], "group": ["control", "patient", "patient"]})
    >>> list(design_from_formula("~ center(age) + group", table).columns)
    ['intercept', 'center(age)', 'group[patient]']
    """
    import formulaic  # takes longer to load than the rest of the package

    allowed = f"The table has the columns {[str(column) for column in table.columns]}."
    if table.columns.empty:
        allowed = "There is no table of covariates: Cohort.from_maps(maps, covariates=...) makes a cohort that has one."
    if "~" in formula and formula.split("~")[0].strip():
        raise DesignError(f"The formula {formula!r} has a left side, but the maps are modelled: begin with '~'.")
    try:
        with np.errstate(all="ignore"):  # an infinite column is refused by its name
            matrix = formulaic.model_matrix(formula, table.reset_index(drop=True), na_action="raise")
    except Exception as error:  # formulaic raises what its parser, the columns and pandas raise
        reason = re.sub(r"\x1b\[[0-9;]*m|[⧚⧛]", "", str(error)).splitlines()[0]
        missing = _missing(formula, table) if "null" in reason else ""
        raise DesignError(f"The formula {formula!r} can't be used: {missing or f'{reason} {allowed}'}") from error
    if not isinstance(matrix, formulaic.ModelMatrix):
        raise DesignError(f"The formula {formula!r} has several parts, but makes one design: write it without '|'.")
    design = pd.DataFrame(np.asarray(matrix, dtype=np.float64), index=table.index, columns=pd.Index(matrix.columns))
    return design.rename(columns=lambda name: re.sub(r"\[T\.", "[", "intercept" if name == "Intercept" else str(name)))


def _missing(formula: str, table: pd.DataFrame) -> str:
    """Where a table lacks values of the columns that a formula names."""
    found = []
    for name in table.columns:
        rows = np.flatnonzero(table[name].isna())
        if rows.size and re.search(rf"(?<!\w){re.escape(str(name))}(?!\w)", formula):
            named = ", ".join(f"{row} ({table.index[row]})" for row in rows[:10])
            found.append(f"{str(name)!r} has no value in row(s) {named}, counted from 0.")
    return " ".join([*found, "Leave those subjects out, or fill the values in."]) if found else ""

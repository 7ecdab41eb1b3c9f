"""Design matrices written as formulas over a table of subjects."""

from __future__ import annotations

import ast
import re

import numpy as np
import pandas as pd

from numbaglm.errors import DesignError, near, term


def design_from_formula(formula: str, table: pd.DataFrame) -> pd.DataFrame:
    """Make a design matrix of a formula, in the language of R's model formulas.

    A formula is code: its parts are evaluated by Python. So that one from elsewhere can do no harm, they may hold the
    table's columns, numbers, text, arithmetic and comparisons, formulaic's transforms (`center`, `scale`, `C`, `I`,
    `poly`, `bs`, ...) and NumPy's elementwise functions (``np.log``), and nothing else: no names of the caller, no
    methods.

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

    shown = _short(formula)
    allowed = f"The table has the columns {[str(column) for column in table.columns]}."
    if table.columns.empty:
        makes = term("Cohort.from_maps(maps, covariates=...) makes a cohort that has one")
        allowed = f"There is no table of covariates: {makes}."
    if "~" in formula and formula.split("~")[0].strip():
        raise DesignError(f"The formula {shown!r} has a left side, but the maps are modelled: begin with '~'.")
    if effect := re.search(r"\([^()|]*\|\|?([^()|]*)\)", formula):
        group = effect[1].strip()
        named = term("covariance='sandwich'"), term("covariance='binned-gls'"), term("exchangeability_blocks")
        raise DesignError(
            f"The formula {shown!r} has a random effect, {effect[0]}, which is no column of a design. Leave it out; "
            f"for maps that depend on each other, in whatever way, within each {group}, give {named[0]} and, as "
            f"{named[2]}, the {group} of each map; for a mixed model, {named[1]} in its place."
        )
    try:
        _check_parts(formula, {str(column) for column in table.columns})
        with np.errstate(all="ignore"):  # an infinite column is refused by its name
            matrix = formulaic.model_matrix(formula, table.reset_index(drop=True), context={}, na_action="raise")
    except (Exception, SystemExit) as error:  # formulaic raises what its parser, the columns and pandas raise
        reason = (re.sub(r"\x1b\[[0-9;]*m|[⧚⧛]", "", str(error)).splitlines() or [type(error).__name__])[0]
        missing = _missing(formula, table) if "null" in reason else ""
        told = missing or f"{_short(reason)} {allowed} {_meant(reason, table)}".rstrip()
        raise DesignError(f"The formula {shown!r} can't be used: {told}") from error
    if not isinstance(matrix, formulaic.ModelMatrix):
        raise DesignError(f"The formula {shown!r} has several parts, but makes one design: write it without '|'.")
    design = pd.DataFrame(np.asarray(matrix, dtype=np.float64), index=table.index, columns=pd.Index(matrix.columns))
    return design.rename(columns=lambda name: re.sub(r"\[T\.", "[", "intercept" if name == "Intercept" else str(name)))


# Of an expression: anything that calls, looks up or loops is looked at by itself, or refused.
_PLAIN = (
    *(ast.Expression, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.List, ast.Tuple, ast.Dict),
    *(ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)
_LONGEST = 300  # letters of a formula in a message
_HIGHEST_POWER = 20  # powers of powers of whole numbers have no end


def _meant(reason: str, table: pd.DataFrame) -> str:
    """Ask whether a column, or a transform, that is close to what a formula names was meant."""
    from formulaic.transforms import TRANSFORMS

    unknown = re.search(r"`([^`]+)` is not present|^'(\w+)' is not allowed", reason)
    if unknown is None:
        return ""
    name = unknown[1] or unknown[2]
    return near(name, table.columns) or near(name, TRANSFORMS)


def _check_parts(formula: str, columns: set[str]) -> None:
    """Refuse a part that does anything but compute with columns.

    Raises
    ------
    ValueError, SyntaxError
    """
    from formulaic.parser import DefaultFormulaParser
    from formulaic.parser.types import Token
    from formulaic.transforms import TRANSFORMS

    for token in DefaultFormulaParser().get_tokens(formula):
        if token.kind is not Token.Kind.PYTHON:
            continue
        names = columns | set(TRANSFORMS) | {"True", "False", "None"}
        text = re.sub(r"`[^`]*`", "quoted_column", token.token.strip())
        tree = ast.parse(text, mode="eval")
        for node in ast.walk(tree):
            if not _is_allowed(node, {*names, "quoted_column"}):
                raise ValueError(
                    f"{ast.unparse(node)[:80]!r} is not allowed in it: only columns, numbers, arithmetic, powers up to "
                    f"{_HIGHEST_POWER} and transforms such as center, scale, C, poly and np.log are."
                )


def _is_allowed(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute):
        if not isinstance(node.value, ast.Name):
            return False
        if node.value.id == "contr":
            return not node.attr.startswith("_")
        found = getattr(np, node.attr, None) if node.value.id == "np" else None
        return isinstance(found, np.ufunc) or found in (np.where, np.clip, np.pi, np.e)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name | ast.Attribute)
    if isinstance(node, ast.BinOp) and any(_is_long(one) for one in (node.left, node.right)):
        return False
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        if any(isinstance(one, ast.BinOp) and isinstance(one.op, ast.Pow) for one in ast.walk(node.left)):
            return False
        power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        value = power.value if isinstance(power, ast.Constant) else None
        return isinstance(value, int | float) and abs(value) <= _HIGHEST_POWER
    return isinstance(node, _PLAIN)


def _is_long(node: ast.AST) -> bool:
    """Whether this may be multiplied into something that fills the memory."""
    return isinstance(node, ast.List | ast.Tuple) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _missing(formula: str, table: pd.DataFrame) -> str:
    """Where a table lacks values of the columns that a formula names."""
    found = []
    for name in table.columns:
        rows = np.flatnonzero(table[name].isna())
        if rows.size and re.search(rf"(?<!\w){re.escape(str(name))}(?!\w)", formula):
            named = ", ".join(f"{row} ({table.index[row]})" for row in rows[:10])
            found.append(f"{str(name)!r} has no value in row(s) {named}, counted from 0.")
    return " ".join([*found, "Leave those subjects out, or fill the values in."]) if found else ""

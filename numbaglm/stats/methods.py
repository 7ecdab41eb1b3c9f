"""Regression methods for permutation with nuisance, as records.

Y is the data, X what is tested, Z the nuisance, P a shuffling, R_Z and R_M the matrices that form residuals on
the nuisance and on the whole design, H_Z and H_M those that form fitted values. With the partition of
`numbaglm.stats.model.design.partition` X is orthogonal to Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from numbaglm.errors import InputError, invalid


@dataclass(frozen=True)
class Method:
    """A regression method for permutation with nuisance.

    Attributes
    ----------
    model
        The model that is fitted under each shuffling, in the notation of Winkler et al. (2014), Table 2.
    data
        What the shuffled rows are multiplied with: residuals on the nuisance, on the whole design, the data as they
        are, or residuals rotated into the n - rank(Z) dimensions that the nuisance leaves.
    nuisance_rows
        Whether nuisance that shuffling moves is fitted again beside what is tested.
    refit
        Whether the shuffled rows are residualised on the nuisance again: the model is shuffled, not the data.
    reference
        Source.
    """

    name: str
    model: str
    data: Literal["nuisance residuals", "full residuals", "raw", "rotated"]
    nuisance_rows: bool
    refit: bool
    reference: str


METHODS = {
    method.name: method
    for method in (
        Method(
            "freedman-lane",
            "(P R_Z + H_Z) Y = X b + Z g + e",
            data="nuisance residuals",
            nuisance_rows=True,
            refit=False,
            reference="Freedman and Lane (1983), J. Bus. Econ. Stat. 1(4):292-298",
        ),
        Method(
            "draper-stoneman",
            "Y = P X b + Z g + e",
            data="nuisance residuals",
            nuisance_rows=False,
            refit=True,
            reference="Draper and Stoneman (1966), Technometrics 8(4):695-699",
        ),
        Method(
            "dekker",
            "Y = P R_Z X b + Z g + e",
            data="nuisance residuals",
            nuisance_rows=False,
            refit=True,
            reference="Dekker, Krackhardt and Snijders (2007), Psychometrika 72:563-581 (after Smith)",
        ),
        Method(
            "still-white",
            "P R_Z Y = X b + e",
            data="nuisance residuals",
            nuisance_rows=False,
            refit=False,
            reference="Still and White (1981), Br. J. Math. Stat. Psychol. 34:243-252",
        ),
        Method(
            "kennedy",
            "P R_Z Y = R_Z X b + e",
            data="nuisance residuals",
            nuisance_rows=False,
            refit=False,
            reference="Kennedy (1995), J. Bus. Econ. Stat. 13(1):85-94",
        ),
        Method(
            "manly",
            "P Y = X b + Z g + e",
            data="raw",
            nuisance_rows=True,
            refit=False,
            reference="Manly (1986), Res. Popul. Ecol. 28:201-218",
        ),
        Method(
            "ter-braak",
            "(P R_M + H_M) Y = X b + Z g + e, against the estimate of the unshuffled model",
            data="full residuals",
            nuisance_rows=True,
            refit=False,
            reference="ter Braak (1992), in Bootstrapping and Related Techniques, Springer",
        ),
        Method(
            "huh-jhun",
            "P Q' R_Z Y = Q' R_Z X b + e, Q an orthonormal basis of what the nuisance leaves",
            data="rotated",
            nuisance_rows=False,
            refit=False,
            reference="Huh and Jhun (2001), Commun. Stat. Theory Methods 30(10):2023-2032",
        ),
    )
}


def find_method(method: str) -> Method:
    """Look a regression method up by name, however it is hyphenated; "Dekker/Smith" and "smith" are dekker's too."""
    letters = {_letters(name): record for name, record in METHODS.items()}
    record = letters.get(_letters(str(method)).replace("dekkersmith", "dekker").replace("smith", "dekker"))
    if record is None:
        raise InputError(invalid("method", method, f"one of {sorted(METHODS)}"))
    return record


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalpha())


OF_P = ("fisher", "stouffer", "tippett", "edgington", "mudholkar-george", "winer", "conjunction")
"""What makes one test of the p of several: the names in `numbaglm.stats.families.combined`."""

OF_VALUES = ("hotelling", "wilks", "pillai", "lawley-hotelling", "roy", "roy-theta", "cca", "pls")
"""What makes one test of several maps: the names in `numbaglm.stats.families.multivariate`, and partial least
squares."""

_ANYHOW = ("tippett", "conjunction")
_ROOTS = ("roy", "roy-theta", "cca")


def p_holds(combine: str | None, n_rows: int, n_variables: int) -> bool:
    """Whether the parametric p of a statistic has its level, so that bounds of true discoveries may rest on it.

    Those of most combinations take the maps for independent of each other, which maps of one person are not; that of a
    largest root, where there are several, is a bound from below. What they order, shufflings count.

    Parameters
    ----------
    combine
        How several maps, or contrasts, are put together; None for one.
    n_rows, n_variables
        Rows of the contrast, and numbers that each element has of a subject.
    """
    if combine in OF_P:
        return combine in _ANYHOW
    return combine is None or combine.rstrip("0123456789") not in _ROOTS or min(n_rows, n_variables) == 1


LOADING = "loading_"
"""What names of maps of loadings begin with."""

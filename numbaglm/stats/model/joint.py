"""From a test of one variable to one of several: combinations of p, and multivariate statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.errors import InputError, invalid
from numbaglm.stats.conventions import Conventions
from numbaglm.stats.families.combined import BOTH, COMBINING, CONCORDANT, ONE, combined
from numbaglm.stats.families.family import Shuffled
from numbaglm.stats.families.multivariate import STATISTICS, multivariate
from numbaglm.stats.model.hypothesis import Hypothesis


def make_joint(
    hypothesis: Hypothesis,
    combine: str,
    others: tuple[str, ...],
    two_sided: bool,
    concordant: bool,
    weights: Doubles | None,
    conventions: Conventions,
) -> Hypothesis:
    """Make one test of several variables of a t or F hypothesis of one.

    Parameters
    ----------
    combine
        A name in `COMBINING` or in `numbaglm.stats.families.multivariate.STATISTICS`; of canonical correlations "cca",
        or "cca2" for the second and so on.
    others
        Layers that hold the variables after the first, which is the data.
    two_sided, concordant
        Whether both signs of t count, and then whether only where they are of one sign in all variables.
    weights
        Of the variables (n_variables,), for Stouffer's; None for equal ones.
    conventions
        What of two sides and of nuisance is made.

    Raises
    ------
    InputError
    """
    family = hypothesis.family
    if family.name not in ("t", "f") or family.prepare is not None or hypothesis.method.name != "freedman-lane":
        raise InputError(
            f"combine={combine!r} is of t or F with the method 'freedman-lane': leave variance groups, smoothed "
            "variances, weights and other methods out."
        )
    n, s, dof = 1 + len(others), hypothesis.n_interest, hypothesis.design.dof
    rows = family.layers[0].rows
    given: dict[str, Any] = {
        "others": others,
        "interest": hypothesis.interest,
        "nuisance": hypothesis.nuisance,
        "effect": hypothesis.effect,
        "dof": dof,
    }
    if concordant and not hypothesis.is_t:
        raise InputError(
            f"concordant=True asks for one sign in all maps, and the F contrast {hypothesis.contrast.name!r} has none. "
            "Leave it out, or test t contrasts."
        )
    if combine in COMBINING:
        sides = ONE if not (two_sided and hypothesis.is_t) else CONCORDANT if concordant else BOTH
        joint = combined(
            combine,
            rows=rows,
            is_t=hypothesis.is_t,
            sides=sides,
            doubled=conventions.combine_doubled,
            weights=weights,
            **given,
        )
    else:
        name, which = ("cca", int(combine[3:] or 1) - 1) if combine.startswith("cca") else (combine, 0)
        if weights is not None or concordant:
            raise InputError(f"combine={combine!r} has neither weights nor signs of its variables.")
        if STATISTICS[name].one_row and s > 1:
            raise InputError(
                invalid("combine", combine, "'wilks', 'pillai', 'lawley-hotelling' or 'roy' for F contrasts")
            )
        if dof < n or dof - max(n, s) + s < 1:
            raise InputError(
                f"{n} variables are too many for {dof} residual degrees of freedom: combine={combine!r} needs more "
                "subjects, or fewer variables. A combination of p ('fisher' and others) takes any number."
            )
        if which >= min(n, s):
            raise InputError(
                invalid("combine", combine, f"cca to cca{min(n, s)}: no more roots than variables or rows")
            )
        rows = Shuffled(hypothesis.interest) if name == "cca" and not conventions.cca_nuisance else rows
        joint = multivariate(name, rows=rows, which=which, **given)
    return replace(hypothesis, family=joint, effect=np.concatenate([hypothesis.effect] * n))

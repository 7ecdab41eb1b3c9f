"""From tests of one variable to one of several, or of several contrasts: combined p, and multivariate statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.errors import InputError, invalid
from numbaglm.stats.conventions import Conventions
from numbaglm.stats.families.family import Shuffled
from numbaglm.stats.methods import OF_P
from numbaglm.stats.model.design import LONGEST_NAME, Contrast, partition
from numbaglm.stats.model.hypothesis import Hypothesis


def make_joint(
    hypotheses: Sequence[Hypothesis],
    combine: str,
    others: tuple[str, ...],
    two_sided: bool,
    concordant: bool,
    weights: Doubles | None,
    conventions: Conventions,
    names: tuple[str, ...] | None = None,
    mix: Doubles | None = None,
) -> Hypothesis:
    """Make one test of several variables, or of several contrasts of each, of t or F hypotheses of one.

    Parameters
    ----------
    hypotheses
        Of the contrasts, of one design and the same shufflings.
    combine
        A name in `numbaglm.stats.methods.OF_P` or in `numbaglm.stats.methods.OF_VALUES`; of canonical correlations
        "cca", or "cca2" for the second and so on; of partial least squares "pls", "pls2" and so on.
    others
        Layers that hold the variables after the first, which is the data.
    two_sided, concordant
        Whether both signs of t count, and then whether only where they are of one sign in all variables.
    weights
        Of the partial tests, of the first variable all contrasts and so on, for Stouffer's; None for equal ones.
    conventions
        What of two sides and of nuisance is made.
    names
        Of the variables, for maps of their loadings; None for numbers.
    mix
        (n_variables, n_maps) weights of the sums of maps that are tested in the place of these, for statistics of
        several variables; None for the maps themselves.

    Raises
    ------
    InputError
    """
    for one in hypotheses:
        family = one.family
        if family.name not in ("t", "f") or family.prepare is not None or one.method.name != "freedman-lane":
            raise InputError(
                f"combine={combine!r} is of t or F with the method 'freedman-lane': leave variance groups, smoothed "
                "variances, weights and other methods out."
            )
        if concordant and not one.is_t:
            raise InputError(
                f"concordant=True asks for one sign in all maps, and the F contrast {one.contrast.name!r} has none. "
                "Leave it out, or test t contrasts."
            )
    if combine in OF_P:
        return _combined(hypotheses, combine, others, two_sided, concordant, weights, conventions)
    from numbaglm.stats.families.multivariate import multivariate
    from numbaglm.stats.families.ordinary.pls import partial_least_squares

    (hypothesis,) = hypotheses
    if weights is not None or concordant:
        raise InputError(f"combine={combine!r} has neither weights nor signs of its variables.")
    n, s, dof = 1 + len(others) if mix is None else len(mix), hypothesis.n_interest, hypothesis.design.dof
    name, which = (combine[:3], int(combine[3:] or 1) - 1) if combine.startswith(("cca", "pls")) else (combine, 0)
    if which >= min(n, s):
        raise InputError(invalid("combine", combine, f"{name} to {name}{min(n, s)}: no more than variables or rows"))
    if name != "pls":
        _check_inverse(combine, n, s, dof)
    rows = hypothesis.family.layers[0].rows
    asked: dict[str, Any] = {
        "others": others,
        "nuisance": hypothesis.nuisance,
        "effect": hypothesis.effect,
        "dof": dof,
        "which": which,
        "mix": mix,
        "names": names,
    }
    if name == "pls":
        interest = np.ascontiguousarray(partition(hypothesis.design, hypothesis.contrast)[0].T)
        if conventions.pls_scores:
            if which > 0:
                fix = "Ask for other conventions."
                raise InputError(invalid("combine", combine, "'pls', the first, with pls_scores=True", fix))
            joint = partial_least_squares(rows=Shuffled(interest), interest=interest, of_scores=True, **asked)
        else:
            interest /= np.linalg.norm(interest, axis=1, keepdims=True)
            assert isinstance(rows, Shuffled)
            moved = rows.basis[s:]
            joint = partial_least_squares(rows=Shuffled(np.vstack([interest, moved])), interest=interest, **asked)
    else:
        apart = name == "cca" and not conventions.cca_nuisance
        joint = multivariate(
            name,
            rows=Shuffled(hypothesis.interest) if apart else rows,
            interest=hypothesis.interest,
            fisher=name == "cca" and conventions.cca_fisher,
            **asked,
        )
    return replace(hypothesis, family=joint, effect=np.concatenate([hypothesis.effect] * n))


def _check_inverse(combine: str, n: int, s: int, dof: int) -> None:
    """Refuse what statistics that take the inverse of a covariance of variables can't be made of."""
    from numbaglm.stats.families.multivariate import STATISTICS

    if combine in STATISTICS and STATISTICS[combine].one_row and s > 1:
        raise InputError(invalid("combine", combine, "'wilks', 'pillai', 'lawley-hotelling' or 'roy' for F contrasts"))
    if dof < n or dof - max(n, s) + s < 1:
        raise InputError(
            f"{n} variables are too many for {dof} residual degrees of freedom: combine={combine!r} needs more "
            "subjects, or fewer variables. A combination of p ('fisher' and others), or 'pls', takes any number."
        )


def _combined(
    hypotheses: Sequence[Hypothesis],
    combine: str,
    others: tuple[str, ...],
    two_sided: bool,
    concordant: bool,
    weights: Doubles | None,
    conventions: Conventions,
) -> Hypothesis:
    """Combine p of every contrast of every variable; one contrast keeps its name, several are named one by one."""
    from numbaglm.stats.families.combined import BOTH, CONCORDANT, ONE, ContrastRows, combined

    n = 1 + len(others)
    tested = tuple(ContrastRows(one.family.layers[0].rows, one.interest, one.nuisance, one.is_t) for one in hypotheses)
    effect = np.concatenate([one.effect for one in hypotheses])
    signed = two_sided and any(one.is_t for one in hypotheses)
    joint = combined(
        combine,
        others=others,
        tested=tested,
        effect=effect,
        dof=hypotheses[0].design.dof,
        sides=ONE if not signed else CONCORDANT if concordant else BOTH,
        doubled=conventions.combine_doubled,
        weights=weights,
    )
    contrasts = [one.contrast for one in hypotheses]
    rows = np.concatenate([one.matrix for one in contrasts])
    whole = contrasts[0] if len(contrasts) == 1 else Contrast(joint_name(contrasts), rows)
    return replace(hypotheses[0], contrast=whole, family=joint, effect=np.concatenate([effect] * n))


def joint_name(contrasts: Sequence[Contrast]) -> str:
    """What one test of several contrasts is called."""
    name = " & ".join(one.name for one in contrasts)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."

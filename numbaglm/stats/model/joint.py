"""From tests of one variable to one of several, or of several contrasts: combined p, and multivariate statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.errors import InputError, invalid
from numbaglm.stats.conventions import Conventions
from numbaglm.stats.families.family import Shuffled
from numbaglm.stats.methods import OF_P
from numbaglm.stats.model.design import LONGEST_NAME, Contrast
from numbaglm.stats.model.hypothesis import Hypothesis


def make_joint(
    hypotheses: Sequence[Hypothesis],
    combine: str,
    others: tuple[str, ...],
    two_sided: bool,
    concordant: bool,
    weights: Doubles | None,
    conventions: Conventions,
) -> Hypothesis:
    """Make one test of several variables, or of several contrasts of each, of t or F hypotheses of one.

    Parameters
    ----------
    hypotheses
        Of the contrasts, of one design and the same shufflings.
    combine
        A name in `numbaglm.stats.methods.OF_P` or in `numbaglm.stats.methods.OF_VALUES`; of canonical correlations
        "cca", or "cca2" for the second and so on.
    others
        Layers that hold the variables after the first, which is the data.
    two_sided, concordant
        Whether both signs of t count, and then whether only where they are of one sign in all variables.
    weights
        Of the partial tests, of the first variable all contrasts and so on, for Stouffer's; None for equal ones.
    conventions
        What of two sides and of nuisance is made.

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
    from numbaglm.stats.families.multivariate import STATISTICS, multivariate

    (hypothesis,) = hypotheses
    n, s, dof = 1 + len(others), hypothesis.n_interest, hypothesis.design.dof
    name, which = (combine[:3], int(combine[3:] or 1) - 1) if combine.startswith(("cca", "pls")) else (combine, 0)
    if weights is not None or concordant:
        raise InputError(f"combine={combine!r} has neither weights nor signs of its variables.")
    if STATISTICS[name].one_row and s > 1:
        raise InputError(invalid("combine", combine, "'wilks', 'pillai', 'lawley-hotelling' or 'roy' for F contrasts"))
    if dof < n or dof - max(n, s) + s < 1:
        raise InputError(
            f"{n} variables are too many for {dof} residual degrees of freedom: combine={combine!r} needs more "
            "subjects, or fewer variables. A combination of p ('fisher' and others) takes any number."
        )
    if which >= min(n, s):
        raise InputError(invalid("combine", combine, f"cca to cca{min(n, s)}: no more roots than variables or rows"))
    rows = hypothesis.family.layers[0].rows
    if name == "cca" and not conventions.cca_nuisance:
        rows = Shuffled(hypothesis.interest)
    joint = multivariate(
        name,
        others=others,
        rows=rows,
        interest=hypothesis.interest,
        nuisance=hypothesis.nuisance,
        effect=hypothesis.effect,
        dof=dof,
        which=which,
    )
    return replace(hypothesis, family=joint, effect=np.concatenate([hypothesis.effect] * n))


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

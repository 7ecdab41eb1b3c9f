"""Corrected p: counted from a null, refined by its tail where that is asked for, with intervals of what is counted."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.stats import pvalues
from numbaglm.stats.shuffling.shufflings import Shufflings

log = logging.getLogger("numbaglm")


TAILS = {"counts": 0, "pareto": 120, "gamma": 100}
"""What can refine p, and the random shufflings that a fit takes at least."""


def useful_tail(tail: str, shufflings: Shufflings) -> str:
    """The tail that there is any use for."""
    if tail != "counts" and shufflings.exhaustive:
        log.info("All shufflings are enumerated: p are exact, and no tail is fitted (tail=%r).", tail)
        return "counts"
    return tail


@dataclass(frozen=True, eq=False)
class Corrected:
    """p of some observed values.

    Attributes
    ----------
    p
        Refined where the source says so, counted elsewhere.
    counted
        By counts alone: #{null >= observed} / n_shufflings.
    source
        Where each p comes from, as in `numbaglm.stats.tails`; None where nothing was refined.
    fit
        Of the null's tail, or of how many voxels' own tails, as JSON types.
    """

    p: Doubles
    counted: Doubles
    source: NDArray[np.uint8] | None = None
    fit: dict[str, Any] | None = None


def from_null(
    tail: str,
    shufflings: Shufflings,
    observed: NDArray[np.number],
    null: NDArray[np.number],
    tolerance: float | Doubles,
    counted: Doubles | None = None,
) -> Corrected:
    """p of observed values from one null, the observed shuffling at its head.

    Parameters
    ----------
    tail
        What refines p, a name in `TAILS`.
    shufflings
        Of the null.
    observed, null, tolerance
        As in `numbaglm.stats.pvalues.from_maxima`.
    counted
        p counted on a scale on which ties are told apart better; by default from the values given.
    """
    if counted is None:
        counted = pvalues.from_maxima(observed, null, tolerance)
    if tail == "counts":
        return Corrected(counted, counted)
    from numbaglm.kernels.tails import REFINED
    from numbaglm.stats import tails  # where something is refined

    fit_tail = tails.pareto_p if tail == "pareto" else tails.gamma_p
    least = 1 / shufflings.n_distinct
    p, source, fit = fit_tail(observed, null, tolerance, least)
    note = {name: None if value != value else value for name, value in asdict(fit).items()}
    return Corrected(np.where(source == REFINED, p, counted), counted, source, note)


def interval(shufflings: Shufflings, counted: Doubles, level: float) -> tuple[Doubles, Doubles]:
    """Clopper-Pearson interval of counted p; p itself where all shufflings were enumerated."""
    n = shufflings.n_shufflings
    if shufflings.exhaustive:
        return counted, counted
    from numbaglm.stats.tails import clopper_pearson  # where it is asked for

    return clopper_pearson(np.rint(counted * n).astype(np.int64), n, level)

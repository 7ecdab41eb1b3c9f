"""p that hold whenever one stops shuffling, and when a p is decided against a level.

Of b random shufflings L reach what was observed. If nothing is there to find, the observed is as good as any of them,
so that each of the sequences of b with L losses has probability Beta(L + 1, b - L + 1). Were it found, losses would
come with some probability below c; spread evenly over [0, c], a sequence would have probability 1/c times the integral
of p^L (1 - p)^(b - L) over it. The ratio of both is the wealth of a bet against the null,

    W = I_c(L + 1, b - L + 1) / c,

I the regularised incomplete beta function. Its mean is 1 at most whenever one stops, whatever made one stop, so that
1 / W is a p: the null is rejected at level alpha once W >= 1 / alpha. It takes c below alpha: half of it here.

The other way, (b + 1) Bin(L; b, p) is above delta for all b with probability 1 - delta, p the exact one that all
shufflings would give: where it is not for any p <= alpha, the null is not rejected. Delta is the chance that an element
is given up that all shufflings would have found; it costs power alone, no error.

A third is as old as stopping (Besag and Clifford, 1991): count the shufflings until some number h of losses, T of them,
and h / T is a p, of any level. Who stops before knows that T is larger than b: h / (b + 1) is then above that p, and
holds too.

References
----------
Besag and Clifford (1991), Sequential Monte Carlo p-values, Biometrika 78, 301-304.
Fischer and Ramdas (2024), Sequential Monte-Carlo testing by betting, arXiv:2401.07365.
Robbins (1970), Statistical methods related to the law of the iterated logarithm, Annals of Mathematical Statistics 41,
1397-1409.
"""

from __future__ import annotations

import heapq

import numpy as np
import scipy  # its stats are loaded where they are used
from numpy.typing import NDArray
from scipy import special

from numbaglm.arrays import Doubles

DELTA = 0.001
"""Chance that what all shufflings would find is given up."""

FIRST = 100
"""Random shufflings before the first look; each look then comes after twice as many."""

_UNDECIDED = 0.01
"""Share of those rejected that may stay undecided."""


def losses_of(p: Doubles, n_random: int) -> Doubles:
    """How many random shufflings reached what has the counted p (1 + losses) / (1 + n_random)."""
    return np.rint(np.asarray(p) * (n_random + 1)) - 1


def anytime_p(losses: Doubles, n_random: int, alpha: float) -> Doubles:
    """p that holds whenever one stops; it is made to be compared with alpha, and is never below half of that.

    Parameters
    ----------
    losses
        Random shufflings that reach what was observed, any shape.
    n_random
        How many there were.
    alpha
        Level that was stopped by.
    """
    c = alpha / 2
    wealth = special.betainc(losses + 1, n_random - losses + 1, c) / c
    return np.asarray(np.minimum(1.0, 1.0 / np.maximum(wealth, np.finfo(float).tiny)), dtype=np.float64)


def verdicts(losses: Doubles, n_random: int, alpha: float) -> NDArray[np.int8]:
    """1 where the null is rejected for good, -1 where it is not, 0 where that is open."""
    rejected = anytime_p(losses, n_random, alpha) <= alpha
    likely = (n_random + 1) * scipy.stats.binom.pmf(losses, n_random, alpha)
    kept = (losses > alpha * n_random) & (likely <= DELTA)
    return rejected.astype(np.int8) - (kept & ~rejected)


def n_open(p: Doubles, n_random: int, alpha: float) -> int:
    """How many of some elements with counted p (k,) must be decided before one may stop; 0 where one may."""
    found = verdicts(losses_of(p, n_random), n_random, alpha)
    undecided = int(np.sum(found == 0))
    return undecided if undecided > _UNDECIDED * np.sum(found == 1) else 0


def besag_clifford(observed: Doubles, maxima: Doubles, losses: int) -> Doubles:
    """p by the random shufflings that it takes until so many reach what was observed; above it, where more would.

    Parameters
    ----------
    observed
        Any shape.
    maxima
        (n_random,) of random shufflings, in the order in which they were made.
    losses
        1 or more; fewer than 10 make p that vary much.
    """
    # After t shufflings a value has so many losses once the largest but losses - 1 of their maxima reach it.
    largest: list[float] = []
    reached = np.full(maxima.size, -np.inf)
    for t, value in enumerate(maxima.tolist()):
        if len(largest) < losses:
            heapq.heappush(largest, value)
        else:
            heapq.heappushpop(largest, value)
        if len(largest) == losses:
            reached[t] = largest[0]
    taken = np.searchsorted(reached, observed, side="left") + 1  # n_random + 1 where none has so many
    return np.asarray(np.minimum(1.0, losses / taken), dtype=np.float64)


def counted_level(n_random: int, level: float, alpha: float) -> float:
    """Largest counted p whose anytime p, made by alpha, is a level or less; 0 where none is."""
    losses = np.arange(n_random + 1, dtype=np.float64)
    return int(np.sum(anytime_p(losses, n_random, alpha) <= level)) / (n_random + 1)

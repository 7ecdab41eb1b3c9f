"""Shuffling in rounds, until p are decided: `permutation_test(stop="decided")`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.engine.permutation.records import RunResult, Spec
from numbaglm.inference.assembly import corrected_p
from numbaglm.inference.running import Run, part_name, write_end
from numbaglm.stats.anytime import FIRST, n_open

log = logging.getLogger("numbaglm")

Look = Callable[[Spec, RunResult, "Stopped"], None]
"""What is done with the test as far as it is, after each round."""


@dataclass(frozen=True)
class Stopped:
    """How a test ended.

    Attributes
    ----------
    alpha
        Level that p were decided against.
    n_perm, n_random
        Random shufflings that it might have made, and that it made.
    n_open
        Elements and clusters whose p were still open; 0 where so few were that it stopped.
    interrupted
        Whether whoever called ended it.
    """

    alpha: float
    n_perm: int
    n_random: int
    n_open: int
    interrupted: bool = False

    def as_kept(self) -> dict[str, Any]:
        """What provenance holds, JSON types."""
        return asdict(self)


def until_decided(
    cohort: Cohort, run: Run, spec: Spec, name: str, alpha: float, look: Look
) -> tuple[Spec, RunResult, Stopped | None]:
    """Run a test in rounds, each as long as all before it, until its corrected p are decided against alpha.

    An interrupt ends it as well, once there has been a look: p hold whenever it ends.

    Returns
    -------
    The test as it was made, of fewer shufflings; its raw results; and how it ended: None where all shufflings are
    enumerated, or too few to look at before the end, and p are those of a test that does not stop.

    Raises
    ------
    KeyboardInterrupt
        It was interrupted before the first look.
    """
    n_perm = spec.shufflings.n_shufflings - 1
    if spec.shufflings.exhaustive or n_perm <= FIRST:
        return spec, run.test(spec, name), None
    parts: list[RunResult] = []
    found: tuple[Spec, RunResult, Stopped] | None = None
    while found is None or (found[2].n_open and found[2].n_random < n_perm):
        try:
            found = _another(cohort, run, spec, name, alpha, parts)
            look(*found)
        except KeyboardInterrupt:
            if found is None:
                raise
            so_far, raw, ended = found
            log.warning(
                "Interrupted: the result is that of %s of %s random shufflings, and its p hold.%s",
                f"{ended.n_random:,}",
                f"{n_perm:,}",
                " The same call goes on." if run.durable else "",
            )
            return so_far, raw, replace(ended, interrupted=True)
    if run.durable:
        write_end(run.place, name, found[2].as_kept())
    return found


def _another(
    cohort: Cohort, run: Run, spec: Spec, name: str, alpha: float, parts: list[RunResult]
) -> tuple[Spec, RunResult, Stopped]:
    """Make the round after those whose results ``parts`` holds, and look: what `until_decided` returns, by now."""
    n_perm = spec.shufflings.n_shufflings - 1
    n_before = sum(part.max_score.size - 1 for part in parts)
    last = 1 + min(max(FIRST, 2 * n_before), n_perm)
    its = replace(spec, shufflings=spec.shufflings.part(1 + n_before, last))
    parts.append(run.test(its, part_name(name, len(parts))))
    n_random = last - 1
    so_far = replace(spec, shufflings=replace(spec.shufflings, n_shufflings=last))
    raw = joined(parts)
    still = max(n_open(p, n_random, alpha) for p in corrected_p(cohort, so_far, raw))
    run.note(f"{n_random:,} of {n_perm:,} random shufflings: {still:,} corrected p open against {alpha:g}.")
    return so_far, raw, Stopped(alpha, n_perm, n_random, still)


def joined(parts: Sequence[RunResult]) -> RunResult:
    """Join results of shufflings that follow each other; each of the parts begins with the observed map."""
    first = parts[0]

    def chained(name: str) -> Any:
        if getattr(first, name) is None:
            return None
        arrays: list[NDArray[Any]] = [getattr(first, name), *(getattr(part, name)[..., 1:] for part in parts[1:])]
        return np.concatenate(arrays, axis=-1)

    nulls = {name: chained(name) for name in ("max_score", "max_size", "max_mass", "max_tfce")}
    counts = np.sum([part.counts for part in parts], axis=0) - (len(parts) - 1)
    return replace(first, counts=counts, **nulls)

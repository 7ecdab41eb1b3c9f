"""How often the bounds of true discoveries are wrong, and what they find, measured on simulated data.

    python benchmarks/validity_discoveries.py                  # the section of validity.md, a minute or two
    python benchmarks/validity_discoveries.py --size small     # seconds, wide intervals

The bounds of one map are wrong if that of any set is, of all 2^n. One set shows it: the elements without effect. Where
a set S is said to have more true discoveries than it has, leave out what has an effect: the bound falls by one an
element at most, so that the rest still has some; and no set has fewer than one within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

from numbaglm.stats.discoveries import (
    Bound,
    Learned,
    Lists,
    Simes,
    ThresholdTemplate,
    ari,
    calibrate,
    calibrate_together,
)
from validity_page import markdown, of_maps, script, written

ALPHA = 0.05
SIDE, ACTIVE = 10, 5  # of the volume, and of the block with an effect in it
N_SUBJECTS, N_SHUFFLINGS, N_LEARNED, N_LISTED = 20, 200, 100, 100
SIZES = {"small": 60, "medium": 300, "full": 1000}  # maps
HEADING = "## True discoveries"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """Maps of subjects: noise, and an effect in standard deviations of it in a block."""

    name: str
    smoothing: float
    effect: float
    long_tails: bool = False

    def maps(self, rng: np.random.Generator) -> Floats:
        """(N_SUBJECTS, n_elements) maps."""
        shape = (N_SUBJECTS, SIDE, SIDE, SIDE)
        Y = rng.standard_normal(shape)
        if self.smoothing:
            Y = ndimage.gaussian_filter(Y, (0, *3 * (self.smoothing,)), mode="wrap")
        Y /= Y.std()
        if self.long_tails:
            Y = np.sinh(1.5 * Y)
            Y /= Y.std()
        Y[:, :ACTIVE, :ACTIVE, :ACTIVE] += self.effect
        return Y.reshape(N_SUBJECTS, -1)

    def active(self) -> NDArray[np.bool_]:
        """(n_elements,) where there is an effect."""
        block = np.zeros((SIDE, SIDE, SIDE), np.bool_)
        block[:ACTIVE, :ACTIVE, :ACTIVE] = self.effect > 0
        return block.ravel()


DATA = (
    Data("no effect, independent", 0.0, 0.0),
    Data("no effect, smooth", 1.5, 0.0),
    Data("effect, independent", 0.0, 0.8),
    Data("effect, smooth", 1.5, 0.8),
    Data("effect, smooth, long tails", 1.5, 0.8, long_tails=True),
)


@dataclass(frozen=True)
class Map:
    """One simulated map: all its p, and the smallest of its shufflings and of those to learn from."""

    p: Floats
    sorted_p: Floats
    elements: NDArray[np.intp]
    training: Floats

    def calibrated(self, template: str | ThresholdTemplate, step_down: bool = False, alpha: float = ALPHA) -> Bound:
        """Bound by a template."""
        elements = self.elements if step_down else None
        return calibrate(self.sorted_p, self.p.size, template, alpha, elements=elements).bound(self.p)


METHODS: dict[str, Callable[[Map], Bound]] = {
    "all-resolution inference": lambda one: ari(one.p, ALPHA),
    "Simes, calibrated": lambda one: one.calibrated("simes"),
    "the same, stepping down": lambda one: one.calibrated("simes", step_down=True),
    "Simes shifted by 10": lambda one: one.calibrated(Simes(shift=10)),
    "beta": lambda one: one.calibrated("beta"),
    "beta, stepping down": lambda one: one.calibrated("beta", step_down=True),
    "learned": lambda one: one.calibrated(Learned.learn(one.training)),
    "learned, stepping down": lambda one: one.calibrated(Learned.learn(one.training), step_down=True),
}
TOGETHER = {"Simes": "simes", "learned": None}  # over the maps of two contrasts at once


def simulate(data: Data, n_maps: int) -> Iterator[Map]:
    """Maps with one-sided p of one-sample t under sign flips."""
    for seed in range(n_maps):
        rng = np.random.default_rng([seed, 11])
        yield flipped(data.maps(rng), draw(rng))


def draw(rng: np.random.Generator) -> Floats:
    """Sign flips (N_SHUFFLINGS + N_LEARNED, N_SUBJECTS): the data, those that calibrate, and those to learn from."""
    signs = rng.choice([-1.0, 1.0], size=(N_SHUFFLINGS + N_LEARNED, N_SUBJECTS))
    signs[0] = 1.0
    return signs


def flipped(Y: Floats, signs: Floats) -> Map:
    """Flip maps (N_SUBJECTS, n_elements)."""
    r = signs @ (Y / np.sqrt((Y**2).sum(axis=0) * N_SUBJECTS))  # t = r sqrt((n - 1) / (1 - r^2))
    elements = np.argpartition(r, -N_LISTED, axis=1)[:, -N_LISTED:]
    largest = np.take_along_axis(r, elements, axis=1)
    order = np.argsort(-largest, axis=1)
    sorted_p = p_of(np.take_along_axis(largest, order, axis=1))
    elements = np.take_along_axis(elements, order, axis=1)
    return Map(p_of(r[0]), sorted_p[:N_SHUFFLINGS], elements[:N_SHUFFLINGS], sorted_p[N_SHUFFLINGS:])


_Z = np.linspace(-3, 3, 20001)
_LOG_P = stats.t.logsf(np.tanh(_Z) * np.sqrt(N_SUBJECTS - 1) / np.sqrt(1 - np.tanh(_Z) ** 2), N_SUBJECTS - 1)


def p_of(r: Floats) -> Floats:
    """p of t by interpolation between many, which takes a tenth of the time: to 1e-7 of it, and 3 is out of reach."""
    return np.exp(np.interp(np.arctanh(r), _Z, _LOG_P))


def measure(
    data: Data, n_maps: int, methods: dict[str, Callable[[Map], Bound]]
) -> tuple[dict[str, int], dict[str, float]]:
    """For each method, of how many maps any bound is wrong, and the mean share that it finds of the effect."""
    wrong, found = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0.0)
    active = data.active()
    for one in simulate(data, n_maps):
        for name, method in methods.items():
            bound = method(one)
            wrong[name] += bound.of(~active).n_true > 0
            found[name] += bound.of(active).tdp / n_maps
    return wrong, found


def errors_together(data: Data, n_maps: int, template: str | None) -> int:
    """Of how many pairs of maps any bound of either is wrong, calibrated over both: one of the data, one of noise."""
    wrong, noise = 0, replace(data, effect=0.0)
    for seed in range(n_maps):
        rng = np.random.default_rng([seed, 12])
        signs = draw(rng)
        pair = [flipped(one.maps(rng), signs) for one in (data, noise)]
        lists = [Lists(one.sorted_p, template or Learned.learn(one.training)) for one in pair]
        found = calibrate_together(lists, pair[0].p.size, ALPHA)
        bounds = [its.bound(one.p) for its, one in zip(found, pair, strict=True)]
        sides = zip(bounds, (data, noise), strict=True)
        wrong += any(bound.of(~one.active()).n_true > 0 for bound, one in sides)
    return wrong


def tables(n_maps: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Share of maps with a wrong bound, and share of the effect that is found, of each method on each kind of data."""
    errors, power = (pd.DataFrame({"bound": list(METHODS)}) for _ in range(2))
    for data in DATA:
        wrong, found = measure(data, n_maps, METHODS)
        errors[data.name] = [of_maps(wrong[name], n_maps) for name in METHODS]
        if data.effect:
            power[data.name] = [f"{100 * found[name]:.1f} %" for name in METHODS]
    both = pd.DataFrame({"bound": [f"{name}, two contrasts together" for name in TOGETHER]})
    for data in DATA:
        both[data.name] = [of_maps(errors_together(data, n_maps, template), n_maps) for template in TOGETHER.values()]
    return pd.concat([errors, both]), power


def section(size: str) -> str:
    n_maps = SIZES[size]
    errors, power = tables(n_maps)
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f""
        f"{n_maps} maps of each kind, of {SIDE**3} voxels, {N_SUBJECTS} subjects, sign flips, one-sided; "
        f"{N_SHUFFLINGS} shufflings, {N_LEARNED} others to learn from, thresholds for k to {N_LISTED}. "
        f"The effect is of 0.8 standard deviations in {ACTIVE**3} voxels.\n\n"
        f"Maps of which the bound of any set was wrong; nominal level {100 * ALPHA:g} %, in brackets the 95 % interval "
        f"of the simulation; of two contrasts the second has no effect:\n\n{markdown(errors)}\n\n"
        "Mean bound of the true discovery proportion in the voxels with an effect, all of which are true discoveries:"
        f"\n\n{markdown(power)}\n"
    )


if __name__ == "__main__":
    script(__doc__, SIZES, section)

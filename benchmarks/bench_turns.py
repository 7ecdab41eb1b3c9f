"""turns.py at its smallest: each row runs on both sides, and a side that is slower is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import turns
from checkouts import Checkout
from turns_rows import ROWS

HERE = Path(__file__).parent.parent


def bench_every_row() -> None:
    told: list[str] = []
    checkouts = Checkout.parse("old", HERE), Checkout.parse("new", HERE)
    turns.run(checkouts, list(ROWS.values()), 2, "small", say=told.append)
    assert [line.split(" | ")[0].strip("| ") for line in told[1:]] == list(ROWS)


def bench_verdicts() -> None:
    rng = np.random.default_rng(0)
    noise = np.exp(0.02 * rng.standard_normal((2, 20)))
    same, slower = turns.Ratio.of(*noise), turns.Ratio.of(noise[0], 1.1 * noise[1])
    assert same.low < 1 < same.high
    assert same.verdict() == ""
    assert slower.low < 1 / 1.1 < slower.high
    assert slower.verdict() == "SLOWER"
    assert slower.verdict(expected=True) == "slower, as expected"
    assert turns.Ratio.of(1.1 * noise[0], noise[1]).verdict() == "faster"

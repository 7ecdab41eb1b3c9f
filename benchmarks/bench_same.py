"""same.py at its smallest: a checkout gives the same as itself, and what is planted is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import same
from checkouts import Checkout
from same_calls import CALLS, COUNTED, RANDOM, Call

HERE = Path(__file__).parent.parent


def bench_a_checkout_is_the_same_as_itself(tmp_path: Path) -> None:
    told: list[str] = []
    checkouts = Checkout.parse("old", HERE), Checkout.parse("new", HERE)
    assert same.run(checkouts, same.SMALLEST, folder=tmp_path, say=told.append)
    assert len(told) == len(same.SMALLEST) + 1
    assert all(line.startswith("same ") for line in told[:-1])

    # One bit of one array, planted.
    old, new = (same.read(tmp_path / side / "t-flips-all.npz") for side in ("old", "new"))
    new["maps/t"][7] = np.nextafter(new["maps/t"][7], np.inf)
    text, passes = same.row(CALLS["t-flips-all"], old, new, ())
    assert not passes
    assert "DIFFERENT" in text
    assert "maps/t: 1 of " in text
    assert "first at 7:" in text
    assert same.row(CALLS["t-flips-all"], old, new, ["t-flips-all/maps/t"])[1]
    # The same in a call of v is within tolerance; another count is not.
    old, new = (same.read(tmp_path / side / "v-all.npz") for side in ("old", "new"))
    new["maps/v"][7] = np.nextafter(new["maps/v"][7], np.inf)
    text, passes = same.row(CALLS["v-all"], old, new, ())
    assert passes
    assert text.startswith("within tolerance")
    new["maps/p_unc"][7] += 1 / 70
    assert not same.row(CALLS["v-all"], old, new, ())[1]


def bench_differences_of_every_kind() -> None:
    old = {
        "gone": np.zeros(2),
        "shape": np.zeros(2),
        "type": np.zeros(2),
        "zero": np.array([0.0]),
        "page.md": np.array("one\ntwo"),
        "facts.json": np.array('{"seed": 1, "versions": {"numpy": "1"}, "rows": [[1, 2]]}'),
    }
    new = {
        "new": np.zeros(2),
        "shape": np.zeros(3),
        "type": np.zeros(2, np.float32),
        "zero": np.array([-0.0]),
        "page.md": np.array("one\nthree"),
        "facts.json": np.array('{"seed": 1, "versions": {"numpy": "2"}, "rows": [[1, 3]]}'),
    }
    found = {one.output for one in same.compare(old, new, None)}
    assert found == {"gone", "new", "shape", "type", "zero", "page.md", "facts.json:rows:0"}
    assert same.compare(old, old, None) == []
    assert not same.row(Call("x", print), {"FAILED": np.array("a")}, {"FAILED": np.array("a")}, ())[1]


@pytest.mark.parametrize(
    ("name", "change", "tolerance", "within"),
    [
        ("maps/v", 1e-5, RANDOM, True),
        ("maps/v", 1e-2, RANDOM, False),
        ("maps/v", 1e-5, COUNTED, False),
        ("maps/p_unc", 1 / 301, RANDOM, True),
        ("maps/p_unc", 1e-6, COUNTED, False),
        ("h0/max_size", 5.0, RANDOM, True),  # one of 300
        ("h0/max_z", 5.0, RANDOM, False),
        ("maps/v", np.nan, RANDOM, False),
    ],
)
def bench_tolerance(name: str, change: float, tolerance: same.Tolerance, within: bool) -> None:
    old = np.linspace(0.1, 0.9, 300)
    new = old.copy()
    new[5] += change
    (found,) = same.compare({name: old}, {name: new}, tolerance)
    assert found.within is within


def bench_a_folder_without_the_package(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no checkout"):
        Checkout.parse("old", tmp_path)

"""The page benchmarks/validity.md: how the sections that scripts measure take their places, and word their numbers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import numbaglm as ng

PAGE = Path(__file__).with_name("validity.md")
TITLE = "# Error rates and power"


def over_runs(shares: list[float]) -> tuple[float, float, float]:
    """Mean share of hits over runs, and its 95 % interval."""
    mean = float(np.mean(shares))
    reach = float(stats.t.isf(0.025, len(shares) - 1) * np.std(shares, ddof=1) / np.sqrt(len(shares)))
    return mean, max(0.0, mean - reach), mean + reach


def percent(share: float, low: float, high: float, digits: int = 1) -> str:
    """A share and its interval, in percent."""
    return f"{100 * share:.{digits}f} % ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


def of_maps(n: int, n_maps: int) -> str:
    """Share of maps and its 95 % interval, by Clopper and Pearson."""
    low, high = stats.binomtest(n, n_maps).proportion_ci(0.95)
    return percent(n / n_maps, low, high)


def markdown(table: pd.DataFrame) -> str:
    """Write a table without its private columns."""
    shown = table[[column for column in table if not str(column).startswith("_")]]
    lines = [list(shown.columns), ["---"] * shown.shape[1], *shown.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def written(script: str, size: str) -> str:
    """Who wrote a section, as its first sentence."""
    return f"Written by `python benchmarks/{Path(script).name} --size {size}`, numbaglm {ng.__version__}."


def put(section: str, page: Path) -> None:
    """Put a section in the place of the one of its heading, or at the end; all others stay as they are."""
    text = page.read_text() if page.exists() else f"{TITLE}\n"
    there = re.compile(rf"(?ms)^{re.escape(section.partition(chr(10))[0])}$.*?(?=^## |\Z)")
    if there.search(text):
        text = there.sub(lambda _: f"{section.rstrip()}\n\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    page.write_text(f"{text.rstrip()}\n")
    print(section)


def arguments(doc: str | None, sizes: Collection[str]) -> argparse.ArgumentParser:
    """What every script takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sizes, default="full")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page that the sections go to (validity.md)")
    return parser


def script(doc: str | None, sizes: Collection[str], section: Callable[[str], str]) -> None:
    """Measure a section of the size that is asked for, and put it in its place."""
    asked = arguments(doc, sizes).parse_args()
    put(section(asked.size), asked.output)

"""Tell whether two checkouts of numbaglm give the same: `python benchmarks/same.py OLD NEW`.

Each makes the calls of same_calls.py in a process of its own. Maps, nulls, tables, texts and files must be the same
bits; those of v and G may be apart by the tolerance that the call states. Left out are versions, the place where files
lie, pictures within provenance, and the insides of .npz and .zarr, of which what can be read back is compared.
Exits with 1 if anything differs; --expect names what may, such as a file that is new.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from checkouts import Checkout
from same_calls import CALLS, Call, Tolerance

LEFT_OUT = ("versions", "Version", "*picture*", "*seconds*", "*Seconds*")
"""Keys of JSON that tell how, where and when a call was made, and not what it found."""

SMALLEST = ("t-flips-all", "f-all", "v-all", "t-parametric", "clusters-table", "randomise-mean")
"""Of the calls, a few that are quick and unlike each other."""

_CALLS_SCRIPT = str(Path(__file__).with_name("same_calls.py"))
_SINGLE = 1e-6  # of p in single precision, whose logarithm was rounded
_FDR = 5  # p adjusted for the false discovery rate move by several counts where p move by one


@dataclass(frozen=True)
class Difference:
    """An output that is not the same bits on both sides.

    Attributes
    ----------
    output
        Its name.
    told
        Where and by how much.
    within
        Whether that is within the tolerance of the call.
    """

    output: str
    told: str
    within: bool = False


def compare(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: Tolerance | None) -> list[Difference]:
    """Differences between what one call gave on each side, as arrays by name."""
    found = [Difference(name, f"gone, was {_shown(old[name])}") for name in old if name not in new]
    found += [Difference(name, f"new, {_shown(new[name])}") for name in new if name not in old]
    if "FAILED" in old and "FAILED" in new:
        found.append(Difference("FAILED", f"both sides: {new['FAILED']}"))
    for name in old:
        if name in new:
            found += _of_output(name, np.asarray(old[name]), np.asarray(new[name]), tolerance)
    return found


def _of_output(name: str, old: NDArray[Any], new: NDArray[Any], tolerance: Tolerance | None) -> Iterator[Difference]:
    if old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes():
        return
    if old.dtype.kind == new.dtype.kind == "U":
        yield from _of_texts(name, old, new, tolerance)
    elif old.dtype != new.dtype or old.shape != new.shape:
        yield Difference(name, f"{_shown(old)} is {_shown(new)}")
    elif old.dtype.kind not in "iuf":
        yield Difference(name, _first(old, new, old != new))
    elif name.endswith("/header"):
        yield Difference(name, f"{int((old != new).sum())} bytes")
    elif name.endswith(".png"):
        yield Difference(name, "another picture")
    else:
        yield _of_numbers(name, old, new, tolerance)


def _of_numbers(name: str, old: NDArray[Any], new: NDArray[Any], tolerance: Tolerance | None) -> Difference:
    """Where numbers of two arrays are not the same bits, and whether they are close enough."""
    kind = f"V{old.dtype.itemsize}"
    differs = np.ascontiguousarray(old).view(kind) != np.ascontiguousarray(new).view(kind)
    differs = differs.reshape(old.shape)
    told = _first(old, new, differs)
    if tolerance is None:
        return Difference(name, told)
    word = re.split(r"[/:]", name.removesuffix("/data").removesuffix(".nii.gz").removesuffix(".nii"))[-1]
    a, b = old.astype(np.float64), new.astype(np.float64)
    if word.startswith(("p_", "logp_")):
        if word.startswith("logp_"):
            a, b = 10.0**-a, 10.0**-b
        allowed = np.full(a.shape, tolerance.p * (_FDR if "fdr" in word else 1))
        if old.dtype == np.float32:
            allowed = np.maximum(allowed, _SINGLE)
    else:
        finite = a[np.isfinite(a)]
        size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
        share = max(tolerance.relative, float(np.finfo(np.float32).eps) if old.dtype == np.float32 else 0.0)
        allowed = share * np.maximum(np.abs(a), size)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    out = ~(apart <= allowed)
    strays = int(tolerance.stray * out.size) if word.startswith(("max_size", "max_mass")) else 0
    return Difference(name, told, within=int(out.sum()) <= strays)


def _of_texts(name: str, old: NDArray[Any], new: NDArray[Any], tolerance: Tolerance | None) -> Iterator[Difference]:
    """Differences of texts: leaves of JSON, columns of tables, and lines of all others."""
    if old.shape != new.shape or old.ndim:
        same_shape = old.shape == new.shape
        yield Difference(name, _first(old, new, old != new) if same_shape else f"{_shown(old)} is {_shown(new)}")
        return
    one, other = str(old), str(new)
    if name.endswith(".json"):
        pair = [{name: np.asarray(leaf) for name, leaf in _leaves(json.loads(text), name)} for text in (one, other)]
        yield from compare(pair[0], pair[1], tolerance)
    elif name.endswith((".tsv", ".csv")) and tolerance is not None:
        pair = [{f"{name}:{key}": column.to_numpy() for key, column in _read(text).items()} for text in (one, other)]
        yield from compare(pair[0], pair[1], tolerance)
    else:
        lines = one.splitlines(), other.splitlines()
        changed = [(a, b) for a, b in zip(*lines, strict=False) if a != b]
        more = abs(len(lines[0]) - len(lines[1]))
        first = f", first {_cut(changed[0][0])!r} is {_cut(changed[0][1])!r}" if changed else ""
        # Texts of calls with a tolerance hold rounded numbers: the numbers themselves are compared.
        within = tolerance is not None and _without_numbers(one) == _without_numbers(other)
        yield Difference(name, f"{len(changed)} lines{f', {more} more or fewer' if more else ''}{first}", within)


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "0", text)


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(text), sep="\t" if "\t" in text else ",")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Leaves of JSON by their path, but for those that are left out."""
    if isinstance(value, dict):
        for key, one in value.items():
            if not any(fnmatchcase(key, pattern) for pattern in LEFT_OUT):
                yield from _leaves(one, f"{name}:{key}")
    elif isinstance(value, list) and not all(isinstance(one, int | float) for one in value):
        for number, one in enumerate(value):
            yield from _leaves(one, f"{name}:{number}")
    else:
        yield name, str(value) if value is None else value


def _shown(value: Any) -> str:
    array = np.asarray(value)
    return f"{array.dtype} {array.shape}" if array.ndim else f"{_cut(str(array))!r}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first(old: NDArray[Any], new: NDArray[Any], differs: NDArray[np.bool_]) -> str:
    """How many elements differ, by how much, and the first of them."""
    where = tuple(int(one[0]) for one in np.nonzero(differs)) if differs.ndim else ()
    place = f" (first at {', '.join(map(str, where))}: {old[where]} is {new[where]})" if where else f" ({old} is {new})"
    by = ""
    if old.dtype.kind in "iuf":
        with np.errstate(invalid="ignore"):
            apart = np.abs(old.astype(np.float64) - new.astype(np.float64))
        by = f" by up to {np.nanmax(np.where(differs, apart, 0)):.3g}"
    return f"{int(differs.sum())} of {differs.size:,} values{by}{place}"


def make_calls(checkouts: Sequence[Checkout], names: Sequence[str], folder: Path) -> None:
    """Make calls with all checkouts at once, each in a process of its own, into FOLDER/NAME OF THE CHECKOUT.

    A process that compiles a kernel may round otherwise than those that load what it compiled, since the compiler then
    sees the kernels that it calls. So a process that did is run anew.
    """
    started = [_start(checkout, names, folder) for checkout in checkouts]
    try:
        for number, checkout in enumerate(checkouts):
            started[number].wait()
            done = (folder / checkout.name / "done.txt").read_text().splitlines()
            if done and done[-1].startswith("compiled") and done[-1] != "compiled 0":
                started[number] = _start(checkout, names, folder)
        for child in started:
            child.wait()
    finally:
        for child in started:
            child.kill()
            child.wait()


def _start(checkout: Checkout, names: Sequence[str], folder: Path) -> Popen[str]:
    place = folder / checkout.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    with (place / "stderr.txt").open("w") as log, (place / "done.txt").open("w") as done:
        given = (_CALLS_SCRIPT, str(checkout.folder), str(place), *names)
        return checkout.start(*given, cwd=place, stdout=done, stderr=log)


def read(path: Path) -> dict[str, Any]:
    """What a call gave; where its process ended before, that it did."""
    if not path.exists():
        return {"FAILED": np.array("its process ended before it")}
    with np.load(path) as arrays:
        return dict(arrays)


def row(call: Call, old: Mapping[str, Any], new: Mapping[str, Any], expected: Sequence[str]) -> tuple[str, bool]:
    """What is told of a call, and whether it passes."""
    differences = compare(old, new, call.tolerance)
    known, left = [], []
    for one in differences:
        full = f"{call.name}/{one.output}"
        (known if any(fnmatchcase(full, pattern) for pattern in expected) else left).append(one)
    wrong = [one for one in left if not one.within]
    verdict = "DIFFERENT" if wrong else "within tolerance" if left else "as expected" if known else "same"
    told = wrong or left or known
    lines = [f"{verdict:<16} {call.name:<28} {len(old)} outputs" + (f", {len(told)} not the same bits" if told else "")]
    lines += [f"    {one.output}: {one.told}" for one in (told if wrong else told[:1])]
    return "\n".join(lines), not wrong


def run(
    checkouts: Sequence[Checkout],
    names: Sequence[str],
    expected: Sequence[str] = (),
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Make calls, tell of each, and return whether all pass.

    Parameters
    ----------
    checkouts
        The old one and the new one.
    names
        Of calls.
    expected
        Patterns of ``call/output`` that may differ.
    folder
        Where outputs are kept; by default in a temporary one.
    say
        Takes what is told.
    """
    with tempfile.TemporaryDirectory() as temporary:
        passed = []
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        make_calls(checkouts, names, place)
        for name in names:
            old, new = (read(place / checkout.name / f"{name}.npz") for checkout in checkouts)
            text, passes = row(CALLS[name], old, new, expected)
            say(text)
            passed.append(passes)
        for checkout in checkouts:
            if not all(passed) and (log := (place / checkout.name / "stderr.txt").read_text()):
                say(f"--- stderr of {checkout.name}, {checkout.folder}\n{log}")
    say(f"{sum(passed)} of {len(passed)} calls pass.")
    return all(passed)


def chosen(patterns: Sequence[str] | None, parser: argparse.ArgumentParser) -> list[str]:
    """Names of the calls that the patterns choose; all without any."""
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in CALLS):
            parser.error(f"no call {pattern!r}: there are {', '.join(CALLS)}")
    return [name for name in CALLS if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="checkout that is trusted")
    parser.add_argument("new", help="checkout that is tested")
    parser.add_argument("--only", action="append", metavar="NAME", help="call to make, or a pattern such as 'v-*'")
    parser.add_argument("--expect", action="append", default=[], metavar="CALL/OUTPUT", help="pattern that may differ")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="folder, not there yet, to keep all outputs in")
    asked = parser.parse_args()
    if asked.keep is not None and asked.keep.exists():
        parser.error(f"{asked.keep} exists")
    checkouts = Checkout.parse("old", asked.old), Checkout.parse("new", asked.new)
    return 0 if run(checkouts, chosen(asked.only, parser), asked.expect, asked.keep) else 1


if __name__ == "__main__":
    sys.exit(main())

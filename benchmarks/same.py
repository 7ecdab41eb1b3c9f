"""Tell whether two checkouts of numbaglm give the same: `python benchmarks/same.py OLD NEW`.

Each makes the calls of same_calls.py in a process of its own. Maps, nulls, tables, texts and files must be the same
bits, but for what a call's tolerance, or the table of expected differences (same_expected.py), lets pass; and nothing
that users may have written may be lost (same_public.py). Left out are versions, the place where files lie, pictures
within provenance, and the insides of .npz and .zarr, of which what can be read back is compared. Exits with 1 if
anything else differs; --expect names more that may.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
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
from same_expected import EXPECTED, Expected

LEFT_OUT = ("versions", "Version", "*picture*", "*seconds*", "*Seconds*")
"""Keys of JSON that tell how, where and when a call was made, and not what it found."""

SMALLEST = ("t-flips-all", "f-all", "v-all", "t-parametric", "clusters-table", "randomise-mean")
"""Of the calls, a few that are quick and unlike each other."""

_CALLS_SCRIPT = str(Path(__file__).with_name("same_calls.py"))


@dataclass(frozen=True, eq=False)
class Difference:
    """An output that is not the same bits on both sides.

    Attributes
    ----------
    output
        Its name.
    kind
        "new" and "gone" where one side lacks it; "numbers" of one shape and type; "words", and "other".
    told
        Where and by how much.
    old, new
        What both sides gave, where both gave something.
    """

    output: str
    kind: str
    told: str
    old: Any = None
    new: Any = None


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Differences between what one call gave on each side, as arrays by name."""
    found = [Difference(name, "gone", f"gone, was {_shown(old[name])}") for name in old if name not in new]
    found += [Difference(name, "new", f"new, {_shown(new[name])}") for name in new if name not in old]
    if "FAILED" in old and "FAILED" in new:
        found.append(Difference("FAILED", "other", f"both sides: {new['FAILED']}"))
    for name in old:
        if name in new:
            found += _of_output(name, np.asarray(old[name]), np.asarray(new[name]))
    return found


def _of_output(name: str, old: NDArray[Any], new: NDArray[Any]) -> Iterator[Difference]:
    if old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes():
        return
    if re.split("[/:]", name)[-1] == "columns" and old.ndim == new.ndim == 1:
        if not _holds_in_order(new.tolist(), old.tolist()):  # a column more is an output of its own
            yield Difference(name, "other", f"{old.tolist()} are {new.tolist()}")
    elif old.dtype.kind == new.dtype.kind == "U":
        yield from _of_texts(name, old, new)
    elif name.endswith(".png"):
        yield Difference(name, "picture", "another picture")
    elif old.dtype != new.dtype or old.shape != new.shape:
        yield Difference(name, "other", f"{_shown(old)} is {_shown(new)}")
    elif old.dtype.kind not in "iuf":
        yield Difference(name, "other", _first(old, new, old != new))
    else:
        kind = f"V{old.dtype.itemsize}"
        differs = np.ascontiguousarray(old).view(kind) != np.ascontiguousarray(new).view(kind)
        yield Difference(name, "numbers", _first(old, new, differs.reshape(old.shape)), old, new)


def _holds_in_order(whole: Sequence[str], part: Sequence[str]) -> bool:
    rest = iter(whole)
    return all(one in rest for one in part)


def close(difference: Difference, tolerance: Tolerance | None) -> bool:
    """Whether a difference is one of numbers, and within a tolerance."""
    if tolerance is None or difference.kind != "numbers":
        return False
    name, old, new = difference.output, difference.old, difference.new
    word = re.split(r"[/:]", name.removesuffix("/data").removesuffix(".nii.gz").removesuffix(".nii"))[-1]
    a, b = old.astype(np.float64), new.astype(np.float64)
    if word.startswith(("p_", "logp_")):
        if word.startswith("logp_"):
            a, b = 10.0**-a, 10.0**-b
        allowed = np.full(a.shape, tolerance.p)
    else:
        finite = a[np.isfinite(a)]
        size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
        allowed = tolerance.relative * np.maximum(np.abs(a), size)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return bool((apart <= allowed).all())


def _of_texts(name: str, old: NDArray[Any], new: NDArray[Any]) -> Iterator[Difference]:
    """Differences of texts: leaves of JSON, columns of tables, and lines of all others."""
    if old.shape != new.shape or old.ndim:
        same_shape = old.shape == new.shape
        told = _first(old, new, old != new) if same_shape else f"{_shown(old)} is {_shown(new)}"
        yield Difference(name, "other", told)
        return
    one, other = str(old), str(new)
    if name.endswith(".json") or (one.startswith("{") and other.startswith("{")):
        pair = [{path: np.asarray(leaf) for path, leaf in _leaves(json.loads(text), name)} for text in (one, other)]
        yield from compare(pair[0], pair[1])
    elif name.endswith((".tsv", ".csv")):
        tables = [_read(text) for text in (one, other)]
        pair = [{f"{name}:{key}": _column(column) for key, column in table.items()} for table in tables]
        columns = [{f"{name}:columns": np.array(list(table), dtype=str)} for table in tables]
        yield from compare(columns[0] | pair[0], columns[1] | pair[1])
    else:
        lines = one.splitlines(), other.splitlines()
        changed = [(a, b) for a, b in zip(*lines, strict=False) if a != b]
        more = abs(len(lines[0]) - len(lines[1]))
        first = f", first {_cut(changed[0][0])!r} is {_cut(changed[0][1])!r}" if changed else ""
        told = f"{len(changed)} lines{f', {more} more or fewer' if more else ''}{first}"
        yield Difference(name, "words", told, one, other)


def _column(column: Any) -> NDArray[Any]:
    """Values of a column of texts: whole numbers, numbers, or the texts."""
    texts = column.to_numpy(dtype=str)
    for kind in (np.int64, np.float64):
        with contextlib.suppress(ValueError):
            return texts.astype(kind)
    return texts


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(text), sep="\t" if "\t" in text else ",", dtype=str, keep_default_na=False)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Leaves of JSON by their path, but for those that are left out."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            if not any(fnmatchcase(key, pattern) for pattern in LEFT_OUT):
                yield from _leaves(one, f"{name}:{key}")
    elif isinstance(value, list) and not all(isinstance(one, int | float) for one in value):
        for number, one in enumerate(value):
            yield from _leaves(one, f"{name}:{number}")
    else:
        yield name, str(value) if value is None or value == {} else value


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


def _is_of(name: str, difference: Difference, row: Expected) -> bool:
    """Whether a row of the table lets a difference of an output pass."""
    if not fnmatchcase(difference.kind, row.kind) or not any(fnmatchcase(name, one) for one in row.outputs.split()):
        return False
    if row.besides:
        left = [re.sub(row.besides, "", str(side), flags=re.MULTILINE) for side in (difference.old, difference.new)]
        return left[0] == left[1]
    return row.tolerance is None or close(difference, row.tolerance)


@dataclass(frozen=True)
class Told:
    """What is told of a call.

    Attributes
    ----------
    text
        Its line, and those of what is wrong.
    passes
        Whether nothing is wrong.
    known
        How many outputs differ as each row of the table of expected differences says.
    """

    text: str
    passes: bool
    known: Counter[Expected]


def judge(call: Call, old: Mapping[str, Any], new: Mapping[str, Any], expected: Sequence[Expected] = ()) -> Told:
    """Hold what differs to the tolerance of the call, and to what is expected to differ."""
    known: Counter[Expected] = Counter()
    within, wrong = [], []
    for one in compare(old, new):
        name = f"{call.name}/{one.output}"
        row = next((row for row in expected if _is_of(name, one, row)), None)
        if row is not None:
            known[row] += 1
        else:
            (within if close(one, call.tolerance) else wrong).append(one)
    verdict = "DIFFERENT" if wrong else "within tolerance" if within else "as expected" if known else "same"
    told = wrong or within
    counts = {"not the same bits": len(told), "as expected": known.total()}
    numbers = [f"{len(old)} outputs", *(f"{count} {what}" for what, count in counts.items() if count)]
    lines = [f"{verdict:<16} {call.name:<28} {', '.join(numbers)}"]
    lines += [f"    {one.output}: {one.told}" for one in (wrong or within[:1])]
    return Told("\n".join(lines), not wrong, known)


def run(
    checkouts: Sequence[Checkout],
    names: Sequence[str],
    expected: Sequence[Expected] = (),
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
        What may differ.
    folder
        Where outputs are kept; by default in a temporary one.
    say
        Takes what is told.
    """
    with tempfile.TemporaryDirectory() as temporary:
        passed, known = [], Counter[Expected]()
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        make_calls(checkouts, names, place)
        for name in names:
            old, new = (read(place / checkout.name / f"{name}.npz") for checkout in checkouts)
            told = judge(CALLS[name], old, new, expected)
            say(told.text)
            passed.append(told.passes)
            known += told.known
        for checkout in checkouts:
            if not all(passed) and (log := (place / checkout.name / "stderr.txt").read_text()):
                say(f"--- stderr of {checkout.name}, {checkout.folder}\n{log}")
    for one in expected:
        if known[one] or len(names) == len(CALLS):  # a row for nothing is one to take out
            say(f"{known[one]:>6} {one.kind}: {one.reason}: {one.outputs}")
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
    expected = [Expected(pattern, "*", "--expect") for pattern in asked.expect]
    expected += EXPECTED.get(checkouts[0].version, ())
    return 0 if run(checkouts, chosen(asked.only, parser), expected, asked.keep) else 1


if __name__ == "__main__":
    sys.exit(main())

"""PALM's own commands on the golden cases, run with one word changed, and every map that they make beside PALM's."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from click.testing import CliRunner

from numbaglm.faces.commands import commands
from reference.kept_arrays import kept_arrays

ROOTS = [Path(__file__).parents[1] / name for name in ("golden", "golden2")]
_RUN = re.compile(r"^\[(?P<tag>[^]]+)\] palm (?P<words>.*?)\s*(?P<failed># FAILED.*)?$")


@dataclass(frozen=True)
class Command:
    """A command of PALM's; ``n`` says whether it enumerates all shufflings."""

    case: Path
    tag: str
    words: tuple[str, ...]
    failed: bool

    @property
    def enumerates(self):
        return "-n" in self.words and self.words[self.words.index("-n") + 1] == "0"

    def __str__(self):
        return f"{self.case.name}/{self.tag}"


def commands_of(case):
    """All commands of a case."""
    found = [_RUN.match(line) for line in (case / "palm_commands.txt").read_text().splitlines()]
    return [Command(case, one["tag"], tuple(shlex.split(one["words"])), bool(one["failed"])) for one in found if one]


def cases():
    return sorted(path.parent for root in ROOTS for path in root.glob("*/palm_commands.txt"))


def lay_out(case, folder):
    """Copy the files of a case, images as PALM read them: .nii."""
    for file in case.iterdir():
        if file.name.endswith(".nii.gz"):
            (folder / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
        elif file.is_file() and file.suffix != ".npz":
            shutil.copy(file, folder / file.name)


def run(command, folder, *more):
    """Run a command in a folder; return exit code and what it said."""
    (folder / command.tag).mkdir(exist_ok=True)
    outcome = CliRunner().invoke(commands, ["palm", *command.words, *more])
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.exit_code, outcome.stderr


def shufflings_of(command):
    """The sets that PALM drew, as --shufflings takes them."""
    folder = command.case / "shufflings"
    for line in (folder / "index.txt").read_text().splitlines():
        tag, _, sets = line.partition(": ")
        if tag == command.tag:
            return [word for name in re.findall(r"\S+\.csv", sets) for word in ("--shufflings", str(folder / name))]
    return None


class Answers:
    """What PALM wrote, or should have written: the recount where there is one."""

    def __init__(self, case):
        self.palm, self.ref = kept_arrays(case / "palm.npz"), kept_arrays(case / "ref.npz")
        self.first = case.parent.name == "golden"
        mask = case / "mask.nii.gz"
        self.mask = np.asarray(nib.load(mask).dataobj) > 0 if mask.exists() else None

    def keys(self, tag):
        return [key.removeprefix(f"{tag}/") for key in self.palm if key.startswith(f"{tag}/")]

    def of(self, tag, name):
        if self.first:
            return self._recounted(tag, name)
        key = f"{tag}/{name}"
        return self.ref[key] if key in self.ref else self.palm[key]

    def _recounted(self, tag, name):
        """Of the first set, where the recount is of contrast 1 (or of F) and by other names."""
        found = re.match(r"(vox|tfce)_[tvf]stat_(uncp|fwep)(_c[123])$", name)
        side = "two" if "two" in tag else "one"
        is_f = "vox_fstat" in " ".join(self.palm)
        both = ("_c1", "_c2") if side == "two" else ("_c1",)  # the second contrast is the first turned round
        last = ("_c3",) if is_f else both
        if found and found[3] in last and not tag.startswith("M_"):
            key = f"{side}_{'tfce_' if found[1] == 'tfce' else ''}{found[2]}"
            if found[1] == "vox" and key in self.ref and tag[0] in "ABCD" and tag != "B_tail":
                return self.ref[key]
        return self.palm[f"{tag}/{name}"]


def written(folder, tag, name, mask):
    """A map that was written, as the answers have it; None where there is none."""
    null = folder / tag / f"x_{name}.csv"
    if "_max" in name:
        return np.sort(np.loadtxt(null, ndmin=1)) if null.exists() else None
    for ending in (".nii", ".gii"):
        file = folder / tag / f"x_{name}{ending}"
        if file.exists():
            image = nib.load(file)
            return image.darrays[0].data if ending == ".gii" else np.asarray(image.dataobj)[mask]
    return None


def agree(mine, expected, name):
    """Whether two maps are the same, as far as float32, which files hold, can tell."""
    expected = np.asarray(expected, np.float64).ravel()
    if "_max" in name:
        expected = np.sort(expected)
    if mine is None or mine.shape != expected.shape:
        return False
    if re.search(r"_(uncp|fwep|[mc]+fwep|fdrp|uncparap)", name):
        mine = np.where((expected == 0) & (mine == 1), 0.0, mine)  # PALM's p is 0 where nothing was tested
    return bool(np.allclose(mine, expected, rtol=2e-5, atol=2e-6))

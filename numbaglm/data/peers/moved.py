"""Files that are not where they were when somebody wrote their paths down: a folder was moved, or another machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_ABOVE = 8  # folders above a base that are searched


@dataclass(frozen=True)
class Found:
    """Where files are now.

    Attributes
    ----------
    files
        (n,) each; None where there is none.
    rule
        What was found: "" if they are where they were, else the old and the new beginning of the paths.
    """

    files: tuple[Path | None, ...]
    rule: str = ""

    @property
    def n_missing(self) -> int:
        """How many are nowhere."""
        return self.files.count(None)


def parts_of(path: str) -> tuple[str, ...]:
    """Folders and the name in a path of any system."""
    windows = re.match(r"[A-Za-z]:[\\/]|\\\\", path) or ("\\" in path and "/" not in path)
    return tuple(part for part in re.split(r"[\\/]+" if windows else r"/+", path) if part not in ("", "."))


def find_again(recorded: Sequence[str], homes: Sequence[Path], *, as_recorded: bool = True) -> Found:
    """Find files by the paths they had, from the folders that may hold them now.

    All files move alike: the same folders at the begin of each path are replaced by one other, as few as may be. Files
    that are compressed by now (.nii.gz for .nii) count.

    Parameters
    ----------
    recorded
        Their paths, of any system.
    homes
        Folders to look from, the first first.
    as_recorded
        Whether they may still be where they were, or below a folder above these.

    Returns
    -------
    All files where a rule finds all; else what the rule finds that finds most, of the paths as they were if none does.
    """
    best = Found((None,) * len(recorded))
    if as_recorded:
        best = Found(tuple(_there(Path(path)) for path in recorded))
        if not best.n_missing:
            return best
    split = [parts_of(path) for path in recorded]
    n_distinct = len(set(split))
    # The more of a path is kept, the less it can be another file's.
    for n_dropped in range(min(map(len, split), default=0)):
        tails = [parts[n_dropped:] for parts in split]
        if len(set(tails)) < n_distinct:
            break
        for base in _bases(homes, above=as_recorded):
            files = tuple(_there(base.joinpath(*tail)) for tail in tails)
            if files.count(None) < best.n_missing:
                best = Found(files, f"{'/'.join(split[0][:n_dropped]) or '/'} is now {base}")
            if not best.n_missing:
                return best
    return best


def _bases(homes: Sequence[Path], *, above: bool) -> Iterator[Path]:
    bases = [base for home in homes for base in (home, *list(home.parents)[: _MOST_ABOVE * above])]
    yield from dict.fromkeys(bases)


def _there(path: Path) -> Path | None:
    """The file, or what it was compressed to."""
    for one in (path, path.with_name(f"{path.name}.gz")):
        try:
            if one.is_file():
                return one
        except OSError:  # a path of another system may be none here
            return None
    return None

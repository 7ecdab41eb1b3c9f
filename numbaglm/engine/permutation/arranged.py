"""Elements of a block by their patterns: those of one scale side by side, so that a panel has one scale.

Elements of one grade (`numbaglm.stats.families.family.OfPatterns`) stand together, ordered by their patterns, and fill
whole panels: the last is filled up with copies of its last element.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.data.cohort.presence import Patterns
from numbaglm.kernels.panels.patterns import in_panels, numbers_of_patterns
from numbaglm.kernels.panels.scores import Scoring
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.kernels.panels.vectors import BYTES, ROWS, VECTORS
from numbaglm.stats.families.family import OfPatterns
from numbaglm.stats.scales import Correlation, Known, Share

MOST = 1024
"""Patterns whose numbers are held at once, or those of one tile."""


@dataclass(frozen=True, eq=False)
class PatternTiles:
    """Tiles that follow each other, and the patterns of their elements.

    Attributes
    ----------
    n_tiles
        How many.
    n_patterns
        How many.
    present
        (n_panels, n_subjects, WIDTH) who is in each; see `numbaglm.kernels.panels.patterns.in_panels`.
    fixed
        (n_panels, n_fixed, WIDTH) what no shuffling changes.
    """

    n_tiles: int
    n_patterns: int
    present: NDArray[np.bool_]
    fixed: Doubles


@dataclass(frozen=True, eq=False)
class Arranged:
    """How the voxels of a block stand in its tiles.

    Attributes
    ----------
    place
        (n_columns,) voxel in the block of each column.
    own
        (n_columns,) whether it is the voxel's; else it fills a panel up.
    scales
        Of the grades that are there.
    grade
        (n_columns,) which of them each has.
    grades
        (n_tiles, panels of a tile) the same of each panel.
    of
        (n_tiles, TILE) pattern of each column among those of its run.
    whole
        (n_tiles, panels of a tile) whether all elements of a panel have all subjects.
    runs
        The tiles, and their patterns.
    number
        (n_voxels,) what the kernel would leave of what was observed.
    known
        The patterns of the voxels.
    """

    place: NDArray[np.int32]
    own: NDArray[np.bool_]
    scales: tuple[Correlation | Share | Known, ...]
    grade: NDArray[np.int32]
    grades: NDArray[np.int32]
    of: NDArray[np.int32]
    whole: NDArray[np.bool_]
    runs: tuple[PatternTiles, ...]
    number: Doubles
    known: Patterns

    @classmethod
    def by_pattern(cls, known: Patterns, how: OfPatterns, size: int) -> Arranged:
        """Arrange voxels by what is present of them; ``size`` are the bytes of a number in the tiles."""
        patterns = np.ascontiguousarray(known.every.T)
        there, grades = np.unique(how.grade(patterns), return_inverse=True)
        grade, width = grades.astype(np.int32)[known.of], VECTORS * BYTES // size
        # Patterns in the order of their grades, of which elements are put in order: small numbers are quick to sort.
        rank = np.empty(known.n, np.int64)
        rank[np.lexsort((np.arange(known.n), grades))] = np.arange(known.n)
        order = np.argsort(rank.astype(np.min_scalar_type(known.n))[known.of], kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(grade, minlength=len(there)))
        place, own = [], []
        for those in np.split(order, ends[:-1]):
            fill = -len(those) % width
            place += [those, np.repeat(those[-1:], fill)]
            own += [np.ones(len(those), bool), np.zeros(fill, bool)]
        places = np.concatenate(place)
        n_tiles = -(-len(places) // TILE)
        columns = np.pad(places, (0, n_tiles * TILE - len(places)), mode="edge")
        of, runs = _runs(known.of[columns].reshape(n_tiles, TILE), patterns, how)
        panels = grade[columns].reshape(n_tiles, TILE)[:, ::width]
        shape = n_tiles, TILE // width, width
        complete = known.n_present == known.n_subjects
        whole = np.asarray(complete[known.of[columns]].reshape(shape).all(axis=2))
        scales = tuple(how.scales[number] for number in there)
        return cls(
            places,
            np.concatenate(own),
            scales,
            grade[places],
            np.ascontiguousarray(panels),
            of,
            whole,
            runs,
            np.zeros(len(grade)),
            known,
        )

    def patterns_of(self, voxels: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Which pattern each of some voxels has, and these patterns (n_patterns, n_subjects)."""
        some = self.known.among(voxels)
        return some.of, some.every

    def with_number(self, number: Doubles) -> Arranged:
        """Return the same, with what was observed."""
        return replace(self, number=number)

    def numbers(self, rows: Floats | None, factor: Scoring, n_kept: int, room: Floats) -> Iterator[tuple[int, Floats]]:
        """Numbers of the patterns of each run; see `numbaglm.kernels.panels.fused.Extra`.

        Parameters
        ----------
        rows
            (n_groups, n_rows, n_subjects, ROWS) of a batch; None where shufflings change nothing of a pattern.
        room
            Where to put them, as much as `room` is; what was there goes with each run.
        """
        for run in self.runs:
            if rows is None:
                yield run.n_tiles, np.empty((len(room), 0, ROWS, 1), room.dtype)
                continue
            n_patterns = run.n_patterns
            out = room.reshape(-1)[: len(rows) * n_kept * ROWS * n_patterns].reshape(
                len(rows), n_kept, ROWS, n_patterns
            )
            numbers_of_patterns(rows, run.present, run.fixed, factor, out)
            yield run.n_tiles, out

    @property
    def most(self) -> int:
        """Patterns of a run at most."""
        return max(run.n_patterns for run in self.runs)


def _runs(
    of: NDArray[np.int32], patterns: NDArray[np.bool_], how: OfPatterns
) -> tuple[NDArray[np.int32], tuple[PatternTiles, ...]]:
    """Cut tiles into runs of few patterns; number these from 0 in each."""
    numbered, runs, first = np.empty(of.shape, np.int32), [], 0
    if patterns.shape[1] <= MOST:
        return of, (_together(len(of), patterns, how),)
    every = [np.unique(tile[np.flatnonzero(np.diff(tile, prepend=-1))]) for tile in of]  # they stand in their order
    while first < len(of):
        last, there = first + 1, every[first]
        while last < len(of):
            more = np.union1d(there, every[last])
            if len(more) > MOST:
                break
            last, there = last + 1, more
        numbered[first:last] = np.searchsorted(there, of[first:last])
        runs.append(_together(last - first, np.ascontiguousarray(patterns[:, there]), how))
        first = last
    return numbered, tuple(runs)


def _together(n_tiles: int, present: NDArray[np.bool_], how: OfPatterns) -> PatternTiles:
    n_patterns = present.shape[1]
    fixed = np.empty((0, n_patterns)) if how.fixed is None else how.fixed(present)
    return PatternTiles(n_tiles, n_patterns, in_panels(present), in_panels(fixed))

"""Stages of a test: the tasks of one kind over one round of shufflings, and the keys of their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True)
class Stage:
    """Tasks of one kind.

    Attributes
    ----------
    name
        Of the stage, among all of a run.
    spans
        (first, last) of what each task takes: shufflings, maps or voxels.
    """

    name: str
    spans: tuple[Span, ...]

    @property
    def keys(self) -> list[str]:
        """Keys of the records."""
        return [f"{self.name}/{number:05d}" for number in range(len(self.spans))]

    @property
    def sizes(self) -> list[int]:
        """How much each task takes."""
        return [last - first for first, last in self.spans]


def spans_of(n: int, step: int) -> tuple[Span, ...]:
    """Cut ``n`` into spans of ``step``, the last of which may be shorter."""
    return tuple((i, min(i + step, n)) for i in range(0, n, step))


@dataclass(frozen=True)
class Stages:
    """The stages of one test.

    Attributes
    ----------
    test
        Name of the test within its run.
    blocks, ranges
        Spans of voxels, and of shufflings.
    """

    test: str
    blocks: Sequence[Span]
    ranges: Sequence[Span]

    def observed(self) -> Stage:
        """What was observed in each block."""
        return Stage(f"{self.test}/observed", tuple(self.blocks))

    def scored(self) -> Stage:
        """Observed scores, where these need whole maps: one record."""
        return Stage(f"{self.test}/scored", ((0, 1),))

    def drawn(self, step: int) -> Stage:
        """Shufflings, drawn."""
        return Stage(f"{self.test}/draws", spans_of(self.ranges[-1][1], step))

    def voxels(self, number: int) -> Stage:
        """Blocks of voxels through a round."""
        return Stage(f"{self.test}/voxels-{number:03d}", tuple(self.blocks))

    def clusters(self, number: int, step: int) -> Stage:
        """Clusters of a round, so many shufflings a task."""
        return self._of_round("clusters", number, step)

    def maps(self, number: int, step: int) -> Stage:
        """Whole maps of a round, so many a task."""
        return self._of_round("maps", number, step)

    def refined(self) -> Stage:
        """p of each block, refined."""
        return Stage(f"{self.test}/refined", tuple(self.blocks))

    def _of_round(self, kind: str, number: int, step: int) -> Stage:
        first, last = self.ranges[number]
        return Stage(f"{self.test}/{kind}-{number:03d}", spans_of(last - first, step))

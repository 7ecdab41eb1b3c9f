"""Where the elements of a cohort lie: the contract that every kind of space keeps.

A space is a tuple of parts: a volume; the surfaces of two hemispheres; what a CIFTI file lists; a table of parcels; a
network. Elements are numbered through, part after part. A part knows what its elements are, which touch, how large they
are, and how it is written down; whoever analyses maps asks the space, and never what kind it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import InputError, StoreError
from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.volume import Geometry

Arrays = Mapping[str, NDArray[Any]]


class Part(Protocol):
    """A piece of a space, whose elements are of one kind.

    Attributes
    ----------
    kind
        Its name in `KINDS`.
    name
        What the structure is called, such as "left"; "" where there is one part alone.
    noun, unit
        What an element is ("voxel"), and what its measure is given in ("mm3"; "" where it counts).
    domain
        Extents, masses and enhancements are compared within a domain: parts of one name share it.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def noun(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def domain(self) -> str: ...  # noqa: D102

    @property
    def n(self) -> int:
        """Number of elements."""

    @property
    def measure(self) -> NDArray[np.float64]:
        """(n,) size of each element, in `unit`."""

    def topology(self, connectivity: int) -> Any:
        """Which elements touch, as the kernels have it (a `Volume`, a `Graph`, a network); None where nothing does."""

    def coordinates(self, elements: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """(k, 3) mm of some elements; None where they have no place in the head."""

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """What each of some elements is called where it has no coordinates that say enough."""

    def select(self, keep: NDArray[np.bool_]) -> Part:
        """Return the part with those of its elements alone that are kept, (n,)."""

    def same(self, other: Part) -> bool:
        """Whether the elements of another part are these very ones."""

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Smooth a map (n,) by a width in mm.

        Raises
        ------
        InputError
            Maps of this kind can't be smoothed here.
        """

    def token(self) -> tuple[str, bytes]:
        """Return what tells it from every other part: a heading, and what it is made of."""

    def describe(self) -> tuple[dict[str, Any], Arrays]:
        """Return what `build` makes it of again: JSON types, and arrays by name."""

    @classmethod
    def build(cls, description: Mapping[str, Any], arrays: Arrays) -> Part:
        """Make a part of what `describe` returned."""


KINDS: dict[str, type[Part]] = {"volume": Geometry}
"""Kinds of parts, by the name that a cohort stores."""


@dataclass(frozen=True, eq=False)
class Space:
    """Where the elements of a cohort lie. Immutable.

    Attributes
    ----------
    parts
        At least one; their elements follow one another.
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, where: Space | Part) -> Space:
        """Take a space as it is, and make one of a part."""
        return where if isinstance(where, Space) else cls((where,))

    @cached_property
    def n(self) -> int:
        """Number of elements."""
        return sum(part.n for part in self.parts)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the elements of each part are."""
        ends = np.cumsum([part.n for part in self.parts]).tolist()
        return tuple(slice(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True))

    @property
    def noun(self) -> str:
        """What an element is: that of the parts if they agree, else "element"."""
        nouns = {part.noun for part in self.parts}
        return nouns.pop() if len(nouns) == 1 else "element"

    @property
    def domains(self) -> dict[str, tuple[int, ...]]:
        """Which parts share a domain, by its name, in their order."""
        found: dict[str, tuple[int, ...]] = {}
        for number, part in enumerate(self.parts):
            found[part.domain] = (*found.get(part.domain, ()), number)
        return found

    @property
    def volume(self) -> Geometry:
        """The volume that this space is.

        Raises
        ------
        InputError
            It is something else.
        """
        part = self.parts[0]
        if len(self.parts) > 1 or not isinstance(part, Geometry):
            kinds = ", ".join(f"{part.kind} {part.name}".strip() for part in self.parts)
            raise InputError(f"This needs maps of one volume, but these lie on: {kinds}.")
        return part

    @cached_property
    def measure(self) -> NDArray[np.float64]:
        """(n,) size of each element, in the unit of its part."""
        return np.concatenate([part.measure for part in self.parts])

    def coordinates(self, elements: NDArray[np.intp]) -> NDArray[np.float64]:
        """(k, 3) mm of some elements; NaN where one has no place in the head."""
        found = np.full((len(elements), 3), np.nan)
        for part, which, local in self._parted(elements):
            mm = part.coordinates(local)
            if mm is not None:
                found[which] = mm
        return found

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """What each of some elements is called; "" where its coordinates say enough."""
        found = [""] * len(elements)
        for part, which, local in self._parted(elements):
            for number, place in zip(which, part.places(local), strict=True):
                found[number] = place
        return found

    def select(self, keep: NDArray[np.bool_]) -> Space:
        """Return the space with those of its elements alone that are kept, (n,); parts that lose all of them leave."""
        assert keep.shape == (self.n,)
        kept = [(part, keep[where]) for part, where in zip(self.parts, self.slices, strict=True)]
        return Space(tuple(part.select(mine) for part, mine in kept if mine.any()))

    def same(self, other: Space) -> bool:
        """Whether the elements of another space are these very ones."""
        return len(self.parts) == len(other.parts) and all(
            one.kind == two.kind and one.name == two.name and one.same(two)
            for one, two in zip(self.parts, other.parts, strict=True)
        )

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Smooth a map (n,), each part for itself.

        Raises
        ------
        InputError
        """
        parts = zip(self.parts, self.slices, strict=True)
        return np.concatenate([part.smooth(values[where], fwhm) for part, where in parts])

    @property
    def token(self) -> tuple[str, bytes]:
        """What tells it from every other space: a heading, and what it is made of. Of one part they are its own."""
        tokens = [part.token() for part in self.parts]
        if len(tokens) == 1:
            return tokens[0]
        heading = " ".join(
            f"{part.kind} {part.name} {head}" for part, (head, _) in zip(self.parts, tokens, strict=True)
        )
        return heading, b"".join(hashlib.sha256(made_of).digest() for _, made_of in tokens)

    @property
    def digest(self) -> str:
        """Hash of everything that tells it from other spaces."""
        heading, made_of = self.token
        return hashlib.sha256(heading.encode() + made_of).hexdigest()

    def describe(self) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
        """Return what `build` makes it of again: JSON types, and arrays, each by "part/name"."""
        descriptions: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        for number, part in enumerate(self.parts):
            description, its_arrays = part.describe()
            descriptions.append({"kind": part.kind, "name": part.name, "arrays": list(its_arrays)} | description)
            arrays |= {f"{number}/{name}": array for name, array in its_arrays.items()}
        return descriptions, arrays

    @classmethod
    def build(cls, descriptions: Sequence[Mapping[str, Any]], arrays: Arrays) -> Space:
        """Make a space of what `describe` returned.

        Raises
        ------
        StoreError
            A part is of a kind that this version does not know.
        """
        parts = []
        for number, description in enumerate(descriptions):
            kind = description["kind"]
            if kind not in KINDS:
                known = ", ".join(KINDS)
                raise StoreError(f"A part of its space is a {kind!r}. This numbaglm knows: {known}. Upgrade it.")
            its_arrays = {name: arrays[f"{number}/{name}"] for name in description["arrays"]}
            parts.append(KINDS[kind].build(description, its_arrays))
        return cls(tuple(parts))

    def _parted(self, elements: NDArray[np.intp]) -> list[tuple[Part, NDArray[np.intp], NDArray[np.intp]]]:
        """Of each part that has some of the elements: which of them, and their numbers in the part."""
        elements = np.asarray(elements)
        found = []
        for part, where in zip(self.parts, self.slices, strict=True):
            which = np.flatnonzero((elements >= where.start) & (elements < where.stop))
            if which.size:
                found.append((part, which, elements[which] - where.start))
        return found

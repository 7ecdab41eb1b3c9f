"""Where the elements of a cohort lie: the contract that every kind of space keeps.

A space is a tuple of parts: a volume; the surfaces of two hemispheres; what a CIFTI file lists; a table of parcels; a
network. Elements are numbered through, part after part. A part knows what its elements are, which touch, how large they
are, and how it is written down; whoever analyses maps asks the space, and never what kind it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import InputError, StoreError, invalid, term
from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.volume import Geometry

if TYPE_CHECKING:  # each is loaded where there is a space of its kind
    from numbaglm.spaces.cifti import Structures
    from numbaglm.spaces.network import Connectome
    from numbaglm.spaces.surface import Surface

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

    def pairs(self) -> NDArray[np.int64] | None:
        """(m, 2) elements that lie side by side, each pair once; None where none do, or that is not known."""

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


KINDS = ("volume", "surface", "structures", "parcels", "network", "graph")
"""Kinds of parts, by the name that a cohort stores."""

TEMPLATE = "template"
"""What stands for a kind where a cohort stores the template of its space."""

_PLURALS = {"vertex": "vertices"}


def _class_of(kind: str) -> type[Part]:
    """Class of the parts of a kind, which is loaded when a space has one: most tests are of volumes."""
    found: Any
    match kind:
        case "volume":
            found = Geometry
        case "surface":
            from numbaglm.spaces.surface import Surface as found
        case "structures":
            from numbaglm.spaces.cifti import Structures as found
        case "parcels":
            from numbaglm.spaces.parcels import Parcels as found
        case "network":
            from numbaglm.spaces.network import Connectome as found
        case "graph":
            from numbaglm.spaces.graphs import Adjacency as found
    part: type[Part] = found
    return part


def _is_surface(part: Part) -> TypeGuard[Surface]:
    return part.kind == "surface"


def _is_structures(part: Part) -> TypeGuard[Structures]:
    return part.kind == "structures"


def _is_network(part: Part) -> TypeGuard[Connectome]:
    return part.kind == "network"


@dataclass(frozen=True, eq=False)
class Template:
    """What each file of maps lists, before any element leaves, and how such a file is written.

    Maps of one volume need none: their grid is all there is to know. It is what a `Grid` is to these, for maps on
    anything else.

    Attributes
    ----------
    parts
        With all that the files list.
    columns
        (n,) where the files have each element; None where they are in order.
    files
        How they are written, JSON types: "format", and what this format needs.
    arrays
        What it needs beside.
    name
        What messages call where it comes from.
    """

    parts: tuple[Part, ...]
    columns: NDArray[np.intp] | None
    files: Mapping[str, Any]
    arrays: Arrays = field(default_factory=dict)
    name: str = "the first map"

    @cached_property
    def n(self) -> int:
        """Number of elements."""
        return sum(part.n for part in self.parts)

    @property
    def shape(self) -> tuple[int]:
        """Of the maps as they are read: (n,)."""
        return (self.n,)

    @property
    def for_reading(self) -> Template:
        """What is needed to read maps, and no more, as tasks carry it: meshes take megabytes."""
        bare = (replace(part, mesh=None, areas=None) if _is_surface(part) else part for part in self.parts)
        return replace(self, parts=tuple(bare), arrays={})

    def space(self, mask: NDArray[np.bool_]) -> Space:
        """Return the space of those elements that are in a mask, (n,)."""
        whole = Space(self.parts, self, np.ones(self.n, bool))
        return whole.select(mask)

    def lists_the_same(self, other: Template) -> bool:
        """Whether files of another template list these very elements, whatever mesh they lie on."""
        if self.files["format"] != other.files["format"] or len(self.parts) != len(other.parts):
            return False
        in_order = np.arange(self.n)
        mine = in_order if self.columns is None else self.columns
        theirs = in_order if other.columns is None else other.columns
        return np.array_equal(mine, theirs) and all(map(_lists_the_same, self.parts, other.parts))

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Smooth a map (n,); what is not finite becomes 0 first.

        Raises
        ------
        InputError
        """
        if fwhm is None:
            return values
        return Space(self.parts).smooth(np.where(np.isfinite(values), values, np.float32(0)), fwhm)


def _lists_the_same(one: Part, two: Part) -> bool:
    if _is_surface(one) and _is_surface(two):  # one may have a mesh, and the other none
        alike = (one.name, one.n_vertices) == (two.name, two.n_vertices)
        return alike and np.array_equal(one.vertices, two.vertices)
    return one.kind == two.kind and one.name == two.name and one.same(two)


@dataclass(frozen=True, eq=False)
class Space:
    """Where the elements of a cohort lie. Immutable.

    Attributes
    ----------
    parts
        At least one; their elements follow one another.
    template
        What the files of maps list; None for a volume.
    kept
        (template.n,) which elements of the template these are; None without one.
    """

    parts: tuple[Part, ...]
    template: Template | None = None
    kept: NDArray[np.bool_] | None = None

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
    def nouns(self) -> str:
        """What elements are called where there are several."""
        return _PLURALS.get(self.noun, f"{self.noun}s")

    @property
    def is_volume(self) -> bool:
        """Whether this is one volume."""
        return len(self.parts) == 1 and isinstance(self.parts[0], Geometry)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which of all that the maps list are elements: (nx, ny, nz) for a volume, (template.n,) otherwise."""
        return self.volume.mask if self.kept is None else self.kept

    @property
    def n_cells(self) -> int:
        """Cells of the grids that voxels lie in, with a border, and all other elements: for estimates of memory."""
        grids = [part if isinstance(part, Geometry) else getattr(part, "volume", None) for part in self.parts]
        cells = [
            part.n if grid is None else math.prod(grid.padded_shape)
            for part, grid in zip(self.parts, grids, strict=True)
        ]
        return sum(cells)

    @property
    def label(self) -> str:
        """Say where the elements lie, in a few words."""
        if self.is_volume:
            return f"a {' x '.join(map(str, self.volume.shape))} grid"
        if len(self.parts) == 1 and _is_network(self.parts[0]):
            return f"a network of {len(self.parts[0].nodes):,} nodes"
        if any(_is_structures(part) for part in self.parts):
            return "surfaces and volumes"
        surfaces = [part.name for part in self.parts if _is_surface(part)]
        if surfaces:
            return f"{' and '.join(surfaces)} surface{'s' * (len(surfaces) > 1)}".strip()
        return "a graph" if self.parts[0].kind == "graph" else "a table"

    @property
    def density(self) -> int | None:
        """How many vertices the surface of a hemisphere has, or elements the files have that list more than that."""
        surfaces = [part for part in self.parts if _is_surface(part)]
        if not surfaces or self.template is None:
            return None
        listed = self.template.parts
        alone = all(_is_surface(part) and part.n == part.n_vertices for part in listed)
        return surfaces[0].n_vertices if alone else self.template.n

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

    def part_of(self, elements: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Number (k,) of the part that each of some elements is in."""
        ends = [where.stop for where in self.slices]
        return np.searchsorted(ends, elements, side="right")

    def structures(self, elements: NDArray[np.intp]) -> list[str]:
        """Name of the structure that each of some elements is in; "" where there is one alone."""
        found = [self.parts[number].name for number in self.part_of(elements)]
        for part, which, local in self._parted(elements):
            if _is_structures(part):
                for number, name in zip(which, part.places(local), strict=True):
                    found[number] = name
        return found

    def nodes(self, elements: NDArray[np.intp]) -> list[str]:
        """Names of the nodes of a network that some of its elements join, in its order; none of other spaces."""
        found: list[str] = []
        for part, _, local in self._parted(elements):
            if _is_network(part):
                found += [part.nodes[node] for node in np.unique(part.ends[local])]
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
        mine = [(part, keep[where]) for part, where in zip(self.parts, self.slices, strict=True)]
        kept = self.kept
        if kept is not None:
            kept = kept.copy()
            kept[kept] = keep
        return Space(tuple(part.select(its) for part, its in mine if its.any()), self.template, kept)

    def unmask(self, values: NDArray[Any], fill: float = 0.0) -> NDArray[Any]:
        """Put values (n,) or (k, n) of the elements among all that the maps list, in the files' order.

        Raises
        ------
        InputError
            The space is a volume, which `Geometry.unmask` is for.
        """
        template, kept = self.template, self.kept
        if template is None or kept is None:
            raise InputError("This needs maps on surfaces, of parcels or of a network, but these lie in a volume.")
        whole = np.full((*values.shape[:-1], template.n), fill, values.dtype)
        whole[..., kept] = values
        if template.columns is None:
            return whole
        ordered = np.empty_like(whole)
        ordered[..., template.columns] = whole
        return ordered

    def topologies(self, connectivity: int, structures: str = "merged") -> list[Any]:
        """Which elements of each part touch; see `Part.topology`.

        Parameters
        ----------
        structures
            Whether voxels of structures that touch are neighbours: "merged", or "apart" where they are not.
        """
        return [
            part.topology_apart(connectivity)
            if structures == "apart" and _is_structures(part)
            else part.topology(connectivity)
            for part in self.parts
        ]

    def require_structures(self) -> None:
        """Refuse a space without structures to keep apart.

        Raises
        ------
        InputError
        """
        if not any(_is_structures(part) for part in self.parts):
            allowed = f"'merged' where there are no structures of a CIFTI file: these maps lie on {self.label}"
            raise InputError(invalid("structures", "apart", allowed))

    @property
    def unconnected(self) -> Part | None:
        """The first part of which it is not known which elements touch; None where that is known of all."""
        for part in self.parts:
            if part.kind == "parcels" or (_is_surface(part) and part.mesh is None):
                return part
        return None

    def require_neighbours(self) -> None:
        """Refuse a space of which it is not known which elements touch: no clusters, no TFCE.

        Raises
        ------
        InputError
        """
        if self.unconnected is not None:
            raise InputError(_untouching(self.unconnected))

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
        """Return what `build` makes it of again: JSON types, and arrays, each by "part/name".

        With a template it is that, whole, and which elements are kept.
        """
        descriptions: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        template = self.template
        for number, part in enumerate(self.parts if template is None else template.parts):
            description, its_arrays = part.describe()
            descriptions.append({"kind": part.kind, "name": part.name, "arrays": list(its_arrays)} | description)
            arrays |= {f"{number}/{name}": array for name, array in its_arrays.items()}
        if template is not None and self.kept is not None:
            its_arrays = dict(template.arrays) | {"kept": self.kept.astype(np.uint8)}
            if template.columns is not None:
                its_arrays["columns"] = template.columns
            number = len(descriptions)
            arrays |= {f"{number}/{name}": array for name, array in its_arrays.items()}
            descriptions.append({"kind": TEMPLATE, "arrays": list(its_arrays), "files": dict(template.files)})
        return descriptions, arrays

    @classmethod
    def build(cls, descriptions: Sequence[Mapping[str, Any]], arrays: Arrays) -> Space:
        """Make a space of what `describe` returned.

        Raises
        ------
        StoreError
            A part is of a kind that this version does not know.
        """
        parts: list[Part] = []
        for number, description in enumerate(descriptions):
            kind = description["kind"]
            if kind not in (*KINDS, TEMPLATE):
                known = ", ".join(KINDS)
                raise StoreError(f"A part of its space is a {kind!r}. This numbaglm knows: {known}. Upgrade it.")
            its_arrays = {name: arrays[f"{number}/{name}"] for name in description["arrays"]}
            if kind == TEMPLATE:
                columns, kept = its_arrays.pop("columns", None), its_arrays.pop("kept").astype(bool)
                return Template(tuple(parts), columns, description["files"], its_arrays).space(kept)
            parts.append(_class_of(kind).build(description, its_arrays))
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


def _untouching(part: Part) -> str:
    """Say why there are no clusters and no TFCE."""
    if _is_surface(part):
        return (
            f"Clusters and TFCE need the mesh of the {f'{part.name} surface'.strip()}, and the maps carry none: pass "
            f"{term('surfaces=')} with it when the cohort is made ({term('cluster_forming_threshold=None')} without "
            f"{term('tfce')} does without)."
        )
    return (
        "Clusters and TFCE need to know which parcels touch, and a table does not say: pass "
        "space=numbaglm.spaces.graph(adjacency) when the cohort is made "
        f"({term('cluster_forming_threshold=None')} without {term('tfce')} does without)."
    )

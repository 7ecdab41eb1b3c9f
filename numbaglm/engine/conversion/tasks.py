"""The tasks of a conversion, a block of subjects each: read, look, smooth, store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.presence import Bits, n_bytes, pack, unpack
from numbaglm.data.cohort.store import CohortStore, DamagedChunkError
from numbaglm.data.cohort.writer import CohortWriter
from numbaglm.data.images import MapSource, read_raw
from numbaglm.data.images.raw import RawMap, Tape
from numbaglm.engine.conversion.coverage import MISSING, MaskRule, Survey
from numbaglm.errors import InputError, term
from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.space import Template
from numbaglm.spaces.volume import Grid

if TYPE_CHECKING:
    from numbaglm.data.images import ElementSource

Float32 = NDArray[np.float32]
Layers = Mapping[str, Iterable[RawMap]]


@dataclass(frozen=True, eq=False)
class SubjectRows:
    """Maps of a few subjects, and which of their values they have.

    Attributes
    ----------
    values
        (k, n_voxels).
    present
        (k, ceil(n_voxels / 8)) bits; None where they have all that stays.
    layers
        (k, n_voxels) of each further layer, by name.
    """

    values: Float32
    present: Bits | None
    layers: Mapping[str, Float32]

    def kept(self, keep: NDArray[np.bool_]) -> SubjectRows:
        """Return what is left of them within the voxels that stay, (n_voxels,)."""
        if keep.all():
            return self
        index = np.flatnonzero(keep)
        present = self.present
        if present is not None:  # a row at a time: flags take eight times the bits
            present = np.stack([pack(unpack(row, len(keep))[index]) for row in present])
        layers = {name: values.take(index, axis=1) for name, values in self.layers.items()}
        return SubjectRows(self.values.take(index, axis=1), present, layers)

    @classmethod
    def joined(cls, parts: Sequence[SubjectRows]) -> SubjectRows:
        """Put rows one below the other. Where one of them has bits, the others have all."""
        if len(parts) == 1:
            return parts[0]
        values = np.concatenate([part.values for part in parts])
        layers = {name: np.concatenate([part.layers[name] for part in parts]) for name in parts[0].layers}
        if all(part.present is None for part in parts):
            return cls(values, None, layers)
        every = pack(np.ones((1, values.shape[1]), bool))
        bits = [np.repeat(every, len(one.values), axis=0) if one.present is None else one.present for one in parts]
        return cls(values, np.concatenate(bits), layers)


@dataclass(frozen=True, eq=False)
class Look:
    """What is taken of each map, and what is noted of it.

    Attributes
    ----------
    grid
        What the maps lie on.
    mask
        (nx, ny, nz), or (n,): the voxels, or other elements, that may be in the cohort's mask in the end.
    rule
        Of the mask.
    fwhm
        Smoothing, in mm.
    whole
        Whether the whole grid is surveyed, or the mask alone.
    """

    grid: Grid | Template
    mask: NDArray[np.bool_]
    rule: MaskRule
    fwhm: Fwhm
    whole: bool

    @cached_property
    def index(self) -> NDArray[np.intp]:
        """(n_voxels,) where the voxels of the mask, in a cohort's order, are in a file.

        A map that was just decompressed is in the cache: to take its voxels in the file's order would save less than
        to order them afterwards costs.
        """
        shape = self.mask.shape  # by way of flat indices: three times as fast as np.nonzero of three dimensions
        return np.ravel_multi_index(np.unravel_index(np.flatnonzero(self.mask), shape), shape, order="F")

    @cached_property
    def reach(self) -> Float32:
        """What smoothing makes of a map of ones: less than 1 where a structure ends."""
        shape = self.mask.shape
        return np.asarray(self.grid.smooth(np.ones(shape, np.float32, order="F"), self.fwhm))

    def __reduce__(self) -> tuple[Any, ...]:
        return Look, (self.grid, self.mask, self.rule, self.fwhm, self.whole)  # the index is eight times the mask

    def survey(self, n_subjects: int) -> Survey:
        """Begin a survey."""
        return Survey(self.mask.size if self.whole else len(self.index), len(self.index), n_subjects, self.rule)

    def take(
        self, maps: Iterable[RawMap], layers: Layers, n_maps: int, first: int, survey: Survey | None
    ) -> SubjectRows:
        """Take the maps within the mask, smoothed. They are NaN, or `MISSING` where such voxels stay.

        Further layers are taken as they are, unsmoothed. What a layer lacks (NaN, infinite) the map lacks too.

        Parameters
        ----------
        maps, layers, n_maps
            What to look at; the same of each further layer; how many.
        first
            Number of the first of them in the survey.
        survey
            Where to note what they hold; None notes nothing.
        """
        rows = np.empty((n_maps, len(self.index)), np.float32)
        bits = np.empty((n_maps, n_bytes(len(self.index))), np.uint8) if self.rule.keeps_incomplete else None
        further = {name: np.empty(rows.shape, np.float32) for name in layers}
        others = {name: iter(values) for name, values in layers.items()}
        data = iter(maps)
        for number, row in enumerate(rows):
            # Layers first: what is read next takes the memory of what was read before.
            lacking = self._take_layers(others, {name: values[number] for name, values in further.items()})
            raw = next(data)
            raw.take(self.index, out=row)
            if lacking is not None:
                row[lacking[self.index]] = np.nan
            if survey is not None:
                presence = raw.presence() if self.whole else row
                if lacking is not None and self.whole:
                    presence = np.where(lacking, np.float32(np.nan), presence)
                survey.add(first, presence, row, is_rounded=raw.hidden_zero is not None)
                first += 1
            present = self.rule.present(row) if bits is not None else None
            if self.fwhm is not None:
                self.smoothed(raw.volume()).ravel(order="F").take(self.index, out=row, mode="clip")
            if present is not None and bits is not None:
                row += 0  # makes -0 a 0: how a map writes 0 makes no difference
                for values in (row, *(each[number] for each in further.values())):
                    np.copyto(values, MISSING, where=~present)
                bits[number] = pack(present)
        return SubjectRows(rows, bits, further)

    def smoothed(self, values: Float32) -> Float32:
        """Smooth a map, (nx, ny, nz) or (n,).

        Where missing values stay missing, they have no part in it: a smoothed value is the mean of those around it that
        are there, by their weights. Else they count as 0.
        """
        smoothed = self.grid.smooth(values, self.fwhm)
        if not self.rule.keeps_missing:
            return smoothed
        present = self.rule.present(values)
        if present.all():
            return smoothed
        weight = self.grid.smooth(present.astype(np.float32), self.fwhm)
        smoothed *= np.divide(self.reach, weight, out=np.zeros_like(weight), where=weight > 0)
        return smoothed

    def _take_layers(
        self, layers: Mapping[str, Iterator[RawMap]], rows: Mapping[str, Float32]
    ) -> NDArray[np.bool_] | None:
        """Take the next map of each layer; return where on the grid one of them is not finite, if any is anywhere."""
        lacking: NDArray[np.bool_] | None = None
        for name, maps in layers.items():
            raw = next(maps)
            raw.take(self.index, out=rows[name])
            infinite = ~np.isfinite(raw.presence())
            if infinite.any():
                lacking = infinite if lacking is None else lacking | infinite
        return lacking


@dataclass(frozen=True, eq=False)
class SubjectBlock:
    """Subjects that are stored together.

    Attributes
    ----------
    start, stop
        Their numbers in the cohort.
    sources
        Those of their maps that are new: the last ones.
    first
        Number of the first of these, among all new maps.
    layers
        Further layers of the same subjects, by name.
    """

    start: int
    stop: int
    sources: Sequence[MapSource] | Sequence[ElementSource]
    first: int
    layers: Mapping[str, Sequence[MapSource]]

    def read_layers(self, grid: Grid | Template) -> Layers:
        """Return the maps of further layers, which are read as they are asked for."""
        return {name: read_raw(sources, grid) for name, sources in self.layers.items()}


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the new maps of one block."""

    block: SubjectBlock
    grid: Grid | Template

    def __call__(self) -> tuple[SubjectBlock, Iterable[RawMap]]:
        """Return the block and its maps, which are read as they are asked for."""
        return self.block, read_raw(self.block.sources, self.grid)


class InTurn:
    """Reads blocks of one compressed file, each call the next block, whoever calls.

    So the file is decompressed once, in its order, while other threads work on the blocks before.
    """

    def __init__(self, file: Path, grid: Grid | Template, blocks: Iterable[SubjectBlock]) -> None:
        self._tape, self._grid, self._blocks = Tape(file), grid, iter(blocks)
        self._lock = threading.Lock()

    def __call__(self) -> tuple[SubjectBlock, Iterable[RawMap]]:
        """Return a block and its maps."""
        with self._lock:
            block = next(self._blocks)
            return block, [raw.copy() for raw in read_raw(block.sources, self._grid, self._tape)]

    def close(self) -> None:
        """Close the file."""
        self._tape.close()


@dataclass(frozen=True, eq=False)
class Base:
    """Rows that are stored already, which come before new maps.

    Attributes
    ----------
    store
        Where they are.
    n_subjects
        How many.
    kept
        (n_voxels,) which voxels of them stay.
    """

    store: CohortStore | CohortWriter
    n_subjects: int
    kept: NDArray[np.bool_]

    def read(self, block: SubjectBlock) -> list[SubjectRows]:
        """Read those of a block, in a list of one; an empty one where it has none of them."""
        stop = min(block.stop, self.n_subjects)
        if block.start >= stop:
            return []
        values, present = self.store.read_subjects(block.start, stop), self.store.presence_of(block.start, stop)
        layers = {name: self.store.read_subjects(block.start, stop, name) for name in self.store.header.layers[1:]}
        return [SubjectRows(values, present, layers).kept(self.kept)]


def scout_block(
    sources: Sequence[MapSource] | Sequence[ElementSource], grid: Grid | Template, rule: MaskRule
) -> NDArray[np.bool_]:
    """Task: where at least one of some maps has a value."""
    found = np.zeros(int(np.prod(grid.shape)), bool)
    for raw in read_raw(sources, grid):
        found |= rule.present(raw.presence())
    return found.reshape(grid.shape, order="F")


def hold_block(look: Look, reader: Reader | InTurn, surveys: list[Survey], n_new: int) -> tuple[int, SubjectRows]:
    """Task: read the new maps of a block into memory.

    Parameters
    ----------
    look, reader
        What to take of which maps.
    surveys
        Those that no other thread uses: one is taken out or begun, and put back.
    n_new
        New maps in all.

    Returns
    -------
    Where the block starts, and its rows.
    """
    try:
        survey = surveys.pop()
    except IndexError:
        survey = look.survey(n_new)
    block, maps = reader()
    rows = look.take(maps, block.read_layers(look.grid), len(block.sources), block.first, survey)
    surveys.append(survey)
    return block.start, rows


def draft_block(writer: CohortWriter, look: Look, reader: Reader | InTurn, base: Base | None, n_new: int) -> None:
    """Task: store a block with all voxels that may stay, and the survey of its new maps before it."""
    block, maps = reader()
    survey = look.survey(n_new)
    rows = look.take(maps, block.read_layers(look.grid), len(block.sources), block.first, survey)
    if block.sources:
        writer.write_survey(block.start, survey.arrays())
    parts = [*([] if base is None else base.read(block)), *([rows] if block.sources else [])]
    both = SubjectRows.joined(parts)
    writer.write(block.start, both.values, both.present, both.layers)


def store_block(writer: CohortWriter, look: Look, reader: Reader | InTurn) -> None:
    """Task: store a block whose voxels are known."""
    block, maps = reader()
    _write(writer, block, look.take(maps, block.read_layers(look.grid), len(block.sources), 0, None))


def keep_block(
    writer: CohortWriter, block: SubjectBlock, base: Base | None, held: list[SubjectRows], kept: NDArray[np.bool_]
) -> None:
    """Task: store a block of which all is read.

    Parameters
    ----------
    writer, block
        Where to, and which.
    base
        Has the rows that come first, if some do.
    held
        (k, n_candidates) the others, in a list that they are taken out of: empty where there are no others.
    kept
        (n_candidates,) which voxels of these stay.
    """
    parts = [] if base is None else base.read(block)
    if held:
        parts.append(held.pop().kept(kept))
    _write(writer, block, SubjectRows.joined(parts))


def _write(writer: CohortWriter, block: SubjectBlock, rows: SubjectRows) -> None:
    if not all(np.isfinite(values).all() for values in (rows.values, *rows.layers.values())):
        raise InputError(
            f"Subjects {block.start + 1} to {block.stop} hold NaN or infinity inside the mask: the files changed while "
            f"they were converted. Create the cohort again with {term('overwrite=True')}."
        )
    writer.write(block.start, rows.values, rows.present, rows.layers)


def check_stored(writer: CohortWriter, start: int, stop: int) -> bool:
    """Task: whether a block is stored."""
    return writer.is_stored(start, stop)


def check_block(store: CohortStore, start: int, stop: int) -> list[int]:
    """Task: numbers of the subjects in ``start`` to ``stop`` whose data is not what was stored."""
    try:
        wrong = (store.read_hashes_anew(start, stop) != store.row_hashes[start:stop]).any(axis=1)
    except DamagedChunkError:
        return list(range(start, stop))
    return [start + int(row) for row in np.flatnonzero(wrong)]


def count_missing(store: CohortStore, start: int, stop: int) -> NDArray[np.intp]:
    """Task: (n_voxels,) how many of some subjects of a cohort lack a value there."""
    bits, counts = store.presence_of(start, stop), np.zeros(store.n_voxels, np.intp)
    for row in () if bits is None else bits:
        counts += ~unpack(row, store.n_voxels)
    return counts

"""A cohort being written: laid out, filled block by block, resumed, declared complete."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import ChunkedArray, ChunkError, Float32, blosc, checksum, codecs
from numbaglm.data.cohort.layout import (
    DATA,
    HASH_BYTES,
    LAYERS,
    PATTERNS,
    PRESENCE,
    ROOT,
    SCHEMA,
    SCHEMA_VERSION,
    SPACE,
    Arrays,
    Header,
    Where,
    header_hash,
    layer_path,
    open_group,
    read_parts,
    refuse_to_resume,
    status,
)
from numbaglm.data.cohort.presence import Bits, Patterns, n_bytes, pack, unpack
from numbaglm.data.cohort.store import CohortStore, choose_chunks, hash_arrays
from numbaglm.data.storage.locks import is_lock
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import table_from_json, table_to_json
from numbaglm.errors import MissingFileError, NumbaglmError, OutputExistsError, StoreError
from numbaglm.version import __version__

_SURVEYS = "surveys"
_PARTS = (DATA, LAYERS, PRESENCE, *PATTERNS, SPACE, "hashes", "subjects", _SURVEYS, "mask")  # the last of schema 3
_SUCCESSOR = "appended-"


@dataclass(frozen=True, eq=False)
class CohortWriter:
    """A cohort that is being written, subject block by subject block, by any number of workers.

    Attributes
    ----------
    place
        Of the Zarr group; None in memory.
    header
        What is known beforehand.
    arrays
        What is written to.
    is_draft
        Whether it is of all voxels that may be in the mask: which of them are, and what there is to report, is known
        when all maps are read.
    """

    place: Place | None
    header: Header
    arrays: Arrays
    is_draft: bool

    @classmethod
    def create(
        cls, location: Where | None, header: Header, *, is_draft: bool = False, most: int | None = None
    ) -> CohortWriter:
        """Lay out a cohort, in an empty place or in memory; if that fails, nothing is left behind.

        Parameters
        ----------
        location, header, is_draft
            Where; what is known beforehand; see `CohortWriter`.
        most
            As in `choose_chunks`.

        Raises
        ------
        OutputError
        """
        if location is None:
            return cls(None, header, _in_memory(header), is_draft)
        place, table = Place.parse(location), table_to_json(header.subjects)
        attributes = _attributes(header) | {"is_draft": is_draft}
        if not is_draft:
            attributes["header_sha256"] = header_hash(attributes, table)
        import zarr  # where it is used, as in `groups`

        try:
            with place.writing():
                group = zarr.create_group(place.zarr_store(), zarr_format=3, attributes=attributes)
                arrays = _lay_out(place, group, header, table, most)
            _update(place, status="writing")
        except BaseException:
            # Not what another process has made in the meantime.
            with suppress(NumbaglmError):
                if status(place) in ("nothing", "preparing"):
                    remove(place)
            raise
        return cls(place, header, arrays, is_draft)

    @classmethod
    def resume(cls, location: Where) -> CohortWriter | None:
        """Take up the half-written cohort at a place; None if it stopped before its layout was there.

        Raises
        ------
        StoreError
            It can't be read, or another release of numbaglm began it.
        """
        opened = open_group(location, mode="r+")
        if opened.attributes["status"] == "preparing":
            return None
        refuse_to_resume(opened)
        return cls(opened.place, *read_parts(opened), bool(opened.attributes.get("is_draft")))

    @property
    def data(self) -> Any:
        """(n_subjects, n_voxels) the first layer: a `ChunkedArray`, or a NumPy array."""
        return self.arrays.data

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The subject blocks (start, stop), each written by one task: whole chunks."""
        n_subjects, n_voxels = self.data.shape
        if self.place is None:
            return subject_blocks(n_subjects, n_voxels)
        rows = self.data.chunks[0]
        return [(start, min(start + rows, n_subjects)) for start in range(0, n_subjects, rows)]

    def write(
        self, start: int, rows: Float32, present: Bits | None = None, layers: Mapping[str, Float32] | None = None
    ) -> None:
        """Store a block of subjects, then its hashes.

        Parameters
        ----------
        start
            The first subject.
        rows
            (k, n_voxels) their maps: 0 where they lack a value.
        present
            (k, ceil(n_voxels / 8)) bits of what they have; None has all.
        layers
            (k, n_voxels) of each further layer.
        """
        parts: list[NDArray[Any]] = [rows, *((layers or {})[name] for name in self.header.layers[1:])]
        if self.arrays.presence is not None:
            every = np.ones((1, self.header.space.n), bool)
            parts.append(np.repeat(pack(every), len(rows), axis=0) if present is None else present)
        assert present is None or self.arrays.presence is not None
        found = hash_arrays(parts)
        if self.place is None:
            for array, part in zip(self.arrays.all, parts, strict=True):
                array[start : start + len(part)] = part
            self.arrays.hashes[start : start + len(rows)] = found
            return
        for array, part in zip(self.arrays.all, parts, strict=True):
            cast(ChunkedArray, array).write(start, part)
        # As Zarr stores a chunk of bytes: itself and its checksum, in a tenth of the time.
        n_rows = self.data.chunks[0]
        chunk = np.zeros((n_rows, found.shape[1]), np.uint8)
        chunk[: len(rows)] = found
        data = chunk.tobytes()
        self.place.write_bytes(f"hashes/c/{start // n_rows}/0", data + checksum(data), sync=False)

    def is_stored(self, start: int, stop: int) -> bool:
        """Whether a block is stored whole: read again, and equal to its hashes."""
        stored = self.stored_hashes(start, stop)
        if self.place is None or not stored.any(axis=1).all():
            return False
        try:
            parts = [self._read(array, start, stop) for array in self.arrays.all]
        except StoreError:
            return False
        return bool((hash_arrays(parts) == stored).all()) and (not self.is_draft or self._has_survey(start))

    def stored_hashes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop - start, 16 * arrays) hashes of a block; zeros where it is not stored, or they are damaged."""
        try:
            return np.asarray(self.arrays.hashes[start:stop])
        except (ValueError, RuntimeError, OSError):
            # So that they are written again.
            return np.zeros((stop - start, HASH_BYTES * len(self.arrays.all)), np.uint8)

    def read_subjects(self, start: int, stop: int, layer: str = DATA) -> Float32:
        """Read what is stored of the subjects ``start`` to ``stop``: (stop - start, n_voxels)."""
        return self._read(self.arrays.layers[layer], start, stop)

    def presence_of(self, start: int, stop: int) -> Bits | None:
        """Bits of the elements that the subjects ``start`` to ``stop`` have; None where all have all."""
        return None if self.arrays.presence is None else self._read(self.arrays.presence, start, stop)

    def _read(self, array: Any, start: int, stop: int) -> NDArray[Any]:
        try:
            return cast(ChunkedArray, array).read(slice(start, stop), slice(0, array.shape[1]))
        except ChunkError as error:
            raise StoreError(f"The half-written cohort {self.place} is damaged: repeat the call. {error}") from error

    def write_survey(self, start: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep what a survey found of the block of a draft that starts at a subject, before the block is stored."""
        assert self.is_draft
        file = io.BytesIO()
        np.savez(file, **cast(Any, arrays))
        name, data = f"{_SURVEYS}/{start}", blosc().encode(file.getvalue())
        cast(Place, self.place).write_bytes(name, data + checksum(data, name), sync=False)

    def read_survey(self, start: int) -> dict[str, NDArray[Any]]:
        """Read what `write_survey` kept.

        Raises
        ------
        StoreError
            It is damaged.
        """
        name = f"{_SURVEYS}/{start}"
        data = cast(Place, self.place).read_bytes(name)
        if len(data) < 4 or checksum(data[:-4], name) != data[-4:]:  # before it is unpacked: Blosc trusts what it reads
            raise StoreError(f"The half-written cohort {self.place} is damaged ({name}): repeat the call.")
        with np.load(io.BytesIO(blosc().decode(data[:-4]))) as arrays:
            return dict(arrays)

    def _has_survey(self, start: int) -> bool:
        try:
            self.read_survey(start)
        except (MissingFileError, StoreError):  # the block is stored again
            return False
        return True

    def update_subjects(self, subjects: pd.DataFrame) -> CohortWriter:
        """Replace the subject table of a draft."""
        import zarr

        place = cast(Place, self.place)
        with place.writing():
            group = zarr.open_group(place.zarr_store(), mode="r+", zarr_format=3, use_consolidated=False)
            group["subjects"].attrs.put(table_to_json(subjects))
        return replace(self, header=replace(self.header, subjects=subjects))

    def settle(self, header: Header) -> CohortWriter:
        """Make a draft, all of whose voxels stay, the cohort itself."""
        place, table = cast(Place, self.place), table_to_json(header.subjects)
        self.update_subjects(header.subjects)
        attributes = _attributes(header) | {"is_draft": False, "status": "writing"}
        _update(place, **attributes, header_sha256=header_hash(attributes, table))
        place.remove(_SURVEYS)
        return replace(self, header=header, is_draft=False)

    def complete(self) -> CohortStore:
        """Declare the cohort whole and open it.

        Raises
        ------
        StoreError
            A block is not stored, or its hashes are damaged: the same call stores it.
        """
        assert not self.is_draft
        stored = np.concatenate([self.stored_hashes(*block) for block in self.blocks])
        if self.place is not None and not stored.any(axis=1).all():
            raise StoreError(f"The half-written cohort {self.place} is damaged (hashes): repeat the call.")
        arrays = replace(self.arrays, hashes=stored)
        if self.place is None:
            for array in self.arrays.all:
                array.flags.writeable = False
            return CohortStore(None, self.header, arrays)
        # The subject table as it will be read.
        subjects = table_from_json(table_to_json(self.header.subjects))
        header = replace(self.header, subjects=subjects)
        all_present, group = True, None  # where all have all, a store asks its group nothing
        if header.has_presence:
            all_present = self._keep_patterns()
            _update(self.place, all_present=all_present)
            group = open_group(self.place)
        store = CohortStore(str(self.place), header, arrays, group)
        _update(self.place, all_present=all_present, status="complete", fingerprint=store.fingerprint)
        return store

    def _keep_patterns(self) -> bool:
        """Find the patterns of presence and store them; return whether there is but one, which has all."""
        import zarr

        place, presence = cast(Place, self.place), cast(ChunkedArray, self.arrays.presence)
        n_subjects, n_elements = self.data.shape
        step = presence.chunks[1]
        spans = [slice(first, min(first + step, presence.shape[1])) for first in range(0, presence.shape[1], step)]
        blocks = (
            unpack(presence.read(slice(0, n_subjects), span), min(8 * span.stop, n_elements) - 8 * span.start)
            for span in spans
        )
        try:
            found = Patterns.find(blocks, n_subjects)
        except ChunkError as error:
            raise StoreError(f"The half-written cohort {place} is damaged: repeat the call. {error}") from error
        with place.writing():
            group = zarr.open_group(place.zarr_store(), mode="r+", zarr_format=3, use_consolidated=False)
            dimensions = (("pattern", "subject_byte"), ("element",))
            arrays: tuple[NDArray[Any], ...] = (found.bits, found.of)
            for name, array, names in zip(PATTERNS, arrays, dimensions, strict=True):
                made = group.create_array(
                    name,
                    shape=array.shape,
                    chunks=array.shape,
                    dtype=array.dtype,
                    fill_value=0,
                    compressors=codecs(array.dtype.str),
                    dimension_names=names,
                    overwrite=True,
                )
                made[...] = array
        return found.all_present

    def __reduce__(self) -> tuple[Any, ...]:
        if self.place is None:
            return CohortWriter, (None, self.header, self.arrays, self.is_draft)
        return _reopen, (self.place,)


def _reopen(place: Place) -> CohortWriter:
    return _opened(place, place.read_bytes(ROOT))


@lru_cache(maxsize=2)  # a worker gets the same writer with every task
def _opened(place: Place, root: bytes) -> CohortWriter:
    return cast(CohortWriter, CohortWriter.resume(place))


def subject_blocks(n_subjects: int, n_voxels: int, most: int | None = None) -> list[tuple[int, int]]:
    """The subject blocks (start, stop) of a cohort, as it will be stored; see `choose_chunks`."""
    rows = choose_chunks(n_subjects, n_voxels, most)[0]
    return [(start, min(start + rows, n_subjects)) for start in range(0, n_subjects, rows)]


def _attributes(header: Header) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "numbaglm_version": __version__,
        "status": "preparing",
        "n_subjects": len(header.subjects),
        "n_voxels": header.space.n,
        "space": header.space.describe()[0],
        "layers": list(header.layers),
        "has_presence": header.has_presence,
        "keeps_missing": header.keeps_missing,
        "zero_is_missing": header.zero_is_missing,
        "smoothing_fwhm": header.smoothing_fwhm,
        "mask_rule": header.mask_rule,
        "given_mask": header.given_mask,
        "min_coverage": header.min_coverage,
        "report": list(header.report),
        "fingerprint": None,
    }


def _in_memory(header: Header) -> Arrays:
    shape = (len(header.subjects), header.space.n)
    layers = {name: np.empty(shape, np.float32) for name in header.layers}
    presence = np.zeros((shape[0], n_bytes(shape[1])), np.uint8) if header.has_presence else None
    n_arrays = len(layers) + header.has_presence
    return Arrays(layers, presence, np.zeros((shape[0], HASH_BYTES * n_arrays), np.uint8))


def _lay_out(place: Place, group: Any, header: Header, table: dict[str, Any], most: int | None) -> Arrays:
    n_subjects, n_elements = shape = (len(header.subjects), header.space.n)
    chunks = choose_chunks(*shape, most)
    for name, array in header.space.describe()[1].items():
        whole = array.shape or (1,)
        group.create_array(f"{SPACE}/{name}", shape=whole, chunks=whole, dtype=array.dtype, fill_value=0)[...] = array
    group.create_group("subjects", attributes=table)

    def lay(path: str, shape: tuple[int, int], chunks: tuple[int, int], dtype: str, fill: float, element: str) -> Any:
        made = group.create_array(
            path,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=fill,
            compressors=codecs(dtype),
            dimension_names=("subject", element),
        )
        return ChunkedArray.of(place / path, made, path)

    layers = {name: lay(layer_path(name), shape, chunks, "<f4", np.nan, "element") for name in header.layers}
    presence = None
    if header.has_presence:
        bits = ((n_subjects, n_bytes(n_elements)), (chunks[0], n_bytes(chunks[1])))
        presence = lay(PRESENCE, *bits, "|u1", 0, "element_byte")
    n_hashes = HASH_BYTES * (len(layers) + header.has_presence)
    hashes = group.create_array(
        "hashes",
        shape=(n_subjects, n_hashes),
        chunks=(chunks[0], n_hashes),
        dtype="uint8",
        fill_value=0,
        compressors=[codecs("|u1")[-1]],
        dimension_names=("subject", "hash_byte"),
    )
    return Arrays(layers, presence, hashes)


def begin_successor(cohort: Place, draft: Place | None = None) -> Place:
    """Where to write a cohort that shall take the place of one: within its folder.

    Clears away what others left there, but for a draft that it is to be copied from.
    """
    _clear(cohort, open_group(cohort).current, draft)
    return cohort / f"{_SUCCESSOR}{uuid.uuid4().hex[:8]}"


def take_over(cohort: Place, successor: Place) -> CohortStore:
    """Let a complete successor be the cohort, at once; until then, whatever happened, the old one was."""
    _update(cohort, **open_group(successor).attributes, current=successor.name)
    _clear(cohort, successor)
    return CohortStore.open(cohort)


def _clear(cohort: Place, current: Place, draft: Place | None = None) -> None:
    kept = {current.name, None if draft is None else draft.name}
    for name in cohort.children():
        if (name.startswith(_SUCCESSOR) and name not in kept) or (name in _PARTS and current != cohort):
            cohort.remove(name)


def remove(location: Where) -> None:
    """Delete a cohort, if there is one; refuses to delete anything else."""
    place = Place.parse(location)
    if status(place) == "other":
        raise OutputExistsError(f"{place} is not a numbaglm cohort: it is left alone. Move it away if you can.")
    _empty(place)
    if place.local:
        with suppress(OSError):  # a lock may be in it
            place.path.rmdir()


def _empty(place: Place) -> None:
    """Delete all but a lock, in an order that never leaves part of a cohort that seems complete."""
    names = [name for name in place.children() if not is_lock(name)]
    if ROOT in names:
        _update(place, status="preparing")
        names = [*(name for name in names if name != ROOT), ROOT]
    for name in names:
        place.remove(name)


def _update(place: Place, **attributes: Any) -> None:
    """Set attributes of a group, all at once: its file is replaced.

    It is on the disk itself then: what it stood for before may be deleted next.
    """
    metadata = json.loads(place.read_bytes(ROOT))
    metadata["attributes"] |= attributes
    place.write_bytes(ROOT, json.dumps(metadata, indent=2).encode())

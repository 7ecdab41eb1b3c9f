"""A cohort being written: laid out, filled block by block, resumed, declared complete."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import ChunkedArray, ChunkError, Float32, checksum, codecs
from numbaglm.data.cohort.layout import (
    HASH_BYTES,
    ROOT,
    SCHEMA,
    SCHEMA_VERSION,
    Header,
    Where,
    header_hash,
    open_group,
    read_parts,
    status,
)
from numbaglm.data.cohort.store import CohortStore, choose_chunks, hash_rows
from numbaglm.data.storage.locks import LOCK
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import table_from_json, table_to_json
from numbaglm.errors import MissingFileError, NumbaglmError, OutputExistsError, StoreError
from numbaglm.version import __version__

_SURVEYS = "surveys"
_PARTS = ("data", "hashes", "mask", "subjects", _SURVEYS)
_SUCCESSOR = "appended-"


# Of surveys: counts that are mostly 0.
_BLOSC = Blosc(cname="lz4", clevel=1, shuffle=Blosc.NOSHUFFLE)


@dataclass(frozen=True, eq=False)
class CohortWriter:
    """A cohort that is being written, subject block by subject block, by any number of workers.

    Attributes
    ----------
    place
        Of the Zarr group; None in memory.
    header
        What is known beforehand.
    data
        A `ChunkedArray`, or a NumPy array.
    hashes
        A Zarr or a NumPy array.
    is_draft
        Whether it is of all voxels that may be in the mask: which of them are, and what there is to report, is known
        when all maps are read.
    """

    place: Place | None
    header: Header
    data: Any
    hashes: Any
    is_draft: bool

    @classmethod
    def create(cls, location: Where | None, header: Header, *, is_draft: bool = False) -> CohortWriter:
        """Lay out a cohort, in an empty place or in memory; if that fails, nothing is left behind.

        Raises
        ------
        OutputError
        """
        shape = (len(header.subjects), header.geometry.n_voxels)
        if location is None:
            return cls(None, header, np.empty(shape, np.float32), np.zeros((shape[0], HASH_BYTES), np.uint8), is_draft)
        place, table = Place.parse(location), table_to_json(header.subjects)
        attributes = _attributes(header) | {"is_draft": is_draft}
        if not is_draft:
            attributes["header_sha256"] = header_hash(attributes, table)
        import zarr  # where it is used, as in `groups`

        try:
            with place.writing():
                group = zarr.create_group(place.zarr_store(), zarr_format=3, attributes=attributes)
                data, hashes = _lay_out(group, header, table)
            _update(place, status="writing")
        except BaseException:
            # Not what another process has made in the meantime.
            with suppress(NumbaglmError):
                if status(place) in ("nothing", "preparing"):
                    remove(place)
            raise
        return cls(place, header, ChunkedArray.of(place / "data", data), hashes, is_draft)

    @classmethod
    def resume(cls, location: Where) -> CohortWriter | None:
        """Take up the half-written cohort at a place; None if it stopped before its layout was there."""
        opened = open_group(location, mode="r+")
        if opened.attributes["status"] == "preparing":
            return None
        return cls(opened.place, *read_parts(opened), bool(opened.attributes.get("is_draft")))

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The subject blocks (start, stop), each written by one task: whole chunks."""
        n_subjects, n_voxels = self.data.shape
        if self.place is None:
            return subject_blocks(n_subjects, n_voxels)
        rows = self.data.chunks[0]
        return [(start, min(start + rows, n_subjects)) for start in range(0, n_subjects, rows)]

    def write(self, start: int, rows: Float32) -> None:
        """Store the maps of a block, (k, n_voxels), from subject ``start`` on, then their hashes."""
        stop = start + len(rows)
        if self.place is None:
            self.data[start:stop], self.hashes[start:stop] = rows, hash_rows(rows)
            return
        data = cast(ChunkedArray, self.data)
        data.write(start, rows)
        # As Zarr stores a chunk of bytes: itself and its checksum, in a tenth of the time.
        chunk = np.zeros((data.chunks[0], HASH_BYTES), np.uint8)
        chunk[: len(rows)] = hash_rows(rows)
        self.place.write_bytes(f"hashes/c/{start // data.chunks[0]}/0", chunk.tobytes() + checksum(chunk), sync=False)

    def is_stored(self, start: int, stop: int) -> bool:
        """Whether a block is stored whole: read again, and equal to its hashes."""
        stored = self.stored_hashes(start, stop)
        if self.place is None or not stored.any(axis=1).all():
            return False
        try:
            rows = self.read_subjects(start, stop)
        except StoreError:
            return False
        return bool((hash_rows(rows) == stored).all()) and (not self.is_draft or self._has_survey(start))

    def stored_hashes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop - start, 16) hashes of a block; zeros where it is not stored, or they are damaged."""
        try:
            return np.asarray(self.hashes[start:stop])
        except (ValueError, RuntimeError, OSError):
            return np.zeros((stop - start, HASH_BYTES), np.uint8)  # so that they are written again

    def read_subjects(self, start: int, stop: int) -> Float32:
        """Read what is stored of the subjects ``start`` to ``stop``: (stop - start, n_voxels)."""
        try:
            return cast(ChunkedArray, self.data).read(slice(start, stop), slice(0, self.data.shape[1]))
        except ChunkError as error:
            raise StoreError(f"The half-written cohort {self.place} is damaged: repeat the call. {error}") from error

    def write_survey(self, start: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep what a survey found of the block of a draft that starts at a subject, before the block is stored."""
        assert self.is_draft
        file = io.BytesIO()
        np.savez(file, **cast(Any, arrays))
        data = _BLOSC.encode(file.getvalue())
        cast(Place, self.place).write_bytes(f"{_SURVEYS}/{start}", data + checksum(data), sync=False)

    def read_survey(self, start: int) -> dict[str, NDArray[Any]]:
        """Read what `write_survey` kept.

        Raises
        ------
        StoreError
            It is damaged.
        """
        data = cast(Place, self.place).read_bytes(f"{_SURVEYS}/{start}")
        if len(data) < 4 or checksum(data[:-4]) != data[-4:]:  # before it is unpacked: Blosc trusts what it reads
            raise StoreError(f"The half-written cohort {self.place} is damaged ({_SURVEYS}/{start}): repeat the call.")
        with np.load(io.BytesIO(_BLOSC.decode(data[:-4]))) as arrays:
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
        if self.place is None:
            self.data.flags.writeable = False
            return CohortStore(None, self.header, self.data, stored)
        # The subject table as it will be read.
        subjects = table_from_json(table_to_json(self.header.subjects))
        store = CohortStore(str(self.place), replace(self.header, subjects=subjects), self.data, stored)
        _update(self.place, status="complete", fingerprint=store.fingerprint)
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        if self.place is None:
            return CohortWriter, (None, self.header, self.data, self.hashes, self.is_draft)
        return _closed, (self.place,)

    def __getattr__(self, name: str) -> Any:
        # As a store, it is opened where it is first used.
        if name not in ("header", "data", "hashes", "is_draft"):
            raise AttributeError(name)
        resumed = CohortWriter.resume(cast(Place, self.place))
        self.__dict__.update(cast(CohortWriter, resumed).__dict__)
        return self.__dict__[name]


def _closed(place: Place) -> CohortWriter:
    writer = object.__new__(CohortWriter)
    writer.__dict__.update(place=place)
    return writer


def subject_blocks(n_subjects: int, n_voxels: int) -> list[tuple[int, int]]:
    """The subject blocks (start, stop) of a cohort, as it will be stored."""
    rows = choose_chunks(n_subjects, n_voxels)[0]
    return [(start, min(start + rows, n_subjects)) for start in range(0, n_subjects, rows)]


def _attributes(header: Header) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "numbaglm_version": __version__,
        "status": "preparing",
        "n_subjects": len(header.subjects),
        "n_voxels": header.geometry.n_voxels,
        "affine": header.geometry.affine.tolist(),
        "smoothing_fwhm": header.smoothing_fwhm,
        "mask_rule": header.mask_rule,
        "given_mask": header.given_mask,
        "min_coverage": header.min_coverage,
        "report": list(header.report),
        "fingerprint": None,
    }


def _lay_out(group: Any, header: Header, table: dict[str, Any]) -> tuple[Any, Any]:
    mask = header.geometry.mask.astype(np.uint8)
    shape = (len(header.subjects), header.geometry.n_voxels)
    chunks = choose_chunks(*shape)
    blosc, crc32c = codecs()
    group.create_array("mask", shape=mask.shape, chunks=mask.shape, dtype="uint8", fill_value=0)[...] = mask
    group.create_group("subjects", attributes=table)
    data = group.create_array(
        "data", shape=shape, chunks=chunks, dtype="float32", fill_value=np.nan, compressors=[blosc, crc32c]
    )
    hashes = group.create_array(
        "hashes",
        shape=(shape[0], HASH_BYTES),
        chunks=(chunks[0], HASH_BYTES),
        dtype="uint8",
        fill_value=0,
        compressors=[crc32c],
    )
    return data, hashes


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
    names = [name for name in place.children() if name != LOCK]
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

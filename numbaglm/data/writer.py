"""A cohort being written: laid out, filled block by block, resumed, declared complete."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any, cast

import numpy as np
import zarr

from numbaglm.data.chunks import ChunkedArray, ChunkError, Float32, codecs
from numbaglm.data.groups import (
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
from numbaglm.data.locks import LOCK
from numbaglm.data.places import Place
from numbaglm.data.store import CohortStore, choose_chunks, hash_rows
from numbaglm.data.tables import table_to_json
from numbaglm.errors import NumbaglmError, OutputExistsError

_PARTS = ("data", "sha256", "mask", "subjects")
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
    data
        A `ChunkedArray`, or a NumPy array.
    sha256
        A Zarr or a NumPy array.
    """

    place: Place | None
    header: Header
    data: Any
    sha256: Any

    @classmethod
    def create(cls, location: Where | None, header: Header) -> CohortWriter:
        """Lay out a cohort, in an empty place or in memory; if that fails, nothing is left behind.

        Raises
        ------
        OutputError
        """
        shape = (len(header.subjects), header.geometry.n_voxels)
        if location is None:
            return cls(None, header, np.empty(shape, np.float32), np.zeros((shape[0], 32), np.uint8))
        place, table = Place.parse(location), table_to_json(header.subjects)
        attributes = _attributes(header)
        attributes["header_sha256"] = header_hash(attributes, table)
        try:
            with place.writing():
                group = zarr.create_group(place.zarr_store(), zarr_format=3, attributes=attributes)
                data, sha256 = _lay_out(group, header, table)
                group.update_attributes({"status": "writing"})
        except BaseException:
            # Not what another process has made in the meantime.
            with suppress(NumbaglmError):
                if status(place) in ("nothing", "preparing"):
                    remove(place)
            raise
        return cls(place, header, ChunkedArray.of(place / "data", data), sha256)

    @classmethod
    def resume(cls, location: Where) -> CohortWriter | None:
        """Take up the half-written cohort at a place; None if it stopped before its layout was there."""
        opened = open_group(location, mode="r+")
        if opened.attributes["status"] == "preparing":
            return None
        return cls(opened.place, *read_parts(opened))

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The subject blocks (start, stop), each written by one task: whole chunks."""
        n_subjects, n_voxels = self.data.shape
        rows = self.data.chunks[0] if self.place is not None else choose_chunks(n_subjects, n_voxels)[0]
        return [(start, min(start + rows, n_subjects)) for start in range(0, n_subjects, rows)]

    def write(self, start: int, rows: Float32) -> None:
        """Store the maps of a block, (k, n_voxels), from subject ``start`` on, then their hashes."""
        stop = start + len(rows)
        if self.place is None:
            self.data[start:stop], self.sha256[start:stop] = rows, hash_rows(rows)
            return
        with self.place.writing():
            cast(ChunkedArray, self.data).write(start, rows)
            self.sha256[start:stop] = hash_rows(rows)

    def is_stored(self, start: int, stop: int) -> bool:
        """Whether a block is stored whole: read again, and equal to its hashes."""
        try:
            stored = np.asarray(self.sha256[start:stop])
        except (ValueError, RuntimeError, OSError):
            return False  # the hashes are damaged: they are written again
        if self.place is None or not stored.any(axis=1).all():
            return False
        try:
            rows = cast(ChunkedArray, self.data).read(slice(start, stop), slice(0, self.data.shape[1]))
        except ChunkError:
            return False
        return bool((hash_rows(rows) == stored).all())

    def complete(self) -> CohortStore:
        """Declare the cohort whole and open it."""
        hashes = np.asarray(self.sha256[:])
        if self.place is None:
            self.data.flags.writeable = False
            return CohortStore(None, self.header, self.data, hashes)
        store = CohortStore(str(self.place), self.header, self.data, hashes)
        _update(self.place, status="complete", fingerprint=store.fingerprint)
        return CohortStore.open(self.place)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.place is None:
            return CohortWriter, (None, self.header, self.data, self.sha256)
        return CohortWriter.resume, (self.place,)


def _attributes(header: Header) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "numbaglm_version": _version(),
        "status": "preparing",
        "n_subjects": len(header.subjects),
        "n_voxels": header.geometry.n_voxels,
        "affine": header.geometry.affine.tolist(),
        "smoothing_fwhm": header.smoothing_fwhm,
        "mask_rule": header.mask_rule,
        "given_mask": header.given_mask,
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
    sha256 = group.create_array(
        "sha256", shape=(shape[0], 32), chunks=(chunks[0], 32), dtype="uint8", fill_value=0, compressors=[crc32c]
    )
    return data, sha256


def begin_successor(cohort: Place) -> Place:
    """Where to write a cohort that shall take the place of one: within its folder. Clears away what others left."""
    _clear(cohort, open_group(cohort).current)
    return cohort / f"{_SUCCESSOR}{uuid.uuid4().hex[:8]}"


def take_over(cohort: Place, successor: Place) -> CohortStore:
    """Let a complete successor be the cohort, at once; until then, whatever happened, the old one was."""
    _update(cohort, **open_group(successor).attributes, current=successor.name)
    _clear(cohort, successor)
    return CohortStore.open(cohort)


def _clear(cohort: Place, current: Place) -> None:
    for name in cohort.children():
        if (name.startswith(_SUCCESSOR) and name != current.name) or (name in _PARTS and current != cohort):
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
    with place.writing():
        group = zarr.open_group(place.zarr_store(), mode="r+", zarr_format=3, use_consolidated=False)
        group.update_attributes(attributes)


def _version() -> str:
    try:
        return metadata.version("numbaglm")
    except metadata.PackageNotFoundError:
        return "unknown"

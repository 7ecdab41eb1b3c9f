"""A cohort being written: laid out, filled block by block, resumed, declared complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from numbaglm.data.store import (
    SCHEMA,
    SCHEMA_VERSION,
    CohortStore,
    Float32,
    Header,
    choose_chunks,
    hash_rows,
    open_group,
    read_parts,
    status,
)
from numbaglm.data.tables import table_to_json
from numbaglm.errors import OutputError, OutputExistsError

# lz4 with shuffle: on real maps twice to five times as fast to write and to read as zstd, for 7 % more space
# (float32 noise hardly compresses: 0.93 against 0.86).
_CODECS = (BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=4), Crc32cCodec())


@dataclass(frozen=True, eq=False)
class CohortWriter:
    """A cohort that is being written, subject block by subject block, by any number of workers.

    Attributes
    ----------
    location
        Folder of the Zarr group; None in memory.
    header
        What is known beforehand.
    data, sha256
        Zarr or NumPy arrays.
    """

    location: str | None
    header: Header
    data: Any
    sha256: Any

    @classmethod
    def create(cls, location: str | Path | None, header: Header) -> CohortWriter:
        """Lay out a cohort, in an empty place or in memory; if that fails, nothing is left behind.

        Raises
        ------
        OutputError
        """
        shape = (len(header.subjects), header.geometry.n_voxels)
        if location is None:
            return cls(None, header, np.empty(shape, np.float32), np.zeros((shape[0], 32), np.uint8))
        chunks = choose_chunks(*shape)
        attributes = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "numbaglm_version": _version(),
            "status": "preparing",
            "n_subjects": shape[0],
            "n_voxels": shape[1],
            "affine": header.geometry.affine.tolist(),
            "smoothing_fwhm": header.smoothing_fwhm,
            "mask_rule": header.mask_rule,
            "given_mask": header.given_mask,
            "report": list(header.report),
            "fingerprint": None,
        }
        try:
            with writing(location):
                Path(location).parent.mkdir(parents=True, exist_ok=True)
                group = zarr.open_group(str(location), mode="w-", zarr_format=3, attributes=attributes)
                arrays = _lay_out(group, header, shape, chunks)
                group.update_attributes({"status": "writing"})
        except BaseException:
            # Not what another process has made in the meantime.
            if status(location) in ("nothing", "preparing"):
                shutil.rmtree(location, ignore_errors=True)
            raise
        return cls(str(location), header, *arrays)

    @classmethod
    def resume(cls, location: str | Path) -> CohortWriter | None:
        """Take up the half-written cohort at a place; None if it stopped before its layout was there."""
        group, attributes = open_group(location, mode="r+")
        if attributes["status"] == "preparing":
            return None
        return cls(str(location), *read_parts(location, group, attributes))

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The subject blocks (start, stop), each written by one task: whole chunks."""
        n_subjects, n_voxels = self.data.shape
        rows = self.data.chunks[0] if self.location is not None else choose_chunks(n_subjects, n_voxels)[0]
        return [(start, min(start + rows, n_subjects)) for start in range(0, n_subjects, rows)]

    def write(self, start: int, rows: Float32) -> None:
        """Store the maps of a block, (k, n_voxels), from subject ``start`` on, then their hashes."""
        stop = start + len(rows)
        with writing(self.location):
            self.data[start:stop] = rows
            self.sha256[start:stop] = hash_rows(rows)

    def is_stored(self, start: int, stop: int) -> bool:
        """Whether a block is stored whole: read again, and equal to its hashes."""
        try:
            stored = np.asarray(self.sha256[start:stop])
            return bool(stored.any(axis=1).all() and (hash_rows(np.asarray(self.data[start:stop])) == stored).all())
        except (ValueError, RuntimeError, OSError):
            return False

    def complete(self) -> CohortStore:
        """Declare the cohort whole and open it."""
        hashes = np.asarray(self.sha256[:])
        if self.location is None:
            self.data.flags.writeable = False
            return CohortStore(None, self.header, self.data, hashes)
        store = CohortStore(self.location, self.header, self.data, hashes)
        with writing(self.location):
            group = zarr.open_group(self.location, mode="r+", zarr_format=3)
            group.update_attributes({"status": "complete", "fingerprint": store.fingerprint})
        return CohortStore.open(self.location)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.location is None:
            return CohortWriter, (None, self.header, self.data, self.sha256)
        return CohortWriter.resume, (self.location,)


def _lay_out(group: Any, header: Header, shape: tuple[int, int], chunks: tuple[int, int]) -> tuple[Any, Any]:
    mask = header.geometry.mask.astype(np.uint8)
    group.create_array("mask", shape=mask.shape, chunks=mask.shape, dtype="uint8", fill_value=0)[...] = mask
    group.create_group("subjects", attributes=table_to_json(header.subjects))
    data = group.create_array(
        "data", shape=shape, chunks=chunks, dtype="float32", fill_value=np.nan, compressors=_CODECS
    )
    sha256 = group.create_array(
        "sha256",
        shape=(shape[0], 32),
        chunks=(chunks[0], 32),
        dtype="uint8",
        fill_value=0,
        compressors=[Crc32cCodec()],
    )
    return data, sha256


def remove(location: str | Path) -> None:
    """Delete a cohort, if there is one; refuses to delete anything else."""
    if not Path(location).exists():
        return
    if status(location) == "other":
        raise OutputExistsError(f"{location} is not a numbaglm cohort: it is left alone. Move it away if you can.")
    with writing(location):
        shutil.rmtree(location)


@contextmanager
def writing(location: str | Path | None) -> Iterator[None]:
    """Turn the system's refusals into OutputError, naming the place."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            error.errno,
            f"The cohort {location} could not be written ({error}). Check the folder, its permissions and "
            "the disk; then repeat the call.",
        ) from error


def _version() -> str:
    try:
        return metadata.version("numbaglm")
    except metadata.PackageNotFoundError:
        return "unknown"

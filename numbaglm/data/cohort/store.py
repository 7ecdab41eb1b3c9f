"""The cohort that analyses read: in memory, on disk or in an object store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from numbaglm.data.cohort.chunks import ChunkedArray, ChunkError, Float32
from numbaglm.data.cohort.layout import (
    HASH_BYTES,
    ROOT,
    SCHEMA,
    Header,
    Where,
    how_far,
    open_group,
    read_hashes,
    read_parts,
)
from numbaglm.data.storage.places import Place
from numbaglm.errors import InputError, MissingFileError, StoreError, invalid
from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.volume import Geometry

_CHUNK_BYTES = 2 * 2**20
_TILE = 1024  # of the kernels (numbaglm.kernels.shuffle, which is too heavy to import here)


def choose_chunks(n_subjects: int, n_voxels: int) -> tuple[int, int]:
    """(subject block, voxel block) of a cohort's chunks.

    A subject block is what one conversion task holds: some 16 of them until they reach 512 maps. A voxel block is
    the least that an analysis reads of all subjects, and what its blocks of voxels are multiples of, so it is narrow:
    chunks of 2 MiB, whose number costs nothing (0.1 ms each), down to one tile.
    """
    rows = min(n_subjects, max(4, min(512, -(-n_subjects // 16))))
    columns = _CHUNK_BYTES // (4 * rows) // _TILE * _TILE
    return rows, min(n_voxels, max(_TILE, min(65536, columns)))


class DamagedChunkError(StoreError):
    """A chunk is gone, or is not what was stored; it can be told, which it can't where a place is closed."""


@dataclass(frozen=True, eq=False)
class CohortStore:
    """The maps of a cohort, (n_subjects, n_voxels), with what belongs to them. Immutable.

    A store on disk is pickled as its location, and opened again where it is first used, so that workers read the
    chunks themselves; a scheduler, which unpickles it too, need not see it. One in memory is pickled whole.

    Attributes
    ----------
    location
        Path or URL of the Zarr group; None in memory.
    header
        Geometry, subjects, smoothing, report.
    data
        (n_subjects, n_voxels) float32, a `ChunkedArray` or a NumPy array: use `read`.
    """

    location: str | None
    header: Header
    data: Any
    stored_hashes: NDArray[np.uint8] | None = field(default_factory=lambda: None)  # no attribute of the class

    @classmethod
    def from_array(
        cls,
        Y: NDArray[Any],
        geometry: Geometry,
        *,
        subjects: Sequence[str] | pd.DataFrame | None = None,
        smoothing_fwhm: Fwhm = None,
        report: Sequence[str] = (),
    ) -> CohortStore:
        """Make an in-memory store of an array.

        Parameters
        ----------
        Y
            (n_subjects, n_voxels) data, finite, voxels in C order of the mask. Not copied if it is
            C-contiguous float32: don't change it afterwards.
        geometry
            Where the voxels lie.
        subjects
            Labels, or a DataFrame with a column ``subject_label`` and covariates; "subject-001" and so on by
            default.
        smoothing_fwhm, report
            As in `Header`.
        """
        data = np.ascontiguousarray(Y, dtype=np.float32)
        if data.ndim != 2 or data.shape[1] != geometry.n_voxels:
            raise InputError(
                invalid("Y", data.shape, f"(n_subjects, {geometry.n_voxels}), a column for each voxel of the mask")
            )
        if not np.isfinite(data).all():
            raise InputError(invalid("Y", "NaN or infinity", "finite values", "Leave such voxels out of the mask."))
        data = data.view()
        data.flags.writeable = False
        if subjects is None:
            subjects = [f"subject-{number:03d}" for number in range(1, len(data) + 1)]
        if not isinstance(subjects, pd.DataFrame):
            subjects = pd.DataFrame({"subject_label": list(subjects)})
        if len(subjects) != len(data):
            raise InputError(invalid("subjects", f"{len(subjects)} labels", f"one for each of {len(data)} rows of Y"))
        return cls(None, Header(geometry, subjects, smoothing_fwhm, report=tuple(report)), data)

    @classmethod
    def open(cls, location: Where) -> CohortStore:
        """Open a complete cohort on disk or in an object store.

        Raises
        ------
        MissingFileError
            If there is nothing.
        StoreError
            If it is no cohort, is damaged, half-written, or made by a newer numbaglm.
        """
        place = Place.parse(location)
        group = open_group(place)
        if group.attributes["status"] != "complete":
            raise StoreError(how_far(group))
        header, data, _ = read_parts(group)
        hashes = read_hashes(group)
        shape = (len(header.subjects), header.geometry.n_voxels)
        store = cls(str(place), header, data, hashes)
        if (
            data.shape != shape
            or hashes.shape != (shape[0], HASH_BYTES)
            or group.attributes["fingerprint"] != store.fingerprint
        ):
            raise StoreError(
                f"The cohort {place} is damaged: its data {data.shape}, mask and subject table {shape} or "
                "hashes do not belong together. Create it again from the maps."
            )
        return store

    @property
    def geometry(self) -> Geometry:
        """Grid and mask."""
        return self.header.geometry

    @property
    def subjects(self) -> pd.DataFrame:
        """A row a subject: subject_label, where the map came from, covariates."""
        return self.header.subjects

    @property
    def smoothing_fwhm(self) -> Fwhm:
        """Smoothing that was applied, in mm; None if none."""
        return self.header.smoothing_fwhm

    @property
    def report(self) -> tuple[str, ...]:
        """Sentences on what was left out, and why."""
        return self.header.report

    @property
    def n_subjects(self) -> int:
        """Number of maps."""
        return int(self.data.shape[0])

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the mask."""
        return int(self.data.shape[1])

    @property
    def chunks(self) -> tuple[int, int]:
        """(subjects, voxels) of a chunk; reading whole chunks is cheapest. The whole array in memory."""
        return cast(tuple[int, int], tuple(getattr(self.data, "chunks", self.data.shape)))

    @property
    def voxel_chunk(self) -> int:
        """How many voxels are read at least; blocks of voxels that are multiples of it read nothing twice."""
        return 1 if self.location is None else self.chunks[1]

    @property
    def chunks_at_once(self) -> int:
        """How many chunks are under way while some are read."""
        return 1 if self.location is None else cast(ChunkedArray, self.data).at_once

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """(n_subjects, 16) hash of each subject's row; see `hash_rows`."""
        return self.stored_hashes if self.stored_hashes is not None else hash_rows(np.asarray(self.data))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of data, mask and affine: equal for equal cohorts, however chunked and wherever they are."""
        digest = hashlib.sha256(f"{SCHEMA} {self.geometry.shape} {self.n_subjects}".encode())
        digest.update(self.geometry.affine.astype("<f8").tobytes())
        digest.update(np.packbits(self.geometry.mask).tobytes())
        digest.update(self.hashes.tobytes())
        return digest.hexdigest()

    def read(self, start: int, stop: int) -> Float32:
        """Voxels ``start`` to ``stop`` of all subjects: (n_subjects, stop - start), C-contiguous.

        Raises
        ------
        StoreError
            If the data on disk is damaged or gone.
        """
        if not 0 <= start < stop <= self.n_voxels:
            raise InputError(invalid("start, stop", (start, stop), f"0 <= start < stop <= {self.n_voxels}"))
        block = self._read(slice(0, self.n_subjects), slice(start, stop))
        self._require_unchanged()
        return block

    def pieces(self, start: int, stop: int) -> Iterator[tuple[slice, Float32]]:
        """Voxels ``start`` to ``stop`` as `read` gives them, a chunk of subjects at a time: rows, and their data.

        From an object store the next piece is on its way while one is used. Of data in memory it is a view of all.

        Raises
        ------
        StoreError
            As `read`.
        """
        if self.location is None:
            yield slice(0, self.n_subjects), self.data[:, start:stop]
            return
        step = self.chunks[0]
        parts = [slice(first, min(first + step, self.n_subjects)) for first in range(0, self.n_subjects, step)]
        yield from self._stored_pieces(parts, slice(start, stop))
        self._require_unchanged()

    def _stored_pieces(self, parts: Sequence[slice], columns: slice) -> Iterator[tuple[slice, Float32]]:
        if Place(cast(str, self.location)).local:
            for rows in parts:
                yield rows, self._read(rows, columns)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="numbaglm-ahead") as ahead:
            coming = ahead.submit(self._read, parts[0], columns)
            for rows, following in zip(parts, [*parts[1:], None], strict=True):
                block = coming.result()
                if following is not None:
                    coming = ahead.submit(self._read, following, columns)
                yield rows, block

    def read_subjects(self, start: int, stop: int) -> Float32:
        """All voxels of the subjects ``start`` to ``stop``: (stop - start, n_voxels), C-contiguous."""
        if not 0 <= start < stop <= self.n_subjects:
            raise InputError(invalid("start, stop", (start, stop), f"0 <= start < stop <= {self.n_subjects}"))
        return self._read(slice(start, stop), slice(0, self.n_voxels))

    def _read(self, rows: slice, columns: slice) -> Float32:
        if self.location is None:
            return np.ascontiguousarray(self.data[rows, columns])
        try:
            return cast(ChunkedArray, self.data).read(rows, columns)
        except ChunkError as error:
            labels = self.subjects["subject_label"].iloc[error.rows]
            raise DamagedChunkError(
                f"The cohort {self.location} is damaged: the chunk {error.name} of its data (subjects "
                f"{labels.iloc[0]} to {labels.iloc[-1]}, voxels {error.columns.start} to {error.columns.stop - 1}) "
                f"{error.reason}. Or it was changed while it was in use. Cohort.verify() tells which subjects are "
                "concerned; create the cohort again from the maps."
            ) from error

    def _require_unchanged(self) -> None:
        """Refuse what was read if another cohort has taken this one's place: its chunks would be sound as well."""
        if self.location is None:
            return
        try:
            there = json.loads(Place(self.location).read_bytes(ROOT))["attributes"]["fingerprint"]
        except (MissingFileError, ValueError, KeyError, TypeError):
            there = None
        if there != self.fingerprint:
            raise StoreError(_changed(self.location))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.location is None:
            return CohortStore, (None, self.header, self.data, self.stored_hashes)
        return _closed, (self.location, self.fingerprint)

    def __getattr__(self, name: str) -> Any:
        # A worker that failed to unpickle a task would say so to nobody, and the task would never end.
        if name not in ("header", "data", "stored_hashes"):
            raise AttributeError(name)
        self.__dict__.update(_reopen(cast(str, self.location), self.fingerprint).__dict__)
        return self.__dict__[name]

    def __repr__(self) -> str:
        place = self.location or "in memory"
        return f"<CohortStore: {self.n_subjects} subjects x {self.n_voxels} voxels, {place}>"


def _closed(location: str, fingerprint: str) -> CohortStore:
    store = object.__new__(CohortStore)
    store.__dict__.update(location=location, fingerprint=fingerprint)
    return store


def _reopen(location: str, fingerprint: str) -> CohortStore:
    try:
        return _opened(location, fingerprint, Place(location).read_bytes(ROOT))
    except MissingFileError as error:
        raise MissingFileError(f"The cohort {location} is gone, or this machine does not see it ({error})") from error


# A worker gets the same store with every task, and a large subject table takes 0.1 s to parse. The root's attributes
# tell an appended or replaced cohort from the one that was opened.
@lru_cache(maxsize=4)
def _opened(location: str, fingerprint: str, root: bytes) -> CohortStore:
    store = CohortStore.open(location)
    if store.fingerprint != fingerprint:
        raise StoreError(_changed(location))
    return store


def _changed(location: str) -> str:
    return f"The cohort {location} changed while it was in use. Run the analysis again."


def hash_rows(rows: Float32) -> NDArray[np.uint8]:
    """(k, 16) XXH3 (128 bits) of each row of (k, n_voxels), as little-endian float32.

    It tells apart whatever differs by accident, at thirty times the speed of SHA-256, which would take a tenth of the
    time of a conversion. It is no proof against forgery.
    """
    contiguous = np.ascontiguousarray(rows, dtype="<f4")
    return np.frombuffer(b"".join(xxh3_128_digest(row) for row in contiguous), np.uint8).reshape(-1, HASH_BYTES)

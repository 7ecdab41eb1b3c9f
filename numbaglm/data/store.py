"""The cohort as it lies: in memory, or on disk as a Zarr v3 group.

Layout of a group, schema 1::

    data        (n_subjects, n_voxels) float32, chunks (subject block, voxel block), Blosc and crc32c
    sha256      (n_subjects, 32) uint8, the hash of each subject's row; zeros until the row is stored
    mask        (nx, ny, nz) uint8
    subjects    group whose attributes hold the subject table, column by column

The attributes of the root hold the rest, and the status: "preparing", "writing" or "complete". A subject
block counts as stored when its hashes are there, which are written after its data; a store is opened as a
cohort when it is complete. So whatever stops a conversion, at any moment, leaves a store that says how far it
got.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from numbaglm.data.geometry import Geometry
from numbaglm.data.smoothing import Fwhm
from numbaglm.data.tables import table_from_json
from numbaglm.errors import InputError, MissingFileError, StoreError, invalid

SCHEMA = "numbaglm.cohort"
SCHEMA_VERSION = 1

_CHUNK_BYTES = 8 * 2**20

Float32 = NDArray[np.float32]


def choose_chunks(n_subjects: int, n_voxels: int) -> tuple[int, int]:
    """(subject block, voxel block) of a cohort's chunks.

    A subject block is what one conversion task holds, a voxel block what one analysis task must read at
    least, so both stay small: some 16 subject blocks until they reach 512 maps, and chunks of 8 MiB.
    """
    rows = min(n_subjects, max(4, min(512, -(-n_subjects // 16))))
    columns = _CHUNK_BYTES // (4 * rows) // 4096 * 4096
    return rows, min(n_voxels, max(4096, min(65536, columns)))


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of a cohort before its first map is stored.

    Attributes
    ----------
    geometry
        Grid and mask.
    subjects
        A row a subject: subject_label, source, source_bytes, source_state, then covariates.
    smoothing_fwhm
        In mm, one width or three; None if the maps were not smoothed.
    mask_rule
        "intersection" (of what the maps hold) or "given".
    given_mask
        Hash of the mask that was given, "" if none was.
    report
        Sentences on what was left out.
    """

    geometry: Geometry
    subjects: pd.DataFrame
    smoothing_fwhm: Fwhm = None
    mask_rule: str = "intersection"
    given_mask: str = ""
    report: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CohortStore:
    """The maps of a cohort, (n_subjects, n_voxels), with what belongs to them. Immutable.

    A store on disk is pickled as its location and opened again by whoever receives it, so that workers read
    the chunks themselves; one in memory is pickled whole.

    Attributes
    ----------
    location
        Folder of the Zarr group; None in memory.
    header
        Geometry, subjects, smoothing, report.
    data
        (n_subjects, n_voxels) float32, a Zarr or a NumPy array: use `read`.
    """

    location: str | None
    header: Header
    data: Any
    stored_hashes: NDArray[np.uint8] | None = None

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
    def open(cls, location: str | Path) -> CohortStore:
        """Open a complete cohort on disk.

        Raises
        ------
        MissingFileError
            If there is nothing.
        StoreError
            If it is no cohort, is damaged, half-written, or made by a newer numbaglm.
        """
        group, attributes = open_group(location)
        if attributes["status"] != "complete":
            raise StoreError(_how_far(location, group, attributes))
        header, data, sha256 = read_parts(location, group, attributes)
        hashes = np.asarray(sha256[:])
        shape = (len(header.subjects), header.geometry.n_voxels)
        store = cls(str(location), header, data, hashes)
        if data.shape != shape or hashes.shape != (shape[0], 32) or attributes["fingerprint"] != store.fingerprint:
            raise StoreError(
                f"The cohort {location} is damaged: its data {data.shape}, mask and subject table {shape} or "
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

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """(n_subjects, 32) SHA-256 of each subject's row."""
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
        return self._read(slice(0, self.n_subjects), slice(start, stop))

    def read_subjects(self, start: int, stop: int) -> Float32:
        """All voxels of the subjects ``start`` to ``stop``: (stop - start, n_voxels), C-contiguous."""
        if not 0 <= start < stop <= self.n_subjects:
            raise InputError(invalid("start, stop", (start, stop), f"0 <= start < stop <= {self.n_subjects}"))
        return self._read(slice(start, stop), slice(0, self.n_voxels))

    def _read(self, rows: slice, columns: slice) -> Float32:
        if self.location is None:
            return np.ascontiguousarray(self.data[rows, columns])
        where = f"Damaged or missing data in the cohort {self.location}, subjects {rows.start} to {rows.stop}"
        advice = "Cohort.verify() tells which subjects are concerned; create the cohort again from the maps."
        try:
            block = np.ascontiguousarray(self.data[rows, columns])
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"{where} ({error}). {advice}") from error
        # Zarr fills a chunk that is gone with NaN, which no stored value is: look at one of each chunk.
        n_rows, n_columns = self.chunks
        first = np.r_[0, np.arange(-rows.start % n_rows, len(block), n_rows)]
        second = np.r_[0, np.arange(-columns.start % n_columns, block.shape[1], n_columns)]
        if np.isnan(block[first[first < len(block)]][:, second[second < block.shape[1]]]).any():
            raise StoreError(f"{where} (a chunk is gone). {advice}")
        return block

    def __reduce__(self) -> tuple[Any, ...]:
        if self.location is None:
            return CohortStore, (None, self.header, self.data, self.stored_hashes)
        return _reopen, (self.location, self.fingerprint)

    def __repr__(self) -> str:
        place = self.location or "in memory"
        return f"<CohortStore: {self.n_subjects} subjects x {self.n_voxels} voxels, {place}>"


def _reopen(location: str, fingerprint: str) -> CohortStore:
    try:
        made = (Path(location) / "zarr.json").stat()
    except OSError as error:
        raise MissingFileError(f"The cohort {location} is gone, or this machine does not see it ({error}).") from error
    return _opened(location, fingerprint, made.st_mtime_ns, made.st_ino)


# A worker gets the same store with every task, and a large subject table takes 0.1 s to parse. Time and inode
# of the root's metadata tell an appended or replaced cohort from the one that was opened.
@lru_cache(maxsize=4)
def _opened(location: str, fingerprint: str, modified: int, inode: int) -> CohortStore:
    store = CohortStore.open(location)
    if store.fingerprint != fingerprint:
        raise StoreError(f"The cohort {location} changed while it was in use. Run the analysis again.")
    return store


def hash_rows(rows: Float32) -> NDArray[np.uint8]:
    """(k, 32) SHA-256 of each row of (k, n_voxels), as little-endian float32."""
    contiguous = np.ascontiguousarray(rows, dtype="<f4")
    return np.frombuffer(b"".join(hashlib.sha256(row).digest() for row in contiguous), np.uint8).reshape(-1, 32)


def status(location: str | Path) -> str:
    """Tell what is at a place: "nothing", "other" (no cohort), "preparing", "writing" or "complete"."""
    path = Path(location)
    try:
        # A conversion killed in its first moment leaves a folder with, at most, Zarr's temporary files.
        if not path.exists() or (path.is_dir() and all(file.suffix == ".partial" for file in path.iterdir())):
            return "nothing"
        return str(open_group(path)[1]["status"])
    except (StoreError, OSError):
        return "other"


def bytes_on_disk(location: str | Path) -> int:
    """Size of everything in a cohort's folder."""
    return sum(file.stat().st_size for file in Path(location).rglob("*") if file.is_file())


def open_group(location: str | Path, mode: str = "r") -> tuple[Any, Mapping[str, Any]]:
    """Open the Zarr group of a cohort, complete or not, and its attributes; refuses anything else."""
    path = Path(location)
    if not path.exists():
        raise MissingFileError(f"There is no cohort {location}. Create it with Cohort.create(path, maps).")
    try:
        group = zarr.open_group(str(path), mode=cast(Any, mode), zarr_format=3, use_consolidated=False)
        attributes: dict[str, Any] = dict(group.attrs)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StoreError(f"{location} is not a numbaglm cohort ({type(error).__name__}: {error}).") from error
    if attributes.get("schema") != SCHEMA:
        raise StoreError(f"{location} is a Zarr group, but not a numbaglm cohort. Create one with Cohort.create.")
    version = attributes.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StoreError(
            f"The cohort {location} has schema version {version} (numbaglm "
            f"{attributes.get('numbaglm_version')}); this one reads up to {SCHEMA_VERSION}. Upgrade numbaglm."
        )
    return group, attributes


def read_parts(location: str | Path, group: Any, attributes: Mapping[str, Any]) -> tuple[Header, Any, Any]:
    """Read the header of a cohort, complete or not, and open its arrays ``data`` and ``sha256``."""
    try:
        mask = np.asarray(group["mask"][...]).astype(bool)
        subjects = table_from_json(group["subjects"].attrs)
        if np.count_nonzero(mask) != attributes["n_voxels"] or len(subjects) != attributes["n_subjects"]:
            raise ValueError("mask or subject table have lost entries")
        fwhm = attributes["smoothing_fwhm"]
        header = Header(
            Geometry(mask, np.array(attributes["affine"])),
            subjects,
            tuple(fwhm) if isinstance(fwhm, list) else fwhm,
            attributes["mask_rule"],
            attributes["given_mask"],
            tuple(attributes["report"]),
        )
        return header, group["data"], group["sha256"]
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise StoreError(
            f"The cohort {location} is damaged ({type(error).__name__}: {error}). Create it again from the "
            "maps, with overwrite=True."
        ) from error


def _how_far(location: str | Path, group: Any, attributes: Mapping[str, Any]) -> str:
    try:
        done = int(np.asarray(group["sha256"][:]).any(axis=1).sum())
    except (ValueError, KeyError, RuntimeError, OSError):
        done = 0
    return (
        f"The cohort {location} is half-written: {done} of {attributes['n_subjects']} subjects are stored. "
        "Call Cohort.create again with the same arguments to go on where it stopped, or with overwrite=True "
        "to start anew."
    )

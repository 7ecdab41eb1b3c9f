"""The Zarr v3 group that a cohort is, on disk or in an object store: its layout, its header, how far it got.

Layout of a group, schema 3::

    data        (n_subjects, n_voxels) float32, chunks (subject block, voxel block), Blosc and crc32c
    hashes      (n_subjects, 16) uint8, of each subject's row; zeros until the row is stored
    mask        (nx, ny, nz) uint8
    subjects    group whose attributes hold the subject table, column by column

The attributes of the root hold the rest, and the status: "preparing", "writing" or "complete". A subject
block counts as stored when its hashes are there, which are written after its data; a store is opened as a
cohort when it is complete. So whatever stops a conversion, at any moment, leaves a store that says how far it
got. The attributes of a group are one object, which is replaced at once on disk and in object stores alike.

A cohort that was appended to lies in a group of its own within the first, which is of the same layout; the attribute
"current" of the root names it. Writing that attribute is what makes the append count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import ChunkedArray
from numbaglm.data.storage.files import PARTIAL
from numbaglm.data.storage.locks import LOCK
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import table_from_json
from numbaglm.errors import MissingFileError, OutputError, OutputExistsError, StoreError
from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.volume import Geometry

SCHEMA = "numbaglm.cohort"
SCHEMA_VERSION = 3

HASH_BYTES = 16
"""Of the hash of a row."""

ROOT = "zarr.json"
"""The file that holds the attributes of a group."""

Where = str | os.PathLike[str] | Place

# What Zarr raises of what it can't read; what is refused is a StoreError, one of these.
_DAMAGES = (ValueError, KeyError, TypeError, RuntimeError)

# What is hashed of the attributes: all that is known before the first map is stored.
_HEADER = ("n_subjects", "n_voxels", "affine", "smoothing_fwhm", "mask_rule", "given_mask", "min_coverage", "report")


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
    min_coverage
        Share of the maps that have a value at each voxel. What the others lack is stored as -0.
    """

    geometry: Geometry
    subjects: pd.DataFrame
    smoothing_fwhm: Fwhm = None
    mask_rule: str = "intersection"
    given_mask: str = ""
    report: tuple[str, ...] = ()
    min_coverage: float = 1.0


def status(location: Where) -> str:
    """Tell what is at a place: "nothing", "other" (no cohort), "preparing", "writing" or "complete".

    Raises
    ------
    StoreError
        It can't be told: no permission, no connection.
    """
    place = Place.parse(location)
    if not place.exists(ROOT):
        if place.local and place.path.is_file():
            return "other"
        # A conversion that was killed in its first moment leaves a lock, and Zarr's temporary files.
        others = [name for name in place.children() if name != LOCK and not name.endswith(PARTIAL)]
        return "other" if others else "nothing"
    try:
        return str(open_group(place).attributes["status"])
    except StoreError:
        return "other"


@dataclass(frozen=True, eq=False)
class CohortGroup:
    """The Zarr group of a cohort, complete or not.

    Attributes
    ----------
    place
        Of the cohort.
    current
        Of the group that counts: the same, or one within it.
    group
        That group, opened by Zarr.
    attributes
        Its attributes.
    """

    place: Place
    current: Place
    group: Any
    attributes: Mapping[str, Any]


def check_free(place: Place, overwrite: bool) -> str:
    """Tell what is at a place; refuse early what can't be written to. Touches nothing."""
    state = status(place)
    if state == "other":
        raise OutputExistsError(f"{place} exists and is not a numbaglm cohort: it is left alone. Choose another path.")
    if state == "complete" and not overwrite:
        raise OutputExistsError(
            f"{place} holds a cohort already. Open it with Cohort.open, add to it with append, choose "
            "another path, or pass overwrite=True."
        )
    if place.local:
        parent = next(folder for folder in place.path.parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"The cohort {place} can't be written: {parent} is not a folder that may be written to.")
    return state


def open_group(location: Where, mode: str = "r") -> CohortGroup:
    """Open the group of a cohort, complete or not; refuses anything else.

    Raises
    ------
    MissingFileError, StoreError
    """
    place = Place.parse(location)
    if not place.exists(ROOT):
        unseen = " (memory:// is seen by the process that wrote it alone)" if place.in_process else ""
        if place.exists():
            raise StoreError(f"{place} is not a numbaglm cohort: no {ROOT} is in it{unseen}.")
        raise MissingFileError(f"There is no cohort {place}{unseen}. Create it with Cohort.create(path, maps).")
    current, group, attributes = place, *_open_zarr(place, mode)
    if "current" in attributes:
        current = place / attributes["current"]
        group, attributes = _open_zarr(current, mode)
    return CohortGroup(place, current, group, attributes)


def _open_zarr(place: Place, mode: str) -> tuple[Any, Mapping[str, Any]]:
    import zarr  # 0.15 s, which who has maps in memory need not wait for

    try:
        with place.reading():
            store = place.zarr_store(read_only=mode == "r")
            group = zarr.open_group(store, mode=cast(Any, mode), zarr_format=3, use_consolidated=False)
            attributes: dict[str, Any] = dict(group.attrs)
    except (*_DAMAGES, MissingFileError) as error:
        raise StoreError(f"{place} is not a numbaglm cohort, or can't be read ({error}).") from error
    if attributes.get("schema") != SCHEMA:
        raise StoreError(f"{place} is a Zarr group, but not a numbaglm cohort. Create one with Cohort.create.")
    version = attributes.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = "Upgrade numbaglm" if newer else "Delete it and create it again from the maps"
        raise StoreError(
            f"The cohort {place} has schema version {version} (numbaglm {attributes.get('numbaglm_version')}); this "
            f"one reads {SCHEMA_VERSION}. {advice}."
        )
    return group, attributes


def read_hashes(opened: CohortGroup) -> NDArray[np.uint8]:
    """(n_subjects, 16) hashes of a cohort, complete or not; zeros where a subject is not stored.

    Raises
    ------
    StoreError
    """
    try:
        with opened.current.reading():
            return np.asarray(opened.group["hashes"][:])
    except (*_DAMAGES, MissingFileError) as error:
        raise _damaged(opened, error) from error


def read_parts(opened: CohortGroup) -> tuple[Header, ChunkedArray, Any]:
    """Read the header of a cohort, complete or not, and open its arrays ``data`` and ``hashes``.

    Raises
    ------
    StoreError
    """
    group, attributes = opened.group, opened.attributes
    try:
        with opened.current.reading():
            mask = np.asarray(group["mask"][...]).astype(bool)
            table = dict(group["subjects"].attrs)
            data, hashes = group["data"], group["hashes"]
        subjects = table_from_json(table)
        if np.count_nonzero(mask) != attributes["n_voxels"] or len(subjects) != attributes["n_subjects"]:
            raise ValueError("mask or subject table have lost entries")
        if attributes.get("header_sha256", header_hash(attributes, table)) != header_hash(attributes, table):
            raise ValueError("attributes or subject table are not what was stored")
        fwhm = attributes["smoothing_fwhm"]
        header = Header(
            Geometry(mask, np.array(attributes["affine"])),
            subjects,
            tuple(fwhm) if isinstance(fwhm, list) else fwhm,
            attributes["mask_rule"],
            attributes["given_mask"],
            tuple(attributes["report"]),
            attributes["min_coverage"],
        )
        return header, ChunkedArray.of(opened.current / "data", data), hashes
    except (*_DAMAGES, MissingFileError) as error:
        raise _damaged(opened, error) from error


def _damaged(opened: CohortGroup, error: BaseException) -> StoreError:
    return StoreError(
        f"The cohort {opened.place} is damaged ({type(error).__name__}: {error}). Create it again from the maps, with "
        "overwrite=True."
    )


def header_hash(attributes: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Hash of what is known before the first map is stored, but for the mask, which is part of the fingerprint."""
    known = {name: value for name, value in attributes.items() if name in _HEADER}
    return hashlib.sha256(json.dumps([known, table], sort_keys=True).encode()).hexdigest()


def how_far(opened: CohortGroup) -> str:
    """Say how much of a cohort that is not complete is stored."""
    try:
        done = int(read_hashes(opened).any(axis=1).sum())
    except StoreError:
        done = 0
    return (
        f"The cohort {opened.place} is half-written: {done} of {opened.attributes['n_subjects']} subjects are stored. "
        "Call Cohort.create again with the same arguments to go on where it stopped, or with overwrite=True "
        "to start anew."
    )

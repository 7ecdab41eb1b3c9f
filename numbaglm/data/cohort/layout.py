"""The Zarr v3 group that a cohort is, on disk or in an object store: its layout, its header, how far it got.

Layout of a group, schema 4; dimensions have names, as xarray has them::

    data        (n_subjects, n_elements) float32, chunks (subject block, element block), Blosc, crc32c: the first layer;
                each chunk of it, of layers and of presence says which it is, see `numbaglm.data.cohort.chunks`
    layers/     further layers by name, each an array as data is: what comes with every map, such as its variance
    presence    (n_subjects, ceil(n_elements / 8)) uint8: a bit for each element that the subject has, the lowest first;
                not there where every subject has all
    patterns    (n_patterns, ceil(n_subjects / 8)) uint8: the distinct sets of subjects that elements have, in bits
    pattern_of  (n_elements,) int32: which of them each element has
    hashes      (n_subjects, 16 * arrays) uint8, of each subject's row of data, further layers, and presence; zeros
                until the row is stored
    space/      arrays of each part of the space by number, such as space/0/mask; the attribute "space" has the rest
    subjects    group whose attributes hold the subject table, column by column

The attributes of the root hold the rest, and the status: "preparing", "writing" or "complete". A subject
block counts as stored when its hashes are there, which are written after its data; a store is opened as a
cohort when it is complete. So whatever stops a conversion, at any moment, leaves a store that says how far it
got. The attributes of a group are one object, which is replaced at once on disk and in object stores alike.
An element that a subject lacks is 0 in every layer.

A cohort that was appended to lies in a group of its own within the first, which is of the same layout; the attribute
"current" of the root names it. Writing that attribute is what makes the append count.

Schema 3, of numbaglm 0.1, is one volume (``mask`` in the root, and its affine among the attributes) and one layer,
whose chunks do not say which they are. Where ``min_coverage`` was below 1 a value that a map lacked is -0 there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import ChunkedArray
from numbaglm.data.cohort.presence import Patterns, n_bytes
from numbaglm.data.storage.files import PARTIAL
from numbaglm.data.storage.locks import is_lock
from numbaglm.data.storage.places import Place
from numbaglm.data.tables import table_from_json
from numbaglm.errors import MissingFileError, OutputError, OutputExistsError, StoreError, term
from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry

SCHEMA = "numbaglm.cohort"
SCHEMA_VERSION = 4
_FIRST_RELEASE = 3  # numbaglm 0.1 wrote it

DATA = "data"
"""The first layer: the maps themselves."""

HASH_BYTES = 16
"""Of the hash of a row."""

LAYERS, PRESENCE, SPACE = "layers", "presence", "space"
PATTERNS = ("patterns", "pattern_of")

ROOT = "zarr.json"
"""The file that holds the attributes of a group."""

Where = str | os.PathLike[str] | Place

# What Zarr raises of what it can't read; what is refused is a StoreError, one of these.
_DAMAGES = (ValueError, KeyError, TypeError, RuntimeError, ArithmeticError)

_MOST_BYTES, _MOST_CHUNKS = 2**33, 2**20  # of an array that is read as a whole: the mask of a grid is the largest

# What is hashed of the attributes: all that is known before the first map is stored.
_HEADER = (
    *("n_subjects", "n_voxels", "smoothing_fwhm", "mask_rule", "given_mask", "min_coverage", "report"),
    *("space", "layers", "has_presence", "keeps_missing", "zero_is_missing"),
    "affine",  # of schema 3
)


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of a cohort before its first map is stored.

    Attributes
    ----------
    space
        Where the elements lie.
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
        Share of the maps that have a value at each element.
    layers
        Names of the layers, `DATA` the first.
    has_presence
        Whether bits say which elements each subject has; else all have all.
    keeps_missing
        Whether what is missing is so to a test; else it counts as 0.
    zero_is_missing
        Whether exactly 0 was taken for missing.
    """

    space: Space
    subjects: pd.DataFrame
    smoothing_fwhm: Fwhm = None
    mask_rule: str = "intersection"
    given_mask: str = ""
    report: tuple[str, ...] = ()
    min_coverage: float = 1.0
    layers: tuple[str, ...] = (DATA,)
    has_presence: bool = False
    keeps_missing: bool = False
    zero_is_missing: bool | None = None

    @property
    def geometry(self) -> Geometry:
        """Grid and mask of a space that is one volume; see `Space.volume`."""
        return self.space.volume


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
        names = [name for name in place.children() if not is_lock(name) and not name.endswith(PARTIAL)]
        if ROOT not in names:  # else it was begun just now
            return "other" if names else "nothing"
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
            f"{place} holds a cohort already. {term('Open it with Cohort.open, add to it with append, choose')} "
            f"another path, or pass {term('overwrite=True')}."
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
        raise MissingFileError(
            f"There is no cohort {place}{unseen}. Create it with {term('Cohort.create(path, maps)')}."
        )
    current, group, attributes = place, *_open_zarr(place, mode)
    if "current" in attributes:
        name = attributes["current"]
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise StoreError(f"The cohort {place} is damaged: its current part is called {name!r}. Create it again.")
        current = place / name
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
        raise StoreError(
            f"{place} is a Zarr group, but not a numbaglm cohort. Create one with {term('Cohort.create')}."
        )
    version = attributes.get("schema_version")
    if version not in (_FIRST_RELEASE, SCHEMA_VERSION):
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = "Upgrade numbaglm" if newer else "Delete it and create it again from the maps"
        raise StoreError(
            f"The cohort {place} has schema version {version} (numbaglm {attributes.get('numbaglm_version')}); this "
            f"one reads {_FIRST_RELEASE} and {SCHEMA_VERSION}. {advice}."
        )
    return group, attributes


def read_hashes(opened: CohortGroup) -> NDArray[np.uint8]:
    """(n_subjects, 16 * arrays) hashes of a cohort, complete or not; zeros where a subject is not stored.

    Raises
    ------
    StoreError
    """
    try:
        with opened.current.reading():
            return _whole(opened.group["hashes"])
    except (*_DAMAGES, MissingFileError) as error:
        raise _damaged(opened, error) from error


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a cohort: in Zarr, or in memory.

    Attributes
    ----------
    layers
        (n_subjects, n_elements) float32 by name, in their order: each a `ChunkedArray` or a NumPy array.
    presence
        (n_subjects, ceil(n_elements / 8)) bits, likewise; None where all subjects have all elements.
    hashes
        (n_subjects, 16 * arrays), a Zarr or a NumPy array.
    """

    layers: Mapping[str, Any]
    presence: Any
    hashes: Any

    @property
    def data(self) -> Any:
        """The first layer."""
        return self.layers[DATA]

    @property
    def all(self) -> list[Any]:
        """Every array of which rows are hashed, in the order of their hashes."""
        return [*self.layers.values(), *([] if self.presence is None else [self.presence])]


def read_parts(opened: CohortGroup) -> tuple[Header, Arrays]:
    """Read the header of a cohort, complete or not, and open its arrays.

    Raises
    ------
    StoreError
    """
    group, attributes = opened.group, opened.attributes
    try:
        with opened.current.reading():
            space = _read_space(group, attributes)
            table = dict(group["subjects"].attrs)
            layers = tuple(attributes.get("layers", (DATA,)))
            has_presence = bool(attributes.get("has_presence", False))
            arrays = Arrays(
                {name: _chunked(opened, group, layer_path(name)) for name in layers},
                _chunked(opened, group, PRESENCE) if has_presence else None,
                group["hashes"],
            )
        subjects = table_from_json(table)
        if space.n != attributes["n_voxels"] or len(subjects) != attributes["n_subjects"]:
            raise ValueError("space or subject table have lost entries")
        if attributes.get("header_sha256", header_hash(attributes, table)) != header_hash(attributes, table):
            raise ValueError("attributes or subject table are not what was stored")
        fwhm = attributes["smoothing_fwhm"]
        header = Header(
            space,
            subjects,
            tuple(fwhm) if isinstance(fwhm, list) else fwhm,
            attributes["mask_rule"],
            attributes["given_mask"],
            tuple(attributes["report"]),
            attributes["min_coverage"],
            layers,
            has_presence,
            bool(attributes.get("keeps_missing", False)),
            attributes.get("zero_is_missing"),
        )
        return header, arrays
    except (*_DAMAGES, MissingFileError) as error:
        raise _damaged(opened, error) from error


def _read_space(group: Any, attributes: Mapping[str, Any]) -> Space:
    if attributes["schema_version"] == _FIRST_RELEASE:
        mask = _whole(group["mask"]).astype(bool)
        return Space.of(Geometry(mask, np.array(attributes["affine"])))
    descriptions = attributes["space"]
    names = [f"{number}/{name}" for number, part in enumerate(descriptions) for name in part["arrays"]]
    return Space.build(descriptions, {name: _whole(group[f"{SPACE}/{name}"]) for name in names})


def _whole(array: Any) -> NDArray[Any]:
    """Read an array as a whole, once it is known that its description does not promise what nobody has stored."""
    if array.nbytes > _MOST_BYTES or array.nchunks > _MOST_CHUNKS:
        raise ValueError(f"an array of shape {array.shape} in {array.nchunks:,} chunks")
    return np.asarray(array[...])


def _chunked(opened: CohortGroup, group: Any, path: str) -> ChunkedArray:
    bound = opened.attributes["schema_version"] != _FIRST_RELEASE
    return ChunkedArray.of(opened.current / path, group[path], path if bound else None)


def layer_path(name: str) -> str:
    """Return where a layer lies in the group."""
    return DATA if name == DATA else f"{LAYERS}/{name}"


def read_patterns(opened: CohortGroup, n_subjects: int) -> Patterns:
    """Read the patterns of presence of a complete cohort.

    Raises
    ------
    StoreError
    """
    try:
        with opened.current.reading():
            bits, of = (_whole(opened.group[name]) for name in PATTERNS)
        if bits.shape[1] != n_bytes(n_subjects) or not len(of) or not 0 <= of.min() <= of.max() < len(bits):
            raise ValueError("the patterns of presence do not belong to it")
        return Patterns(bits, of, n_subjects)
    except (*_DAMAGES, MissingFileError) as error:
        raise _damaged(opened, error) from error


def zero_sign_tells(opened: CohortGroup) -> bool:
    """Whether the sign of a zero says that a value is missing, as numbaglm 0.1 had it."""
    attributes = opened.attributes
    return bool(attributes["schema_version"] == _FIRST_RELEASE and attributes["min_coverage"] < 1)


def refuse_to_resume(opened: CohortGroup) -> None:
    """Refuse to go on with what another release began.

    Raises
    ------
    StoreError
    """
    if opened.attributes["schema_version"] != SCHEMA_VERSION:
        raise StoreError(
            f"The cohort {opened.place} was begun by numbaglm {opened.attributes.get('numbaglm_version')}, which this "
            f"version does not go on with. Call {term('Cohort.create')} again with {term('overwrite=True')} to start "
            "anew from the maps, or finish it with that version: a finished one opens here."
        )


def _damaged(opened: CohortGroup, error: BaseException) -> StoreError:
    return StoreError(
        f"The cohort {opened.place} is damaged ({type(error).__name__}: {error}). Create it again from the maps, with "
        f"{term('overwrite=True')}."
    )


def header_hash(attributes: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Hash of what is known before the first map is stored, but for arrays of the space: the fingerprint has them."""
    known = {name: value for name, value in attributes.items() if name in _HEADER}
    return hashlib.sha256(json.dumps([known, table], sort_keys=True).encode()).hexdigest()


def how_far(opened: CohortGroup) -> str:
    """Say how much of a cohort that is not complete is stored."""
    try:
        done = int(read_hashes(opened).any(axis=1).sum())
    except StoreError:
        done = 0
    refuse_to_resume(opened)
    return (
        f"The cohort {opened.place} is half-written: {done} of {opened.attributes['n_subjects']} subjects are stored. "
        f"Call {term('Cohort.create')} again with the same arguments to go on where it stopped, or with "
        f"{term('overwrite=True')} to start anew."
    )

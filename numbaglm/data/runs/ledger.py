"""What a run has done so far: a record for each task, in memory or in a folder.

A record counts when it is whole: in a folder it appears at once, under its own name, and carries a checksum of its
name and itself (it is an ``npz``, with four bytes behind it). What it holds must be of the types and sizes that its
kind has. So whatever stops a run, at any moment, the records that are there
are results, and what is missing is what is left to do.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import checksum
from numbaglm.data.storage.places import Place
from numbaglm.errors import MissingFileError, StoreError

Record = TypeVar("Record")

_RECORDS, _SHARED = "records", "shared"


class Shared(Protocol):
    """Something that all tasks of a run need, and that no task should carry."""

    def get(self) -> Any:
        """Return it."""


class Ledger(Protocol):
    """Records of tasks by key, ``stage/number``; each a flat dataclass of arrays, or of None."""

    def put(self, key: str, record: Any) -> None:
        """Keep a record; one that is there already is replaced."""

    def get(self, key: str, kind: type[Record], **sizes: int) -> Record:
        """Return a record, which is there; ``sizes`` are lengths that it must have, by their names in its kind."""

    def done(self, stage: str) -> set[str]:
        """Return the keys of a stage that have a record."""

    def drop(self, keys: Iterable[str]) -> None:
        """Forget records, where there are any."""

    def share(self, name: str, value: Any) -> Shared:
        """Lay something where every worker finds it."""


def array(dtypes: str, *shape: str, below: str = "", bounds: str = "") -> dict[str, Any]:
    """Declare an array of a record: the metadata of a field of a dataclass, whose default is None if it may lack.

    Parameters
    ----------
    dtypes
        Those that it may have, such as "f4 f8".
    shape
        Names of its lengths; what has one name in a record has one length.
    below
        Name of the length that all its values are indices into, where that is known.
    bounds
        Name of the length that it cuts up: it begins with 0, never falls, and ends with that.
    """
    return {"dtypes": dtypes.split(), "shape": shape, "below": below, "bounds": bounds}


def _check(kind: type[Any], arrays: dict[str, NDArray[Any]], sizes: dict[str, int]) -> None:
    """Refuse arrays that are not those of a kind of record: what is done with them would go wrong, or out of bounds."""
    known = dict(sizes)
    for one in fields(kind):
        found, wanted = arrays.get(one.name), one.metadata
        if found is None:
            if one.default is not None:
                raise _DamagedRecordError(f"it has no {one.name}")
            continue
        if found.dtype.str[1:] not in wanted["dtypes"] or found.ndim != len(wanted["shape"]):
            raise _DamagedRecordError(f"{one.name} is {found.dtype} of {found.ndim} dimensions")
        for name, length in zip(wanted["shape"], found.shape, strict=True):
            if known.setdefault(name, length) != length:
                raise _DamagedRecordError(f"{one.name} has {length} entries, not {known[name]}")
    for one in fields(kind):
        found, below, of = arrays.get(one.name), *(known.get(one.metadata[name]) for name in ("below", "bounds"))
        if found is None or not found.size:
            continue
        if below is not None and not 0 <= found.min() <= found.max() < below:
            raise _DamagedRecordError(f"{one.name} leads out of {below}")
        if of is not None and (found[0] != 0 or found[-1] != of or (np.diff(found) < 0).any()):
            raise _DamagedRecordError(f"{one.name} do not cut up {of}")


@dataclass(frozen=True)
class _Held:
    value: Any

    def get(self) -> Any:
        return self.value


@dataclass(frozen=True, eq=False)
class MemoryLedger:
    """Records of a run that lives and dies with its process, and runs on its threads."""

    records: dict[str, Any] = field(default_factory=dict)

    def put(self, key: str, record: Any) -> None:
        """See `Ledger`."""
        self.records[key] = record

    def get(self, key: str, kind: type[Record], **sizes: int) -> Record:
        """See `Ledger`."""
        record = self.records[key]
        assert isinstance(record, kind)
        return record

    def done(self, stage: str) -> set[str]:
        """See `Ledger`."""
        return {key for key in self.records if key.startswith(f"{stage}/")}

    def drop(self, keys: Iterable[str]) -> None:
        """See `Ledger`."""
        for key in keys:
            self.records.pop(key, None)

    def share(self, name: str, value: Any) -> Shared:
        """See `Ledger`."""
        return _Held(value)


@dataclass(frozen=True)
class FolderLedger:
    """Records in a folder that every worker sees.

    Attributes
    ----------
    place
        The folder.
    """

    place: Place

    def put(self, key: str, record: Any) -> None:
        """See `Ledger`."""
        arrays = {one.name: getattr(record, one.name) for one in fields(record)}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})
        digest = checksum(np.frombuffer(buffer.getbuffer(), np.uint8), _name(key))
        buffer.seek(0, io.SEEK_END)
        buffer.write(digest)
        self.place.write_bytes(_name(key), buffer.getvalue())

    def get(self, key: str, kind: type[Record], **sizes: int) -> Record:
        """See `Ledger`.

        Raises
        ------
        StoreError
            The record is damaged or gone.
        """
        try:
            arrays = self._arrays(key)
            _check(kind, arrays, sizes)
        except (MissingFileError, _DamagedRecordError) as error:
            self.drop([key])
            raise StoreError(
                f"The run {self.place} has lost a part of its results ({_name(key)}: {error}). Repeat the call as it "
                "was: what is missing is done again."
            ) from error
        return kind(**{one.name: arrays.get(one.name) for one in fields(kind)})  # type: ignore[arg-type]

    def done(self, stage: str) -> set[str]:
        """See `Ledger`."""
        names = self.place.list(f"{_RECORDS}/{stage}")
        return {name.removeprefix(f"{_RECORDS}/").removesuffix(".npz") for name in names}

    def drop(self, keys: Iterable[str]) -> None:
        """See `Ledger`."""
        for key in keys:
            self.place.remove(_name(key))

    def is_whole(self, key: str) -> bool:
        """Whether a record is there, and what was stored.

        Raises
        ------
        StoreError
            It can't be told: no permission, no connection. What can't be read now may be whole.
        """
        try:
            self._arrays(key)
        except (MissingFileError, _DamagedRecordError):
            return False
        return True

    def share(self, name: str, value: Any) -> Shared:
        """See `Ledger`."""
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        self.place.write_bytes(f"{_SHARED}/{name}.pickle", data)
        return _Laid(self.place, f"{_SHARED}/{name}.pickle", sha256(data).hexdigest())

    def _arrays(self, key: str) -> dict[str, NDArray[Any]]:
        data = self.place.read_bytes(_name(key))
        # The checksums of its members know nothing of the list of them: one bit there, and one of them is missing.
        if len(data) < 4 or checksum(np.frombuffer(data, np.uint8)[:-4], _name(key)) != data[-4:]:
            raise _DamagedRecordError("its checksum differs")
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:  # zipfile and NumPy have a dozen kinds for what is of another making
            raise _DamagedRecordError(f"{type(error).__name__}: {error}") from error


class _DamagedRecordError(Exception):
    """A record was read, and is not what was stored."""


def _name(key: str) -> str:
    return f"{_RECORDS}/{key}.npz"


@dataclass(frozen=True)
class _Laid:
    """A shared value in the folder; each process reads it once."""

    place: Place
    name: str
    digest: str

    def get(self) -> Any:
        return _read_shared(self.place, self.name, self.digest)


@lru_cache(maxsize=8)
def _read_shared(place: Place, name: str, digest: str) -> Any:
    data = place.read_bytes(name)
    # Only what this very run has laid there is unpickled.
    if sha256(data).hexdigest() != digest:
        raise StoreError(f"Another run writes to {place}, or {name} is damaged. Repeat the call as it was.")
    return pickle.loads(data)

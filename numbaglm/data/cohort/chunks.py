"""The maps of a cohort as they lie in a Zarr v3 array, read and written a chunk at a time.

Zarr lays the array out, and reads it too. Here its chunks are read without it: it fills a chunk that is gone with a
value and says nothing, decodes ten at once whatever the memory, and copies them all in the one thread of its event
loop (0.5 GB/s however many threads read; 1.5 GB/s each this way).

Behind the bytes that Blosc reads, and before the checksum of all, stand four that say whose they are: the checksum of
the chunk's name. Chunks that changed places would be sound otherwise. Zarr reads past them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from numbaglm.data.storage.places import Place
from numbaglm.errors import MissingFileError

# An object store answers late, and several at once: so many chunks are under way then. On disk it is one.
_REMOTE_CHUNKS = 8

_CODECS = ["bytes", "blosc", "crc32c"]

Float32 = NDArray[np.float32]


@cache
def blosc() -> Any:
    """What packs bytes and unpacks them, loaded when there are some: maps in memory have none.

    lz4 as it is: what repeats, such as 0, takes no space, and noise takes its own, written at 5 GB/s and read at 17.
    With shuffle real maps would take 7 to 10 % less, at 1.4 and 3.5 GB/s; with zstd 14 % less, at 0.5 and 1.
    """
    from numcodecs.blosc import Blosc

    return Blosc(cname="lz4", clevel=1, shuffle=Blosc.NOSHUFFLE)


def codecs(dtype: str) -> list[Any]:
    """Zarr's names of what a chunk of a type goes through."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    size = np.dtype(dtype).itemsize
    return [BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle", typesize=size), Crc32cCodec()]


class ChunkError(Exception):
    """A chunk that can't be read: its name, its rows and columns, and why."""

    def __init__(self, name: str, rows: slice, columns: slice, reason: str) -> None:
        super().__init__(name, rows, columns, reason)
        self.name, self.rows, self.columns, self.reason = name, rows, columns, reason


@dataclass(frozen=True)
class ChunkedArray:
    """An array (n_rows, n_columns) of Zarr v3: float32, or bytes. Immutable; holds no data.

    Attributes
    ----------
    place
        Where its chunks are.
    shape
        (n_rows, n_columns).
    chunks
        (rows, columns) of a chunk.
    dtype
        "<f4" or "|u1".
    path
        Name of the array, which its chunks are bound to; None where they are not (schema 3).
    """

    place: Place
    shape: tuple[int, int]
    chunks: tuple[int, int]
    dtype: str = "<f4"
    path: str | None = None

    @classmethod
    def of(cls, place: Place, array: Any, path: str | None) -> ChunkedArray:
        """Take over an array that Zarr has laid out or opened; see the attributes.

        Raises
        ------
        ValueError
            It is of another making.
        """
        names = [codec.to_dict()["name"] for codec in array.metadata.codecs]
        dtype = np.dtype(array.dtype).newbyteorder("<").str
        if names != _CODECS or dtype not in ("<f4", "|u1") or array.ndim != 2:
            raise ValueError(f"array of {array.dtype}, {array.ndim} dimensions and codecs {names}")
        return cls(place, cast(tuple[int, int], array.shape), cast(tuple[int, int], array.chunks), dtype, path)

    @property
    def fill_value(self) -> float:
        """What stands in a chunk beyond the array, and for a chunk that is gone."""
        return np.nan if self.dtype == "<f4" else 0

    @property
    def at_once(self) -> int:
        """How many chunks are under way while some are read."""
        return 1 if self.place.local else _REMOTE_CHUNKS

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a block: C-contiguous, of the rows and columns from start to stop.

        It takes the memory of the block and of a chunk, twice (eight of them from an object store).

        Raises
        ------
        ChunkError
            A chunk is gone or damaged.
        StoreError
            The place can't be read.
        """
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)

        def fetch(index: tuple[int, int]) -> None:
            theirs, ours = zip(*map(_overlap, index, self.chunks, (rows, columns)), strict=True)
            block[ours] = self._chunk(*index)[theirs]

        self._each(fetch, self._touched(rows, columns))
        return block

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Write whole rows from ``start`` on, a multiple of the chunk's rows; up to such a multiple, or to the end.

        Raises
        ------
        OutputError
        """
        n_rows, n_columns = self.chunks
        assert start % n_rows == 0
        assert rows.shape[1] == self.shape[1]

        def store(index: tuple[int, int]) -> None:
            i, j = index
            part = rows[i * n_rows - start : (i + 1) * n_rows - start, j * n_columns : (j + 1) * n_columns]
            chunk: NDArray[Any] = np.empty(self.chunks, self.dtype)
            if part.shape != self.chunks:
                chunk.fill(self.fill_value)
            chunk[: part.shape[0], : part.shape[1]] = part
            data = blosc().encode(chunk) + self._mark(i, j)
            # Unsynced: what a crash of the machine leaves half-written does not match its checksum.
            self.place.write_bytes(_name(i, j), data + checksum(data), sync=False)

        self._each(store, self._touched(slice(start, start + len(rows)), slice(0, self.shape[1])))

    def _each(self, function: Callable[[tuple[int, int]], None], indices: list[tuple[int, int]]) -> None:
        if self.place.local:
            for index in indices:
                function(index)
            return
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="numbaglm-chunks") as pool:
            try:
                for _ in pool.map(function, indices):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _touched(self, rows: slice, columns: slice) -> list[tuple[int, int]]:
        of_rows, of_columns = (
            range(part.start // length, -(-part.stop // length))
            for part, length in zip((rows, columns), self.chunks, strict=True)
        )
        return [(i, j) for i in of_rows for j in of_columns]

    def _chunk(self, i: int, j: int) -> NDArray[Any]:
        try:
            data = np.frombuffer(self.place.read_bytes(_name(i, j)), np.uint8)
        except MissingFileError as error:
            raise self._error(i, j, "is gone") from error
        if data.size < 4 or checksum(data[:-4]) != data[-4:].tobytes():
            raise self._error(i, j, "is not what was stored: its checksum differs")
        # As Blosc's header has them: the bytes of the chunk, and of itself. It reads as far as they say.
        n_bytes, n_packed = (int.from_bytes(data[at : at + 4].tobytes(), "little") for at in (4, 12))
        mark, wanted = self._mark(i, j), math.prod(self.chunks) * np.dtype(self.dtype).itemsize
        if data.size < 20 or n_bytes != wanted or n_packed != data.size - 4 - len(mark):
            raise self._error(i, j, "is of another array")
        if data[n_packed:-4].tobytes() != mark:
            raise self._error(i, j, "belongs at another place")
        chunk: NDArray[Any] = np.empty(self.chunks, self.dtype)
        blosc().decode(data[:n_packed], out=chunk)
        return chunk

    def _mark(self, i: int, j: int) -> bytes:
        return b"" if self.path is None else checksum(f"{self.path}/{_name(i, j)}".encode())

    def _error(self, i: int, j: int, reason: str) -> ChunkError:
        rows, columns = (
            slice(k * length, min((k + 1) * length, whole))
            for k, length, whole in zip((i, j), self.chunks, self.shape, strict=True)
        )
        return ChunkError(_name(i, j), rows, columns, reason)


def _overlap(index: int, length: int, wanted: slice) -> tuple[slice, slice]:
    """Where chunk ``index`` of a dimension and what is wanted meet: counted within the chunk, and within the block."""
    first, last = max(index * length, wanted.start), min((index + 1) * length, wanted.stop)
    return slice(first - index * length, last - index * length), slice(first - wanted.start, last - wanted.start)


def _name(i: int, j: int) -> str:
    return f"c/{i}/{j}"


def checksum(data: bytes | NDArray[np.uint8], of: str = "") -> bytes:
    """CRC-32C of some bytes (n,), as it stands after them in a file; of their name before them, where they have one."""
    return int(google_crc32c.extend(google_crc32c.value(of.encode()), data)).to_bytes(4, "little")

"""Permuted maps on their way from blocks of voxels to whole maps, in memory or in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import checksum
from numbaglm.data.storage.places import Place
from numbaglm.errors import MissingFileError, StoreError


class Maps(Protocol):
    """Whole maps (n_maps, n_voxels) on their way from blocks of voxels to tasks that need them whole."""

    def write(self, row: int, column: int, values: NDArray[np.floating[Any]]) -> None:
        """Store ``values`` from a row and a column on."""

    def rows(self, first: int, last: int) -> NDArray[np.floating[Any]]:
        """Return maps ``first`` to ``last``."""

    def columns(self, n_maps: int) -> set[int]:
        """Return where the blocks of voxels begin whose first maps, so many, an earlier process has left here."""


@dataclass(frozen=True, eq=False)
class MemoryMaps:
    """Maps in memory, which the threads of this process share."""

    array: NDArray[np.floating[Any]]

    def write(self, row: int, column: int, values: NDArray[np.floating[Any]]) -> None:
        """See `Maps`."""
        self.array[row : row + values.shape[0], column : column + values.shape[1]] = values

    def rows(self, first: int, last: int) -> NDArray[np.floating[Any]]:
        """See `Maps`."""
        return self.array[first:last]

    def columns(self, n_maps: int) -> set[int]:
        """See `Maps`."""
        return set()


class DamagedMapsError(StoreError):
    """Scratch can't be read: the tasks that filled it must run again."""


@dataclass(frozen=True)
class ScratchMaps:
    """Maps in a folder: a file holds a few of them in a block of voxels, and a checksum of its name and them.

    Attributes
    ----------
    place
        Where the files are.
    shape
        (n_maps, n_voxels).
    chunks
        (maps, voxels) of a file.
    dtype
        Of the values.
    """

    place: Place
    shape: tuple[int, int]
    chunks: tuple[int, int]
    dtype: str

    def write(self, row: int, column: int, values: NDArray[np.floating[Any]]) -> None:
        """See `Maps`; whole files, each of voxels that are whole or the last."""
        assert row % self.chunks[0] == column % self.chunks[1] == 0
        for i in range(0, values.shape[0], self.chunks[0]):
            part = np.ascontiguousarray(values[i : i + self.chunks[0]], self.dtype)
            data, name = part.tobytes(), self._name(row + i, column)
            # Unsynced: what a crash of the machine leaves half-written does not match its checksum.
            self.place.write_bytes(name, data + checksum(data, self._whose(name)), sync=False)

    def rows(self, first: int, last: int) -> NDArray[np.floating[Any]]:
        """See `Maps`; ``first`` is where files begin, and ``last`` where they end.

        Raises
        ------
        DamagedMapsError
            A file is damaged or gone.
        """
        out = np.empty((last - first, self.shape[1]), self.dtype)
        for column in range(0, self.shape[1], self.chunks[1]):
            part = out[:, column : column + self.chunks[1]]
            name = self._name(first, column)
            try:
                data = np.frombuffer(self.place.read_bytes(name), np.uint8)
            except MissingFileError as error:
                raise self._damaged(name, "is gone") from error
            values = data[:-4]
            sound = checksum(values, self._whose(name)) == data[-4:].tobytes()
            if not sound or values.size < part.nbytes or values.size % (part.shape[1] * out.itemsize):
                raise self._damaged(name, "is not what was stored")
            part[...] = values.view(self.dtype).reshape(-1, part.shape[1])[: last - first]
        return out

    def columns(self, n_maps: int) -> set[int]:
        """See `Maps`."""
        there = set(self.place.list())
        wanted = range(0, n_maps, self.chunks[0])
        blocks = range(0, self.shape[1], self.chunks[1])
        return {start for start in blocks if all(self._name(row, start) in there for row in wanted)}

    def _name(self, row: int, column: int) -> str:
        return f"{row // self.chunks[0]}/{column // self.chunks[1]}"

    def _whose(self, name: str) -> str:
        return f"{self.place.name}/{name}"

    def _damaged(self, name: str, what: str) -> DamagedMapsError:
        return DamagedMapsError(
            f"The maps in {self.place} are damaged ({name} {what}). Repeat the call as it was: they are made again."
        )

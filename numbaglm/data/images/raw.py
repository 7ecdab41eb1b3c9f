"""The values of maps as their files have them: decompressed once, scaled only where they are wanted.

zlib-ng decompresses two to three times as fast as the standard library. Fresh memory costs as much again as that, a
page fault every 4 KiB, so each thread decompresses into memory that it keeps.
"""

from __future__ import annotations

import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng
from zlib_ng.gzip_ng import GzipNGFile

Volume = NDArray[np.float32]
Bytes = NDArray[np.uint8]

DECOMPRESSION_ERRORS: Any = (OSError, EOFError, zlib.error, cast(Any, zlib_ng).error)
"""What a damaged compressed file raises."""

# Whole numbers times a slope of this size are neither 0 nor infinite as float32, unless they are 0.
_HARMLESS_SLOPES = (1e-30, 1e18)


@dataclass(frozen=True, eq=False)
class RawMap:
    """One map as its file has it.

    Attributes
    ----------
    raw
        (nx * ny * nz,) values of any real type, in Fortran order, as files have them.
    shape
        (nx, ny, nz).
    slope, inter
        What the values are: ``raw * slope + inter``.
    """

    raw: NDArray[Any]
    shape: tuple[int, int, int]
    slope: float = 1.0
    inter: float = 0.0

    def take(self, places: NDArray[np.intp], out: Volume) -> None:
        """Write the values at flat indices in Fortran order, (k,), where they shall be."""
        if self.raw.dtype == np.float32 and not self._is_scaled:
            self.raw.take(places, out=out, mode="clip")  # another mode would copy first
        else:
            self._scale(self.raw.take(places), out)

    def volume(self) -> Volume:
        """(nx, ny, nz) values."""
        return self._scaled(self.raw).reshape(self.shape, order="F")

    def presence(self) -> NDArray[Any]:
        """(nx * ny * nz,) numbers that are 0, and not finite, where the values are: the raw ones where that will do."""
        low, high = _HARMLESS_SLOPES
        if self.raw.dtype.kind in "iub" and self.inter == 0 and low < abs(self.slope) < high:
            return self.raw
        return self._scaled(self.raw)

    def copy(self) -> RawMap:
        """Return the map in memory of its own."""
        return RawMap(self.raw.copy(), self.shape, self.slope, self.inter)

    @property
    def _is_scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)

    def _scaled(self, values: NDArray[Any]) -> Volume:
        if values.dtype == np.float32 and not self._is_scaled:
            return cast(Volume, values)
        return self._scale(values, np.empty(len(values), np.float32))

    def _scale(self, values: NDArray[Any], out: Volume) -> Volume:
        """Write scaled values, each rounded once: NumPy casts a few at a time, which stay in the cache."""
        in_double: dict[str, Any] = {"dtype": np.float64, "casting": "unsafe"}
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 can't hold becomes infinite, and is reported
            if self.inter:
                values = np.multiply(values, self.slope, **in_double)
                np.add(values, self.inter, out=out, **in_double)
            elif self._is_scaled:
                np.multiply(values, self.slope, out=out, **in_double)
            else:
                out[:] = values
        return out


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return path.name.lower().endswith(".gz")


def beginning(path: Path, n_bytes: int) -> bytes:
    """Read the first bytes of a file, decompressed; fewer where it has fewer.

    Raises
    ------
    One of `DECOMPRESSION_ERRORS`.
    """
    with path.open("rb", buffering=0) as file:
        start = file.read(n_bytes)
    if not is_compressed(path):
        return start
    return zlib_ng.decompressobj(zlib.MAX_WBITS | 16).decompress(start, n_bytes)


def content(path: Path) -> Bytes:
    """Read a whole file, decompressed and its checksum compared.

    Returns
    -------
    Bytes that are this thread's, and hold until it reads the next.

    Raises
    ------
    One of `DECOMPRESSION_ERRORS`.
    """
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if is_compressed(path):  # its last bytes tell, unless it is of several parts, or of 4 GB
            file.seek(-min(4, size), os.SEEK_END)
            size = int.from_bytes(file.read(4), "little")
        file.seek(0)
        stream: Any = cast(Any, _Stream)(fileobj=file, mode="rb") if is_compressed(path) else file
        filled = 0
        buffer = _buffer(size + 1)
        while n := stream.readinto(buffer[filled:]):
            filled += n
            if filled == len(buffer):
                buffer = _buffer(2 * filled, keep=filled)
    return buffer[:filled]


class Tape:
    """The volumes of a 4D file, compressed or not. In order each is decompressed once; going back starts anew.

    Attributes
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: Any = None

    def read(self, offset: int, n_bytes: int) -> Bytes:
        """Read bytes from an offset on; they are this thread's, and hold until it reads the next.

        Raises
        ------
        EOFError
            The file has fewer.
        One of `DECOMPRESSION_ERRORS`.
        """
        if self._stream is None:
            self._stream = _opened(self.path)
        self._stream.seek(offset)
        buffer = _buffer(n_bytes)[:n_bytes]
        filled = 0
        while filled < n_bytes:
            n = self._stream.readinto(buffer[filled:])
            if not n:
                raise EOFError(f"Expected {n_bytes} bytes, got {filled}")
            filled += n
        return buffer

    def check_end(self) -> None:
        """Read to the end, so that the checksum is compared."""
        while self._stream is not None and self._stream.read(2**20):
            pass

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Tape:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stream(GzipNGFile):
    """A compressed file that is read without a detour over bytes, as the standard library does from Python 3.14 on."""

    def readinto(self, buffer: Any) -> int:
        return int(self._buffer.readinto(buffer))


def _opened(path: Path) -> Any:
    return cast(Any, _Stream)(path, "rb") if is_compressed(path) else path.open("rb")


_own = threading.local()


def _buffer(n_bytes: int, keep: int = 0) -> Bytes:
    """Memory of this thread, of at least so many bytes; the first of them as they were."""
    buffer: Bytes | None = getattr(_own, "buffer", None)
    if buffer is None or len(buffer) < n_bytes:
        larger: Bytes = np.empty(max(n_bytes, 4 * 2**20), np.uint8)  # from 4 MiB on NumPy asks for huge pages
        if buffer is not None:
            larger[:keep] = buffer[:keep]
        _own.buffer = buffer = larger
    return buffer

"""The values of maps as their files have them: decompressed once, scaled only where they are wanted.

zlib-ng decompresses two to three times as fast as the standard library. Fresh memory costs as much again as that, a
page fault every 4 KiB, so each thread decompresses into memory that it keeps.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng
from zlib_ng.gzip_ng import GzipNGFile

from numbaglm.data.storage.files import require_regular
from numbaglm.errors import ImageError

HEADER_BYTES = 1024
"""Of a NIfTI file: its header is in them, and there is not much more to decompress."""

_DENSEST = 1032  # bytes that one byte of deflate can stand for
_PIECE = 2**20

Volume = NDArray[np.float32]
Bytes = NDArray[np.uint8]

DECOMPRESSION_ERRORS: Any = (OSError, EOFError, zlib.error, cast(Any, zlib_ng).error)
"""What a damaged compressed file raises."""

# Whole numbers times a slope of this size are neither 0 nor infinite as float32, unless they are 0.
_HARMLESS_SLOPES = (1e-30, 1e18)

_BACKGROUND = 0.02  # share of a grid that a background has at least

_SINGLE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Sizes of numbers that single precision holds with all its digits."""


@dataclass(frozen=True, eq=False)
class RawMap:
    """One map as its file has it.

    Attributes
    ----------
    raw
        (nx * ny * nz,) values of any real type, in Fortran order, as files have them.
    shape
        (nx, ny, nz); (n,) of maps on anything but a volume.
    slope, inter
        What the values are: ``raw * slope + inter``.
    name
        What messages call it.
    """

    raw: NDArray[Any]
    shape: tuple[int, ...]
    slope: float = 1.0
    inter: float = 0.0
    name: str = "the map"

    def take(self, places: NDArray[np.intp], out: Volume) -> None:
        """Write the values at flat indices in Fortran order, (k,), where they shall be."""
        if self.raw.dtype == np.float32 and not self._is_scaled:
            self.raw.take(places, out=out, mode="clip")  # another mode would copy first
            require_single(out, out, self.name)
        else:
            self._scale(self.raw.take(places), out)

    def volume(self) -> Volume:
        """(nx, ny, nz) values."""
        return self._scaled(self.raw).reshape(self.shape, order="F")

    def presence(self) -> NDArray[Any]:
        """(nx * ny * nz,) numbers that are 0, and not finite, where the values are: the raw ones where that will do."""
        if self.raw.dtype.kind in "iub" and self.inter == 0 and self._is_harmless:
            return self.raw
        return self._scaled(self.raw)

    def copy(self) -> RawMap:
        """Return the map in memory of its own."""
        return replace(self, raw=self.raw.copy())

    @cached_property
    def hidden_zero(self) -> int | None:
        """The whole number that stands for 0 where slope and offset can't make it; None where none does.

        0, the background, is stored as the nearest step, which comes out as 1e-5, say. It is told by how often it is
        there: by far more often than the steps beside it.
        """
        kind = self.raw.dtype
        if kind.kind not in "iu" or not self.inter or not self.slope or not np.isfinite(self.inter / self.slope):
            return None
        step, limits = round(-self.inter / self.slope), np.iinfo(kind)
        if not limits.min < step < limits.max or step * self.slope + self.inter == 0:
            return None
        n, below, above = (int(np.count_nonzero(self.raw == kind.type(step + k))) for k in (0, -1, 1))
        return step if n > max(_BACKGROUND * self.raw.size, 2 * (below + above)) else None

    @property
    def _is_harmless(self) -> bool:
        low, high = _HARMLESS_SLOPES
        return low < abs(self.slope) < high and abs(self.inter) < high

    @property
    def _is_scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)

    def _scaled(self, values: NDArray[Any]) -> Volume:
        if values.dtype == np.float32 and not self._is_scaled:
            return cast(Volume, values)
        return self._scale(values, np.empty(len(values), np.float32))

    def _scale(self, values: NDArray[Any], out: Volume) -> Volume:
        """Write scaled values, each rounded once: NumPy casts a few at a time, which stay in the cache."""
        stored = values
        in_double: dict[str, Any] = {"dtype": np.float64, "casting": "unsafe"}
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 can't hold becomes infinite, and is reported
            if self.inter:
                values = np.multiply(values, self.slope, **in_double)
                np.add(values, self.inter, out=out, **in_double)
            elif self._is_scaled:
                np.multiply(values, self.slope, out=out, **in_double)
            else:
                out[:] = values
            if (self.raw.dtype.kind == "f" or not self._is_harmless) and not _is_single(out):
                wide = np.add(values, self.inter) if self.inter else np.multiply(values, self.slope, **in_double)
                require_single(out, wide, self.name)
        if self.hidden_zero is not None:
            out[stored == self.hidden_zero] = 0
        return out


def require_single(single: Volume, values: NDArray[Any], name: str) -> None:
    """Refuse values most of which single precision can't hold: infinite, 0, or with few digits there.

    Single values of that kind, such as those far from a blob that was smoothed, are taken as they come out.

    Parameters
    ----------
    single, values
        (k,) as float32, and as they were.
    name
        What messages call the map.

    Raises
    ------
    ImageError
    """
    if _is_single(single):
        return
    least, most = _SINGLE
    there = np.isfinite(values) & (values != 0)
    size = np.abs(single[there])
    lost = ~((least <= size) & (size <= most))
    if 2 * np.count_nonzero(lost) > size.size:
        raise ImageError(
            f"{name} holds values such as {float(values[there][lost][0]):.3g}, and maps are kept in single precision. "
            f"Allowed: sizes between {least:.2g} and {most:.2g}. Multiply all maps by one constant."
        )


def _is_single(values: Volume) -> bool:
    """Whether the largest of some values is one that single precision holds; False where some are no numbers."""
    least, most = _SINGLE
    return not values.size or least <= max(float(values.max()), -float(values.min())) <= most


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return path.name.lower().endswith((".gz", ".mgz"))


def is_plain(path: Path) -> bool:
    """Whether a file is read here, by its name: values as they are, or by way of gzip; else nibabel reads it."""
    return path.name.lower().endswith((".nii", ".nii.gz", ".img", ".img.gz", ".mgh", ".mgz"))


def beginning(path: Path, n_bytes: int) -> bytes:
    """Read the first bytes of a file, decompressed; fewer where it has fewer.

    Raises
    ------
    One of `DECOMPRESSION_ERRORS`.
    """
    require_regular(path)
    with path.open("rb", buffering=0) as file:
        start = file.read(n_bytes)
    if not is_compressed(path):
        return start
    return zlib_ng.decompressobj(zlib.MAX_WBITS | 16).decompress(start, n_bytes)


def content(path: Path, end: int | Callable[[bytes], int]) -> Bytes:
    """Read a file from its begin on, decompressed. Of a compressed one the rest is read too, for its checksum alone.

    Parameters
    ----------
    path
        The file.
    end
        How many bytes are wanted; or what tells it of the first `HEADER_BYTES`. Fewer come where there are fewer.

    Returns
    -------
    Bytes that are this thread's, and hold until it reads the next.

    Raises
    ------
    EOFError
        More are wanted than a file of its size can hold: memory is not asked for.
    One of `DECOMPRESSION_ERRORS`.
    """
    with _opened(path) as stream:
        buffer, filled = _buffer(HEADER_BYTES), 0
        if callable(end):
            filled = _fill(stream, buffer[:HEADER_BYTES], 0)
            end = end(bytes(buffer[:filled]))
        _check_size(path, end)
        buffer = _buffer(end, keep=filled)
        filled = _fill(stream, buffer[:end], filled)
        if is_compressed(path):
            rest = np.empty(_PIECE, np.uint8)
            while stream.readinto(rest):
                pass
    return buffer[:filled]


def _check_size(path: Path, end: int) -> None:
    """Refuse to ask for more than a file of its size can hold."""
    most = path.stat().st_size * (_DENSEST if is_compressed(path) else 1)
    if end > most:
        raise EOFError(f"Expected {end:,} bytes by the header, but so small a file holds {most:,} at most")


def _fill(stream: Any, buffer: Bytes, filled: int) -> int:
    """Read on until a buffer is full, or the file ends; return how much is in it."""
    while filled < len(buffer) and (n := stream.readinto(buffer[filled:])):
        filled += n
    return filled


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
        _check_size(self.path, offset + n_bytes)
        self._stream.seek(offset)
        buffer = _buffer(n_bytes)[:n_bytes]
        filled = _fill(self._stream, buffer, 0)
        if filled < n_bytes:
            raise EOFError(f"Expected {n_bytes} bytes, got {filled}")
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
    require_regular(path)
    return cast(Any, _Stream)(path, "rb") if is_compressed(path) else path.open("rb", buffering=0)


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

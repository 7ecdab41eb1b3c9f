"""Ways in which a file comes to be damaged or ill-meant, each drawn by a random generator of one's choice."""

from __future__ import annotations

import bz2
import gzip
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

# What readers stumble over: signs, limits of types, what is no number, what leads elsewhere, what is markup or code.
NUMBERS = [b"0", b"-1", b"1", b"2", b"255", b"65536", b"2147483647", b"-2147483648", b"99999999999", b"1e308", b"nan"]
WORDS = [
    *(b"", b"null", b"true", b"[]", b"{}", b"'", b'"', b"<script>alert(1)</script>", b"&lol;", b"../../outside"),
    *(
        b"/etc/passwd",
        b"CON",
        b"\0",
        b"\xff\xfe",
        b"__import__('os').system('true')",
        b"=1+1",
        b"\xf0\x9f\xa7\xa0" * 99,
    ),
    b"[" * 5000,
]
EXTREMES = {
    "h": [0, 1, -1, 2, 7, 8, 255, 32767, -32768],
    "i": [0, 1, -1, 348, 540, 2**31 - 1, -(2**31)],
    "q": [0, 1, -1, 2**40, 2**63 - 1, -(2**63)],
    "f": [0.0, -0.0, 1.0, float("nan"), float("inf"), 1e38, 1e-45],
    "d": [0.0, -0.0, 1.0, float("nan"), float("-inf"), 1e308, 5e-324],
}


@dataclass(frozen=True)
class Fields:
    """Numbers at known places of a binary header: where they are, and of which kind, as `struct` has them."""

    places: tuple[tuple[int, str], ...]
    order: str = "<"

    def change(self, data: bytearray, chance: Random) -> None:
        """Set one of them to something that nobody expects."""
        at, kind = chance.choice(self.places)
        if at + struct.calcsize(kind) <= len(data):
            struct.pack_into(self.order + kind, data, at, chance.choice(EXTREMES[kind]))


def flip(data: bytearray, chance: Random) -> None:
    """A bit, as a bad disk has it."""
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: Random) -> None:
    """A few bytes."""
    at, n = chance.randrange(len(data)), chance.choice((1, 2, 4, 8, 64))
    data[at : at + n] = chance.choice((b"\0", b"\xff", b"\x7f", chance.randbytes(1))) * n


def cut(data: bytearray, chance: Random) -> None:
    """The end is missing, as after a copy that was stopped."""
    del data[chance.randrange(len(data)) :]


def lengthen(data: bytearray, chance: Random) -> None:
    """Something follows."""
    data += chance.choice((chance.randbytes(50), bytes(4096), bytes(data)))


def lose(data: bytearray, chance: Random) -> None:
    """A part within is missing."""
    at = chance.randrange(len(data))
    del data[at : at + chance.choice((1, 4, 16, 512))]


def repeat(data: bytearray, chance: Random) -> None:
    """A part is there twice."""
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.choice((1, 4, 16, 512))]


def exchange(data: bytearray, chance: Random) -> None:
    """Two parts changed places."""
    n = min(chance.choice((4, 16, 512)), len(data) // 2) or 1
    one, other = (chance.randrange(max(len(data) - n, 1)) for _ in range(2))
    data[one : one + n], data[other : other + n] = data[other : other + n], data[one : one + n]


def number(data: bytearray, chance: Random) -> None:
    """A number in a text is another."""
    _replace(data, chance, rb"-?\d[\d.eE+-]*", NUMBERS)


def word(data: bytearray, chance: Random) -> None:
    """A word in a text is something else."""
    _replace(data, chance, rb"[A-Za-z_][\w.-]*|\"[^\"]*\"", [*WORDS, *NUMBERS])


def _replace(data: bytearray, chance: Random, pattern: bytes, by: list[bytes]) -> None:
    found = [one.span() for one in re.finditer(pattern, data[: 2**16])]
    if found:
        start, stop = chance.choice(found)
        data[start:stop] = chance.choice(by)


BYTES = (flip, overwrite, cut, lengthen, lose, repeat, exchange)
TEXT = (number, word, number, word, *BYTES)
_PACKERS = {
    ".gz": (gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0)),
    ".mgz": (gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0)),
    ".bz2": (bz2.decompress, bz2.compress),
}


def mutated(data: bytes, name: str, chance: Random, fields: Fields | None = None, text: bool = False) -> bytes:
    """A file's bytes after one to three mutations; of a compressed file outside, or within."""
    ending = name[name.rfind(".") :]
    unpack, pack = _PACKERS.get(ending, (bytes, bytes)) if chance.random() < 0.7 else (bytes, bytes)
    inner = bytearray(unpack(data))
    ways: list[Callable[[bytearray, Random], None]] = list(TEXT if text else BYTES)
    if fields is not None and (unpack is not bytes or ending not in _PACKERS):
        ways += [fields.change] * len(ways)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if inner:
            chance.choice(ways)(inner, chance)
    return pack(bytes(inner))

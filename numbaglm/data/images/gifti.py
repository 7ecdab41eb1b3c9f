"""The door to GIFTI files: a file's word on how large its values are bounds what is unpacked and read of it."""

from __future__ import annotations

import binascii
import gzip
import math
import zlib
from pathlib import Path
from typing import Any
from xml.parsers import expat

import nibabel

from numbaglm.data.storage.files import require_regular
from numbaglm.errors import ImageError

nib: Any = nibabel

_PIECE = 2**20
_WIDEST = 64  # letters of a number, with what stands between numbers
_LARGEST = 8  # bytes of a value


def load_gifti(path: Path) -> Any:
    """Open a GIFTI file, once it is known that it unpacks to no more than it says, and leads to no file elsewhere.

    Raises
    ------
    ImageError
        It unpacks to more, or its values lie in a file outside its folder.
    """
    _Promises(path).check()
    return nib.load(path)


def require_side(image: Any, side: str, name: str) -> None:
    """Refuse an image that says of itself that it is of the other hemisphere than it is given for.

    Parameters
    ----------
    side
        "left" or "right"; of anything else nothing is known.

    Raises
    ------
    ImageError
    """
    said = [one.meta.get(STRUCTURE) for one in (image, *image.darrays)]  # meshes have it beside their points
    other = next((one for one in said if side in PRIMARY and one in PRIMARY.values() and one != PRIMARY[side]), None)
    if other is not None:
        raise ImageError(
            f"{name} is given as of the {side} hemisphere, and says of itself that it is {other} ({STRUCTURE}). Give "
            f"it as what it is, or correct what it says: wb_command -set-structure FILE CORTEX_{side.upper()}."
        )


STRUCTURE = "AnatomicalStructurePrimary"
"""What a GIFTI file calls the structure that it is of."""

PRIMARY = {"left": "CortexLeft", "right": "CortexRight"}
"""How it names the hemispheres."""


class _Promises:
    """What the data arrays of a file say of themselves, compared with what they hold, without keeping any of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.promised, self.letters, self.packed = path, 0, 0, False
        self.inside, self.unpacked, self.left, self.unpack = False, 0, b"", zlib.decompressobj()

    def check(self) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text, parser.buffer_size = True, _PIECE
        parser.StartElementHandler, parser.EndElementHandler = self._begin, self._end
        parser.CharacterDataHandler = self._text
        with gzip.open(self.path) if self.path.name.endswith(".gz") else self.path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                parser.Parse(piece, False)
        parser.Parse(b"", True)

    def _begin(self, name: str, said: dict[str, str]) -> None:
        if name == "DataArray":
            n_dims = min(int(said.get("Dimensionality", 1)), 8)
            self.promised = _LARGEST * math.prod(int(said.get(f"Dim{k}", 0)) for k in range(n_dims))
            self.packed = said.get("Encoding") == "GZipBase64Binary"
            self.unpack, self.unpacked, self.left, self.letters = zlib.decompressobj(), 0, b"", 0
            beside = said.get("ExternalFileName") or ""
            if beside:
                if Path(beside).name != beside or "\\" in beside:
                    raise ImageError(
                        f"{self.path} says that its values are in the file {beside!r}. Allowed: a file in its folder."
                    )
                require_regular(self.path.with_name(beside))
        self.inside = name == "Data"

    def _end(self, name: str) -> None:
        self.inside = False

    def _text(self, text: str) -> None:
        if not self.inside:
            return
        self.letters += len(text)
        if self.letters > _WIDEST * self.promised + _PIECE:
            self._refuse()
        if not self.packed:
            return
        letters = self.left + "".join(text.split()).encode("ascii", "replace")
        whole = len(letters) // 4 * 4
        self.left = letters[whole:]
        packed = binascii.a2b_base64(letters[:whole])
        while packed:
            self.unpacked += len(self.unpack.decompress(packed, _PIECE))
            packed = self.unpack.unconsumed_tail
            if self.unpacked > self.promised:
                self._refuse()

    def _refuse(self) -> None:
        raise ImageError(f"{self.path} unpacks to more than its header says. Get it again.")

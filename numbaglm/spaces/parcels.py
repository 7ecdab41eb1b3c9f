"""Parcels: the columns of a table, a row a subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import InputError, term
from numbaglm.spaces.smoothing import Fwhm


def refuse_smoothing(what: str, fwhm: Fwhm) -> InputError:
    """Compose the error of maps that have no distances."""
    return InputError(
        f"{what} have no distances in mm, so they can't be smoothed: got {term('smoothing_fwhm=')} {fwhm}. Leave it "
        "None."
    )


@dataclass(frozen=True, eq=False)
class Parcels:
    """Named regions without neighbours: a part of a space.

    Attributes
    ----------
    names
        (n,) of the regions, each once.
    """

    names: tuple[str, ...]

    # As a part of a space; see `numbaglm.spaces.space.Part`.
    kind: ClassVar[str] = "parcels"
    name: ClassVar[str] = ""
    noun: ClassVar[str] = "parcel"
    unit: ClassVar[str] = ""
    domain: ClassVar[str] = "parcels"

    @property
    def n(self) -> int:
        """Number of regions."""
        return len(self.names)

    @property
    def measure(self) -> NDArray[np.float64]:
        """(n,) ones: regions are counted."""
        return np.ones(self.n)

    def topology(self, connectivity: int) -> Any:
        """Return None: which regions touch is not known."""
        return None

    def pairs(self) -> NDArray[np.int64] | None:
        """Return None: which regions touch is not known."""
        return None

    def coordinates(self, elements: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return None: a table has no coordinates."""
        return None

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """Names of some regions."""
        return [self.names[number] for number in elements]

    def select(self, keep: NDArray[np.bool_]) -> Parcels:
        """Return those regions alone that are kept, (n,)."""
        return Parcels(tuple(name for name, stays in zip(self.names, keep, strict=True) if stays))

    def same(self, other: Any) -> bool:
        """Whether others have the same names in the same order."""
        return isinstance(other, Parcels) and self.names == other.names

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Refuse.

        Raises
        ------
        InputError
        """
        raise refuse_smoothing("Parcels", fwhm)

    def token(self) -> tuple[str, bytes]:
        """Return what tells them from others."""
        return f"parcels {self.n}", "\0".join(self.names).encode()

    def describe(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return their names."""
        return {"names": list(self.names)}, {}

    @classmethod
    def build(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Parcels:
        """Make parcels of what `describe` returned."""
        return cls(tuple(description["names"]))

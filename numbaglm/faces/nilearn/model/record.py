"""What the report of a model is handed: all that it draws and tells, and nothing else of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numbaglm.cohort import Cohort
from numbaglm.faces.nilearn.maskers import Masker, SurfaceMasker
from numbaglm.stats.model.estimable import GroupDesign


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit adds.

    Attributes
    ----------
    design
        The design matrix.
    z_of
        Contrast -> image of its z; where first-level contrasts are several, of the one that was asked for.
    read
        The maps that were last analysed, and how they become images: known once z was computed, else read now.
    """

    design: GroupDesign
    z_of: Callable[[Any], Any]
    read: Callable[[], tuple[Cohort, Masker | SurfaceMasker]]

    @property
    def cohort(self) -> Cohort:
        """The maps that were last analysed."""
        return self.read()[0]

    @property
    def masker(self) -> Masker | SurfaceMasker:
        """How they become images."""
        return self.read()[1]


@dataclass(frozen=True, eq=False)
class ModelRecord:
    """A model, as its report knows it.

    Attributes
    ----------
    kind, text
        Name of its class, and the model as it is written.
    parameters
        What it was made with.
    reports
        Whether it was made to be reported.
    fitted
        None before `fit`.
    """

    kind: str
    text: str
    parameters: Mapping[str, Any]
    reports: bool
    fitted: Fitted | None

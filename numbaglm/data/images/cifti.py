"""CIFTI files: their axes as parts of a space, and back."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import nibabel
import numpy as np
import pandas as pd
from nibabel.cifti2.parse_cifti2 import Cifti2Parser
from numpy.typing import NDArray

from numbaglm.data.images.elements import opening
from numbaglm.data.images.meshes import load_areas, load_meshes
from numbaglm.errors import ImageError, InputError, invalid
from numbaglm.spaces.cifti import BrainModel, parts_of_models, surface_name
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Template

nib: Any = nibabel

_ENDINGS = (".dscalar.nii", ".dtseries.nii", ".pscalar.nii", ".ptseries.nii", ".pconn.nii")
_SCALARS = {"dscalar": "dscalar", "dtseries": "dscalar", "pscalar": "pscalar", "ptseries": "pscalar", "pconn": "pconn"}


def is_cifti(path: Path) -> bool:
    """Whether a file is a CIFTI file of maps, by its name."""
    return path.name.endswith((*_ENDINGS, ".dlabel.nii"))


@dataclass(frozen=True, eq=False)
class CIFTI:
    """A CIFTI file or image whose values are not read yet.

    Attributes
    ----------
    image
        Of nibabel.
    name
        What messages call it.
    path
        The file; None for one in memory.
    """

    image: Any
    name: str
    path: Path | None

    @classmethod
    def of(cls, item: Any, name: str) -> Self:
        """Open a file, or take an image.

        Raises
        ------
        MissingFileError, ImageError
        """
        if not isinstance(item, str | os.PathLike):
            return cls(item, name, None)
        path = Path(os.path.abspath(Path(item).expanduser()))  # noqa: PTH100 - resolve() follows links
        image = opening(str(item), path, nib.load)
        if not isinstance(image, nib.Cifti2Image):
            raise ImageError(f"{item} is a {type(image).__name__}, no CIFTI-2 file. Convert it (wb_command).")
        return cls(image, str(item), path)

    @property
    def axis(self) -> Any:
        """What its columns are: grayordinates or parcels."""
        return self.image.header.get_axis(self.image.ndim - 1)

    @property
    def is_matrix(self) -> bool:
        """Whether it holds a connectome: parcels by parcels."""
        return isinstance(self.image.header.get_axis(0), nib.cifti2.ParcelsAxis)

    @property
    def n_maps(self) -> int:
        """How many maps it holds: rows, or one connectome."""
        return 1 if self.is_matrix else int(self.image.shape[0])

    @cached_property
    def key(self) -> str:
        """Hash of what its columns are, as the file says it."""
        return hashlib.sha256(_axis_xml(self.axis)).hexdigest()

    def lists_the_same(self, other: CIFTI) -> bool:
        """Whether another file has these columns."""
        return bool(type(self.axis) is type(other.axis) and self.axis == other.axis)

    def named_matrix(self) -> pd.DataFrame:
        """Return a connectome with the names of its parcels."""
        names = [str(name) for name in self.axis.name]
        return pd.DataFrame(np.asarray(self.image.dataobj), names, names)


def _axis_xml(axis: Any) -> bytes:
    """Write an axis down, without what a file says of itself."""
    scalar = nib.cifti2.ScalarAxis(["map"])
    return bytes(nib.cifti2.Cifti2Header.from_axes((scalar, axis)).to_xml())


def axis_of_xml(xml: NDArray[np.uint8]) -> Any:
    """Make an axis of what a template keeps of it."""
    parser: Any = cast(Any, Cifti2Parser)()
    parser.parse(string=xml.tobytes())
    return parser.header.get_axis(1)


def cifti_template(image: CIFTI, surfaces: Any, areas: Any) -> Template:
    """Make the template of maps of a file's kind.

    Parameters
    ----------
    image
        The first of the maps.
    surfaces, areas
        As in `numbaglm.Cohort.create`.

    Raises
    ------
    InputError, MissingFileError, ImageError, GridError
    """
    axis, ending = image.axis, ""
    arrays = {"xml": np.frombuffer(_axis_xml(axis), np.uint8)}
    if isinstance(axis, nib.cifti2.ParcelsAxis):
        if surfaces is not None or areas is not None:
            raise InputError(invalid("surfaces", "meshes or areas", f"None: {image.name} has a value a parcel"))
        names = tuple(str(name) for name in axis.name)
        ending = "pconn" if image.is_matrix else "pscalar"
        part: Any = Connectome.of_matrix(names) if image.is_matrix else Parcels(names)
        return Template((part,), None, {"format": ending}, arrays, image.name)
    if not isinstance(axis, nib.cifti2.BrainModelAxis):
        raise ImageError(
            f"{image.name} has no grayordinates and no parcels along its columns, but a {type(axis).__name__}. "
            "Allowed: .dscalar, .dtseries, .pscalar, .ptseries and .pconn files."
        )
    models = []
    for structure, where, model in axis.iter_structures():
        columns = np.arange(axis.size)[where]
        if structure in axis.nvertices:
            vertices = np.asarray(model.vertex, np.int64)
            models.append(BrainModel(structure, columns, vertices, int(axis.nvertices[structure])))
        else:
            models.append(BrainModel(structure, columns, voxels=np.asarray(model.voxel, np.int64)))
    sizes = {surface_name(one.structure): one.n_vertices for one in models if one.vertices is not None}
    meshes = load_meshes(surfaces, list(sizes))
    grid = None if axis.volume_shape is None else (tuple(axis.volume_shape), np.asarray(axis.affine, np.float64))
    parts, places = parts_of_models(models, grid, meshes, load_areas(areas, sizes))
    in_order = np.array_equal(places, np.arange(axis.size))
    return Template(parts, None if in_order else places, {"format": "dscalar"}, arrays, image.name)

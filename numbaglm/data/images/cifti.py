"""CIFTI files: their axes as parts of a space, and back."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Self, cast

import nibabel
import numpy as np
import pandas as pd
from nibabel.cifti2.parse_cifti2 import Cifti2Parser
from numpy.typing import NDArray

from numbaglm.data.images.elements import opening, told
from numbaglm.data.images.meshes import load_areas, load_meshes
from numbaglm.errors import ImageError, InputError, invalid
from numbaglm.spaces.cifti import BrainModel, parts_of_models, surface_name
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Template

nib: Any = nibabel

_HEADER_BYTES, _EXTENSION = 540, 32  # of NIfTI-2; CIFTI's code
_MAP = re.compile(
    rb'<MatrixIndicesMap[^>]*?AppliesToMatrixDimension="([^"]*)"[^>]*(?<!/)>(.*?)</MatrixIndicesMap>', re.DOTALL
)

_INTENTS = {"dscalar": "ConnDenseScalar", "pscalar": "ConnParcelScalr", "pconn": "ConnParcels"}


@dataclass(frozen=True, eq=False)
class CIFTI:
    """A CIFTI file or image whose values are not read yet.

    Attributes
    ----------
    name
        What messages call it.
    path
        The file; None for an image in memory.
    given
        The image, where it is in memory.
    shape
        Rows and columns.
    xml
        What the file says of them.
    """

    name: str
    path: Path | None
    given: Any
    shape: tuple[int, ...]
    xml: bytes

    @classmethod
    def of(cls, item: Any, name: str) -> Self:
        """Open a file, or take an image.

        Raises
        ------
        MissingFileError, ImageError
        """
        if not isinstance(item, str | os.PathLike):
            xml = bytes(item.header.to_xml())
            _require_values(xml, name)
            return cls(name, None, item, tuple(item.shape), xml)
        path = Path(os.path.abspath(Path(item).expanduser()))  # noqa: PTH100 - resolve() follows links
        header, xml = opening(str(item), path, _read_head)
        _require_values(xml, str(item))
        return cls(str(item), path, None, tuple(header.get_data_shape()[4:]), xml)

    @cached_property
    def axis(self) -> Any:
        """What its columns are: grayordinates or parcels.

        Raises
        ------
        ImageError
        """
        try:
            axis = axis_of_xml(np.frombuffer(self.xml, np.uint8), len(self.shape) - 1)
        except Exception as error:  # of parsers of XML and of numbers, of nibabel, and of what is not there
            raise ImageError(f"{self.name} does not say what its columns are ({told(error)}). Get it again.") from error
        if len(axis) != self.shape[-1]:
            raise ImageError(f"{self.name} names {len(axis):,} columns, and holds {self.shape[-1]:,}. Get it again.")
        return axis

    @cached_property
    def is_matrix(self) -> bool:
        """Whether it holds a connectome: parcels by parcels."""
        if self.path is not None:
            return self.path.name.endswith(".pconn.nii")
        return isinstance(self.given.header.get_axis(0), nib.cifti2.ParcelsAxis)

    @property
    def n_maps(self) -> int:
        """How many maps it holds: rows, or one connectome."""
        return 1 if self.is_matrix else self.shape[0]

    @cached_property
    def key(self) -> str:
        """Hash of what its columns are, as the file says it."""
        return hashlib.sha256(_columns_of(self.xml)).hexdigest()

    def lists_the_same(self, other: CIFTI) -> bool:
        """Whether another file has these columns."""
        if self.shape[-1] != other.shape[-1]:
            return False
        return self.key == other.key or bool(type(self.axis) is type(other.axis) and self.axis == other.axis)

    def differences(self, other: CIFTI) -> str:
        """In which structures another file has more or fewer columns, "" where that is not what tells them apart."""
        if not all(isinstance(one.axis, nib.cifti2.BrainModelAxis) for one in (self, other)):
            return ""
        ours, theirs = Counter(map(str, self.axis.name)), Counter(map(str, other.axis.name))
        unlike = [name for name in {**theirs, **ours} if ours[name] != theirs[name]]
        named = [f"{surface_name(name)} has {ours[name]:,} and {theirs[name]:,}" for name in unlike[:3]]
        return "; ".join([*named, *([f"{len(unlike) - 3} more"] if len(unlike) > 3 else [])])

    def values(self) -> NDArray[Any]:
        """All that it holds, rows by columns."""
        if self.path is None:
            return np.asarray(self.given.dataobj)
        rows: NDArray[Any] = opening(self.name, self.path, cifti_rows)
        return rows

    def named_matrix(self) -> pd.DataFrame:
        """Return a connectome with the names of its parcels."""
        names = [str(name) for name in self.axis.name]
        return pd.DataFrame(self.values(), names, names)


def _require_values(xml: bytes, name: str) -> None:
    if b"CIFTI_INDEX_TYPE_LABELS" in xml:
        raise ImageError(
            f"{name} holds labels (.dlabel), whose numbers name places and are no values. Allowed are .dscalar, "
            ".dtseries, .pscalar, .ptseries and .pconn files; wb_command -cifti-parcellate makes means of its places."
        )


def _read_head(path: Path) -> tuple[Any, bytes]:
    """Read header and XML of a file: nibabel would make all axes of it, which takes a second where they are long."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES + 4)
        if not nib.Nifti2Header.may_contain_header(start[:_HEADER_BYTES]):
            raise ImageError(f"{path} is no CIFTI-2 file (a NIfTI-2 file with an extension). Convert it (wb_command).")
        header = nib.Nifti2Header(start[:_HEADER_BYTES], check=False)
        shape = header.get_data_shape()
        if len(shape) < 6 or shape[:4] != (1, 1, 1, 1) or min(shape) < 1:
            raise ImageError(f"{path} is no CIFTI-2 file: its header says {shape}, not 1, 1, 1, 1, rows and columns.")
        end = min(int(header["vox_offset"]), path.stat().st_size)
        while file.tell() + 8 <= end:
            size, code = np.frombuffer(file.read(8), np.dtype(np.int32).newbyteorder(header.endianness)).tolist()
            if not 8 < size <= end:
                break
            if code == _EXTENSION:
                return header, file.read(size - 8).rstrip(b"\0")
            file.seek(size - 8, os.SEEK_CUR)
    raise ImageError(f"{path} is no CIFTI-2 file: it does not say what its rows and columns are. Get it again.")


def cifti_rows(path: Path) -> NDArray[Any]:
    """(n_maps, k) values of a CIFTI file."""
    header, _ = _read_head(path)
    shape = tuple(header.get_data_shape()[4:])
    n_values = int(np.prod(shape))
    kind, offset = header.get_data_dtype(), int(header["vox_offset"])
    n_there = (path.stat().st_size - offset) // kind.itemsize
    if n_there < n_values:
        raise ImageError(f"{path} is truncated: it holds {n_there:,} of {n_values:,} values. Get it again.")
    # Not read as a whole: one file may hold the maps of all subjects.
    values: NDArray[Any] = np.memmap(path, kind, "r", offset, shape, order="F")
    slope, inter = header.get_slope_inter()
    if slope is not None and (slope, inter) != (1.0, 0.0):
        values = values * slope + (inter or 0.0)
    return values


def _columns_of(xml: bytes) -> bytes:
    """Cut out what a file says of its columns."""
    for found in _MAP.finditer(xml):
        if b"1" in found.group(1):
            return found.group(2)
    return xml


def cifti_bytes(xml: NDArray[np.uint8], rows: NDArray[np.float32], names: Sequence[str], written: str) -> bytes:
    """Make a file whose columns are those of another: as nibabel does, without making all axes anew for each file.

    Parameters
    ----------
    xml
        What the other file says.
    rows
        (n_maps, k) values; of a connectome (k, k).
    names
        Of the maps.
    written
        "dscalar", "pscalar" or "pconn".
    """
    columns = next(found.group(0) for found in _MAP.finditer(xml.tobytes()) if b"1" in found.group(1))
    head = columns[: columns.index(b">")]
    both = re.sub(rb'(AppliesToMatrixDimension=)"[^"]*"', rb'\1"0,1"' if written == "pconn" else rb'\1"1"', head)
    columns = both + columns[len(head) :]
    if written != "pconn":
        maps = "".join(f"<NamedMap><MapName>{escape(name, quote=False)}</MapName></NamedMap>" for name in names)
        kind = 'AppliesToMatrixDimension="0" IndicesMapToDataType="CIFTI_INDEX_TYPE_SCALARS"'
        columns = f"<MatrixIndicesMap {kind}>{maps}</MatrixIndicesMap>".encode() + columns
    said = b'<?xml version="1.0" encoding="UTF-8"?><CIFTI Version="2"><Matrix>' + columns + b"</Matrix></CIFTI>"
    header = nib.Nifti2Header()
    header.extensions.append(nib.nifti1.Nifti1Extension(_EXTENSION, said))
    header.set_intent(_INTENTS[written], name=_INTENTS[written])
    image = nib.Nifti2Image(rows.reshape(1, 1, 1, 1, *rows.shape), None, header)
    return bytes(image.to_bytes())


def axis_of_xml(xml: NDArray[np.uint8], dimension: int = 1) -> Any:
    """Make an axis of what a file says, or a template keeps."""
    parser: Any = cast(Any, Cifti2Parser)()
    parser.parse(string=xml.tobytes())
    return parser.header.get_axis(dimension)


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
    arrays = {"xml": np.frombuffer(image.xml, np.uint8)}
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

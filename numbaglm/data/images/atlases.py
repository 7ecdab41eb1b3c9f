"""Atlases: images of labels with the names of their regions, as NIfTI, GIFTI, FreeSurfer annotations and CIFTI."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel
import numpy as np
from numpy.typing import NDArray

from numbaglm.data.images.elements import opening
from numbaglm.data.images.gifti import load_gifti
from numbaglm.errors import GridError, ImageError, InputError, invalid
from numbaglm.spaces.cifti import Structures, surface_name
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Surface
from numbaglm.spaces.volume import Geometry

nib: Any = nibabel

_ALLOWED = (
    "a label image (.nii, .nii.gz), .label.gii or .annot by side, .dlabel.nii; or an image and a file of its names"
)
_IMAGE = re.compile(r"\.(nii|nii\.gz|mgz|mgh|img)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Labels:
    """A label for each voxel or vertex.

    Attributes
    ----------
    values
        (nx, ny, nz) of a volume, (n_vertices,) of a surface.
    names
        Label -> name of its region; without those that stand for no region.
    affine
        (4, 4) from indices to mm, of a volume.
    """

    values: NDArray[np.int64]
    names: Mapping[int, str]
    affine: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions of a volume, of surfaces by side, or of both.

    Attributes
    ----------
    volume
        Labels of voxels.
    sides
        Labels of vertices, by the name of their surface.
    """

    volume: Labels | None = None
    sides: Mapping[str, Labels] = field(default_factory=dict)

    def regions(self, space: Space) -> list[str]:
        """(n,) name of the region that each element of a space lies in; "" where it is none.

        Raises
        ------
        GridError
            A surface has another number of vertices.
        InputError
            Nothing of the space lies where the atlas has labels.
        """
        found, known = np.full(space.n, "", object), False
        for part, where in zip(space.parts, space.slices, strict=True):
            grid = part.volume if isinstance(part, Structures) else part
            if isinstance(grid, Geometry) and self.volume is not None:
                found[where], known = _named(self.volume, _nearest(self.volume, grid)), True
            elif isinstance(part, Surface) and part.name in self.sides:
                labels = self.sides[part.name]
                if len(labels.values) != part.n_vertices:
                    raise GridError(
                        f"The atlas has {len(labels.values):,} vertices on the {part.name} surface, but the maps have "
                        f"{part.n_vertices:,}. Take that of the mesh that the maps lie on."
                    )
                found[where], known = _named(labels, labels.values[part.vertices]), True
        if not known:
            has = "a volume" if self.volume is not None else f"surfaces {', '.join(map(repr, self.sides))}"
            raise InputError(f"The atlas is of {has}, and the maps lie on {space.label}. Take one of their space.")
        return [str(name) for name in found]


def read_atlas(given: Any) -> Atlas:
    """Read an atlas.

    Parameters
    ----------
    given
        A label image, whose names stand in a file beside it of the same name (.tsv with index and name, FSL's .xml, a
        FreeSurfer table .txt), or are given with it as a pair; a dict of .label.gii or .annot by side; a .dlabel.nii.

    Raises
    ------
    InputError, MissingFileError, ImageError
        It is none of these, or can't be read.
    """
    if isinstance(given, Atlas):
        return given
    if isinstance(given, Mapping):
        volume = given.get("volume")
        sides = {str(side).lower(): one for side, one in given.items() if side != "volume"}
        labels = {side: _surface_labels(one) for side, one in sides.items()}
        return Atlas(None if volume is None else read_atlas(volume).volume, labels)
    names: Any = None
    if isinstance(given, tuple | list) and len(given) == 2:
        given, names = given
    if not isinstance(given, str | os.PathLike):
        raise InputError(invalid("atlas", type(given).__name__, _ALLOWED))
    path = Path(given).expanduser()
    if path.name.endswith(".dlabel.nii"):
        atlas: Atlas = opening(str(given), path, _read_dlabel)
        return atlas
    if not _IMAGE.search(path.name):
        raise InputError(invalid("atlas", str(given), _ALLOWED, "Files of surfaces go by side: {'left': ...}."))
    found = _names_beside(path) if names is None else read_names(names)
    volume_labels: Labels = opening(str(given), path, lambda file: _read_volume(file, found))
    return Atlas(volume_labels)


def read_names(given: Any) -> dict[int, str]:
    """Read the names of labels: a mapping, a .tsv or .csv with index and name, FSL's .xml, or FreeSurfer's table.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    if isinstance(given, Mapping):
        return {int(number): str(name) for number, name in given.items()}
    if not isinstance(given, str | os.PathLike):
        raise InputError(invalid("atlas", type(given).__name__, "names as a mapping, .tsv, .csv, .xml or .txt"))
    path = Path(given).expanduser()
    read = {".xml": _fsl_names, ".tsv": _table_names, ".csv": _table_names}.get(path.suffix.lower(), _freesurfer_names)
    names: dict[int, str] = opening(str(given), path, read)
    if not names:
        raise ImageError(f"{given} names no region. Allowed: a row a region, with its number and its name.")
    return names


def _names_beside(image: Path) -> dict[int, str]:
    stem = _IMAGE.sub("", image.name)
    for suffix in (".tsv", ".xml", ".txt", ".csv"):
        if (beside := image.with_name(stem + suffix)).is_file():
            return read_names(beside)
    return {}


def _fsl_names(path: Path) -> dict[int, str]:
    """FSL's index counts from 0, and the images of maximum probability from 1."""
    labels = ElementTree.parse(path).getroot().iter("label")
    return {int(one.attrib["index"]) + 1: (one.text or "").strip() for one in labels}


def _table_names(path: Path) -> dict[int, str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="," if path.suffix.lower() == ".csv" else "\t"))
    heads = {head.lower(): head for head in rows[0] if head} if rows else {}
    number = next((heads[name] for name in ("index", "label", "value", "id") if name in heads), None)
    name = next((heads[name] for name in ("name", "region", "label_name") if name in heads), None)
    if number is None or name is None:
        raise ImageError(f"{path} has columns {list(heads)}. Allowed: 'index' and 'name', a row a region.")
    return {int(float(row[number])): row[name].strip() for row in rows}


def _freesurfer_names(path: Path) -> dict[int, str]:
    """Number, name, and colours, between blanks."""
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#"))
    return {int(row[0]): row[1] for row in rows if len(row) >= 2 and row[0].isdigit()}


def _read_volume(path: Path, names: Mapping[int, str]) -> Labels:
    image = nib.load(path)
    values = np.asarray(image.dataobj)
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3 or not np.array_equal(values, np.rint(values)):
        raise ImageError(
            f"{path} is no image of labels: shape {values.shape}. Allowed: one volume of whole numbers, 0 for none."
        )
    labels = values.astype(np.int64)
    known = dict(names) or {int(one): f"region {one}" for one in np.unique(labels)}
    known.pop(0, None)
    return Labels(labels, known, np.asarray(image.affine, np.float64))


def _surface_labels(given: Any) -> Labels:
    if not isinstance(given, str | os.PathLike):
        raise InputError(invalid("atlas", type(given).__name__, _ALLOWED))
    path = Path(given).expanduser()
    read = _read_annot if path.suffix == ".annot" else _read_label_gifti
    labels: Labels = opening(str(given), path, read)
    return labels


def _read_annot(path: Path) -> Labels:
    values, _, names = nib.freesurfer.read_annot(str(path))
    return Labels(values.astype(np.int64), _without_ground(dict(enumerate(name.decode() for name in names))))


def _read_label_gifti(path: Path) -> Labels:
    image = load_gifti(path)
    if not isinstance(image, nib.GiftiImage) or len(image.darrays) != 1:
        raise ImageError(f"{path} is no .label.gii of one map. Allowed: {_ALLOWED}.")
    return Labels(np.asarray(image.darrays[0].data, np.int64), _without_ground(image.labeltable.get_labels_as_dict()))


def _read_dlabel(path: Path) -> Atlas:
    image = nib.load(path)
    labels, models = image.header.get_axis(0), image.header.get_axis(1)
    if not isinstance(labels, nib.cifti2.LabelAxis) or not isinstance(models, nib.cifti2.BrainModelAxis):
        raise ImageError(f"{path} holds no labels of grayordinates. Allowed: .dlabel.nii.")
    names = _without_ground({int(number): name for number, (name, _) in labels.label[0].items()})
    row = np.asarray(image.dataobj)[0].astype(np.int64)
    sides, volume = {}, None
    for structure, where, model in models.iter_structures():
        if model.vertex is not None and structure in models.nvertices:
            values = np.zeros(models.nvertices[structure], np.int64)
            values[model.vertex] = row[where]
            sides[surface_name(structure)] = Labels(values, names)
    if models.volume_shape is not None:
        values = np.zeros(models.volume_shape, np.int64)
        inside = models.volume_mask
        values[tuple(models.voxel[inside].T)] = row[inside]
        volume = Labels(values, names, np.asarray(models.affine, np.float64))
    return Atlas(volume, sides)


def _without_ground(names: Mapping[int, str]) -> dict[int, str]:
    """Leave out what stands for no region."""
    ground = {"???", "unknown", "medial wall", "medial_wall", "background", ""}
    return {int(number): name for number, name in names.items() if name.strip().lower() not in ground}


def _nearest(labels: Labels, grid: Geometry) -> NDArray[np.int64]:
    """(n,) labels at the middle of the voxels of a grid; 0 outside the atlas."""
    assert labels.affine is not None
    inverse = np.linalg.inv(labels.affine)
    xyz = grid.coordinates(np.arange(grid.n))
    ijk = np.rint(xyz @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.intp)
    inside = ((ijk >= 0) & (ijk < labels.values.shape)).all(axis=1)
    found = np.zeros(grid.n, np.int64)
    found[inside] = labels.values[tuple(ijk[inside].T)]
    return found


def _named(labels: Labels, values: NDArray[np.int64]) -> NDArray[np.object_]:
    numbers, which = np.unique(values, return_inverse=True)
    named: Sequence[str] = [labels.names.get(int(number), "") for number in numbers]
    return np.array(named, object)[which]

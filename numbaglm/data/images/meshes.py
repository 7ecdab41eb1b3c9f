"""Meshes and areas, from files, arrays and nilearn's objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from numbaglm.data.images.elements import freesurfer_rows, opening, rows_of_gifti
from numbaglm.data.images.formats.names import SIDES, side_of
from numbaglm.data.images.gifti import load_gifti, require_side
from numbaglm.errors import ImageError, InputError, invalid
from numbaglm.spaces.surface import Mesh

nib: Any = nibabel

log = logging.getLogger("numbaglm")

_ALLOWED_MESH = "a .surf.gii or FreeSurfer surface (lh.white), (coordinates, faces), or a mesh of nilearn"


def warn_of_sides(given: Mapping[str, Any], parameter: str) -> None:
    """Say which files are named of another hemisphere than they are given for: both have as many vertices.

    They are taken as they are given, since maps of one side may lie on the mesh of the other (xhemi).
    """
    for side, items in given.items():
        if side not in SIDES.values():
            continue
        several = items if isinstance(items, list | tuple) else [items]
        files = [str(one) for one in several if isinstance(one, str | os.PathLike)]
        other = [file for file in files if side_of(Path(file)) not in (None, side)]
        if other:
            more = f", as {len(other) - 1:,} more" if len(other) > 1 else ""
            told = "%s is named as of the %s hemisphere, and given in %s as of the %s%s: what was given counts."
            log.warning(told, other[0], side_of(Path(other[0])), parameter, side, more)


def load_meshes(surfaces: Any, sides: list[str]) -> dict[str, Mesh]:
    """Read the meshes of surfaces.

    Parameters
    ----------
    surfaces
        What was given: a mapping by side, such as "left", or one mesh where there is one surface.
    sides
        Names of the surfaces that the maps lie on.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    return {side: load_mesh(one, side) for side, one in by_side(surfaces, sides, "surfaces").items()}


def by_side(given: Any, sides: list[str], parameter: str) -> dict[str, Any]:
    """Take what was given for each surface by its side; {} of None.

    Raises
    ------
    InputError
        A side is none of the maps', or one lacks.
    """
    if given is None:
        return {}
    parts = getattr(given, "parts", None)  # nilearn's PolyMesh
    if isinstance(parts, Mapping):
        given = parts
    if not isinstance(given, Mapping):
        if len(sides) != 1:
            allowed = f"a dict with {' and '.join(map(repr, sides))}"
            raise InputError(invalid(parameter, type(given).__name__, allowed))
        given = {sides[0]: given}
    known = {str(side).lower(): one for side, one in given.items()}
    known = {SIDES[side] if SIDES.get(side) in sides else side: one for side, one in known.items()}
    extra = sorted(set(known) - set(sides))
    if extra or (lacking := [side for side in sides if side not in known and side in ("", "left", "right")]):
        received = f"{extra[0]!r} beside maps of {sides}" if extra else f"nothing for {lacking[0]!r}"
        fix = "Name the sides as the maps are named." if extra else "Pass one for each side."
        raise InputError(invalid(parameter, received, f"one for each of {sides}", fix))
    warn_of_sides(known, parameter)
    return known


def load_mesh(given: Any, side: str = "") -> Mesh:
    """Read one mesh, of a side.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    if isinstance(given, Mesh):
        return given
    if isinstance(given, str | os.PathLike):
        path = Path(given).expanduser()
        mesh: Mesh = opening(str(given), path, lambda file: _read_mesh(file, str(given), side))
        return mesh
    if isinstance(given, nib.GiftiImage):
        return _mesh_of_gifti(given, "the mesh (in memory)", side)
    if hasattr(given, "coordinates") and hasattr(given, "faces"):
        return Mesh(np.asarray(given.coordinates), np.asarray(given.faces))
    if isinstance(given, tuple | list) and len(given) == 2:
        return Mesh(np.asarray(given[0]), np.asarray(given[1]))
    raise InputError(invalid("surfaces", type(given).__name__, _ALLOWED_MESH))


def _read_mesh(path: Path, name: str, side: str) -> Mesh:
    if path.name.endswith((".gii", ".gii.gz")):
        return _mesh_of_gifti(load_gifti(path), name, side)
    coordinates, faces = nib.freesurfer.read_geometry(str(path))[:2]
    return Mesh(coordinates, faces.astype(np.int32), name)


def _mesh_of_gifti(image: Any, name: str, side: str) -> Mesh:
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    triangles = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if not points or not triangles:
        raise ImageError(f"{name} is no mesh: it has no points, or no triangles. Allowed: {_ALLOWED_MESH}.")
    require_side(image, side, name)
    return Mesh(np.asarray(points[0].data, np.float64), triangles[0].data, name)


def load_areas(areas: Any, sizes: Mapping[str, int]) -> dict[str, NDArray[np.float64]]:
    """Read the areas of vertices.

    Parameters
    ----------
    areas
        A number for all vertices; files or arrays by side; or one of them, where there is one surface.
    sizes
        Vertices of each surface by its side.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    if isinstance(areas, int | float | np.number) and not isinstance(areas, bool):
        if not (np.isfinite(areas) and areas > 0):
            raise InputError(invalid("areas", areas, "a number of mm2 above 0, a file, or an array"))
        return {side: np.full(n, float(areas)) for side, n in sizes.items()}
    found = by_side(areas, list(sizes), "areas")
    return {side: values_of_vertices(one, "areas", side) for side, one in found.items()}


def values_of_vertices(given: Any, parameter: str, side: str = "") -> NDArray[np.float64]:
    """(n_vertices,) numbers of a side from a file or an array: GIFTI, FreeSurfer, or text.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    if isinstance(given, str | os.PathLike):
        name = f"{given} given as {parameter}"
        rows = opening(name, Path(given).expanduser(), lambda file: _read_values(file, name, side))
    elif isinstance(given, nib.GiftiImage):
        rows = rows_of_gifti(given, f"the image given as {parameter}", side)
    else:
        rows = np.atleast_2d(np.asarray(given))
    if len(rows) != 1 or rows.dtype.kind not in "fiub":
        raise InputError(invalid(parameter, f"{rows.dtype} of shape {rows.shape}", "one number a vertex"))
    return np.asarray(rows[0], np.float64)


def _read_values(path: Path, name: str, side: str) -> NDArray[Any]:
    if path.name.endswith((".gii", ".gii.gz")):
        return rows_of_gifti(load_gifti(path), name, side)
    if path.suffix in (".csv", ".txt", ".tsv"):
        return np.loadtxt(path, delimiter="," if path.suffix == ".csv" else None, ndmin=1)[None]
    return freesurfer_rows(path)

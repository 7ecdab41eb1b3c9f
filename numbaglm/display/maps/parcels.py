"""Parcels where they lie: values of a table, brought onto the voxels or vertices of a parcellation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.images.atlases import Labels, read_atlas
from numbaglm.data.images.meshes import load_meshes
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Part, Space
from numbaglm.spaces.surface import Surface
from numbaglm.spaces.volume import Geometry

_SHOWN = 5  # names in an error


def spread(parcels: Parcels, parcellation: Any, surface: Any) -> tuple[Space, NDArray[np.intp]]:
    """Find the voxels or vertices of parcels.

    Parameters
    ----------
    parcels
        Those of the maps.
    parcellation
        An atlas that names them, as `numbaglm.data.images.atlases.read_atlas` takes it. On a surface they may have the
        name of its side before theirs, as "left insula", "L_insula" or "lh_insula".
    surface
        Meshes by side, for a parcellation of surfaces.

    Returns
    -------
    Where the parcels lie, and (n,) the number of the parcel of each element.

    Raises
    ------
    InputError, MissingFileError, ImageError
        It can't be read, has no mesh, or lacks parcels.
    """
    atlas = read_atlas(parcellation)
    number_of = {_plain(name): number for number, name in enumerate(parcels.names)}
    parts: list[Part] = []
    numbers: list[NDArray[np.intp]] = []
    if atlas.sides:
        meshes = load_meshes(surface, list(atlas.sides))
        for side, labels in atlas.sides.items():
            if side not in meshes:
                allowed = f"meshes of {' and '.join(map(repr, atlas.sides))}, which the parcellation is of"
                raise InputError(invalid("surface", surface if surface is None else type(surface).__name__, allowed))
            found = _numbers(labels, number_of, side)
            inside = np.flatnonzero(found >= 0)
            if inside.size:
                parts.append(Surface(side, len(found), inside, meshes[side]))
                numbers.append(found[inside])
    elif atlas.volume is not None and atlas.volume.affine is not None:
        found = _numbers(atlas.volume, number_of, "")
        if (mask := found >= 0).any():
            parts.append(Geometry(mask, atlas.volume.affine))
            numbers.append(found[mask])
    known = np.unique(np.concatenate(numbers)) if numbers else np.zeros(0, np.intp)
    lacking = [name for k, name in enumerate(parcels.names) if k not in set(known.tolist())]
    if lacking:
        shown = ", ".join(map(repr, lacking[:_SHOWN])) + (" and more" if len(lacking) > _SHOWN else "")
        raise InputError(
            f"The parcellation has no {shown} ({len(lacking)} of {parcels.n} parcels). Pass one whose regions are "
            "named as the columns of the table, such as (image, {label: name})."
        )
    return Space(tuple(parts)), np.concatenate(numbers)


def _numbers(labels: Labels, number_of: Mapping[str, int], side: str) -> NDArray[np.intp]:
    """Parcel of each voxel or vertex; -1 where there is none."""
    values, which = np.unique(labels.values, return_inverse=True)
    parcel = np.full(len(values), -1, np.intp)
    for k, value in enumerate(values.tolist()):
        for name in _called(labels.names.get(value, ""), side):
            if name in number_of:
                parcel[k] = number_of[name]
                break
    return parcel[which].reshape(labels.values.shape)


def _called(name: str, side: str) -> Iterator[str]:
    """What a region may be called in a table: as it is, or after its side."""
    if not name:
        return
    for before in ("", *((side, side[:1], f"{side[:1]}h", f"ctx {side[:1]}h") if side else ())):
        yield _plain(f"{before} {name}")


def _plain(name: str) -> str:
    """A name without capitals, and with blanks for what stands for them."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").replace(".", " ").split())

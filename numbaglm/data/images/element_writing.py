"""Values of elements as images and files, in the format that the maps came in."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.images.cifti import axis_of_xml, cifti_bytes
from numbaglm.data.images.gifti import PRIMARY, STRUCTURE
from numbaglm.data.storage.files import write_file
from numbaglm.errors import InputError
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Mesh, Surface

nib: Any = nibabel

_HEMISPHERE = {"left": "_hemi-L", "right": "_hemi-R"}
_FREESURFER = {"left": "lh.", "right": "rh."}
_TABLES = ("clusters",)  # what a result has a table of, of this name, beside its maps


def element_image(space: Space, values: NDArray[Any], fill: float, name: str, intent: str = "none") -> Any:
    """Put values back on what the maps came on.

    Parameters
    ----------
    space
        Where the elements lie.
    values
        (n,), or (k, n) for several maps.
    fill
        Value of elements that were left out.
    name
        What the map is called.
    intent
        What values are, by nibabel's name, such as "t test": GIFTI files say so.

    Returns
    -------
    GIFTI images, or those of FreeSurfer, by surface; a CIFTI image on the axes of the maps; a DataFrame: a row a map
    and a column a parcel, or nodes by nodes.
    """
    template = space.template
    if template is None:
        raise InputError("These values lie on nothing that came from files: there is no format to write them in.")
    whole = np.atleast_2d(space.unmask(np.asarray(values, np.float32), fill))
    written = template.files["format"]
    names = _names(name, len(whole))
    if written in ("dscalar", "pscalar"):
        axes = nib.cifti2.ScalarAxis(names), axis_of_xml(template.arrays["xml"])
        return nib.Cifti2Image(whole, axes)
    part = template.parts[0]
    if isinstance(part, Connectome):
        matrices = [_matrix(part, row, fill) for row in whole]
        if written == "pconn":
            axis = axis_of_xml(template.arrays["xml"])
            return nib.Cifti2Image(matrices[0].astype(np.float32), (axis, axis))
        tables = [pd.DataFrame(matrix, part.nodes, part.nodes) for matrix in matrices]
        return tables[0] if len(tables) == 1 else pd.concat(tables, keys=names)
    if written == "table":
        return pd.DataFrame(whole, pd.Index(names, name="map"), template.files["columns"])
    found, start = {}, 0
    for side in template.parts:
        assert isinstance(side, Surface)
        rows = whole[:, start : start + side.n]
        found[side.name] = _mgh(rows) if written == "mgh" else _gifti(rows, side.name, names, intent)
        start += side.n
    return found


def _names(name: str, n_maps: int) -> list[str]:
    return [name] if n_maps == 1 else [f"{name} {k}" for k in range(1, n_maps + 1)]


def _gifti(rows: NDArray[np.float32], side: str, names: list[str], intent: str = "none") -> Any:
    code = nib.nifti1.intent_codes.code["none" if intent == "label" else intent]  # Workbench wants labels as integers
    arrays = [
        nib.gifti.GiftiDataArray(row, intent=code, datatype="NIFTI_TYPE_FLOAT32", meta={"Name": name})
        for row, name in zip(rows, names, strict=True)
    ]
    return nib.GiftiImage(darrays=arrays, meta=nib.gifti.GiftiMetaData(_meta_of(side)))


def save_vertices(values: NDArray[Any], side: str, name: str, path: Path) -> None:
    """Write a map (n_vertices,) on a surface as a GIFTI file.

    Raises
    ------
    OutputError
    """
    write_file(path, _gifti(np.asarray(values, np.float32)[None], side, [name]).to_bytes(), "image")


def save_mesh(mesh: Mesh, side: str, path: Path) -> None:
    """Write a mesh as a GIFTI file (.surf.gii).

    Raises
    ------
    OutputError
    """
    points, triangles = mesh.coordinates.astype(np.float32), mesh.faces.astype(np.int32)
    space = nib.gifti.GiftiCoordSystem(xform=np.eye(4))
    arrays = [
        nib.gifti.GiftiDataArray(points, "NIFTI_INTENT_POINTSET", "NIFTI_TYPE_FLOAT32", coordsys=space),
        nib.gifti.GiftiDataArray(triangles, "NIFTI_INTENT_TRIANGLE", "NIFTI_TYPE_INT32", coordsys=None),
    ]
    arrays[0].meta = nib.gifti.GiftiMetaData(_meta_of(side))
    image = nib.GiftiImage(darrays=arrays, meta=nib.gifti.GiftiMetaData(_meta_of(side)))
    write_file(path, image.to_bytes(), "image")


def _meta_of(side: str) -> dict[str, str]:
    return {STRUCTURE: PRIMARY[side]} if side in PRIMARY else {}


def _mgh(rows: NDArray[np.float32]) -> Any:
    values = np.ascontiguousarray(rows.T[:, None, None, :])
    return nib.MGHImage(values[..., 0] if len(rows) == 1 else values, np.eye(4))  # nibabel writes no frames of one map


def _matrix(part: Connectome, values: NDArray[np.float32], fill: float) -> NDArray[np.float32]:
    matrix = np.full((len(part.nodes), len(part.nodes)), fill, np.float32)
    matrix[part.ends[:, 0], part.ends[:, 1]] = matrix[part.ends[:, 1], part.ends[:, 0]] = values
    return matrix


def save_elements(
    space: Space, values: NDArray[Any], fill: float, name: str, folder: Path, intent: str = "none"
) -> list[Path]:
    """Write values into a folder, in the format that the maps came in; return the files.

    Parameters are those of `element_image`.

    Raises
    ------
    OutputError
    """
    assert space.template is not None
    written, part = space.template.files["format"], space.template.parts[0]
    if written in ("dscalar", "pscalar", "pconn"):
        rows = np.atleast_2d(space.unmask(np.asarray(values, np.float32), fill))
        if isinstance(part, Connectome):
            rows = _matrix(part, rows[0], fill)
        data = cifti_bytes(space.template.arrays["xml"], rows, _names(name, len(rows)), written)
        return [write_file(folder / f"{name}.{written}.nii", data, "image")]
    image = element_image(space, values, fill, name, intent)
    if isinstance(image, pd.DataFrame):
        text = StringIO()
        image.to_csv(text, sep="\t")
        file = f"{name}_map.tsv" if name in _TABLES else f"{name}.tsv"
        return [write_file(folder / file, text.getvalue().encode(), "table")]
    files = []
    for side, one in image.items():
        mgh = f"{_FREESURFER.get(side, '')}{name}.mgh"
        file = mgh if written == "mgh" else f"{name}{_HEMISPHERE.get(side, '')}.func.gii"
        files.append(write_file(folder / file, one.to_bytes(), "image"))
    return files

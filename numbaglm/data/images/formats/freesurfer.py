"""FreeSurfer's files: .mgh and .mgz of volumes and of vertices, and annotations."""

from __future__ import annotations

import colorsys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from numbaglm.data.storage.files import write_file
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.space import Space

nib: Any = nibabel

FORMATS = ("mgh", "mgz", "nii", "nii.gz")
"""Endings of the files that values are written to."""

_LEVEL, _GZIP = 2, 31
_GROUND = (25, 5, 25, 0)  # FreeSurfer's colour of what is in no region
_TURN = 0.618  # of the circle of hues from one region to the next: neighbours in number differ


def open_mgh(path: Path) -> Any:
    """Image of an .mgh or .mgz file, its values not read yet; `nibabel.load` would leave the file open."""
    with nib.openers.ImageOpener(path) as file:
        header = nib.freesurfer.mghformat.MGHHeader.from_fileobj(file)
    return nib.MGHImage(nib.arrayproxy.ArrayProxy(str(path), header.copy()), header.get_affine(), header)


def is_mgh(path: Path) -> bool:
    """Whether a file is one of these, by its name."""
    return path.name.lower().endswith((".mgh", ".mgz"))


def save_freesurfer(space: Space, values: NDArray[Any], path: Path) -> Path:
    """Write maps as FreeSurfer does: a frame a map, 0 where nothing was analysed.

    Parameters
    ----------
    space
        One volume, or one surface, of which all vertices are written.
    values
        (n,) or (k, n).
    path
        Its ending, one of `FORMATS`, tells the format.

    Raises
    ------
    InputError, OutputError
    """
    ending = next((one for one in FORMATS if path.name.endswith(f".{one}")), None)
    if ending is None:
        raise InputError(invalid("path", path.name, f"a name that ends in one of {', '.join(FORMATS)}"))
    rows = np.atleast_2d(np.asarray(values, np.float32))
    if space.is_volume:
        volumes, affine = np.stack([space.volume.unmask(row, 0.0) for row in rows], axis=-1), space.volume.affine
    else:
        volumes, affine = space.unmask(rows, 0.0).T[:, None, None, :], np.eye(4)
    data = np.ascontiguousarray(volumes[..., 0] if len(rows) == 1 else volumes, np.float32)
    image = (nib.MGHImage if ending in ("mgh", "mgz") else nib.Nifti1Image)(data, affine)
    if ending.startswith("nii"):
        image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if ending in ("mgz", "nii.gz"):
        content = zlib_ng.compress(content, _LEVEL, _GZIP)
    return write_file(path, content, "image")


def save_annotation(labels: NDArray[np.integer[Any]], names: Sequence[str], path: Path) -> Path:
    """Write regions of a surface as an annotation, each in a colour of its own.

    Parameters
    ----------
    labels
        (n_vertices,) number of each vertex's region, from 1; 0 for none.
    names
        Of the regions, from 1.
    path
        Where to.

    Raises
    ------
    OutputError
    """
    hues = [colorsys.hsv_to_rgb(_TURN * k % 1, 0.85, 1 - 0.35 * (k % 2)) for k in range(len(names))]
    colours = [_GROUND, *((*(round(255 * part) for part in rgb), 0) for rgb in hues)]
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "annot"
        nib.freesurfer.write_annot(
            str(part), np.asarray(labels, np.int32), np.array(colours, np.int32), ["unknown", *names]
        )
        return write_file(path, part.read_bytes(), "annotation")

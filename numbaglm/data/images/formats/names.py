"""What the names and types of maps say of their format, before anything that reads it is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import pandas as pd

nib: Any = nibabel

SIDES = {"lh": "left", "rh": "right", "l": "left", "r": "right"}
SIDE_IN_NAME = re.compile(r"(?:^|(?<=[._-]))(lh|rh)[._-]|_?hemi-([LRlr])(?=[._])|\.([LR])(?=\.)")

_CIFTI = (".dscalar.nii", ".dtseries.nii", ".pscalar.nii", ".ptseries.nii", ".pconn.nii", ".dlabel.nii")
_CURVES = re.compile(r"^[lr]h\.[\w.-]+$")


def is_elements(maps: Any, space: Any = None) -> bool:
    """Whether maps lie on anything but a volume, by their type and the names of files: none is opened."""
    if space is not None or isinstance(maps, Mapping):
        return True
    if isinstance(maps, pd.DataFrame):
        if not {"subject_label", "effects_map_path"} & set(map(str, maps.columns)):
            return True
        return "effects_map_path" in maps.columns and any(map(_is_element, maps["effects_map_path"][:1]))
    if isinstance(maps, list | tuple | pd.Series):
        return len(maps) > 0 and _is_element(next(iter(maps)))
    if isinstance(maps, str | os.PathLike):
        return str(maps).lower().endswith((".tsv", ".csv")) or _is_element(maps)
    return _is_surface(maps)


def _is_element(item: Any) -> bool:
    if isinstance(item, str | os.PathLike):
        return form_of(Path(item)) != ""
    return isinstance(item, nib.GiftiImage | nib.Cifti2Image) or _is_surface(item)


def _is_surface(item: Any) -> bool:
    from numbaglm.spaces.surface import is_surface  # where there may be one: files have names

    return is_surface(item)


def form_of(path: Path) -> str:
    """Tell a file's format by its name: "gifti", "mgh" or "cifti"; "" for what is none of them."""
    name = path.name
    if name.endswith((".gii", ".gii.gz")):
        return "gifti"
    if is_cifti(path):
        return "cifti"
    overlay = name.endswith((".mgh", ".mgz")) and side_of(path) is not None
    return "mgh" if overlay or (_CURVES.match(name) and not name.endswith((".nii", ".nii.gz", ".img"))) else ""


def side_of(path: Path) -> str | None:
    """Which hemisphere a file's name says, if it does."""
    found = SIDE_IN_NAME.search(path.name)
    if found is None:
        return None
    return SIDES[next(text for text in found.groups() if text).lower()]


def is_cifti(path: Path) -> bool:
    """Whether a file is a CIFTI file of maps, by its name."""
    return path.name.endswith(_CIFTI)

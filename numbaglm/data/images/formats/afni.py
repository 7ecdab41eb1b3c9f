"""AFNI's data sets: names such as ``file+tlrc[label]``, labels of sub-bricks, and NIfTI that AFNI takes as its own.

A selector in square brackets picks sub-bricks by number, label, list or range, of any image of several volumes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from numbaglm.data.images.writing import save_image, to_image
from numbaglm.data.tables import listed
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry

nib: Any = nibabel

_SELECTED = re.compile(r"^(.+?)\[([^\[\]]*)\]$")
_RANGE = re.compile(r"^(\d+|\$)\.\.(\d+|\$)(?:\((\d+)\))?$")
_ENDINGS = (".HEAD", ".nii.gz", ".nii")
_EXTENSION = 4  # code of AFNI's in NIfTI headers
_LABELS_IN_XML = re.compile(r'atr_name="BRICK_LABS"\s*>\s*"([^"]*)"', re.DOTALL)
_STATISTICS = {"t": (3, 1), "f": (4, 2), "z": (5, 0)}  # AFNI's codes, and how many parameters each has


def find_data_set(text: str) -> tuple[Path, str | None] | None:
    """Find the file that a name of AFNI's stands for.

    Parameters
    ----------
    text
        A path; or one without its ending (``file+tlrc``), and with a selector (``file+tlrc[2]``).

    Returns
    -------
    The file, and the selector without brackets; None where there is no such file.
    """
    whole = _file(text)
    if whole is not None:
        return whole, None
    found = _SELECTED.match(text)
    file = None if found is None else _file(found[1])
    return None if file is None or found is None else (file, found[2].strip())


def _file(name: str) -> Path | None:
    place = os.path.abspath(Path(name).expanduser())  # noqa: PTH100 - resolve() follows links
    plain = place.rstrip(".")  # what shells complete ends with a point
    names = (place, *(plain + ending for ending in _ENDINGS))
    return next((Path(one) for one in names if os.path.isfile(one)), None)  # noqa: PTH113 - raises nothing


def labels_of_bricks(image: Any) -> list[str]:
    """Labels of an image's volumes, as AFNI wrote them; none where it did not."""
    if isinstance(image, nib.brikhead.AFNIImage):
        return list(image.header.get_volume_labels() or [])
    for extension in getattr(image.header, "extensions", ()):
        if extension.get_code() == _EXTENSION:
            content = extension.get_content()
            text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
            found = _LABELS_IN_XML.search(text)
            if found is not None:
                return [label for label in found[1].split("~") if label]
    return []


def pick_bricks(image: Any, selector: str, name: str) -> list[int]:
    """Numbers of the volumes that a selector picks, from 0, in its order.

    Parameters
    ----------
    image
        Opened with its extensions.
    selector
        Without brackets: numbers, labels, ``a..b``, ``a..b(step)`` with commas between; ``$`` is the last.
    name
        What messages call the image.

    Raises
    ------
    InputError
        It picks what is not there.
    """
    n = int(image.shape[3]) if len(image.shape) > 3 else 1
    labels = labels_of_bricks(image)
    picked: list[int] = []
    for word in (one.strip() for one in selector.split(",")):
        span = _RANGE.match(word)
        if word in labels:
            picked.append(labels.index(word))
        elif word.isdecimal() or word == "$":
            picked.append(n - 1 if word == "$" else int(word))
        elif span is not None:
            first, last = (n - 1 if end == "$" else int(end) for end in span.groups()[:2])
            step = int(span[3] or 1)
            picked += list(range(first, last + 1, step or 1) if first <= last else range(first, last - 1, -(step or 1)))
        else:
            has = f"labels {listed(labels)}" if labels else "no labels"
            raise InputError(
                f"{name}: there is no sub-brick {word!r}. It has {n} sub-bricks, from 0, and {has}. Allowed in "
                "brackets: numbers, labels, and ranges such as 0..$(2), with commas between."
            )
    beyond = [k for k in picked if k >= n]
    if beyond or not picked:
        raise InputError(f"{name}: there is no sub-brick {beyond[0] if beyond else ''}: it has {n}, counted from 0.")
    return picked


@dataclass(frozen=True, eq=False)
class Brick:
    """One volume of a file that AFNI reads.

    Attributes
    ----------
    label
        As AFNI shows it.
    values
        (n_voxels,).
    statistic
        "t", "f" or "z", where it is one, so that AFNI knows its p; "" otherwise.
    parameters
        Its degrees of freedom.
    """

    label: str
    values: NDArray[Any]
    statistic: str = ""
    parameters: tuple[float, ...] = ()


def save_bricks(geometry: Geometry, bricks: Sequence[Brick], path: Path) -> Path:
    """Write volumes into one NIfTI file, with the labels and statistics in the extension that AFNI reads.

    Parameters
    ----------
    geometry
        Mask and affine.
    bricks
        The volumes, in their order.
    path
        A name that ends in .nii or .nii.gz.

    Raises
    ------
    InputError, OutputError
    """
    from xml.sax.saxutils import escape  # where it is written: to find data sets takes none

    image = to_image(geometry, np.stack([brick.values for brick in bricks]))
    labels = "~".join(brick.label.replace("~", "-") for brick in bricks) + "~"
    auxiliary: list[str] = []
    for number, brick in enumerate(bricks):
        if brick.statistic:
            code, n_parameters = _STATISTICS[brick.statistic]
            numbers = (number, code, n_parameters, *brick.parameters[:n_parameters])
            auxiliary += [f"{value:g}" for value in numbers]
    attributes = [_attribute("BRICK_LABS", "String", f'"{escape(labels, {chr(34): "&quot;"})}"', 1)]
    if auxiliary:
        attributes.append(_attribute("BRICK_STATAUX", f"{len(auxiliary)}*float", " ".join(auxiliary), len(auxiliary)))
    text = (
        f"<?xml version='1.0' ?>\n<AFNI_attributes\n  ni_form=\"ni_group\" >\n{''.join(attributes)}</AFNI_attributes>\n"
    )
    image.header.extensions.append(nib.nifti1.Nifti1Extension("afni", text.encode()))
    return save_image(image, path)


def _attribute(name: str, kind: str, content: str, length: int) -> str:
    kind = kind if kind == "String" else "float"
    return f'<AFNI_atr\n  ni_type="{kind}"\n  ni_dimen="{length}"\n  atr_name="{name}" >\n {content}\n</AFNI_atr>\n'

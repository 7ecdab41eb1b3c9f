"""Contrast images of SPM's first levels: a folder a subject, con_0001 and so on inside."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from numbaglm.data.images.opening import MapSource, open_image
from numbaglm.data.labels import rows_without
from numbaglm.errors import InputError, MissingFileError, term

log = logging.getLogger("numbaglm")

_ENDINGS = (".nii", ".nii.gz", ".img", ".img.gz")
_DEEPEST = 5  # folders below a subject's in which images are looked for


def find_first_levels(
    folder: str | os.PathLike[str], number: int, inside: str | None = None, leave_out: Sequence[str] = ()
) -> pd.DataFrame:
    """Find the image of a contrast of each subject.

    Parameters
    ----------
    folder
        Holds a folder a subject, whose name is the label.
    number
        Of the contrast, from 1: con_0001.nii, .nii.gz, or .img with its .hdr.
    inside
        Folder inside each subject's that is meant, such as "stats/nback"; None for whichever holds such an image.
    leave_out
        Subjects whose images are not taken, by the names of their folders, or without "sub-" and zeros before a number.

    Returns
    -------
    Columns subject_label and effects_map_path, a row a subject.

    Raises
    ------
    MissingFileError, InputError
        There is no such folder, image or subject to leave out, or a subject has several.
    """
    above, name = Path(folder).expanduser(), f"con_{number:04d}"
    if not above.is_dir():
        raise MissingFileError(f"{folder} is not a folder. Name the one that holds a folder a subject.")
    found: dict[str, list[Path]] = {}
    without = []
    subjects = sorted(one for one in above.iterdir() if one.is_dir())
    for subject in (subjects[row] for row in rows_without([one.name for one in subjects], leave_out)):
        start = subject if inside is None else subject / inside
        images, is_level = _images(start, name)
        if images:
            found[subject.name] = images
        elif is_level:
            without.append(subject.name)
    if not found:
        where = f"{folder}/*/{inside}" if inside else f"any folder of {folder}"
        fix = f"{above} holds one itself: name the folder above. " if _images_of(above, name) else ""
        raise MissingFileError(
            f"No {name}.nii or {name}.img is in {where}. {fix}Allowed: a folder that holds a folder a subject, with "
            "SPM's first level inside."
        )
    several = {label: images for label, images in found.items() if len(images) > 1}
    if several:
        label, images = next(iter(several.items()))
        shown = ", ".join(str(image.relative_to(above)) for image in images[:4])
        raise InputError(
            f"{label} has {len(images)} images {name}: {shown}{', ...' if len(images) > 4 else ''}. One map a subject "
            f"is needed: name the folder inside each subject's with {term('inside=')}."
        )
    if without:
        log.warning("%d subject(s) have a first level without %s: %s.", len(without), name, ", ".join(without[:10]))
    table = pd.DataFrame(
        {"subject_label": list(found), "effects_map_path": [str(images[0]) for images in found.values()]}
    )
    _compare_names(table, name)
    return table


def _images(start: Path, name: str) -> tuple[list[Path], bool]:
    """Images of a name in a folder and below it, and whether there is a first level at all."""
    images: list[Path] = []
    is_level = False
    for place, folders, files in os.walk(start):
        depth = len(Path(place).relative_to(start).parts)
        folders[:] = sorted(one for one in folders if not one.startswith(".")) if depth < _DEEPEST else []
        is_level |= "SPM.mat" in files
        images += _images_of(Path(place), name)
    return images, is_level


def _images_of(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}{ending}" for ending in _ENDINGS if (folder / f"{name}{ending}").is_file()]


def _compare_names(table: pd.DataFrame, name: str) -> None:
    """Say what the contrast is called, and warn where subjects call it differently."""
    called = {}
    for label, path in zip(table["subject_label"], table["effects_map_path"], strict=True):
        called[label] = _contrast_name(MapSource(name=path, path=Path(path)))
    counts = Counter(called.values())
    usual = counts.most_common(1)[0][0]
    if len(counts) == 1:
        log.info("%s of %d subjects%s.", name, len(called), f": {usual!r}" if usual else "")
        return
    others = [f"{label} ({one!r})" for label, one in called.items() if one != usual]
    log.warning(
        "%s is called %r in %d of %d subjects, and otherwise in %s: are they one contrast?",
        *(name, usual, counts[usual], len(called), ", ".join(others[:10])),
    )


def _contrast_name(source: MapSource) -> str:
    """What SPM wrote into the header: "Contrast 1: faces > houses", in older versions "SPM contrast - 1: ..."."""
    text = bytes(open_image(source).header["descrip"].item()).decode("latin-1").strip("\0 ")
    before, sign, after = text.partition(":")
    return after.strip() if sign and "ontrast" in before else ""

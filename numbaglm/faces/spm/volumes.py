"""The images of a SPM.mat: found where they are now, masked and scaled as SPM does."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.data.images import MapSource, grid_of, read_map, scaled_volume, stored_as_integers
from numbaglm.data.labels import labels_are_known, labels_of
from numbaglm.data.peers.moved import find_again
from numbaglm.errors import InputError, MaskError, MissingFileError
from numbaglm.faces.spm.design import Study
from numbaglm.spaces.resampling import nearest
from numbaglm.spaces.volume import Geometry

log = logging.getLogger("numbaglm")

_RESULTANT = ("mask.nii", "mask.img", "mask.nii.gz")  # what SPM's estimation writes: the voxels that it analysed
_SHOWN = 5


def find_images(study: Study, data_dir: str | None) -> list[Path]:
    """Find the images, which may have moved with or without the SPM.mat.

    Raises
    ------
    MissingFileError, InputError
        Some are nowhere, or are surfaces.
    """
    recorded = [file for file, _ in study.volumes]
    if any(file.casefold().endswith(".gii") for file in recorded):
        raise InputError(
            f"{study.path} is of surfaces ({recorded[0]}), which are not read from there. Test them with their mesh: "
            "numbaglm permute *.gii --surface left=MESH --design design.tsv."
        )
    found = find_again(recorded, _homes(study, data_dir), as_recorded=data_dir is None)
    missing = [file for file, there in zip(recorded, found.files, strict=True) if there is None]
    if missing:
        how = "are not there" if len(missing) == len(recorded) else "are not where the others are"
        shown = "\n  ".join(missing[:_SHOWN]) + ("\n  ..." if len(missing) > _SHOWN else "")
        where = f", also from {found.rule.partition(' is now ')[2]}" if found.rule else ""
        looked = f"by these paths, and below {study.path.absolute().parent} and the folders above it"
        looked = looked if data_dir is None else f"below {data_dir} alone"
        raise MissingFileError(
            f"{len(missing)} of the {len(recorded)} images of {study.path} {how}:\n  {shown}\nLooked for them {looked}"
            f"{where}. Name the folder that holds them now with --data-dir: their paths below it must end as they did."
        )
    if found.rule:
        log.info("The images have moved: %s.", found.rule)
    return [file for file in found.files if file is not None]


def make_cohort(study: Study, files: list[Path], mask: str | None, data_dir: str | None, **running: Any) -> Cohort:
    """Read, mask and scale the images as SPM does.

    Voxels are analysed where every image has a finite value, not 0 where values are whole numbers and SPM masks
    implicitly, above the analysis threshold, in each explicit mask, and not all equal.

    Parameters
    ----------
    files
        (n_scans,) of `find_images`.
    mask
        Image in the place of the explicit masks.
    running
        As `Cohort.from_maps` takes it.

    Raises
    ------
    ImageError, GridError, MaskError, MissingFileError
    """
    images = _images(study, files)
    first = MapSource(name=str(files[0]), path=files[0], volume=None)
    shape, affine = grid_of(_source(first, images))
    inside = _explicit(study, mask, data_dir, shape, affine)
    if np.isfinite(study.thresholds).any():
        above = _above(study, files, images, shape)
        inside = above if inside is None else inside & above
        log.info("Analysis thresholds of SPM.mat leave %s voxels.", f"{int(inside.sum()):,}")
    if inside is not None and not inside.any():
        raise MaskError(f"{study.path}: masks and thresholds leave no voxel. Check them, or name another with --mask.")
    return Cohort.from_maps(
        images,
        None if inside is None else Geometry(inside, affine),
        subjects=labels(study, files),
        zero_is_missing=study.implicit and stored_as_integers(MapSource(str(files[0]), files[0])),
        **running,
    )


def labels(study: Study, files: list[Path]) -> list[str]:
    """What scans are called: by their files, with the volume where one file holds several, else by their numbers.

    Where a person has several scans, in a folder of theirs, folder and file tell them apart: ``s01_con_0002``.
    """
    if len(set(files)) == len(files):
        found = labels_of(list(files), study.n_scans)
        if labels_are_known(found):
            return found
        stems = [file.name.split(".")[0] for file in files]
        for folders in zip(*(file.parts[-2::-1] for file in files), strict=False):
            named = [f"{folder}_{stem}" for folder, stem in zip(folders, stems, strict=True)]
            if len(set(named)) == len(named):
                return named
        return [f"scan-{number:03d}" for number in range(1, study.n_scans + 1)]
    return [f"{file.name.split('.')[0]}_{number + 1}" for file, (_, number) in zip(files, study.volumes, strict=True)]


def _images(study: Study, files: list[Path]) -> list[Any]:
    """Paths, or images where a volume of several or a factor is meant."""
    made: list[Any] = []
    for file, (_, number), factor in zip(files, study.volumes, study.scaling, strict=True):
        whole = number == 0 and factor == 1 and files.count(file) == 1
        made.append(str(file) if whole else scaled_volume(file, number, float(factor)))
    return made


def _source(of_file: MapSource, images: list[Any]) -> MapSource:
    return of_file if isinstance(images[0], str) else MapSource(of_file.name, image=images[0])


def _homes(study: Study, data_dir: str | None) -> list[Path]:
    if data_dir is None:
        return [study.path.absolute().parent]
    home = Path(data_dir).expanduser().absolute()
    if not home.is_dir():
        raise MissingFileError(f"--data-dir {data_dir} is not a folder. Name the one that holds the images.")
    return [home]


def _explicit(
    study: Study, mask: str | None, data_dir: str | None, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> NDArray[np.bool_] | None:
    """Voxels in all explicit masks: the nearest voxel of each exceeds 0, as in SPM."""
    if mask is not None:
        return _inside(Path(mask).expanduser(), shape, affine)
    inside = None
    for recorded in study.masks:
        homes = [*_homes(study, data_dir), study.path.absolute().parent]
        (file,) = find_again([recorded], homes).files
        if file is None:
            own = next((one for name in _RESULTANT if (one := study.path.parent / name).is_file()), None)
            if own is None:
                raise MissingFileError(
                    f"The explicit mask {recorded} of {study.path} is not there. Name it with --mask."
                )
            log.warning("The explicit mask %s is not there: that of SPM's estimation, %s, is used.", recorded, own)
            return _inside(own, shape, affine)
        here = _inside(file, shape, affine)
        inside = here if inside is None else inside & here
    return inside


def _inside(file: Path, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    source = MapSource(name=str(file), path=file)
    values, (own_shape, own) = read_map(source) > 0, grid_of(source)
    if own_shape == shape and np.allclose(own, affine, rtol=0, atol=1e-4):
        return np.ascontiguousarray(values)
    log.info("The mask %s lies on another grid: the nearest of its voxels counts, as in SPM.", file)
    return nearest(values, own, shape, affine)


def _above(study: Study, files: list[Path], images: list[Any], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Voxels whose value exceeds its image's threshold, in all images."""
    above = np.ones(shape, dtype=np.bool_)
    for file, image, threshold in zip(files, images, study.thresholds, strict=True):
        source = MapSource(str(file), file) if isinstance(image, str) else MapSource(str(file), image=image)
        values = read_map(source)
        if values.shape == shape:  # else refused with its reason by who makes a cohort
            above &= values > threshold
    return above

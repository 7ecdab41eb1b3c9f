"""The maps of a group as nilearn's users pass them, read into a cohort and the masker that belongs to it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort, as_cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import MapSource, grid_of, is_image, list_maps, load_mask, prepared, read_maps
from numbaglm.data.labels import MapLabels, in_another_order, labels_are_known, sorted_frame, were_moved
from numbaglm.data.labels import labels_of as file_labels
from numbaglm.data.tables import listed
from numbaglm.errors import (
    ContrastError,
    DesignError,
    GridError,
    ImageError,
    InputError,
    InputTypeError,
    MaskError,
    MissingFileError,
    invalid,
    near,
    warn,
)
from numbaglm.faces.nilearn.designs import design_table, make_second_level_design_matrix
from numbaglm.faces.nilearn.maskers import MaskChoice, Masker, SurfaceMasker
from numbaglm.spaces.resampling import nearest, target_grid
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import SurfaceMask, check_group, is_surface, stack_maps
from numbaglm.spaces.volume import Geometry, Grid

log = logging.getLogger("numbaglm")

_ALLOWED = (
    "'second_level_input' must be either a list or a Series of images, of paths, or of fitted first-level models, one "
    "4D image, a DataFrame of maps, or a Cohort"
)
_ALL_THE_SAME = (
    "All {} maps are the same: no {} varies over subjects, so nothing can be tested. Effect and statistic are 0 "
    "everywhere. Check the list of maps."
)
FIRST_COLUMN = object()  # the contrast of each first-level model's own first column


def is_first_level(given: Any) -> bool:
    """Whether this is a model of one subject, such as nilearn's FirstLevelModel."""
    return hasattr(given, "compute_contrast") and hasattr(given, "subject_label")


def check_maps(given: Any) -> Any:
    """Refuse what can't be the maps of a group before anything is read; sort a table by its labels.

    Returns
    -------
    Cohort, sorted DataFrame, list, or one image (or its path).

    Raises
    ------
    InputTypeError, InputError, MissingFileError
    """
    if isinstance(given, pd.DataFrame):
        missing = [name for name in ("subject_label", "effects_map_path") if name not in given]
        if missing:
            raise InputError(
                "'second_level_input' DataFrame must have columns 'subject_label', 'map_name' and 'effects_map_path': "
                f"got {list(given.columns)}. Add {', '.join(missing)}."
            )
        _check_files(given["effects_map_path"])
        return sorted_frame(given)
    if is_surface(given):
        check_group(given)
        return given
    if isinstance(given, Cohort) or is_image(given):
        if is_image(given) and len(given.shape) < 4:
            raise InputTypeError(f"{_ALLOWED}: got one image of shape {given.shape}, which is one subject's.")
        return given
    if isinstance(given, str | os.PathLike):
        _check_files([given])
        return given
    if not isinstance(given, list | tuple | pd.Series) and not (
        isinstance(given, np.ndarray) and given.dtype == object
    ):
        raise InputTypeError(f"{_ALLOWED}: got {type(given).__name__}.")
    listed = list(given)
    if len(listed) < 2:
        raise InputTypeError(
            f"'second_level_input' is a list of {len(listed)}: at least two are needed, one a subject."
        )
    kinds = [_kind(one) for one in listed]
    if kinds[0] == "other" and all(isinstance(one, type(listed[0])) for one in listed):
        raise InputTypeError(f"{_ALLOWED}: got a list of {type(listed[0]).__name__}.")
    for number, kind in enumerate(kinds):
        if kind != kinds[0] or kind == "other":
            raise InputTypeError(
                "Elements of 'second_level_input' must be of the same type. Got object type "
                f"{type(listed[number])} at idx {number}: images and paths don't mix with anything else."
            )
    check = {"model": _check_models, "surface": check_group, "volume": _check_volumes}
    check[kinds[0]](listed)
    return listed


def _kind(one: Any) -> str:
    if isinstance(one, str | os.PathLike) or is_image(one):
        return "volume"
    return "surface" if is_surface(one) else "model" if is_first_level(one) else "other"


def _check_volumes(listed: list[Any]) -> None:
    _check_files(listed)
    for number, one in enumerate(listed):
        shape = getattr(one, "shape", ())
        if any(length > 1 for length in shape[3:]):
            raise ImageError(
                f"In a list each image must be 3D, or 4D with single volume: the one at index {number} has shape "
                f"{shape}. Pass the 4D image alone if its volumes are the subjects."
            )


def _check_files(listed: Iterable[Any]) -> None:
    for one in listed:
        if isinstance(one, str | os.PathLike) and not Path(one).expanduser().exists():
            if any(sign in str(one) for sign in "*?["):
                fix = f"It looks like a pattern: pass sorted(glob.glob({str(one)!r}))."
                raise MissingFileError(f"File not found: {str(one)!r}. {fix}")
            raise MissingFileError(f"File not found: {str(one)!r}. Check the path of this map.")


def _check_models(models: list[Any]) -> None:
    for number, model in enumerate(models):
        fitted = getattr(model, "__sklearn_is_fitted__", lambda model=model: hasattr(model, "design_matrices_"))
        if not fitted():
            raise InputError(f"Model {model.subject_label} at index {number} has not been fit yet. Call its fit first.")


def labels_of(given: Any, *, needed: bool) -> list[str] | None:
    """Subjects' labels of checked maps, in their order; None where they have none.

    Parameters
    ----------
    given
        What `check_maps` returned.
    needed
        Whether confounds are to be matched by them.
    """
    if isinstance(given, pd.DataFrame):
        return list(dict.fromkeys(str(label) for label in given["subject_label"]))
    if isinstance(given, Cohort):
        return given.subjects
    if isinstance(given, list) and is_first_level(given[0]):
        without = [number for number, model in enumerate(given) if model.subject_label is None]
        if without and needed:
            raise InputError(
                "In case confounds are provided, first level objects need to provide the attribute 'subject_label': "
                f"the models at {without[:5]} have none. Set model.subject_label."
            )
        return [str(model.subject_label) for model in given]
    return None


def warn_of_sorting(given: Any, design_matrix: Any) -> None:
    """Warn where a table of maps was sorted, which nilearn does silently, and the design's rows can't follow.

    Parameters
    ----------
    given, design_matrix
        As the user passed them.
    """
    if not isinstance(given, pd.DataFrame) or design_matrix is None:
        return
    labels = [str(label) for label in sorted_frame(given)["subject_label"]]
    if were_moved(given, labels):
        warn(
            f"The table of maps is sorted by subject_label ({listed(labels, 3)}, ...), as in nilearn: the rows of "
            "design_matrix are taken in that order. Sort the table beforehand, so that both are seen to agree."
        )


def _named(given: Any) -> MapLabels | None:
    """What checked maps are called, as far as their design can tell; None where they have no labels."""
    if isinstance(given, Cohort):
        return MapLabels.of_table(given.store.subjects)
    if isinstance(given, pd.DataFrame):
        return MapLabels([str(label) for label in given["subject_label"]], True)
    if isinstance(given, list) and all(isinstance(one, str | os.PathLike) for one in given):
        paths = [Path(one) for one in given]
        labels = file_labels(list(paths), len(paths))
        return MapLabels(labels, labels_are_known(labels), tuple(map(str, paths)))
    return None


def design_of(given: Any, confounds: Any, design_matrix: Any) -> pd.DataFrame:
    """Read the design matrix, or make it of the confounds where the subjects' labels are known.

    Parameters
    ----------
    given
        What `check_maps` returned.
    confounds, design_matrix
        As in `SecondLevelModel.fit`.
    """
    if design_matrix is not None:
        if confounds is not None:
            log.warning("The confounds are not used, as a design_matrix is given: its columns count.")
        frame = design_table(design_matrix)
        named = _named(given)
        if named is not None and in_another_order(frame, named):
            warn(
                f"The labels of the design matrix are in another order than the maps ({listed(named.labels, 3)}): its "
                "rows are taken as they stand, as nilearn does. Bring them into the order of the maps."
            )
        return frame
    labels = labels_of(given, needed=confounds is not None)
    if labels is None:
        raise DesignError(
            "Images as 'second_level_input' require a design matrix to be provided: only a DataFrame of maps, "
            "first-level models and a Cohort have labels to make one of. For the one-sample test give design_matrix="
            'pd.DataFrame({"intercept": np.ones(n_subjects)}).'
        )
    return make_second_level_design_matrix(labels, confounds)


def several_names(given: Any) -> bool:
    """Whether checked maps hold more than one first-level contrast, so that one must be chosen before reading."""
    if isinstance(given, pd.DataFrame):
        return "map_name" in given and given["map_name"].nunique() > 1
    return isinstance(given, list) and is_first_level(given[0])


def first_name(given: Any) -> Any:
    """A first-level contrast that there is, where none was chosen yet."""
    return given["map_name"].iloc[0] if isinstance(given, pd.DataFrame) else FIRST_COLUMN


def effect_maps(given: Any, first_level_contrast: Any) -> Any:
    """Choose, or compute, the maps of a first-level contrast.

    Parameters
    ----------
    given
        What `check_maps` returned.
    first_level_contrast
        Of a DataFrame a value of ``map_name`` (may be None where it has just one, or no such column); of models a
        contrast of theirs.

    Raises
    ------
    ContrastError
        There are several and none was chosen, or the chosen one isn't there.
    """
    if isinstance(given, list) and is_first_level(given[0]):
        if first_level_contrast is None:
            raise ContrastError(
                "If 'second_level_input' was a list of first-level models, first_level_contrast is needed: the "
                "contrast of theirs, such as a column of their design, whose effects are compared."
            )
        first = [model.design_matrices_[0].columns[0] for model in given]
        asked = first if first_level_contrast is FIRST_COLUMN else [first_level_contrast] * len(given)
        pairs = zip(given, asked, strict=True)
        return [model.compute_contrast(contrast, output_type="effect_size") for model, contrast in pairs]
    if not isinstance(given, pd.DataFrame) or "map_name" not in given:
        if first_level_contrast is not None:
            log.warning("first_level_contrast=%r is not used: no table of maps is given.", first_level_contrast)
        return given
    names = list(dict.fromkeys(given["map_name"]))
    if first_level_contrast is None and len(names) == 1:
        first_level_contrast = names[0]
    if first_level_contrast not in names:
        fix = near(first_level_contrast, names)
        raise ContrastError(invalid("first_level_contrast", first_level_contrast, f"one of the map names {names}", fix))
    return given[given["map_name"] == first_level_contrast]


def read_cohort(
    maps: Any, choice: MaskChoice, *, fill: bool = False, **running: Any
) -> tuple[Cohort, Masker | SurfaceMasker]:
    """Read maps, brought to the grid that is asked for, into a cohort and its masker.

    Parameters
    ----------
    maps
        What `effect_maps` returned.
    choice
        Mask, smoothing, grid.
    fill
        Whether what is not finite in a volume becomes 0, as in nilearn.
    running
        progress, n_workers, as in `Cohort.from_maps`.

    Notes
    -----
    Where every voxel has the same value in all maps there is nothing to test: the cohort then holds 0 at all of them,
    with a warning, as single voxels of that kind are 0 in any result.
    """
    if is_surface(maps) or (isinstance(maps, list) and is_surface(maps[0])):
        return _read_surfaces(maps, choice)
    if choice.mask is not None and is_surface(choice.mask):
        raise InputTypeError(
            "Mask and input images must be of compatible types. Got a surface as mask for maps that are volumes."
        )
    if isinstance(maps, Cohort):
        if choice.target_affine is not None or choice.target_shape is not None:
            raise InputError(
                f"A cohort has its own grid: got target_affine={choice.target_affine!r} beside {maps!r}. Leave "
                "target_affine and target_shape out, or resample the maps and convert them again."
            )
        cohort = as_cohort(maps, mask=choice.mask, smoothing_fwhm=choice.smoothing_fwhm)
        return cohort, Masker(cohort.geometry, cohort.store.smoothing_fwhm)
    try:
        return _read_volumes(maps, choice, fill, running)
    except GridError as error:
        raise GridError(f"Following field of view errors were detected: {error}") from None


def _read_volumes(maps: Any, choice: MaskChoice, fill: bool, running: dict[str, Any]) -> tuple[Cohort, Masker]:
    sources, labels, _ = list_maps(maps)
    grid = Grid(*grid_of(sources[0]), sources[0].name)
    mask = load_mask(choice.mask)
    if mask is not None and not _overlap(mask, grid):
        raise MaskError(
            f"The mask and the maps do not overlap: the mask's grid spans {_span(mask.shape, mask.affine)}, "
            f"that of the maps {_span(grid.shape, grid.affine)}. Check which space the mask is in, and its affine."
        )
    target = _target(grid, mask, choice)
    if mask is not None and not mask.same_grid(*target):
        mask = Geometry(nearest(mask.mask, mask.affine, *target), target[1])
    moved = grid.shape != target[0] or not np.allclose(grid.affine, target[1], rtol=0, atol=1e-3)
    if moved:
        warn(
            f"The maps, a grid of {grid.shape}, are resampled to one of {target[0]} (cubic splines), as the mask or "
            "target_affine asks for. Resample them once beforehand to save the time."
        )
    if moved or fill:
        for source in sources:
            grid.check(*grid_of(source), source.name)
        maps = [prepared(source, *target, zero_is_missing=mask is None, fill=fill) for source in sources]
        running = running | {"subjects": labels}
    try:
        cohort = Cohort.from_maps(maps, mask=mask, smoothing_fwhm=choice.smoothing_fwhm, **running)
    except MaskError:
        constant = _constant(list_maps(maps)[0], mask, target)
        if constant is None:
            raise
        cohort = Cohort(CohortStore.from_array(np.zeros((len(sources), constant.n_voxels)), constant, subjects=labels))
    return cohort, Masker(cohort.geometry, cohort.store.smoothing_fwhm)


def _overlap(mask: Geometry, grid: Grid) -> bool:
    """Whether any voxel of a mask lies within the grid of the maps."""
    to_maps = np.linalg.inv(grid.affine) @ mask.affine
    voxels = np.argwhere(mask.mask) @ to_maps[:3, :3].T + to_maps[:3, 3]
    return bool(((voxels > -1) & (voxels < grid.shape)).all(axis=1).any())


def _span(shape: tuple[int, ...], affine: NDArray[np.float64]) -> str:
    """From where to where the centres of a grid's voxels lie."""
    corners = [
        np.array(corner) * (np.array(shape) - 1) @ affine[:3, :3].T + affine[:3, 3] for corner in np.ndindex(2, 2, 2)
    ]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return ", ".join(f"{name} {a:g} to {b:g}" for name, a, b in zip("xyz", low, high, strict=True)) + " mm"


def _target(grid: Grid, mask: Geometry | None, choice: MaskChoice) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Grid that the maps are brought to: the one that is asked for, or the mask's, or their own."""
    own = (grid.shape, grid.affine) if mask is None else (mask.shape, mask.affine)
    if choice.target_affine is not None:
        return target_grid(*own, choice.target_affine, choice.target_shape)
    if choice.target_shape is not None:
        allowed = "None where no target_affine is given"
        raise InputError(invalid("target_shape", choice.target_shape, allowed, "Pass a target_affine (4, 4) with it."))
    return own


def _constant(
    sources: list[MapSource], mask: Geometry | None, target: tuple[tuple[int, int, int], NDArray[np.float64]]
) -> Geometry | None:
    """The voxels that all maps have, if all maps are the same there; None if they differ, or have none in common."""
    volumes = read_maps(sources)
    first = next(volumes)
    usable: NDArray[np.bool_] = np.isfinite(first) & (first != 0 if mask is None else mask.mask)
    for volume in volumes:
        usable &= np.isfinite(volume) & ((volume != 0) | (mask is not None))
        if (volume[usable] != first[usable]).any():
            return None
    if not usable.any():
        return None
    warn(_ALL_THE_SAME.format(len(sources), "voxel"))
    return Geometry(usable, target[1])


def _read_surfaces(maps: Any, choice: MaskChoice) -> tuple[Cohort, SurfaceMasker]:
    """Read surface images."""
    if choice.smoothing_fwhm:
        warn("Maps on surfaces are not smoothed: smoothing_fwhm is not used.")
    template = maps if is_surface(maps) else maps[0]
    if choice.mask is not None and not is_surface(choice.mask):
        raise InputTypeError(
            "Mask and input images must be of compatible types. Got maps on a surface, and a mask of type "
            f"{type(choice.mask).__name__}."
        )
    values = stack_maps(maps)
    mask = None if choice.mask is None else SurfaceMask.of_image(choice.mask, template).inside
    inside = np.asarray(np.isfinite(values).all(axis=0))
    if mask is not None:
        inside = np.asarray(inside & mask)
    vertices = SurfaceMask(template, inside)
    varying = inside & (np.ptp(np.where(inside, values, 0.0).astype(np.float32), axis=0) > 0)
    if varying.any():
        vertices = replace(vertices, inside=varying)
        data = values[:, varying]
    else:
        warn(_ALL_THE_SAME.format(len(values), "vertex"))
        data = np.zeros((len(values), vertices.n_inside))
    n_out = values.shape[1] - vertices.n_inside
    report = (
        f"{n_out:,} of {values.shape[1]:,} vertices are left out: outside the mask, NaN or infinite in a map, or the "
        "same value in every map."
    )
    store = CohortStore.from_array(data, Space(vertices.parts), report=(report,) if n_out else ())
    return Cohort(store), SurfaceMasker(vertices)

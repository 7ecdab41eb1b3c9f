"""Inputs of a call as cohorts: masks as PALM makes them, and the formats that outputs have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.data.cohort.complete import select
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import load_element_mask, load_mask, save_values
from numbaglm.errors import InputError, MaskError
from numbaglm.faces.palm.files import read_numbers
from numbaglm.faces.palm.request import Request
from numbaglm.spaces.space import Space

_ENDINGS = (".nii.gz", ".dscalar.nii", ".pscalar.nii", ".dtseries.nii", ".ptseries.nii", ".nii", ".gii", ".mgz", ".mgh")
Kept = NDArray[np.bool_]

_SAVED = {".dtseries.nii": ".dscalar.nii", ".ptseries.nii": ".pscalar.nii"}


@dataclass(frozen=True, eq=False)
class Input:
    """An input.

    Attributes
    ----------
    name
        Its file.
    unit
        What its elements are in the names of outputs: "vox", "dpv" (vertices) or "dat".
    ending
        Of outputs.
    whole
        All that is in the mask that was given; the cohort has what can be tested of it.
    tested
        (whole.n,) what the input has to be tested, whatever others have.
    """

    name: str
    cohort: Cohort
    unit: str
    ending: str
    whole: Space
    tested: NDArray[np.bool_]

    def save(self, values: NDArray[Any], name: str, left_out: float) -> str:
        """Write a map (n_elements,) under a name without ending; return the file.

        Outside the mask it is 0, as PALM has it. What lies in the mask and could not be tested gets ``left_out``.
        """
        inside = self.cohort.store.space.mask[self.whole.mask]
        filled = np.full(self.whole.n, left_out, np.float32)
        filled[inside] = values
        return self._write(filled, name)

    def save_mask(self, name: str, *, shared: bool) -> str:
        """Write which elements are tested, of this input or of all; return the file."""
        return self._write(self.cohort.store.space.mask[self.whole.mask] if shared else self.tested, name)

    def _write(self, values: NDArray[Any], name: str) -> str:
        path = f"{name}{self.ending}"
        save_values(self.whole, values.astype(np.float32), 0.0, Path(path).expanduser())
        return path


def read_inputs(request: Request, progress: bool, kept: Kept | None = None) -> list[Input]:
    """Read all inputs: elements that are finite in all subjects and differ between them, within their masks.

    Subjects that are missing in an input have no part in that, nor do those that are not ``kept``, see `who_stays`.

    Raises
    ------
    InputError, MissingFileError, ImageError, GridError, MaskError
    """
    masks = request.masks if len(request.masks) != 1 else request.masks * len(request.maps)
    surfaces = request.surfaces or ((),) * len(request.maps)
    found = []
    for k, name in enumerate(request.maps):
        absent = _absent(request.absent[k]) if request.absent else None
        found.append(_read(request, name, masks[k] if masks else None, surfaces[k], (absent, kept), progress))
    numbers = {one.cohort.n_subjects for one in found}
    if len(numbers) > 1:
        listed = ", ".join(f"{one.name} {one.cohort.n_subjects}" for one in found)
        raise InputError(
            f"-i: the inputs hold maps of different numbers of subjects ({listed}). Allowed: as many each."
        )
    return _shared(found) if request.shares_voxels and len(found) > 1 else found


def who_stays(request: Request) -> Kept | None:
    """Who lacks nothing in any design (-dmiss); None where all do.

    Raises
    ------
    MissingFileError, InputError
    """
    if not request.lacking:
        return None
    there = [read_numbers(path) == 0 for path in request.lacking]
    for path, design, one in zip(request.lacking, request.designs, there, strict=True):
        if one.shape != (shape := read_numbers(design).shape):
            raise InputError(f"{path} is of shape {one.shape}, and {design} of shape {shape}. It needs a number each.")
    whole = [one.all(axis=1) for one in there]
    if any((one != whole[0]).any() for one in whole[1:] if one.shape == whole[0].shape):
        raise InputError("-dmiss: the designs lack different subjects. Run the command once for each -d.")
    return None if whole[0].all() else whole[0]


def _absent(path: str) -> Kept:
    """Who is missing in an input (n_subjects,)."""
    values = read_numbers(path)
    if 1 not in values.shape:
        raise InputError(f"{path} is of shape {values.shape}. Allowed: a number a subject, 0 for who is there.")
    return np.asarray(values.ravel() != 0)


def _read(
    request: Request,
    name: str,
    mask: str | None,
    surface: Sequence[str],
    missing: tuple[Kept | None, Kept | None],
    progress: bool,
) -> Input:
    ending = next((one for one in _ENDINGS if name.endswith(one)), ".csv")
    layers: dict[str, Any] = {one.name: one.file for one in request.own}
    options: dict[str, Any] = {"progress": progress, "zero_is_missing": False}
    maps: Any = name
    given: Any = mask
    if ending == ".csv":
        maps, given = _table(name, request.transposed), None if mask is None else read_numbers(mask).ravel()
        layers = {one.name: _table(one.file, request.transposed) for one in request.own}
    if surface:
        options["surfaces"] = surface[0]
        if len(surface) > 1:
            options["areas"] = _area(surface[1])
    absent, kept = missing
    if absent is None and kept is None:
        cohort = Cohort.from_maps(maps, given, layers=layers or None, **options)
    else:
        cohort = _those_there(name, Cohort.from_maps(maps, given, min_subjects=1, **options), absent, kept)
    space = cohort.store.space
    unit = "vox" if space.is_volume else "dat" if ending not in (".gii", ".mgz", ".mgh") else "dpv"
    whole = space if given is None else _within(space, given)
    tested = cohort.store.space.mask[whole.mask]
    return Input(name, cohort, unit, _SAVED.get(ending, ending), whole, tested)


def _those_there(name: str, cohort: Cohort, absent: Kept | None, kept: Kept | None) -> Cohort:
    """What differs between those who are there, and is finite in all of them."""
    n = cohort.n_subjects
    for flag, rows in (("-imiss", absent), ("-dmiss", kept)):
        if rows is not None and rows.size != n:
            raise InputError(f"{flag} of {name} has {rows.size} rows, but there are {n} maps. It needs one for each.")
    stay = np.ones(n, bool) if kept is None else kept
    there = stay if absent is None else (stay & ~absent)
    if not there.any():
        raise InputError(f"Nobody is there in {name}. -imiss has 0 for those who are.")
    store = cohort.store
    Y, present = store.read(0, store.n_voxels), store.present(0, store.n_voxels)
    keep = present[there].all(axis=0) & (np.ptp(Y[there], axis=0) > 0)
    if not keep.any():
        raise MaskError(f"Nothing in {name} is finite in those who are there, and differs between them.")
    rows = np.where(there[stay, None], Y[np.ix_(stay, keep)], np.float32(0))
    labels = store.subjects.loc[stay].reset_index(drop=True)
    whole = None if there[stay].all() else np.broadcast_to(there[stay, None], rows.shape)
    return Cohort(CohortStore.from_array(rows, store.space.select(keep), subjects=labels, present=whole))


def _within(space: Space, mask: Any) -> Space:
    """All that a mask holds, where a cohort has some of it."""
    if space.is_volume:
        geometry = load_mask(mask)
        assert geometry is not None
        return Space.of(replace(space.volume, mask=geometry.mask))
    assert space.template is not None
    inside = load_element_mask(mask, space.template)
    assert inside is not None
    return space.template.space(inside)


def _table(name: str, transposed: bool) -> pd.DataFrame:
    values = read_numbers(name)
    values = values.T if transposed else values
    return pd.DataFrame(values, columns=pd.Index([str(k) for k in range(1, values.shape[1] + 1)]))


def _area(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word


def _shared(found: Sequence[Input]) -> list[Input]:
    """Leave out what some inputs have not."""
    masks = [one.cohort.store.space.mask for one in found]
    if len({mask.shape for mask in masks}) > 1:
        listed = ", ".join(f"{one.name} on {one.cohort.store.space.label}" for one in found)
        raise InputError(f"-i: the inputs lie on different spaces ({listed}). A joint test needs them on one.")
    shared = np.logical_and.reduce(masks)
    if not shared.any():
        raise MaskError("The masks of the inputs have nothing in common.")
    return [
        one if (keep := shared[mask]).all() else replace(one, cohort=_some(one.cohort.store, keep))
        for one, mask in zip(found, masks, strict=True)
    ]


def _some(store: CohortStore, keep: NDArray[np.bool_]) -> Cohort:
    """Some elements, with who is there."""
    if not store.header.keeps_missing:
        return Cohort(select(store, keep, "What not all inputs have is left out."))
    Y, present = store.read(0, store.n_voxels)[:, keep], store.present(0, store.n_voxels)[:, keep]
    return Cohort(CohortStore.from_array(Y, store.space.select(keep), subjects=store.subjects, present=present))

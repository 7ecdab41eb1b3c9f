"""From maps to a cohort: the arguments checked once, and the tasks that read, judge, smooth and store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.geometry import Geometry
from numbaglm.data.grid import Grid
from numbaglm.data.groups import Header
from numbaglm.data.images import (
    MapSource,
    grid_of,
    list_maps,
    load_mask,
    read_maps,
)
from numbaglm.data.masking import Survey
from numbaglm.data.smoothing import Fwhm, parse_fwhm, smooth
from numbaglm.data.store import CohortStore, hash_rows
from numbaglm.data.tables import OWN_COLUMNS, check_labels, labels_are_known, match_covariates
from numbaglm.data.writer import CohortWriter
from numbaglm.errors import InputError, invalid


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments of a conversion, checked: everything that can be known before a map's values are read.

    Attributes
    ----------
    sources
        The maps.
    subjects
        The subject table, a row a map.
    grid
        What all maps lie on.
    mask
        The mask that was given, if one was.
    smoothing_fwhm
        In mm.
    notes
        Sentences on what was done with the covariates.
    """

    sources: list[MapSource]
    subjects: pd.DataFrame
    grid: Grid
    mask: Geometry | None
    smoothing_fwhm: Fwhm
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """(n_subjects,) labels."""
        return list(self.subjects["subject_label"])

    @property
    def given_mask(self) -> str:
        """Hash of the mask that was given, "" if none was."""
        return "" if self.mask is None else hashlib.sha256(np.packbits(self.mask.mask).tobytes()).hexdigest()

    @property
    def in_memory(self) -> bool:
        """Whether some maps are images in memory, which no other machine should be sent."""
        return any(source.path is None for source in self.sources)


def parse_inputs(maps: Any, mask: Any, smoothing_fwhm: Any, subjects: Any, covariates: Any, *, durable: bool) -> Inputs:
    """Check the arguments of a new cohort; opens every file, reads no data.

    Parameters
    ----------
    maps, mask, smoothing_fwhm, subjects, covariates
        As in `numbaglm.Cohort.create`.
    durable
        Whether the state of each map is noted, so that a resumed conversion can tell whether the map changed.

    Raises
    ------
    InputError, MissingFileError, ImageError, GridError, MaskError
    """
    fwhm = parse_fwhm(smoothing_fwhm)
    sources, labels, frame = list_maps(maps)
    if subjects is not None:
        if frame is not None:
            raise InputError(
                invalid(
                    "subjects",
                    "labels beside a DataFrame of maps",
                    "None: the DataFrame has its labels already",
                )
            )
        labels = subjects
    labels = check_labels(labels, len(sources))
    known = subjects is not None or labels_are_known(labels)
    table, notes = _subject_table(sources, labels, covariates, labels_known=known, durable=durable)
    geometry = load_mask(mask)
    shape, affine = grid_of(sources[0])
    grid = Grid(shape, affine, sources[0].name)
    if geometry is not None:
        name = f"the mask {mask}" if isinstance(mask, str | os.PathLike) else "the mask"
        grid.check(geometry.shape, geometry.affine, name)
    _check_headers(sources[1:], grid)
    return Inputs(sources, table, grid, geometry, fwhm, tuple(notes))


def parse_additions(store: CohortStore, maps: Any, subjects: Any, covariates: Any) -> Inputs:
    """Check the arguments of an append, against the cohort that is there."""
    sources, labels, _ = list_maps(maps, minimum=1)
    if subjects is not None:
        labels = subjects
    elif not labels_are_known(labels):
        labels = [f"subject-{store.n_subjects + number:03d}" for number in range(1, len(sources) + 1)]
    labels = check_labels(labels, len(sources))
    present = sorted(set(labels) & set(store.subjects["subject_label"]))
    if present:
        raise InputError(
            invalid(
                "maps",
                f"{', '.join(present[:5])}, already in the cohort",
                "new subjects",
                "Pass subjects= labels.",
            )
        )
    known = subjects is not None or labels_are_known(labels)
    durable = store.location is not None
    table, notes = _subject_table(sources, labels, covariates, labels_known=known, durable=durable)
    old, new = _covariate_names(store.subjects), _covariate_names(table)
    if set(old) != set(new):
        raise InputError(
            invalid(
                "covariates",
                f"columns {new}",
                f"the cohort's columns {old}",
                "Bring the table into that form.",
            )
        )
    grid = Grid(store.geometry.shape, store.geometry.affine, f"the cohort {store.location or 'in memory'}")
    _check_headers(sources, grid)
    return Inputs(sources, table, grid, store.geometry, store.smoothing_fwhm, tuple(notes))


def differences(header: Header, inputs: Inputs) -> list[str]:
    """Tell a half-written cohort from the arguments that it is to be continued with."""
    old, new = header.subjects, inputs.subjects
    found = []
    if header.smoothing_fwhm != inputs.smoothing_fwhm:
        found.append(f"smoothing_fwhm was {header.smoothing_fwhm}, now {inputs.smoothing_fwhm}")
    if header.given_mask != inputs.given_mask:
        found.append("mask is another")
    if len(old) != len(new):
        found.append(f"there were {len(old)} maps, now {len(new)}")
        return found
    if _covariate_names(old) != _covariate_names(new):
        found.append(f"covariates were {_covariate_names(old)}, now {_covariate_names(new)}")
        return found
    for column in new.columns:
        changed = np.flatnonzero(~((old[column] == new[column]) | (old[column].isna() & new[column].isna())))
        if len(changed):
            row = int(changed[0])
            what = (
                f"the file of {new['source'][row]} changed"
                if column in ("source_bytes", "source_state")
                else (f"{column} of map {row + 1} was {old[column][row]}, now {new[column][row]}")
            )
            found.append(f"{what} ({len(changed)} such)")
    return found


def survey_block(
    sources: Sequence[MapSource],
    grid: Grid,
    first: int,
    places: NDArray[np.intp] | None,
    zero_is_missing: bool,
    n_subjects: int,
    hold: NDArray[np.float32] | None,
) -> list[Survey]:
    """Task: read maps and note where they have values.

    Parameters
    ----------
    sources, grid
        What to read.
    first, n_subjects
        Number of the first of them, of how many in all.
    places
        Flat indices on the grid to look at, in Fortran order as files have it; None looks at all.
    zero_is_missing
        As in `Survey.add`.
    hold
        (k, nx * ny * nz) where to keep what was read, in Fortran order, or None.

    Returns
    -------
    A list of one survey, so that who merges it can take it out and free it.
    """
    n_places = int(np.prod(grid.shape)) if places is None else len(places)
    survey = Survey.empty(n_places, n_subjects)
    for row, volume in enumerate(read_maps(sources, grid)):
        values = volume.ravel(order="F")  # not a copy: files are in this order
        if hold is not None:
            hold[row] = values
        survey.add(first + row, values if places is None else values[places], zero_is_missing)
    return [survey]


@dataclass(frozen=True, eq=False)
class Base:
    """An existing cohort whose rows come before the new maps, and which of its columns stay."""

    store: CohortStore
    columns: NDArray[np.intp]


def convert_block(
    writer: CohortWriter,
    start: int,
    stop: int,
    sources: Sequence[MapSource],
    grid: Grid,
    hold: NDArray[np.float32] | None,
    base: Base | None,
) -> None:
    """Task: store the subjects ``start`` to ``stop``, unless they are stored already.

    Parameters
    ----------
    writer
        Where to.
    sources, grid
        The maps of the block that are not in ``base``.
    hold
        (k, nx * ny * nz) those maps in Fortran order, if they were kept; None reads them.
    base
        A cohort whose subjects come first, when one is extended.
    """
    if writer.is_stored(start, stop):
        return
    geometry, fwhm = writer.header.geometry, writer.header.smoothing_fwhm
    index = fortran_index(geometry.mask)
    rows = np.empty((stop - start, geometry.n_voxels), np.float32)
    n_old = 0
    if base is not None and start < base.store.n_subjects:
        n_old = min(stop, base.store.n_subjects) - start
        rows[:n_old] = base.store.read_subjects(start, start + n_old)[:, base.columns]
    volumes = read_maps(sources, grid) if hold is None else (kept.reshape(grid.shape, order="F") for kept in hold)
    for row, volume in zip(range(n_old, stop - start), volumes, strict=True):
        smoothed = smooth(volume, fwhm, geometry.affine)
        rows[row] = smoothed.ravel(order="F").take(index) if fwhm is None else smoothed[geometry.mask]
    if not np.isfinite(rows).all():
        raise InputError(
            f"Subjects {start + 1} to {stop} hold NaN or infinity inside the mask: the files changed while "
            "they were converted. Create the cohort again with overwrite=True."
        )
    writer.write(start, rows)


def fortran_index(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Flat indices, in Fortran order, of the voxels of a mask, in C order."""
    return np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")


def check_block(store: CohortStore, start: int, stop: int) -> list[int]:
    """Task: numbers of the subjects in ``start`` to ``stop`` whose data is not what was stored."""
    try:
        wrong = (hash_rows(store.read_subjects(start, stop)) != store.hashes[start:stop]).any(axis=1)
    except RuntimeError:
        return list(range(start, stop))
    return [start + int(row) for row in np.flatnonzero(wrong)]


def _covariate_names(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if name not in OWN_COLUMNS]


def _check_headers(sources: Sequence[MapSource], grid: Grid) -> None:
    for source in sources:
        if source.volume in (None, 0):  # the other volumes of a 4D file share its header
            grid.check(*grid_of(source), source.name)


def _subject_table(
    sources: Sequence[MapSource], labels: Sequence[str], covariates: Any, *, labels_known: bool, durable: bool
) -> tuple[pd.DataFrame, list[str]]:
    matched, notes = match_covariates(covariates, labels, labels_known=labels_known)
    table = pd.DataFrame({"subject_label": list(labels), "source": [_where(source) for source in sources]}, dtype="str")
    if durable:
        states = [_state(source) for source in sources]
        table["source_bytes"] = np.array([size for size, _ in states], np.int64)
        table["source_state"] = pd.Series([state for _, state in states], dtype="str")
    return (table if matched is None else pd.concat([table, matched], axis=1)), notes


def _where(source: MapSource) -> str:
    if source.path is None:
        return source.name
    return f"{source.path}" if source.volume is None else f"{source.path} (volume {source.volume})"


def _state(source: MapSource) -> tuple[int, str]:
    """Size of a map in bytes, and a text that changes when the map does."""
    file = source.file
    if file is not None and file.exists():
        stat = file.stat()
        return stat.st_size, f"modified {stat.st_mtime_ns}"
    if source.image is None:
        return 0, "missing"
    values: Any = np.ascontiguousarray(
        source.image.dataobj if source.volume is None else source.image.dataobj[..., source.volume]
    )
    return values.nbytes, f"sha256 {hashlib.sha256(values).hexdigest()}"

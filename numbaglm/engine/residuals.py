"""Flips of the residuals of a whole cohort: tasks over voxel blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine import schedule
from numbaglm.engine.schedule import checkpoint
from numbaglm.stats.confidence import Estimate, Flips

_BLOCK_BYTES = 64 * 2**20
_PARTS = ("value", "error", "rows")
_TILE = 1024  # voxels at once: heights of a thousand flips take 8 MB an array


def flip_all(store: CohortStore, flips: Flips, **running: Any) -> tuple[Doubles, Doubles, Doubles]:
    """Take all voxels through the flips.

    Parameters
    ----------
    store, flips
        Data, and what is flipped.
    running
        client, n_workers, progress, as in `schedule.run_tasks`.

    Returns
    -------
    Estimates and their standard errors (n_voxels,), and the largest error of each flip, (n_flips,).
    """
    parts = _over_blocks(store, flip_block, (store, flips), running)
    value, error = (np.concatenate([part[k] for part in parts]) for k in range(2))
    return value, error, np.max([part[2] for part in parts], axis=0)


def estimate_some(store: CohortStore, flips: Flips, elements: NDArray[np.intp], **running: Any) -> Estimate:
    """Estimate at some voxels (k,), increasing; all their rows (n_subjects, k) are held at once."""
    parts = _over_blocks(store, estimate_block, (store, flips, elements), running)
    value, error, rows = (np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in _PARTS)
    return Estimate(value, error, rows)


def flip_block(store: CohortStore, flips: Flips, start: int, stop: int) -> tuple[Doubles, Doubles, Doubles]:
    """As `flip_all`, of the voxels ``start`` to ``stop``."""
    y = store.read(start, stop)
    value, error, maxima = np.empty(stop - start), np.empty(stop - start), np.zeros(len(flips.sign))
    for v in range(0, stop - start, _TILE):
        checkpoint()
        columns = slice(v, v + _TILE)
        found = flips.estimate(np.ascontiguousarray(y[:, columns]))
        value[columns], error[columns] = found.value, found.error
        np.maximum(maxima, flips.heights(found.rows).max(axis=1), out=maxima)
    return value, error, maxima


def estimate_block(store: CohortStore, flips: Flips, elements: NDArray[np.intp], start: int, stop: int) -> Estimate:
    """As `estimate_some`, of those that are among the voxels ``start`` to ``stop``."""
    first, last = np.searchsorted(elements, [start, stop])
    if first == last:
        return Estimate(np.empty(0), np.empty(0), np.empty((store.n_subjects, 0)))
    return flips.estimate(np.ascontiguousarray(store.read(start, stop)[:, elements[first:last] - start]))


def _over_blocks(store: CohortStore, function: Any, shared: tuple[Any, ...], running: dict[str, Any]) -> list[Any]:
    step = max(1, _BLOCK_BYTES // (4 * store.n_subjects * _TILE)) * _TILE
    spans = [(v, min(v + step, store.n_voxels)) for v in range(0, store.n_voxels, step)]
    return schedule.run_tasks(
        function,
        [(*shared, *span) for span in spans],
        label="Flipping residuals",
        weights=[stop - start for start, stop in spans],
        **running,
    )

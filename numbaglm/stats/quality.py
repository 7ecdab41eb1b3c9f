"""Quality of the maps of a cohort: what each holds, how like the others it is, which of them stand out. Arrays only.

A map stands out when the mean, the spread or the likeness of its values to the median map lies far from that of the
other maps, on a scale that the odd maps themselves do not stretch: the robust z, the distance from the median in
units of the median absolute deviation (Iglewicz & Hoaglin, 1993, How to Detect and Handle Outliers, ASQC Quality
Press). The statement is about the map as a number among numbers: it asks for a look at the map, and drops nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its sparse is loaded where it is used
from numpy.typing import NDArray

from numbaglm.arrays import Doubles

Z_LIMIT = 3.5
"""A robust z beyond this stands out: the limit of Iglewicz and Hoaglin."""

MISSING_LIMIT = 0.05
"""A map that lacks more than this share of the voxels stands out."""

_TILE_VALUES = 2**20
_EMPTY = 1e-6  # of what the maps hold at a voxel: rounding and interpolation leave less than that of a 0
_NEARLY_ONE = 1.0 - 1e-9
_ALIKE = 0.01
"""Maps that lie within a hundredth of each other don't stand out, however much closer the others are: maps scaled to
one sd differ by rounding, or by the voxels that they were scaled over. Of a map's sd, its logarithm, and Fisher's z."""


@dataclass(eq=False)
class Tally:
    """What some voxels tell of every map; tallies of different voxels of a cohort add up.

    Attributes
    ----------
    n_voxels
        How many voxels.
    mean, spread, low, high
        (n_subjects,) mean, sum of squares about it, least and greatest value.
    n_empty
        (n_subjects,) voxels where the map is 0 and the others are not; see `tally`.
    median_mean, median_spread
        Mean of the median map, and the sum of squares about it.
    shared
        (n_subjects,) sum of the products of map and median map, each about its mean.
    sums
        (n_rows, n_columns) sums for the carpet.
    """

    n_voxels: int
    mean: Doubles
    spread: Doubles
    low: Doubles
    high: Doubles
    n_empty: NDArray[np.int64]
    median_mean: float
    median_spread: float
    shared: Doubles
    sums: Doubles

    def merge(self, other: Tally) -> None:
        """Add other voxels (Chan, Golub & LeVeque, 1983, The American Statistician 37:242-247)."""
        n = self.n_voxels + other.n_voxels
        share, weight = other.n_voxels / n, self.n_voxels * other.n_voxels / n
        step, median_step = other.mean - self.mean, other.median_mean - self.median_mean
        self.spread += other.spread + weight * step**2
        self.shared += other.shared + weight * step * median_step
        self.median_spread += other.median_spread + weight * median_step**2
        self.mean += share * step
        self.median_mean += share * median_step
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)
        self.n_empty += other.n_empty
        self.sums += other.sums
        self.n_voxels = n

    @property
    def sd(self) -> Doubles:
        """(n_subjects,) standard deviation over voxels."""
        return np.sqrt(self.spread / max(self.n_voxels - 1, 1))

    @property
    def correlation(self) -> Doubles:
        """(n_subjects,) correlation over voxels with the median map; 0 where either is constant."""
        length = np.sqrt(self.spread * self.median_spread)
        return np.clip(np.divide(self.shared, length, out=np.zeros_like(length), where=length > 0), -1.0, 1.0)


def tally(Y: NDArray[np.float32], columns: NDArray[np.integer], n_columns: int, rows: NDArray[np.intp]) -> Tally:
    """Tally some voxels of all maps.

    A map counts as empty at a voxel if it is less than a millionth of what the maps hold there: of the size of
    their median plus their interquartile range. It is 0, or a 0 that was interpolated.

    Parameters
    ----------
    Y
        (n_subjects, n_voxels) data, finite.
    columns
        (n_voxels,) column of the carpet to which each voxel belongs.
    n_columns
        How many columns the carpet has.
    rows
        (n_rows,) first subject of each row of the carpet, increasing from 0.
    """
    n_subjects, n_voxels = Y.shape
    step = max(1, _TILE_VALUES // n_subjects)
    total = _tally_tile(Y[:, :step], columns[:step], n_columns, rows)
    for start in range(step, n_voxels, step):
        tile = slice(start, start + step)
        total.merge(_tally_tile(Y[:, tile], columns[tile], n_columns, rows))
    return total


def _tally_tile(
    tile: NDArray[np.float32], columns: NDArray[np.integer], n_columns: int, rows: NDArray[np.intp]
) -> Tally:
    n, n_voxels = tile.shape
    by_voxel = np.ascontiguousarray(tile.T)
    ordered = np.sort(by_voxel, axis=1)  # its vector code makes it faster than a partition
    median = 0.5 * (ordered[:, (n - 1) // 2].astype(np.float64) + ordered[:, n // 2])
    quartile = (n - 1) // 4
    held = np.abs(median) + (ordered[:, n - 1 - quartile] - ordered[:, quartile])
    values = tile.astype(np.float64)
    empty = np.abs(values) <= _EMPTY * held
    mean, low, high = values.mean(axis=1), values.min(axis=1), values.max(axis=1)
    values -= mean[:, None]
    median_mean = float(median.mean())
    median -= median_mean
    which = scipy.sparse.csr_array((np.ones(n_voxels), (columns, np.arange(n_voxels))), shape=(n_columns, n_voxels))
    grouped = by_voxel if len(rows) == n else np.add.reduceat(by_voxel, rows, axis=1, dtype=np.float64)
    sums = np.asarray(which @ grouped).T
    assert sums.shape == (len(rows), n_columns)
    return Tally(
        n_voxels,
        mean,
        np.einsum("ij,ij->i", values, values),
        low,
        high,
        np.count_nonzero(empty, axis=1).astype(np.int64),
        median_mean,
        float(median @ median),
        values @ median,
        sums,
    )


def robust_z(values: Doubles, least: float = 0.0) -> Doubles:
    """Distance of each value from the median of all, in robust standard deviations; 0 where all are equal.

    Parameters
    ----------
    values
        (n,) or (n, k), each column for itself.
    least
        Values no further than this from the median don't stand out.
    """
    centre, unit = _robust_scale(values, least)
    away = values - centre
    return np.divide(away, unit, out=np.zeros_like(away), where=unit > 0)


@dataclass(frozen=True, eq=False)
class Measure:
    """One number of each map, and which maps stand out by it.

    Attributes
    ----------
    values
        (n_subjects,) the number.
    z
        (n_subjects,) its robust z, on the scale on which maps are compared; 0 where a limit is all there is.
    low, high
        Values between these do not stand out.
    odd
        (n_subjects,) which maps stand out.
    """

    values: Doubles
    z: Doubles
    low: float
    high: float
    odd: NDArray[np.bool_]


def measures(mean: Doubles, sd: Doubles, correlation: Doubles, missing: Doubles) -> dict[str, Measure]:
    """Judge the maps of a cohort.

    Parameters
    ----------
    mean, sd
        (n_subjects,) over the voxels. Logarithms of the sd are compared.
    correlation
        (n_subjects,) with the median map. Fisher's z of them are compared, and low ones stand out alone.
    missing
        (n_subjects,) share of the voxels that a map lacks.
    """
    logarithm = np.log(np.maximum(sd, np.finfo(float).tiny))  # of a constant map: so low that it stands out
    fisher = np.arctanh(np.clip(correlation, -_NEARLY_ONE, _NEARLY_ONE))
    least = _ALIKE * float(np.median(sd))
    z_mean, z_sd, z_correlation = robust_z(mean, least), robust_z(logarithm, _ALIKE), robust_z(fisher, _ALIKE)
    low, high = _limits(logarithm, _ALIKE)
    return {
        "mean": Measure(mean, z_mean, *_limits(mean, least), np.abs(z_mean) > Z_LIMIT),
        "sd": Measure(sd, z_sd, float(np.exp(low)), float(np.exp(high)), np.abs(z_sd) > Z_LIMIT),
        "correlation": Measure(
            correlation, z_correlation, float(np.tanh(_limits(fisher, _ALIKE)[0])), np.inf, z_correlation < -Z_LIMIT
        ),
        "missing": Measure(missing, np.zeros_like(missing), 0.0, MISSING_LIMIT, missing > MISSING_LIMIT),
    }


def _limits(values: Doubles, least: float) -> tuple[float, float]:
    centre, unit = _robust_scale(values, least)
    return float(centre - Z_LIMIT * unit), float(centre + Z_LIMIT * unit)


def _robust_scale(values: Doubles, least: float) -> tuple[Doubles, Doubles]:
    """Median, and 1.4826 times the median absolute deviation.

    Where more than half of the values are equal, the mean absolute deviation takes the place of the median one, as
    Iglewicz and Hoaglin advise.
    """
    centre = np.asarray(np.median(values, axis=0))
    size = np.abs(values - centre)
    deviation = 1.4826 * np.median(size, axis=0)
    deviation = np.where(deviation > 0, deviation, 1.2533 * size.mean(axis=0))
    return centre, np.maximum(deviation, least / Z_LIMIT)

"""What a run leaves: raw results; nothing is corrected yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.engine.permutation.records import Floats, Observed


@dataclass(frozen=True, eq=False)
class RunResult(Observed):
    """Raw results: what was observed over all voxels; counts and nulls.

    Attributes
    ----------
    counts
        (n_voxels,) shufflings whose score reaches the observed one, the observed among them.
    max_score
        (n_shufflings,) largest score of each shuffling (absolute if two-sided).
    max_size, max_mass
        (n_shufflings,) of the largest cluster, where clusters were asked for.
    observed_picks
        Voxels above the cluster-forming threshold in the observed map, and their scores.
    tfce, max_tfce
        (n_voxels,) observed TFCE, and (n_shufflings,) its maximum, where it was asked for.
    tfce_counts
        (n_voxels,) shufflings whose TFCE reaches the observed one, where that was asked for.
    refined
        Where tails were kept: uncorrected p (n_voxels,), and where each comes from.
    """

    counts: NDArray[np.int64]
    max_score: NDArray[np.float64]
    max_size: NDArray[np.int64] | None = None
    max_mass: NDArray[np.float64] | None = None
    observed_picks: tuple[NDArray[np.int32], Floats] | None = None
    tfce: NDArray[np.float64] | None = None
    max_tfce: NDArray[np.float64] | None = None
    tfce_counts: NDArray[np.int64] | None = None
    refined: tuple[NDArray[np.float64], NDArray[np.uint8]] | None = None

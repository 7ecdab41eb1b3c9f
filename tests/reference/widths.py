"""Nulls of the kernels, in a process that compiles for a processor of one's choice: a file .npz of arrays.

As a script, `python tests/reference/widths.py FILE`, it runs the kernels; `nulls` starts it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

N_SUBJECTS, SHAPE, N_SHUFFLINGS = 300, (12, 11, 9), 50


def nulls(target, cache, folder):
    """The nulls by a processor (environment variables of numba) whose code is kept in the folder ``cache``."""
    file = folder / "nulls.npz"
    file.unlink(missing_ok=True)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    environment = ours | target | {"NUMBA_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, __file__, str(file)], env=environment, check=True, timeout=300)
    with np.load(file) as arrays:
        return dict(arrays)


def run():
    """Smooth noise of as many voxels as fill two tiles: scores, counts and maxima, and TFCE of the scores."""
    from scipy.ndimage import gaussian_filter

    from numbaglm.kernels.panels import shuffle
    from numbaglm.kernels.panels.fused import Limits, permute_panels
    from numbaglm.kernels.panels.scores import Scoring
    from numbaglm.kernels.panels.shuffle import TILE
    from numbaglm.kernels.panels.vectors import BYTES
    from numbaglm.kernels.spatial.neighbours import new_volume
    from numbaglm.kernels.spatial.tfce import Enhancement, new_scratch, tfce_count, tfce_map
    from numbaglm.stats.families.t_f import combine
    from numbaglm.stats.scales import TIE_TOLERANCE

    rng = np.random.default_rng(1)
    E = gaussian_filter(rng.standard_normal((N_SUBJECTS, *SHAPE)), (0, 1, 1, 1)).reshape(N_SUBJECTS, -1)
    E = (E / np.linalg.norm(E, axis=0)).astype(np.float32)
    n_voxels = E.shape[1]
    n_tiles = -(-n_voxels // TILE)
    tiles = np.pad(E, ((0, 0), (0, n_tiles * TILE - n_voxels)), mode="edge")
    tiles = np.ascontiguousarray(tiles.reshape(N_SUBJECTS, n_tiles, TILE).transpose(1, 0, 2))
    volume = new_volume(
        np.ravel_multi_index(np.indices(SHAPE).reshape(3, -1) + 1, tuple(n + 2 for n in SHAPE)).astype(np.int32),
        tuple(n + 2 for n in SHAPE),
        26,
    )
    scratch, found = new_scratch(volume), {"bytes": np.array(BYTES)}
    for name, n_rows, n_interest, is_t in (("t", 1, 1, True), ("partial t", 3, 1, True), ("F", 3, 2, False)):
        basis = np.linalg.qr(rng.standard_normal((N_SUBJECTS, n_rows)))[0].T.astype(np.float32)
        index = np.array([rng.permutation(N_SUBJECTS) for _ in range(N_SHUFFLINGS)], np.int32)
        sign = rng.choice(np.array([-1, 1], np.int8), index.shape)
        index[0], sign[0] = np.arange(N_SUBJECTS), 1
        index[1], sign[1] = index[0], -1  # equal to the first on both sides: no count may be left to rounding
        weights = np.empty((n_rows * N_SHUFFLINGS, N_SUBJECTS), np.float32)
        shuffle.shuffle_rows(basis, index, sign, weights)
        maps = np.empty((N_SHUFFLINGS, n_voxels), np.float32)
        reference, never = np.full((n_tiles, TILE), np.nan, np.float32), np.full(1, np.nan, np.float32)
        scoring = Scoring(combine, np.array([n_rows, n_interest, is_t]), np.empty(0, np.float32))
        for _ in range(2):  # the scores first, and then what reaches the first of them
            counts, best = np.zeros((n_tiles, TILE), np.int32), np.empty(N_SHUFFLINGS, np.float32)
            permute_panels(
                [weights.reshape(n_rows, N_SHUFFLINGS, N_SUBJECTS)],
                tiles,
                (N_SHUFFLINGS, n_voxels),
                np.empty((n_tiles, 0, TILE), np.float32),
                scoring,
                True,
                Limits(reference, never),
                counts,
                best,
                (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)),
                maps,
            )
            reference.ravel()[:n_voxels] = np.abs(maps[0]) - np.float32(TIE_TOLERANCE["float32"])
        found |= {f"{name} scores": maps, f"{name} counts": counts.ravel()[:n_voxels], f"{name} maxima": best}
        for how in (Enhancement(), Enhancement(E=0.7, H=1.3), Enhancement(n_steps=100)):
            tfce = np.empty((N_SHUFFLINGS, n_voxels))
            for scores, out in zip(maps, tfce, strict=True):
                tfce_map(scores, volume, scratch, how, out)
            floor, reached = np.abs(tfce[0]) * (1 - 1e-6), np.zeros(n_voxels, np.int32)
            largest = [tfce_count(scores, volume, scratch, how, floor, reached) for scores in maps]
            label = f"{name} TFCE {how.E} {how.H} {how.n_steps}"
            found |= {label: tfce, f"{label} counts": reached, f"{label} maxima": np.array(largest)}
    return found


if __name__ == "__main__":
    np.savez(Path(sys.argv[1]), **run())

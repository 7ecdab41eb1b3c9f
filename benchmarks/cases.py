"""What the benchmarks run: the cases, and each case as our call and as the peer's.

`bench_permutation.py` runs them under pytest-benchmark, `sections.py` side by side.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm import Cohort, PermutationResult, permutation_test
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import mask_image, save_image, to_image
from numbaglm.datasets.simulated import brain_geometry, simulate_maps
from numbaglm.engine.permutation.size import BATCH
from numbaglm.kernels.panels.fused import Limits, permute_panels
from numbaglm.kernels.panels.scores import Scoring
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.stats.families.t_f import combine
from numbaglm.stats.scales import TIE_TOLERANCE

KINDS = ("max-t", "clusters", "tfce")
THRESHOLD = 0.001

KERNEL_SUBJECTS = (20, 30, 100, 300, 1000)


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes
    ----------
    name
        In `SIZES`.
    subjects, voxel_size, n_perm
        Of whole calls; the edge of a voxel is in mm.
    n_perm_tfce
        Our shufflings where TFCE is set beside a peer, which takes its time.
    peer_steps, mrtrix_step
        Shufflings between the two runs of nilearn and of MRtrix whose difference is timed.
    n_tiles, map_voxel_size
        Tiles of the kernel; edge of a voxel of the single maps.
    scaled_subjects, scaled_voxels, scaled_perm
        Where cost is measured against one of them: the others stay at their middle.
    rounds
        Of whole calls.
    """

    name: str
    subjects: tuple[int, ...]
    voxel_size: float
    n_perm: int
    n_perm_tfce: int
    peer_steps: dict[str, int]
    mrtrix_step: int
    n_tiles: int
    map_voxel_size: float
    scaled_subjects: tuple[int, ...]
    scaled_voxels: tuple[float, ...]
    scaled_perm: tuple[int, ...]
    rounds: int


# 1.74 mm makes 230,000 voxels.
SIZES = {
    "small": Size(
        name="small",
        subjects=(12,),
        voxel_size=8.0,
        n_perm=999,
        n_perm_tfce=99,
        peer_steps={"max-t": 400, "clusters": 50, "tfce": 3},
        mrtrix_step=100,
        n_tiles=2,
        map_voxel_size=6.0,
        scaled_subjects=(16, 24, 32),
        scaled_voxels=(12.0, 10.0, 8.0),
        scaled_perm=(200, 400, 800),
        rounds=2,
    ),
    "full": Size(
        name="full",
        subjects=(30, 100),
        voxel_size=1.74,
        n_perm=10_000,
        n_perm_tfce=1000,
        peer_steps={"max-t": 50, "clusters": 30, "tfce": 2},
        mrtrix_step=30,
        n_tiles=64,
        map_voxel_size=1.735,
        scaled_subjects=(25, 50, 100, 200, 400),
        scaled_voxels=(6.0, 4.4, 3.2, 2.35, 1.74),
        scaled_perm=(1000, 2000, 4000, 8000, 16_000),
        rounds=3,
    ),
}


TILES = {name: size.n_tiles for name, size in SIZES.items()}


@dataclass(frozen=True, eq=False)
class KernelCase:
    """A batch of sign flips of a one-sample test through a block of random data."""

    n_subjects: int
    n_tiles: int

    @cached_property
    def tiles(self) -> NDArray[np.float32]:
        """(n_tiles, n_subjects, TILE) columns of unit length."""
        rng = np.random.default_rng(self.n_subjects)
        tiles = rng.standard_normal((self.n_tiles, self.n_subjects, TILE), dtype=np.float32)
        return tiles / np.linalg.norm(tiles, axis=1, keepdims=True)

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """(BATCH, n_subjects) flips of the constant regressor, the identity first."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (BATCH, self.n_subjects))
        signs[0] = 1.0
        return (signs / np.sqrt(self.n_subjects)).astype(np.float32)

    @cached_property
    def limits(self) -> Limits:
        """What counts as the observed |r|; nothing is picked."""
        observed = np.abs(np.ravel(self.weights[:1] @ self.tiles)) - np.float32(TIE_TOLERANCE["float32"])
        return Limits(np.maximum(observed, 0.0).reshape(self.n_tiles, TILE), np.full(1, np.nan, np.float32))

    @cached_property
    def products(self) -> NDArray[np.float32]:
        """One batch of the bare products."""
        return np.empty((BATCH, TILE), np.float32)

    def kernel(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Max |r| of each shuffling (BATCH,), and shufflings that reach the observed |r| (n_voxels,)."""
        n_voxels = self.n_tiles * TILE
        counts, best = np.zeros((self.n_tiles, TILE), np.int32), np.empty(BATCH, np.float32)
        permute_panels(
            [self.weights[None]],
            self.tiles,
            (BATCH, n_voxels),
            np.empty((self.n_tiles, 0, TILE), np.float32),
            Scoring(combine, np.array([1, 1, 1]), np.empty(0, np.float32)),
            True,
            self.limits,
            counts,
            best,
            (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)),
            np.empty((BATCH, 0), np.float32),
        )
        return best, counts.ravel()

    def sgemm(self) -> None:
        """Do the same products and nothing else."""
        for tile in self.tiles:
            np.dot(self.weights, tile, out=self.products)

    def plainly(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Do what the kernel does, with numpy alone."""
        best, counts = np.zeros(BATCH, np.float32), []
        for tile in self.tiles:
            score = np.abs(self.weights @ tile)
            best = np.maximum(best, score.max(axis=1))
            counts.append((score >= score[0] - TIE_TOLERANCE["float32"]).sum(axis=0))
        return best, np.concatenate(counts)


@dataclass(frozen=True, eq=False)
class WholeCase:
    """A one-sample test of simulated maps, whole."""

    n_subjects: int
    voxel_size: float

    @cached_property
    def cohort(self) -> Cohort:
        """Noise in memory, with an effect in one corner of the brain."""
        geometry = brain_geometry(self.voxel_size)
        effect = 1.5 * (geometry.coordinates(np.arange(geometry.n_voxels)) > 20.0).all(axis=1)
        maps = simulate_maps(geometry, self.n_subjects, seed=1, effect=effect)
        return Cohort(CohortStore.from_array(maps, geometry))

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """(n_subjects, n_voxels) the same data."""
        return np.ascontiguousarray(self.cohort.store.read(0, self.cohort.n_voxels))

    def calls(self, kind: str) -> dict[str, Callable[[int], Any]]:
        """Each package's call, as a function of n_perm; nilearn's where it is installed."""
        calls: dict[str, Callable[[int], Any]] = {"numbaglm": partial(ours, self.cohort, kind)}
        if find_spec("nilearn"):
            calls["nilearn"] = partial(nilearn, self.matrix, self.cohort.mask_img, kind)
        return calls

    def save(self, folder: Path) -> None:
        """Write the data as each side likes it."""
        geometry = self.cohort.geometry
        Cohort.create(
            folder / "cohort.zarr",
            [to_image(geometry, row) for row in self.matrix],
            mask=mask_image(geometry),
        )
        np.save(folder / "matrix.npy", self.matrix)
        save_image(mask_image(geometry), folder / "mask.nii.gz")


@cache
def whole_case(n_subjects: int, voxel_size: float) -> WholeCase:
    """A case, made once for all that run it."""
    return WholeCase(n_subjects, voxel_size)


def ours(cohort: Cohort, kind: str, n_perm: int, conventions: str = "numbaglm", **options: Any) -> PermutationResult:
    """Run our call, with all its defaults but what the kind asks for."""
    result = permutation_test(
        cohort,
        n_perm=n_perm,
        cluster_forming_threshold=THRESHOLD if "clusters" in kind else None,
        tfce="tfce" in kind,
        conventions=conventions,
        **options,
    )
    assert isinstance(result, PermutationResult)
    return result


def nilearn(matrix: NDArray[np.float32], mask: Any, kind: str, n_perm: int) -> dict[str, NDArray[np.float64]]:
    """Run nilearn's call: one job, its default."""
    from nilearn.maskers import NiftiMasker
    from nilearn.mass_univariate import permuted_ols

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs: dict[str, NDArray[np.float64]] = permuted_ols(
            np.ones((len(matrix), 1)),
            matrix,
            model_intercept=False,
            n_perm=n_perm,
            two_sided_test=True,
            random_state=0,
            masker=None if kind == "max-t" else NiftiMasker(mask).fit(),
            threshold=THRESHOLD if kind == "clusters" else None,
            tfce=kind == "tfce",
        )
    return outputs


def peak_memory(package: str, folder: Path, kind: str, n_perm: int) -> float:
    """Peak of a process, in MB, that runs one call on what `WholeCase.save` wrote."""
    return float(run_child("memory", package, str(folder), kind, str(n_perm)))


def run_child(*arguments: str, **environment: str) -> str:
    """What `child.py` prints, in a process of its own."""
    env = os.environ | environment
    return subprocess.run(_command(arguments), check=True, stdout=subprocess.PIPE, text=True, env=env).stdout


def until_told(*arguments: str, **environment: str) -> float:
    """Seconds from the start of `child.py`, in a process of its own, until it begins to print."""
    start, env = time.perf_counter(), os.environ | environment
    with subprocess.Popen(_command(arguments), stdout=subprocess.PIPE, text=True, env=env) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        told = time.perf_counter() - start
        child.communicate()
    if child.returncode or not said:
        raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}")
    return told


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("child.py")), *arguments]

"""True discoveries beside nilearn and `sanssouci`: all find the same. And that the bounds are not wrong too often."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, special, stats

import validity_discoveries as validity
from cases import SIZES
from numbaglm.data.images import mask_image, to_image
from numbaglm.datasets import brain_geometry, simulate_maps
from numbaglm.kernels.discoveries import component_tree
from numbaglm.kernels.spatial.neighbours import Volume, new_volume
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.discoveries import Calibration, Learned, Simes, ThresholdTemplate, ari, calibrate, true_discoveries
from numbaglm.stats.pvalues import of_z

Benchmark = Callable[..., Any]
Floats = NDArray[np.float64]

THRESHOLD = 3.1
SHUFFLINGS = {"small": (100, 100), "full": (1000, 100)}  # ours, and those that sanssouci can hold: all p of each


@dataclass(frozen=True, eq=False)
class ZMap:
    """Smooth noise in a brain with an effect in a tenth of it."""

    voxel_size: float

    @cached_property
    def geometry(self) -> Geometry:
        """A brain."""
        return brain_geometry(self.voxel_size)

    @cached_property
    def z(self) -> Floats:
        """(n_voxels,) the map."""
        z = np.float64(simulate_maps(self.geometry, 1, seed=1)[0])
        z /= z.std()
        z[: z.size // 10] += 2
        return z

    @cached_property
    def volume(self) -> Volume:
        """Which voxels touch."""
        return new_volume(self.geometry.padded_index, self.geometry.padded_shape, 6)

    @cached_property
    def images(self) -> tuple[Any, Any]:
        """Map and mask."""
        return to_image(self.geometry, self.z), mask_image(self.geometry)

    def ours(self) -> Floats:
        """(n_voxels,) share of the cluster above the threshold that each voxel is in."""
        labels = ndimage.label(self.geometry.unmask(self.z) > THRESHOLD)[0][self.geometry.mask]
        found = true_discoveries(of_z(self.z), labels)
        return np.array([0.0, *(one.tdp for one in found.values())])[labels]

    def nilearn(self) -> Floats:
        """Do the same."""
        from nilearn.glm import cluster_level_inference

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a threshold that will be another by default
            image = cluster_level_inference(*self.images, threshold=THRESHOLD)
        return np.asarray(image.dataobj, dtype=np.float64)[self.geometry.mask]

    def all_clusters(self) -> Floats:
        """Each voxel's largest share, of all clusters at all thresholds."""
        tree = component_tree(self.z, self.volume, False)
        return ari(of_z(self.z)).of_clusters(tree).best_tdp()


@cache
def z_map(size: str) -> ZMap:
    return ZMap(SIZES[size].map_voxel_size)


@pytest.mark.parametrize("side", ["ours", "nilearn"])
def bench_clusters_of_one_threshold(benchmark: Benchmark, size: str, side: str) -> None:
    one = z_map(size)
    benchmark.group = f"ARI, clusters above z = {THRESHOLD:g}"  # type: ignore[attr-defined]
    if side == "nilearn":
        pytest.importorskip("nilearn")
    found = benchmark(getattr(one, side))
    np.testing.assert_allclose(found, one.ours(), rtol=1e-6)


def bench_clusters_of_all_thresholds(benchmark: Benchmark, size: str) -> None:
    one = z_map(size)
    benchmark.group = "ARI, all clusters at all thresholds"  # type: ignore[attr-defined]
    best = benchmark(one.all_clusters)
    assert (best >= one.ours()).all()


@dataclass(frozen=True, eq=False)
class Shufflings:
    """Sorted p of shufflings, each with a factor of its own that all p of it share."""

    n: int
    n_elements: int
    n_listed: int

    def smallest(self, seed: int) -> Floats:
        """(n, n_listed) uniform order statistics, as far as a normal factor leaves them so."""
        rng = np.random.default_rng(seed)
        gaps = rng.standard_exponential((self.n, self.n_listed)).cumsum(axis=1)
        z = special.ndtri(gaps / (self.n_elements + np.sqrt(self.n_elements))) + rng.standard_normal((self.n, 1))
        return np.asarray(special.ndtr(z))

    def everything(self, seed: int) -> Floats:
        """(n, n_elements) the same, and 1 for all others."""
        p = np.ones((self.n, self.n_elements))
        p[:, : self.n_listed] = self.smallest(seed)
        return p

    def template(self, name: str) -> str | ThresholdTemplate:
        """A template, shifted or learned as it is named."""
        return {"shifted": Simes(shift=27), "learned": Learned.learn(self.smallest(2))}.get(name, name)

    def ours(self, template: str | ThresholdTemplate, rule: str) -> Calibration:
        """Calibrate."""
        return calibrate(self.smallest_1, self.n_elements, template, rule=rule)

    @cached_property
    def smallest_1(self) -> Floats:
        """(n, n_listed) what is calibrated on."""
        return self.smallest(1)

    def sanssouci(self, name: str) -> Callable[[], Floats]:
        """Make the call of sanssouci that gives the thresholds; its own first row is the observed map's, left out."""
        import sanssouci as peer  # type: ignore[import-not-found]

        p, k, m = self.everything(1)[1:], self.n_listed, self.n_elements
        if name == "learned":
            curves = np.sort(self.everything(2), axis=0)
            return lambda: np.asarray(peer.calibrate_jer(0.05, curves, p, k))
        if name == "shifted":
            return lambda: np.asarray(
                peer.shifted_linear_template(
                    np.quantile(peer.get_pivotal_stats_shifted(p, K=k, k_min=27), 0.05), k, m, 27
                )
            )
        inverse, line = {
            "simes": (peer.inverse_linear_template, peer.linear_template),
            "beta": (peer.inverse_beta_template, peer.beta_template),
        }[name]
        return lambda: np.asarray(line(np.quantile(peer.get_pivotal_stats(p, inverse, K=k), 0.05), k, m))


@pytest.mark.parametrize("side", ["ours", "ours, as many", "sanssouci"])
@pytest.mark.parametrize("name", ["simes", "shifted", "beta", "learned"])
def bench_calibration(benchmark: Benchmark, size: str, name: str, side: str) -> None:
    if side == "sanssouci" and not find_spec("sanssouci"):
        pytest.skip("the peer, sanssouci, is not installed")
    ours, its = SHUFFLINGS[size]
    n_elements = z_map(size).geometry.n_voxels
    case = Shufflings(ours if side == "ours" else its, n_elements, 1000)
    benchmark.group = f"calibration, {name}"  # type: ignore[attr-defined]
    template, rule = case.template(name), "notip" if name == "learned" else "sanssouci"
    expected = case.ours(template, rule)
    if side == "sanssouci":
        found = benchmark.pedantic(case.sanssouci(name), rounds=2)  # type: ignore[attr-defined]
        np.testing.assert_allclose(found, expected.thresholds, rtol=1e-8)
    else:
        benchmark(lambda: case.ours(template, rule))


def notip_thresholds(Y: NDArray[np.float32], n_shufflings: int) -> Floats:
    """Thresholds that notip learns and calibrates, each by so many flips of its own; from the data on.

    It looks for four things of nilearn where they no longer are; this needs none of them.
    """
    gone = ("nilearn.input_data", "nilearn._utils", "nilearn._utils.niimg", "nilearn.reporting._get_clusters_table")
    with mock.patch.dict(sys.modules, dict.fromkeys(gone, mock.MagicMock())):
        from notip.posthoc_fmri import compute_thr_family  # type: ignore[import-not-found]
    return np.asarray(compute_thr_family(Y, 0.05, 1000, n_shufflings, n_jobs=1, seed=0))


def test_bounds_are_wrong_no_more_often_than_they_say():
    methods = validity.METHODS | {"ten times alpha": lambda one: one.calibrated("simes", alpha=10 * validity.ALPHA)}
    broken = set()
    n_maps = validity.SIZES["small"]
    for data in validity.DATA[1::2]:
        wrong, _ = validity.measure(data, n_maps, methods)
        broken |= {name for name in methods if stats.binomtest(wrong[name], n_maps).proportion_ci(0.95).low > 0.05}
    assert broken == {"ten times alpha"}

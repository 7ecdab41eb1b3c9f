"""Exact TFCE of one map beside the C library `tfce`: both find the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cases import SIZES
from numbaglm.datasets.simulated import brain_geometry, simulate_maps
from numbaglm.kernels.spatial.neighbours import Volume, new_volume
from numbaglm.kernels.spatial.tfce import Enhancement, Scratch, new_scratch, tfce_map, tfce_max
from numbaglm.spaces.volume import Geometry

Benchmark = Callable[..., Any]

CONNECTIVITIES = (6, 18, 26)


@dataclass(frozen=True, eq=False)
class MapCase:
    """Smooth noise in a brain, enhanced above 0 or on both sides."""

    voxel_size: float
    connectivity: int
    two_sided: bool

    @cached_property
    def geometry(self) -> Geometry:
        """A brain."""
        return brain_geometry(self.voxel_size)

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """(n_voxels,) the map."""
        values: NDArray[np.float32] = simulate_maps(self.geometry, 1, seed=1)[0]
        return values

    @cached_property
    def image(self) -> NDArray[Any]:
        """(nx, ny, nz) the same, without its negative part if only the positive part counts."""
        image = self.geometry.unmask(self.values)
        return image if self.two_sided else np.maximum(image, 0)

    @cached_property
    def arguments(self) -> tuple[NDArray[np.float32], Volume, Scratch, Enhancement]:
        """What our calls take."""
        volume = new_volume(self.geometry.padded_index, self.geometry.padded_shape, self.connectivity)
        return self.values, volume, new_scratch(volume), Enhancement(two_sided=self.two_sided)

    @cached_property
    def out(self) -> NDArray[np.float64]:
        """(n_voxels,) for our map."""
        return np.empty(self.geometry.n_voxels)

    @cached_property
    def sides(self) -> dict[str, Callable[[], Any]]:
        """Each side's call; the C library's where it is installed."""
        sides: dict[str, Callable[[], Any]] = {"map": self.map, "max": lambda: tfce_max(*self.arguments)}
        if find_spec("tfce"):
            from tfce import tfce  # type: ignore[import-untyped]

            sides["tfce"] = lambda: tfce(self.image, connectivity=self.connectivity)
        return sides

    def map(self) -> NDArray[np.float64]:
        """Enhance the map."""
        tfce_map(*self.arguments, self.out)
        return self.out


@pytest.mark.parametrize("side", ["map", "max", "tfce"])
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def bench_tfce(benchmark: Benchmark, size: str, connectivity: int, two_sided: bool, side: str) -> None:
    case = MapCase(SIZES[size].map_voxel_size, connectivity, two_sided)
    if side not in case.sides:
        pytest.skip("the peer, tfce, is not installed")
    part = "both sides" if two_sided else "above 0"
    benchmark.group = f"TFCE, {connectivity} neighbours, {part}"  # type: ignore[attr-defined]
    found = benchmark(case.sides[side])
    expected = case.map()
    if side == "tfce":
        np.testing.assert_allclose(found[case.geometry.mask], expected, atol=1e-5 * np.abs(expected).max())
    if side == "max":
        assert found == pytest.approx(np.abs(expected).max(), rel=1e-12)

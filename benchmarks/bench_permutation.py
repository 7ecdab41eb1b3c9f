"""Permutation tests: the kernel beside the bare matrix product, the whole call beside nilearn's.

Times are for reading; what is asserted is that both sides agree on what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cases import KERNEL_SUBJECTS, KINDS, SIZES, KernelCase, nilearn, ours, peak_memory, whole_case

PACKAGES = ("numbaglm", "nilearn")
Benchmark = Callable[..., object]


@pytest.mark.parametrize("side", ["kernel", "sgemm"])
@pytest.mark.parametrize("n_subjects", KERNEL_SUBJECTS)
@pytest.mark.usefixtures("one_core")
def bench_kernel(benchmark: Benchmark, size: str, n_subjects: int, side: str) -> None:
    case = KernelCase(n_subjects, SIZES[size].n_tiles)
    benchmark.group = f"one batch of shufflings, {n_subjects} subjects"  # type: ignore[attr-defined]
    best, counts = case.kernel()
    expected_best, expected_counts = case.plainly()
    np.testing.assert_allclose(best, expected_best, rtol=1e-5)
    # Rounding may tip a score that lies within it of the observed one.
    assert np.mean(counts != expected_counts) < 1e-3
    benchmark(getattr(case, side))


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("kind", KINDS)
def bench_whole_call(benchmark: Benchmark, size: str, kind: str, package: str) -> None:
    if package == "nilearn":
        pytest.importorskip("nilearn", reason="the peer, nilearn, is not installed")
    how = SIZES[size]
    case = whole_case(how.subjects[0], how.voxel_size)
    n_perm = how.n_perm if package == "numbaglm" else how.peer_steps[kind]
    benchmark.group = f"{kind}, {case.n_subjects} subjects, {case.cohort.n_voxels:,} voxels"  # type: ignore[attr-defined]
    benchmark.extra_info["n_perm"] = n_perm  # type: ignore[attr-defined]
    benchmark.pedantic(case.calls(kind)[package], args=(n_perm,), rounds=3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def bench_agreement(kind: str) -> None:
    """The two calls, under nilearn's conventions, are the same test up to which shufflings were drawn."""
    pytest.importorskip("nilearn", reason="the peer, nilearn, is not installed")
    small = SIZES["small"]
    n_perm = 60 if kind == "tfce" else small.n_perm  # nilearn's takes its time
    case = whole_case(small.subjects[0], small.voxel_size)
    mine, theirs = (
        ours(case.cohort, kind, n_perm, "nilearn"),
        nilearn(case.matrix, case.cohort.mask_img, kind, n_perm),
    )
    np.testing.assert_allclose(mine.maps["t"], theirs["t"][0], rtol=1e-3, atol=1e-4)
    pairs = {"logp_fwe_voxel": "logp_max_t"}
    if kind == "clusters":
        pairs |= {"logp_fwe_size": "logp_max_size", "logp_fwe_mass": "logp_max_mass"}
    if kind == "tfce":
        pairs |= {"logp_fwe_tfce": "logp_max_tfce"}
        np.testing.assert_allclose(mine.maps["tfce"], theirs["tfce"][0], rtol=1e-2, atol=1e-2)
    for name, nilearn_name in pairs.items():
        p, q = 10.0 ** -mine.maps[name], 10.0 ** -theirs[nilearn_name][0]
        spread = np.sqrt(2 * p * (1 - p) / n_perm) + 1 / n_perm
        assert np.max(np.abs(p - q) / spread) < 5, name
        assert p.min() < 0.05, "nothing was found, so that nothing was compared"


@pytest.mark.parametrize("package", PACKAGES)
def bench_peak_memory(tmp_path: Path, package: str) -> None:
    if package == "nilearn":
        pytest.importorskip("nilearn", reason="the peer, nilearn, is not installed")
    small = SIZES["small"]
    whole_case(small.subjects[0], small.voxel_size).save(tmp_path)
    assert 10 < peak_memory(package, tmp_path, "max-t", small.n_perm) < 10_000

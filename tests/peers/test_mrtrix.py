"""Networks beside MRtrix3's `connectomestats` (Debian: mrtrix3): components, TFNBS, and the nulls of all sign flips.

Both take z for the statistic here, as MRtrix does, and one side. Its corrected p leave ties out, ours count them.
"""

import shutil
import subprocess

import numpy as np
import pytest

import numbaglm as ng

pytestmark = pytest.mark.skipif(shutil.which("connectomestats") is None, reason="needs MRtrix3's connectomestats")

N, NODES = 8, 12
EDGES = np.triu_indices(NODES, 1)


@pytest.fixture(scope="module")
def matrices():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(N, NODES, NODES))
    noise[:, :4, :4] += 0.8
    both = (noise + noise.transpose(0, 2, 1)) / 2
    both[:, range(NODES), range(NODES)] = 0
    return both


def connectomestats(matrices, algorithm, folder, *options):
    """Its enhanced map, z and null."""
    names = [f"{k}.csv" for k in range(N)]
    for name, matrix in zip(names, matrices, strict=True):
        np.savetxt(folder / name, matrix, delimiter=",", fmt="%.17g")
    (folder / "list.txt").write_text("\n".join(names) + "\n")
    (folder / "design.txt").write_text("1\n" * N)
    (folder / "contrast.txt").write_text("1\n")
    command = ["connectomestats", "list.txt", algorithm, "design.txt", "contrast.txt", "out_", "-errors", "ise"]
    subprocess.run([*command, *options, "-quiet"], cwd=folder, check=True, capture_output=True)
    maps = [np.loadtxt(folder / f"out_{name}.csv", delimiter=",")[EDGES] for name in ("enhanced", "Zstat")]
    return *maps, np.sort(np.loadtxt(folder / "out_null_dist.txt"))


def tested(matrices, **options):
    cohort = ng.Cohort.from_maps(matrices, space="network", nodes=[f"node {k}" for k in range(NODES)])
    return ng.permutation_test(cohort, n_perm=5000, two_sided=False, statistic="z", **options)


def test_components_and_their_null(matrices, tmp_path):
    enhanced, z, null = connectomestats(matrices, "nbs", tmp_path, "-threshold", "1.5")
    result = tested(matrices, cluster_forming_threshold=("z", 1.5))
    np.testing.assert_allclose(result.maps["z"], z, atol=1e-6)
    np.testing.assert_array_equal(result.maps["size"], enhanced)
    np.testing.assert_array_equal(np.sort(result.h0["max_size"]), null)
    assert null.size == 2**N


def test_enhancement_and_its_null(matrices, tmp_path):
    """Steps of 0.1, which its sum is not multiplied by."""
    enhanced, _, null = connectomestats(matrices, "tfnbs", tmp_path)
    result = tested(matrices, tfce=True, tfce_dh=0.1, tfce_times_step=False)
    np.testing.assert_allclose(result.maps["tfce"], enhanced, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.sort(result.h0["max_tfce"]), null, rtol=1e-5)

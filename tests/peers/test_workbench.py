"""Surfaces and CIFTI files beside Connectome Workbench (Debian: connectome-workbench): areas, clusters, TFCE, files."""

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, ParcelsAxis, ScalarAxis

import numbaglm as ng
from numbaglm.data.images import save_mesh, save_vertices
from numbaglm.spaces.surface import Mesh
from reference.meshes import icosphere

pytestmark = pytest.mark.skipif(shutil.which("wb_command") is None, reason="needs Workbench's wb_command")

N, SHAPE = 8, (8, 8, 8)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
MESHES = {side: Mesh(*icosphere(3, seed=seed)) for seed, side in enumerate(("left", "right"))}


def wb(*arguments, cwd):
    done = subprocess.run(
        ["wb_command", *map(str, arguments)], cwd=cwd, check=True, capture_output=True, text=True, env={}
    )
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Meshes and maps of both hemispheres, and CIFTI files with two structures of voxels that touch."""
    folder = tmp_path_factory.mktemp("workbench")
    rng = np.random.default_rng(0)
    for side, mesh in MESHES.items():
        save_mesh(mesh, side, folder / f"{side}.surf.gii")
    axis = None
    for side, mesh in MESHES.items():
        one = BrainModelAxis.from_surface(np.arange(mesh.n), mesh.n, f"CIFTI_STRUCTURE_CORTEX_{side.upper()}")
        axis = one if axis is None else axis + one
    voxels = np.argwhere(np.ones(SHAPE))
    for side, inside in (("LEFT", voxels[:, 0] < 4), ("RIGHT", voxels[:, 0] >= 4)):
        where = voxels[inside]
        name = [f"CIFTI_STRUCTURE_THALAMUS_{side}"] * len(where)
        axis += BrainModelAxis(name, voxel=where, affine=AFFINE, volume_shape=SHAPE)
    for k in range(N):
        row = rng.normal(0.5, 1, axis.size).astype(np.float32)
        nib.Cifti2Image(row[None], (ScalarAxis(["map"]), axis)).to_filename(folder / f"sub-{k}.dscalar.nii")
    return folder


@pytest.fixture(scope="module")
def cohort(place):
    files = sorted(place.glob("sub-*.dscalar.nii"))
    return ng.Cohort.from_maps(files, surfaces={side: place / f"{side}.surf.gii" for side in MESHES})


def test_areas(place, tmp_path):
    for side, mesh in MESHES.items():
        wb("-surface-vertex-areas", place / f"{side}.surf.gii", tmp_path / "areas.shape.gii", cwd=tmp_path)
        areas = nib.load(tmp_path / "areas.shape.gii").darrays[0].data
        np.testing.assert_allclose(mesh.areas, areas, rtol=1e-5)


def test_tfce_and_clusters_of_a_surface(place, tmp_path):
    """Its clusters are of one sign and strictly above the threshold; its TFCE is exact too."""
    mesh = MESHES["left"]
    maps = np.random.default_rng(1).normal(0.3, 1, (N, mesh.n))
    options = {"n_perm": 9, "tfce": True, "cluster_forming_threshold": ("t", 1.5)}
    result = ng.permutation_test({"left": maps}, surfaces={"left": place / "left.surf.gii"}, **options)
    t, tfce, labels = result.maps["t"].astype(np.float32), result.maps["tfce"], result.maps["clusters"]
    save_vertices(t, "left", "t", tmp_path / "t.func.gii")
    surface = place / "left.surf.gii"
    wb("-metric-tfce", surface, "t.func.gii", "tfce.func.gii", cwd=tmp_path)
    np.testing.assert_allclose(nib.load(tmp_path / "tfce.func.gii").darrays[0].data, tfce, rtol=1e-3, atol=1e-3)
    wb("-metric-find-clusters", surface, "t.func.gii", 1.5, 0, "above.func.gii", cwd=tmp_path)
    wb("-metric-find-clusters", surface, "t.func.gii", -1.5, 0, "below.func.gii", "-less-than", cwd=tmp_path)
    for name, sign in (("above", 1), ("below", -1)):
        found = nib.load(tmp_path / f"{name}.func.gii").darrays[0].data.astype(int)
        assert same_partition(found, np.where(np.sign(t) == sign, labels, 0))


@pytest.mark.parametrize("structures", ["merged", "apart"])
def test_clusters_of_a_cifti_file(cohort, place, tmp_path, structures):
    """Voxels touch by their faces there."""
    options = {"cluster_connectivity": 6, "structures": structures, "two_sided": False}
    result = ng.permutation_test(cohort, n_perm=9, cluster_forming_threshold=("t", 2.0), **options)
    t = result.save(tmp_path / "result") / "t.dscalar.nii"
    merged = ["-merged-volume"] * (structures == "merged")
    surfaces = [f"-{side}-surface {place / f'{side}.surf.gii'}" for side in MESHES]
    more = " ".join([*surfaces, *merged]).split()
    wb("-cifti-find-clusters", t, 2, 0, 2, 0, "COLUMN", "found.dscalar.nii", *more, cwd=tmp_path)
    found = nib.load(tmp_path / "found.dscalar.nii").get_fdata()[0].astype(int)
    ours = nib.load(tmp_path / "result" / "clusters.dscalar.nii").get_fdata()[0].astype(int)
    assert same_partition(found, ours)
    below = ours[2 * MESHES["left"].n :]
    ids = [set(half[half > 0]) for half in (below[:256], below[256:])]
    assert bool(ids[0] & ids[1]) == (structures == "merged")


def test_it_opens_what_is_saved(cohort, tmp_path):
    options = {"n_perm": 9, "cluster_forming_threshold": ("t", 2.0)}
    folder = ng.permutation_test(cohort, **options).save(tmp_path / "dense")
    told = wb("-file-information", folder / "p_fwe_size.dscalar.nii", cwd=tmp_path)
    assert "CIFTI - Dense Scalar" in told
    assert "CortexLeft" in told.replace("CORTEX_LEFT", "CortexLeft")
    maps = np.random.default_rng(1).normal(size=(N, 642))
    folder = ng.permutation_test({"left": maps, "right": maps + 1}, n_perm=9).save(tmp_path / "surfaces")
    told = wb("-file-information", folder / "t_hemi-R.func.gii", cwd=tmp_path)
    assert "CortexRight" in told
    assert "642" in told
    names = ["V1", "V2", "V4", "MT"]
    affine, shape = AFFINE, (4, 4, 4)
    parcels = ParcelsAxis(
        names, [np.array([[k, 0, 0]]) for k in range(4)], [{}] * 4, affine=affine, volume_shape=shape, nvertices={}
    )
    rng = np.random.default_rng(2)
    for k in range(N):
        row = rng.normal(size=(1, 4)).astype(np.float32)
        nib.Cifti2Image(row, (ScalarAxis(["map"]), parcels)).to_filename(tmp_path / f"{k}.pscalar.nii")
        matrix = rng.normal(size=(4, 4)).astype(np.float32)
        nib.Cifti2Image(matrix + matrix.T, (parcels, parcels)).to_filename(tmp_path / f"{k}.pconn.nii")
    for ending, kind in (("pscalar", "Parcel Scalar"), ("pconn", "Parcel")):
        files = sorted(tmp_path.glob(f"*.{ending}.nii"))
        folder = ng.permutation_test(files, n_perm=9).save(tmp_path / ending)
        assert kind in wb("-file-information", folder / f"t.{ending}.nii", cwd=tmp_path)


def same_partition(one, two):
    """Whether two maps of labels, 0 outside, have the same clusters."""
    if not np.array_equal(one > 0, two > 0):
        return False
    pairs = set(zip(one[one > 0].tolist(), two[two > 0].tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

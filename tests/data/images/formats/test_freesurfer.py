import nibabel as nib
import numpy as np
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.images.formats.freesurfer import FORMATS, is_mgh, open_mgh, save_annotation, save_freesurfer
from numbaglm.errors import InputError
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry

AFFINE = np.array([[-2.0, 0, 0, 9], [0, 0, 2, -8], [0, -2, 0, 7], [0, 0, 0, 1]])


def read(path):
    return open_mgh(path) if is_mgh(path) else nib.load(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_maps_of_a_volume_and_of_a_surface(tmp_path, ending):
    inside = np.zeros((4, 3, 2), bool)
    inside[1:, 1:, 0] = True
    image = read(
        save_freesurfer(Space.of(Geometry(inside, AFFINE)), np.arange(12.0).reshape(2, 6), tmp_path / f"beta.{ending}")
    )
    assert image.shape == (4, 3, 2, 2)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(image.get_fdata()[inside].T, np.arange(12.0).reshape(2, 6))
    maps = np.random.default_rng(0).normal(size=(5, 600))
    space = Cohort.from_maps({"left": maps}, mask={"left": np.arange(600) % 2}).store.space
    image = read(save_freesurfer(space, np.ones(300), tmp_path / f"sig.{ending}"))
    assert image.shape == (600, 1, 1)
    np.testing.assert_array_equal(image.get_fdata().ravel(), np.arange(600) % 2)
    with pytest.raises(InputError, match="ends in one of mgh"):
        save_freesurfer(space, np.ones(300), tmp_path / "sig.gii")


def test_an_annotation_has_a_colour_a_region(tmp_path):
    labels = np.array([0, 2, 1, 1, 0, 2])
    path = save_annotation(labels, ["cluster-001", "cluster-002"], tmp_path / "lh.ocn.annot")
    values, colours, names = nib.freesurfer.read_annot(str(path))
    assert [name.decode() for name in names] == ["unknown", "cluster-001", "cluster-002"]
    np.testing.assert_array_equal(values, labels)
    assert len({tuple(row[:3]) for row in colours}) == 3


def test_stacked_volumes_are_a_cohort(tmp_path):
    values = np.random.default_rng(1).normal(3.0, 1.0, (6, 5, 4, 7)).astype(np.float32)
    for ending in ("mgh", "mgz"):
        path = tmp_path / f"y.{ending}"
        nib.save(nib.MGHImage(values, AFFINE), path)
        cohort = Cohort.from_maps(path)
        np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels), values.reshape(-1, 7).T)
        np.testing.assert_allclose(cohort.store.geometry.affine, AFFINE, atol=1e-5)

"""Maps of a group as nilearn's users pass them."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numbaglm as ng
from numbaglm.errors import (
    ContrastError,
    GridError,
    ImageError,
    InputError,
    InputTypeError,
    MaskError,
    MissingFileError,
    NumbaglmWarning,
)
from numbaglm.faces.nilearn.maps import check_maps, design_of, effect_maps, read_cohort
from numbaglm.faces.nilearn.maskers import MaskChoice
from reference.maps import AFFINE, SHAPE, volumes, write_maps
from reference.surfaces import N_VERTICES, surface

N = 5
ONES = pd.DataFrame({"intercept": np.ones(N)})


def images(seed=0):
    return [nib.Nifti1Image(volume, AFFINE) for volume in volumes(N, seed)]


def surfaces(seed=0):
    return [surface(row) for row in np.random.default_rng(seed).normal(size=(N, N_VERTICES))]


def first_level(label, image, fitted=True):
    """What is asked of a first-level model."""
    return SimpleNamespace(
        subject_label=label,
        design_matrices_=[pd.DataFrame({"task": [0.0]})],
        compute_contrast=lambda contrast, output_type: image,
        __sklearn_is_fitted__=lambda: fitted,
    )


def models(**options):
    return [first_level(f"sub-{number}", image, **options) for number, image in enumerate(images())]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, InputTypeError, "NoneType"),
        ([1, 2], InputTypeError, "must be either.*list of int"),
        (images()[:1], InputTypeError, "at least two"),
        ([*images(), 1], InputTypeError, "same type.*int.*idx 5"),
        ([images()[0], surfaces()[0]], InputTypeError, "same type"),
        (["nowhere.nii", "a.nii"], MissingFileError, "nowhere.nii"),
        ("nowhere.nii", ValueError, "nowhere.nii"),
        (["sub-*.nii"] * 2, MissingFileError, "glob"),
        ([nib.Nifti1Image(np.ones((2, 2, 2, 3), np.float32), AFFINE)] * 2, ImageError, "single volume"),
        (pd.DataFrame({"subject_label": ["a"]}), InputError, "Add effects_map_path"),
        (pd.DataFrame({"subject_label": ["a"], "effects_map_path": ["b.nii"]}), MissingFileError, "b.nii"),
        (first_level("01", None), InputTypeError, "must be either"),
        (models(fitted=False), InputError, "sub-0 at index 0.*not been fit"),
        (surface(np.ones((N_VERTICES, 1))), InputTypeError, "3D SurfaceImage"),
        ([surface(np.ones((N_VERTICES, 2)))] * 2, InputTypeError, "3D SurfaceImage"),
    ],
)
def test_refused_maps(given, error, message):
    with pytest.raises(error, match=message):
        check_maps(given)


def test_design_of_models():
    """Made of confounds, by label."""
    confounds = pd.DataFrame({"subject_label": [f"sub-{k}" for k in range(N)][::-1], "age": np.arange(float(N))})
    X = design_of(check_maps(models()), confounds, None)
    assert X["age"].tolist() == [4, 3, 2, 1, 0]
    nameless = models()
    nameless[2].subject_label = None
    assert design_of(nameless, None, None).shape == (N, 1)
    with pytest.raises(InputError, match=r"subject_label.*\[2\]"):
        design_of(nameless, confounds, None)


def test_models():
    """Their effects are analysed; the mask is there before a contrast is chosen."""
    fitted = ng.SecondLevelModel().fit(models())
    assert fitted.n_elements_ == 60
    expected = ng.SecondLevelModel().fit(images(), design_matrix=ONES).compute_contrast()
    got = fitted.compute_contrast(first_level_contrast="task")
    assert_array_equal(got.get_fdata(), expected.get_fdata())
    with pytest.raises(ContrastError, match="first_level_contrast"):
        effect_maps(models(), None)


def test_maps_that_are_all_the_same():
    """Nothing can be tested: 0 everywhere, with a warning."""
    same = images()[:1] * N
    with pytest.warns(NumbaglmWarning, match="All 5 maps are the same"):
        model = ng.SecondLevelModel().fit(same, design_matrix=ONES)
    assert model.n_elements_ == 60
    out = model.compute_contrast(output_type="all")
    assert not out["stat"].get_fdata().any()
    assert not out["effect_size"].get_fdata().any()
    assert_array_equal(np.unique(out["p_value"].get_fdata()), [0, 0.5])
    with pytest.warns(NumbaglmWarning, match="All 5 maps"):
        logp = ng.non_parametric_inference(same, design_matrix=ONES, n_perm=10)
    assert not logp.get_fdata().any()
    with pytest.warns(NumbaglmWarning, match="no vertex"):
        ng.SecondLevelModel().fit(surfaces()[:1] * N, design_matrix=ONES)


@pytest.mark.parametrize("change", ["nan", "zero"])
def test_maps_without_a_common_voxel(change):
    maps = volumes(2)
    maps[0, :3], maps[1, 3:] = (np.nan, np.nan) if change == "nan" else (0, 0)
    with pytest.raises(MaskError, match="No voxel"):
        read_cohort([nib.Nifti1Image(one, AFFINE) for one in maps], MaskChoice())


def test_maps_on_another_grid_than_the_mask(tmp_path):
    """They are resampled, from files too; maps must still share one grid."""
    double = AFFINE @ np.diag([2, 2, 2, 1])
    mask = nib.Nifti1Image(np.ones((3, 4, 3), np.uint8), double)
    expected = volumes(N)[:, ::2, ::2, ::2]
    table = pd.DataFrame(
        {
            "subject_label": [f"sub-{k}" for k in range(N)],
            "map_name": "con",
            "effects_map_path": write_maps(tmp_path, volumes(N)),
        }
    )
    for given in (images(), table):
        with pytest.warns(NumbaglmWarning, match="resampled"):
            cohort, masker = read_cohort(given, MaskChoice(mask))
        assert_array_equal(masker.mask_img_.get_fdata(), expected[0] != 0)
        assert_allclose(cohort.store.read(0, cohort.n_voxels), expected[:, expected[0] != 0], atol=1e-5)
    assert cohort.subjects == list(table["subject_label"])
    other = [*images()[1:], nib.Nifti1Image(np.ones((2, 2, 2), np.float32), AFFINE)]
    with pytest.warns(NumbaglmWarning, match="resampled"), pytest.raises(GridError, match="field of view"):
        read_cohort(other, MaskChoice(mask))


def test_target_grid():
    model = ng.SecondLevelModel(target_affine=AFFINE @ np.diag([2, 2, 2, 1]), target_shape=(3, 4, 3))
    with pytest.warns(NumbaglmWarning, match="resampled"):
        model.fit(images(), design_matrix=ONES)
    assert_array_equal(model.mask_img_.get_fdata() > 0, volumes(1)[0, ::2, ::2, ::2] != 0)
    with pytest.raises(InputError, match="target_affine"):
        ng.SecondLevelModel(target_shape=(3, 4, 3)).fit(images(), design_matrix=ONES)
    with pytest.raises(InputError, match="own grid"):
        ng.SecondLevelModel(target_affine=np.eye(3)).fit(ng.Cohort.from_maps(images()))


def test_missing_values_as_nilearn_takes_them():
    maps = volumes(N)
    maps[0, 2, 2, 2] = np.nan
    mask = nib.Nifti1Image((maps[1] != 0).astype(np.uint8), AFFINE)
    given = [nib.Nifti1Image(one, AFFINE) for one in maps]
    options = {"design_matrix": ONES, "mask": mask, "n_perm": 0}
    ours = ng.non_parametric_inference(given, **options)["t"].get_fdata()
    theirs = ng.non_parametric_inference(given, compatibility="nilearn", **options)["t"].get_fdata()
    assert ours[2, 2, 2] == 0
    y = np.nan_to_num(maps[:, 2, 2, 2])
    assert theirs[2, 2, 2] == pytest.approx(y.mean() / (y.std(ddof=1) / np.sqrt(N)))
    theirs[2, 2, 2] = 0
    assert_allclose(theirs, ours, rtol=1e-6)


def test_surfaces():
    """The same numbers as in a volume; vertices that can't be tested leave."""
    values = np.random.default_rng(0).normal(size=(N, N_VERTICES)).astype(np.float32)
    values[2, 3], values[:, 5] = np.nan, 7
    inside = ~np.isin(np.arange(N_VERTICES), [3, 5])
    model = ng.SecondLevelModel().fit([surface(row) for row in values], design_matrix=ONES)
    assert model.n_elements_ == 16
    assert_array_equal(model.mask_img_.values(), inside)
    t = model.compute_contrast(output_type="stat").values()
    Y = values[:, inside].astype(float)
    assert_allclose(t[inside], Y.mean(axis=0) / (Y.std(axis=0, ddof=1) / np.sqrt(N)))
    assert not t[~inside].any()
    one = ng.SecondLevelModel().fit(surface(values.T), design_matrix=ONES).compute_contrast(output_type="stat")
    assert_array_equal(one.values(), t)
    assert_array_equal(model.masker_.transform(surface(values[0])), values[0, inside])
    logp = ng.non_parametric_inference([surface(row) for row in values], design_matrix=ONES, n_perm=20)
    assert logp.values().shape == (N_VERTICES,)
    assert logp.values()[inside].any()


def test_vertices_lie_on_their_meshes():
    mask = surface(np.arange(N_VERTICES) > 8)
    parts = read_cohort(surfaces(), MaskChoice(mask))[0].store.space.parts
    given = surfaces()[0].mesh.parts
    assert {part.name for part in parts} <= set(given)
    for part in parts:
        assert_array_equal(part.mesh.coordinates, given[part.name].coordinates)
        assert part.topology(26) is not None
    assert sum(part.n for part in parts) == 9


def test_masks_of_surfaces():
    mask = surface(np.arange(N_VERTICES) > 8)
    assert ng.SecondLevelModel(mask).fit(surfaces(), design_matrix=ONES).n_elements_ == 9
    with pytest.raises(TypeError, match="compatible types"):
        ng.SecondLevelModel(mask).fit(images(), design_matrix=ONES)
    volume = nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
    with pytest.raises(TypeError, match="compatible types"):
        ng.SecondLevelModel(volume).fit(surfaces(), design_matrix=ONES)
    other = surfaces()
    other[3].mesh = SimpleNamespace(parts=dict(reversed(other[3].mesh.parts.items())))
    with pytest.raises(GridError, match="Surface image 4"):
        ng.SecondLevelModel().fit(other, design_matrix=ONES)


def test_smoothing_of_surfaces_is_not_used():
    with pytest.warns(NumbaglmWarning, match="smoothed"):
        out = ng.non_parametric_inference(surfaces(), design_matrix=ONES, n_perm=5, smoothing_fwhm=4.0)
    assert out.values().shape == (N_VERTICES,)

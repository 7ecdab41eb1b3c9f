"""Side by side with nilearn 0.14.1: maps, nulls, corrected p, tables."""

import inspect
import itertools

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter, generate_binary_structure

import numbaglm as ng
from numbaglm.errors import NumbaglmWarning

pytest.importorskip("nilearn", minversion="0.14.1")
from nilearn import glm, maskers, mass_univariate, reporting, surface
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from nilearn.glm import second_level
from nilearn.mass_univariate._utils import calculate_cluster_measures, calculate_tfce

# nilearn makes images of its int64 cluster sizes and labels, which its own new_img_like warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Data array used to create a new image contains 64-bit")

SHAPE = (12, 13, 11)
AFFINE = np.array([[-3.0, 0, 0, 18], [0, 3, 0, -20], [0, 0, 3.5, -15], [0, 0, 0, 1]])
FACES = generate_binary_structure(3, 1)
N = 14


def _ellipsoid():
    radius = (np.array(SHAPE) - 1) / 2
    distance = (np.moveaxis(np.indices(SHAPE), 0, -1) - radius) / radius
    return (distance**2).sum(axis=-1) <= 1


INSIDE = _ellipsoid()
MASK = nib.Nifti1Image(INSIDE.astype(np.uint8), AFFINE)


def make_maps(n, mean, seed=3):
    rng = np.random.default_rng(seed)
    volumes = [gaussian_filter(rng.normal(size=SHAPE), 1) * 4 + mean for _ in range(n)]
    return [nib.Nifti1Image(volume.astype(np.float32), AFFINE) for volume in volumes]


def values(image):
    return image.get_fdata()[INSIDE]


def data(maps):
    return np.stack([values(image) for image in maps])


def on_grid(vector):
    volume = np.zeros(SHAPE)
    volume[INSIDE] = vector
    return volume


def _designs():
    rng = np.random.default_rng(1)
    group = np.repeat([0.0, 1.0], N // 2)
    return {
        "one-sample": pd.DataFrame({"intercept": np.ones(N)}),
        "two-sample": pd.DataFrame({"patient": group, "control": 1 - group}),
        "covariates": pd.DataFrame(
            {"intercept": np.ones(N), "age": rng.normal(50, 10, N), "iq": rng.normal(100, 15, N)}
        ),
    }


DESIGNS = _designs()


@pytest.mark.parametrize("smoothing_fwhm", [None, 6.0])
@pytest.mark.parametrize(
    ("design", "contrast", "kind"),
    [
        ("one-sample", "intercept", None),
        ("one-sample", [1.0], "F"),
        ("two-sample", "patient - control", None),
        ("two-sample", [0.5, 0.5], "t"),
        ("two-sample", np.eye(2), None),
        ("covariates", "age", None),
        ("covariates", [0, 1, -2], None),
        ("covariates", np.eye(3)[1:], None),
    ],
)
def test_parametric_maps(design, contrast, kind, smoothing_fwhm):
    images = {}
    for model in (second_level.SecondLevelModel, ng.SecondLevelModel):
        fitted = model(mask_img=MASK, smoothing_fwhm=smoothing_fwhm)
        fitted.fit(make_maps(N, 0.3), design_matrix=DESIGNS[design])
        images[model] = fitted.compute_contrast(contrast, second_level_stat_type=kind, output_type="all")
    theirs, ours = images.values()
    assert list(ours) == list(theirs)
    for name in theirs:
        assert ours[name].shape == theirs[name].shape
        assert ours[name].get_data_dtype() == theirs[name].get_data_dtype()
        assert_array_equal(ours[name].affine, theirs[name].affine)
        assert_allclose(values(ours[name]), values(theirs[name]), rtol=1e-9, err_msg=name)
        assert not ours[name].get_fdata()[~INSIDE].any()


@pytest.mark.parametrize("two_sided", [True, False])
def test_null_of_all_sign_flips(two_sided):
    """The same flips through nilearn one by one: max t, extent, mass and TFCE, to rounding."""
    n = 6
    maps = make_maps(n, 0.3)
    result = ng.permutation_test(
        maps,
        contrast="intercept",
        mask=MASK,
        n_perm=100,
        two_sided=two_sided,
        cluster_forming_threshold=0.05,
        tfce=True,
        conventions="nilearn",
    )
    threshold = result.provenance["cluster_forming_statistic"]
    nulls = []
    for flips in itertools.product([1, -1], repeat=n):
        Y = data(maps) * np.array(flips)[:, None]
        t = mass_univariate.permuted_ols(np.ones(n), Y, n_perm=0)["t"][0]
        volume = on_grid(t)[..., None]
        size, mass = calculate_cluster_measures(volume, threshold, FACES, two_sided)
        tfce = np.abs(calculate_tfce(volume, FACES, two_sided_test=two_sided)).max()
        nulls.append(((np.abs(t) if two_sided else t).max(), size[0], mass[0], tfce))
    for name, null in zip(("max_t", "max_size", "max_mass", "max_tfce"), np.array(nulls).T, strict=True):
        assert result.h0[name].size == 2**n
        assert_allclose(np.sort(result.h0[name]), np.sort(null), rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("compatibility", [None, "nilearn"])
def test_null_with_nuisance(compatibility):
    """All shufflings of the residuals on the nuisance (Freedman-Lane) through nilearn one by one.

    A constant among the confounds makes nilearn flip signs; only asked to do we do so.
    """
    n = 6
    rng = np.random.default_rng(0)
    Y, age, iq = rng.normal(size=(n, 40)), rng.normal(50, 10, n), rng.normal(size=n)
    Z = np.column_stack([iq, np.ones(n)])
    E = Y - Z @ np.linalg.pinv(Z) @ Y
    if compatibility == "nilearn":
        shuffled = [E * np.array(signs)[:, None] for signs in itertools.product([1, -1], repeat=n)]
    else:
        shuffled = [E[list(order)] for order in itertools.permutations(range(n))]
    t = np.stack([mass_univariate.permuted_ols(age, one, Z, n_perm=0)["t"][0] for one in shuffled])
    out = ng.permuted_ols(age, Y, Z, n_perm=len(shuffled), compatibility=compatibility)
    maxima = np.sort(np.append(out["h0_max_t"][0], np.abs(t[0]).max()))
    assert_allclose(maxima, np.sort(np.abs(t).max(axis=1)), rtol=5e-6)  # our residuals are float32
    assert_allclose(out["t"][0], t[0], rtol=5e-6)


def _assert_same_p(ours, theirs, n_ours, n_theirs):
    """-log10 p of two random nulls, within 5 standard errors of their difference."""
    p, q = 10.0**-ours, 10.0**-theirs
    pooled = (p + q) / 2
    error = np.sqrt(pooled * (1 - pooled) * (1 / n_ours + 1 / n_theirs))
    assert np.all(np.abs(p - q) <= 5 * error + 2 / min(n_ours, n_theirs))
    assert np.ptp(theirs) > 1  # or any p would do


def test_corrected_p_of_10000_flips():
    maps, options = make_maps(N, 0.5), {"design_matrix": DESIGNS["one-sample"], "mask": MASK, "random_state": 1}
    theirs = second_level.non_parametric_inference(maps, n_perm=10_000, **options)
    ours = ng.non_parametric_inference(maps, n_perm=10_000, **options)
    _assert_same_p(values(ours), values(theirs), 10_000, 10_000)


@pytest.mark.parametrize("two_sided", [True, False])
def test_corrected_p_of_clusters_and_tfce(two_sided):
    options = {
        "design_matrix": DESIGNS["covariates"].drop(columns="intercept"),
        "second_level_contrast": "age",
        "mask": MASK,
        "two_sided_test": two_sided,
        "threshold": 0.02,
        "random_state": 1,
    }
    effect = (DESIGNS["covariates"]["age"] - 50) / 10
    blob = 4 * np.exp(-((np.moveaxis(np.indices(SHAPE), 0, -1) - 5) ** 2).sum(axis=-1) / 12)
    maps = [
        nib.Nifti1Image((image.get_fdata() + weight * blob).astype(np.float32), AFFINE)
        for image, weight in zip(make_maps(N, 0.0), effect, strict=True)
    ]
    theirs = second_level.non_parametric_inference(maps, n_perm=500, **options)
    ours = ng.non_parametric_inference(maps, n_perm=5000, **options)
    assert list(ours) == list(theirs)
    for name in ("t", "size", "mass"):
        assert_allclose(values(ours[name]), values(theirs[name]), rtol=1e-5, atol=1e-5, err_msg=name)
    for name in ("logp_max_t", "logp_max_size", "logp_max_mass"):
        _assert_same_p(values(ours[name]), values(theirs[name]), 5000, 500)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("model_intercept", [True, False])
def test_permuted_ols_maps(two_sided, model_intercept):
    """Statistic, TFCE, extent and mass of two regressors beside two confounds; types and shapes of all."""
    covariates = np.random.default_rng(1).normal(50, 10, size=(N, 4))
    options = {
        "model_intercept": model_intercept,
        "two_sided_test": two_sided,
        "n_perm": 20,
        "random_state": 0,
        "masker": maskers.NiftiMasker(MASK, standardize=None).fit(),
        "tfce": True,
        "threshold": 0.05,
    }
    Y = data(make_maps(N, 0.5)) + 100
    theirs = mass_univariate.permuted_ols(covariates[:, :2], Y, covariates[:, 2:], **options)
    ours = ng.permuted_ols(covariates[:, :2], Y, covariates[:, 2:], **options)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        assert (ours[name].shape, ours[name].dtype) == (array.shape, array.dtype), name
    for name in ("t", "tfce", "size", "mass"):
        assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert list(ng.permuted_ols(covariates[:, 0], Y, n_perm=0)) == ["t"]


def test_contrast_over_columns():
    """nilearn's permutation test has another t than its own parametric map; ours is the parametric one."""
    maps, X, contrast = make_maps(N, 0.5), DESIGNS["covariates"], [0, 1, -1]
    options = {
        "design_matrix": X,
        "second_level_contrast": contrast,
        "mask": MASK,
        "n_perm": 5,
        "threshold": 0.01,
        "random_state": 0,
    }
    theirs = values(second_level.non_parametric_inference(maps, **options)["t"])
    asked = values(ng.non_parametric_inference(maps, **options, compatibility="nilearn")["t"])
    ours = values(ng.non_parametric_inference(maps, **options)["t"])
    model = ng.SecondLevelModel(mask_img=MASK).fit(maps, design_matrix=X)
    assert_allclose(asked, theirs, rtol=1e-5, atol=1e-5)
    assert_allclose(ours, values(model.compute_contrast(contrast, output_type="stat")), rtol=1e-9)
    assert np.abs(ours - theirs).max() > 0.1


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(
    ("height_control", "alpha", "threshold"),
    [("fpr", 0.01, None), ("fdr", 0.05, None), ("bonferroni", 0.05, None), (None, 0.5, 2.5)],
)
def test_threshold_stats_img(height_control, alpha, threshold, two_sided):
    noise = gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1) * 12
    image = nib.Nifti1Image(noise.astype(np.float32), AFFINE)
    options = {
        "alpha": alpha,
        "threshold": threshold,
        "height_control": height_control,
        "cluster_threshold": 3,
        "two_sided": two_sided,
    }
    theirs, their_height = glm.threshold_stats_img(image, MASK, **options)
    ours, height = ng.threshold_stats_img(image, MASK, **options)
    assert height == pytest.approx(their_height, abs=1e-9)
    assert_array_equal(ours.get_fdata(), theirs.get_fdata())
    assert ours.get_fdata().any()


@pytest.mark.parametrize(("two_sided", "cluster_threshold"), [(True, 0), (True, 5), (False, 0)])
def test_get_clusters_table(two_sided, cluster_threshold):
    noise = gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1) * 8
    image = nib.Nifti1Image(noise.astype(np.float32), AFFINE)
    # So far apart that nilearn's sub-peaks that are close to the main peak don't come up.
    options = {"two_sided": two_sided, "cluster_threshold": cluster_threshold, "min_distance": 100.0}
    theirs, their_labels = reporting.get_clusters_table(image, 1.5, **options, return_label_maps=True)
    ours, labels = ng.get_clusters_table(image, 1.5, **options, return_label_maps=True)
    assert len(ours) > 3
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6)
    for one, other in zip(labels, their_labels, strict=True):
        assert_array_equal(one.get_fdata(), other.get_fdata())


@pytest.mark.parametrize("threshold", [1.5, -1.5])
@pytest.mark.parametrize("min_distance", [4.0, 20.0])
def test_tables_of_sub_peaks(threshold, min_distance):
    """With its choice of them, and its signs."""
    image = nib.Nifti1Image(gaussian_filter(np.random.default_rng(2).normal(size=(16, 14, 12)), 1) * 8, AFFINE)
    options = {"stat_threshold": threshold, "min_distance": min_distance, "two_sided": threshold > 0}
    theirs = reporting.get_clusters_table(image, **options)
    ours = ng.get_clusters_table(image, **options, compatibility="nilearn")
    assert (ours["Cluster Size (mm3)"] == "").sum() > 3
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "added"),
    [
        (ng.SecondLevelModel, second_level.SecondLevelModel, []),
        (ng.SecondLevelModel.fit, second_level.SecondLevelModel.fit, []),
        (ng.SecondLevelModel.compute_contrast, second_level.SecondLevelModel.compute_contrast, []),
        (ng.make_second_level_design_matrix, second_level.make_second_level_design_matrix, []),
        (ng.non_parametric_inference, second_level.non_parametric_inference, ["compatibility"]),
        (ng.permuted_ols, mass_univariate.permuted_ols, ["compatibility"]),
        (ng.threshold_stats_img, glm.threshold_stats_img, []),
        (ng.get_clusters_table, reporting.get_clusters_table, ["compatibility"]),
    ],
)
def test_signatures(ours, theirs, added):
    mine, yours = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    assert list(mine) == [*yours, *added]
    assert [p.default for p in mine.values()][: len(yours)] == [p.default for p in yours.values()]


@pytest.mark.filterwarnings("ignore:overflow")  # in nilearn, which crops the mask
def test_maps_resampled_to_the_mask():
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    finer = turn @ np.diag([2.2, 2.3, 2.4, 1]) + np.outer([-8.0, -10, -8, 0], [0, 0, 0, 1])
    mask = nib.Nifti1Image(np.ones((8, 9, 7), np.uint8), finer)
    maps, X = make_maps(N, 0.5), DESIGNS["covariates"]
    theirs = second_level.SecondLevelModel(mask_img=mask).fit(maps, design_matrix=X)
    with pytest.warns(NumbaglmWarning, match="resampled"):
        ours = ng.SecondLevelModel(mask_img=mask).fit(maps, design_matrix=X)
    with pytest.warns(UserWarning, match="resampled"):
        expected = theirs.compute_contrast("age", output_type="stat").get_fdata()
    inside = ours.mask_img_.get_fdata() > 0
    assert inside.sum() > 300
    got = ours.compute_contrast("age", output_type="stat").get_fdata()
    assert_allclose(got[inside], expected[inside], rtol=1e-5, atol=1e-5)


def test_whole_design():
    """The attributes that hold residuals and predictions, and the results they come from."""
    models = []
    for kind in (second_level.SecondLevelModel, ng.SecondLevelModel):
        model = kind(mask_img=MASK, minimize_memory=False).fit(make_maps(N, 0.5), design_matrix=DESIGNS["covariates"])
        assert model.labels_ is model.results_ is None
        model.compute_contrast("age")
        models.append(model)
    theirs, ours = models
    for name in ("residuals_", "predicted_", "r_square_"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape
        assert_allclose(getattr(ours, name).get_fdata(), getattr(theirs, name).get_fdata(), rtol=1e-5, atol=1e-6)
    assert list(ours.results_) == list(theirs.results_)
    for name in ("theta", "SSE", "MSE", "df_residuals"):
        assert_allclose(getattr(ours.results_[0.0], name), getattr(theirs.results_[0.0], name), rtol=1e-9)


@pytest.mark.filterwarnings("ignore:.*Generation of a mask")
def test_first_level_models():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"task": rng.normal(size=20), "constant": 1.0})
    models = []
    for number in range(6):
        runs = rng.normal(size=(*SHAPE, 20)) + np.multiply.outer(INSIDE, 0.3 * X["task"].to_numpy()) + 100
        model = glm.first_level.FirstLevelModel(mask_img=MASK, subject_label=f"sub-{number}")
        models.append(model.fit(nib.Nifti1Image(runs.astype(np.float32), AFFINE), design_matrices=X))
    confounds = pd.DataFrame({"subject_label": [f"sub-{k}" for k in range(6)][::-1], "age": rng.normal(size=6)})
    theirs = second_level.SecondLevelModel().fit(models, confounds)
    ours = ng.SecondLevelModel().fit(models, confounds)
    pd.testing.assert_frame_equal(ours.design_matrix_, theirs.design_matrix_)
    assert ours.n_elements_ == theirs.n_elements_
    maps = [model.compute_contrast("intercept", "task", output_type="stat") for model in (ours, theirs)]
    assert_allclose(values(maps[0]), values(maps[1]), rtol=1e-4)


@pytest.fixture(scope="module")
def on_surface():
    """Maps at the vertices of the mesh that nilearn brings along."""
    mesh = load_fsaverage("fsaverage5")["pial"]
    rng = np.random.default_rng(0)
    sizes = {part: one.n_vertices for part, one in mesh.parts.items()}
    return [surface.SurfaceImage(mesh, {part: rng.normal(0.3, 1, n) for part, n in sizes.items()}) for _ in range(8)]


def test_surfaces(on_surface):
    X = pd.DataFrame({"age": np.linspace(-1, 1, 8), "intercept": 1.0})
    half = {part: np.arange(len(values)) % 2 for part, values in on_surface[0].data.parts.items()}
    for mask in (None, surface.SurfaceImage(on_surface[0].mesh, half)):
        maps = []
        for kind in (ng.SecondLevelModel, second_level.SecondLevelModel):
            model = kind(mask_img=mask).fit(on_surface, design_matrix=X)
            maps.append(model.compute_contrast("age", output_type="all"))
        for name, theirs in maps[1].items():
            ours = maps[0][name]
            assert type(ours) is type(theirs)
            for part in theirs.data.parts:
                assert ours.data.parts[part].shape == theirs.data.parts[part].shape
                assert_allclose(ours.data.parts[part], theirs.data.parts[part], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"cluster_threshold": 10}, {"cluster_threshold": 5, "two_sided": True}])
def test_clusters_of_surfaces(options):
    image = load_fsaverage_data(mesh_type="inflated")
    options = {"stat_threshold": 1.4, "two_sided": False, **options}
    theirs, their_labels = reporting.get_clusters_table(image, **options, return_label_maps=True)
    ours, labels = ng.get_clusters_table(image, **options, return_label_maps=True)
    positive = (theirs["Peak Stat"] > 0).to_numpy()  # of the others nilearn gives the value nearest to 0
    pd.testing.assert_frame_equal(ours[positive], theirs[positive], check_dtype=False)
    others = [name for name in theirs.columns if name != "Peak Stat"]
    pd.testing.assert_frame_equal(ours[others], theirs[others], check_dtype=False)
    assert (np.sign(ours["Peak Stat"]) == np.sign(theirs["Peak Stat"])).all()
    for one, other in zip(labels, their_labels, strict=True):
        for part in one.data.parts:
            assert_array_equal(one.data.parts[part], other.data.parts[part])
    thresholds = {"threshold": 1.4, "height_control": None, "cluster_threshold": 5}
    got, expected = ng.threshold_stats_img(image, **thresholds)[0], glm.threshold_stats_img(image, **thresholds)[0]
    for part in got.data.parts:
        assert_array_equal(got.data.parts[part], expected.data.parts[part])


def test_estimator():
    """What scikit-learn and nilearn ask of an estimator."""
    base = pytest.importorskip("sklearn.base")
    utils = pytest.importorskip("sklearn.utils")
    ours, theirs = ng.SecondLevelModel(smoothing_fwhm=6.0), second_level.SecondLevelModel(smoothing_fwhm=6.0)
    assert ours.get_params() == theirs.get_params()
    assert ours.set_params(verbose=1).get_params() == theirs.set_params(verbose=1).get_params()
    tags, expected = utils.get_tags(ours), utils.get_tags(theirs)
    assert tags.estimator_type == expected.estimator_type == "glm"
    assert (tags.input_tags.niimg_like, tags.input_tags.surf_img) == (True, True)
    assert base.clone(ours).get_params() == ours.get_params()
    with pytest.raises(utils.validation.NotFittedError):
        utils.validation.check_is_fitted(ours)
    ours.fit(make_maps(N, 0.5), design_matrix=DESIGNS["one-sample"])
    utils.validation.check_is_fitted(ours)
    public = set(vars(theirs.fit(make_maps(N, 0.5), design_matrix=DESIGNS["one-sample"])))
    fitted = {name for name in public if name.endswith("_") and not name.startswith("_")} - {"memory_"}
    assert {name for name in fitted if hasattr(ours, name)} == fitted

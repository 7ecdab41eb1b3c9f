"""The parametric group model as nilearn's users expect it."""

import pickle

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import numbaglm as ng
from numbaglm.errors import ContrastError, DesignError, InputError, NumbaglmWarning
from reference.maps import AFFINE, volumes, write_maps

N = 9
LABELS = [f"sub-{number:02d}" for number in range(1, N + 1)]
AGE = np.linspace(20, 60, N)


def images(seed=0):
    return [nib.Nifti1Image(volume, AFFINE) for volume in volumes(N, seed)]


def design():
    return pd.DataFrame({"age": AGE - AGE.mean(), "intercept": np.ones(N)})


def t_of_the_mean(model):
    return model.compute_contrast("intercept", output_type="stat").get_fdata()


@pytest.fixture(scope="module")
def expected():
    return t_of_the_mean(ng.SecondLevelModel().fit(images(), design_matrix=design()))


def test_one_sample():
    Y = volumes(N)
    model = ng.SecondLevelModel().fit(images(), design_matrix=pd.DataFrame({"intercept": np.ones(N)}))
    maps = model.compute_contrast(output_type="all")
    inside = Y[0] != 0
    t, p = stats.ttest_1samp(Y.astype(float), 0, alternative="greater")
    assert_allclose(maps["stat"].get_fdata()[inside], t[inside], rtol=1e-9)
    assert_allclose(maps["p_value"].get_fdata()[inside], p[inside], rtol=1e-9)
    assert_allclose(maps["z_score"].get_fdata()[inside], stats.norm.isf(p[inside]), rtol=1e-9)
    assert_allclose(maps["effect_size"].get_fdata()[inside], Y.mean(axis=0)[inside], atol=1e-7)
    assert_allclose(maps["effect_variance"].get_fdata()[inside], Y.var(axis=0, ddof=1)[inside] / N, rtol=1e-5)
    assert not any(one.get_fdata()[~inside].any() for one in maps.values())


def test_inputs_agree(tmp_path, expected):
    """Images, paths, a Series, one 4D image, a table in any order, a cohort."""
    paths = write_maps(tmp_path, volumes(N))
    table = pd.DataFrame({"subject_label": LABELS, "map_name": "con", "effects_map_path": map(str, paths)})
    four = nib.Nifti1Image(np.moveaxis(volumes(N), 0, -1), AFFINE)
    for given in (
        images(),
        paths,
        [str(path) for path in paths],
        pd.Series(paths),
        four,
        table,
        ng.Cohort.from_maps(paths),
    ):
        model = ng.SecondLevelModel().fit(given, design_matrix=design())
        assert_array_equal(t_of_the_mean(model), expected)
    with pytest.warns(NumbaglmWarning, match="sorted by subject_label"):
        model = ng.SecondLevelModel().fit(table.sample(frac=1, random_state=0), design_matrix=design())
    assert_array_equal(t_of_the_mean(model), expected)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("index", [True, False])
def test_design_from_a_file(tmp_path, expected, suffix, index):
    path = tmp_path / f"design{suffix}"
    design().to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=index)
    for given in (path, str(path)):
        model = ng.SecondLevelModel().fit(images(), design_matrix=given)
        assert list(model.design_matrix_.columns) == ["age", "intercept"]
        assert_array_equal(t_of_the_mean(model), expected)


def test_design_of_confounds(tmp_path, expected):
    """Only where no design is given; rows follow the labels, which sort the table of maps."""
    table = pd.DataFrame(
        {"subject_label": LABELS, "map_name": "con", "effects_map_path": write_maps(tmp_path, volumes(N))}
    )
    confounds = pd.DataFrame({"subject_label": LABELS, "age": AGE - AGE.mean()})
    model = ng.SecondLevelModel().fit(table[::-1], confounds[::-1])
    assert list(model.design_matrix_.columns) == ["age", "intercept"]
    assert_allclose(t_of_the_mean(model), expected, rtol=1e-12)
    assert list(model.second_level_input_["subject_label"]) == LABELS
    other = confounds.assign(age=1 / AGE)
    assert_array_equal(t_of_the_mean(ng.SecondLevelModel().fit(table, other, design())), expected)
    assert list(ng.SecondLevelModel().fit(table).design_matrix_.columns) == ["intercept"]


def test_several_map_names(tmp_path, expected):
    tables = [
        pd.DataFrame(
            {
                "subject_label": LABELS,
                "map_name": name,
                "effects_map_path": write_maps(tmp_path / name, volumes(N, seed)),
            }
        )
        for seed, name in enumerate(("faces", "houses"))
    ]
    model = ng.SecondLevelModel().fit(pd.concat(tables), design_matrix=design())
    for _ in range(2):  # the second time from memory
        got = model.compute_contrast("intercept", "faces", output_type="stat")
        assert_array_equal(got.get_fdata(), expected)
        other = model.compute_contrast("intercept", "houses", output_type="stat")
        assert not np.allclose(other.get_fdata(), expected)
    with pytest.raises(ContrastError, match=r"faces.*houses"):
        model.compute_contrast("intercept")
    fewer = ng.SecondLevelModel().fit(pd.concat([tables[0], tables[1][:5]]), design_matrix=design())
    with pytest.raises(DesignError, match=r"9 rows.*5 maps"):
        fewer.compute_contrast("intercept", "houses")


def test_attributes():
    model = ng.SecondLevelModel(smoothing_fwhm=4.0).fit(images(), design_matrix=design())
    mask = model.masker_.mask_img_.get_fdata() > 0
    assert model.n_elements_ == mask.sum() == model.cohort_.n_voxels
    assert_array_equal(model.mask_img_.get_fdata(), mask)
    assert list(model.design_matrix_["age"]) == list(AGE - AGE.mean())
    vector = np.arange(model.n_elements_, dtype=float)
    assert_array_equal(model.masker_.inverse_transform(vector).get_fdata()[mask], vector)
    assert model.masker_.inverse_transform(np.stack([vector] * 3)).shape == (*mask.shape, 3)
    assert_array_equal(model.masker_.transform(images()), model.cohort_.store.read(0, model.n_elements_))


def test_mask_as_masker(expected):
    """The mask and the smoothing of a masker are used; what else it would do is refused."""
    fitted = ng.SecondLevelModel(smoothing_fwhm=4.0).fit(images(), design_matrix=design())
    smoothed = t_of_the_mean(fitted)
    assert not np.allclose(smoothed, expected)
    for own in (None, 5.0):
        with pytest.warns(NumbaglmWarning, match=r"Overriding.*smoothing_fwhm=4\.0"):
            again = ng.SecondLevelModel(fitted.masker_, smoothing_fwhm=own).fit(images(), design_matrix=design())
        assert_array_equal(t_of_the_mean(again), smoothed)

    class Standardising:
        mask_img_ = fitted.masker_.mask_img_
        standardize = "zscore_sample"
        inverse_transform = None

    with pytest.raises(InputError, match="standardize"):
        ng.SecondLevelModel(Standardising()).fit(images(), design_matrix=design())


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_what_is_printed(capsys, verbose):
    ng.SecondLevelModel(verbose=verbose).fit(images(), design_matrix=design())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (0, 2, 3)[verbose]
    assert all(line.startswith("[SecondLevelModel.fit] ") for line in lines)
    assert verbose == 0 or "model done in" in lines[-1]
    assert verbose < 2 or "voxels" in lines[1]


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (images()[:1], {"design_matrix": design()[:1]}, InputError, "at least two"),
        (images(), {}, DesignError, "require a design matrix"),
        (None, {}, TypeError, "NoneType"),
        (images(), {"design_matrix": design(), "confounds": [1]}, TypeError, "confounds"),
        (images(), {"design_matrix": design()[:4]}, DesignError, "4 rows.*9"),
        (images(), {"design_matrix": "nowhere.csv"}, FileNotFoundError, "nowhere.csv"),
        (pd.DataFrame({"subject_label": LABELS}), {}, InputError, "effects_map_path"),
        (ng.Cohort.from_maps(images()), {"confounds": design()}, DesignError, "subject_label"),
    ],
)
def test_refused_input(given, options, error, message):
    with pytest.raises(error, match=message):
        ng.SecondLevelModel().fit(given, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"second_level_contrast": None}, ContrastError, "age.*intercept"),
        ({"second_level_contrast": "iq"}, ContrastError, "iq"),
        ({"second_level_contrast": [0, 0]}, ContrastError, "null"),
        ({"second_level_contrast": [1, 0, 0]}, ContrastError, "P=2"),
        ({"second_level_contrast": "age", "output_type": "t"}, InputError, "output_type"),
        ({"second_level_contrast": "age", "second_level_stat_type": "z"}, InputError, "stat_type"),
        ({"second_level_contrast": np.eye(2), "second_level_stat_type": "t"}, ContrastError, "one row"),
    ],
)
def test_refused_contrast(arguments, error, message):
    model = ng.SecondLevelModel().fit(images(), design_matrix=design())
    with pytest.raises(error, match=message):
        model.compute_contrast(**arguments)


def test_not_fitted():
    model = ng.SecondLevelModel(minimize_memory=False)
    with pytest.raises(InputError, match="not fitted"):
        model.compute_contrast("intercept")
    for name in ("masker_", "mask_img_", "n_elements_", "cohort_", "residuals_", "labels_", "results_"):
        assert not hasattr(model, name)


def test_fit_of_the_whole_design():
    """Residuals, predictions and R^2, once a contrast is computed and only if they were asked for."""
    model = ng.SecondLevelModel(minimize_memory=False).fit(images(), design_matrix=design())
    assert model.labels_ is model.results_ is None
    with pytest.raises(ValueError, match="no results"):
        _ = model.residuals_
    model.compute_contrast("age")
    Y, X = volumes(N).astype(float), design().to_numpy()
    predicted = np.tensordot(X @ np.linalg.pinv(X), Y, 1)
    assert_allclose(np.moveaxis(model.predicted_.get_fdata(), -1, 0), predicted, atol=1e-7)
    assert_allclose(np.moveaxis(model.residuals_.get_fdata(), -1, 0), Y - predicted, atol=1e-7)
    assert model.r_square_.shape == (*Y.shape[1:], 1)
    assert_array_equal(model.labels_, np.zeros(model.n_elements_))
    assert model.results_[0.0].theta.shape == (2, model.n_elements_)
    for name in ("residuals", "predicted", "r_square"):
        with pytest.warns(FutureWarning, match=f"{name}_"):
            assert_array_equal(getattr(model, name).get_fdata(), getattr(model, f"{name}_").get_fdata())
    with pytest.raises(InputError, match="'attribute' must be one of"):
        model._get_element_wise_model_attribute("theta", True)
    model.minimize_memory = True
    with pytest.raises(AttributeError, match="minimize_memory"):
        _ = model.residuals_


def test_failed_fit_leaves_the_model_as_it_was(expected):
    model = ng.SecondLevelModel().fit(images(), design_matrix=design())
    with pytest.raises(DesignError):
        model.fit(images(seed=1), design_matrix=design()[:4])
    assert_array_equal(t_of_the_mean(model), expected)


def test_dependent_columns():
    """Degrees of freedom count the rank."""
    X = pd.DataFrame({"a": np.arange(N) % 2, "b": 1 - np.arange(N) % 2, "mean": 1.0})
    with pytest.warns(NumbaglmWarning, match="rank deficient"):
        model = ng.SecondLevelModel().fit(images(), design_matrix=X)
    t = model.compute_contrast("a - b", output_type="stat").get_fdata()
    full = ng.SecondLevelModel().fit(images(), design_matrix=X[["a", "b"]])
    assert_allclose(t, full.compute_contrast("a - b", output_type="stat").get_fdata(), rtol=1e-9)
    assert list(model.design_matrix_.columns) == ["a", "b", "mean"]
    with pytest.raises(ContrastError, match="not estimable"):
        model.compute_contrast("mean")


def test_pickle(expected):
    model = ng.SecondLevelModel(minimize_memory=False).fit(images(), design_matrix=design())
    model.compute_contrast("age")
    twin = pickle.loads(pickle.dumps(model))
    assert_array_equal(t_of_the_mean(twin), expected)
    assert_array_equal(twin.r_square_.get_fdata(), model.r_square_.get_fdata())


def test_saturated_design():
    model = ng.SecondLevelModel().fit(images(), design_matrix=pd.DataFrame(np.eye(N)))
    with pytest.raises(DesignError, match="degrees of freedom"):
        model.compute_contrast(np.eye(N)[0], output_type="stat")


def test_description_of_images():
    model = ng.SecondLevelModel().fit(images(), design_matrix=design())
    assert model.compute_contrast("age").header["descrip"] == b"z_score of contrast age"


def test_small_p_does_not_underflow():
    """float32 ends at 1e-45, and a z made of p at 37."""
    values = 1000 * (volumes(60) != 0) + volumes(60)
    maps = [nib.Nifti1Image(one.astype(np.float32), AFFINE) for one in values]
    model = ng.SecondLevelModel().fit(maps, design_matrix=pd.DataFrame({"intercept": np.ones(60)}))
    out = model.compute_contrast(output_type="all")
    inside = values[0] != 0
    assert 0 < out["p_value"].get_fdata()[inside].max() < 1e-100
    assert np.isfinite(out["z_score"].get_fdata()).all()
    assert out["z_score"].get_fdata()[inside].min() > 20


def test_a_design_without_a_mean_is_warned_of(caplog):
    ng.SecondLevelModel().fit(images(), design_matrix=design()[["age"]])
    assert "add an intercept" in caplog.text

import inspect
import json
from dataclasses import fields

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm import Cohort, permutation_test
from numbaglm.errors import InputError, OutputExistsError
from numbaglm.inference.arguments import INCIDENTAL, Options

# What a durable run is known by: another value of one of these is another run.
DETERMINING = {
    *("n_perm", "two_sided", "cluster_forming_threshold", "tfce", "seed", "errors", "exchangeability_blocks"),
    *("block_scheme", "variance_groups", "variance_smoothing_fwhm", "method", "fwe_across_contrasts", "tail"),
    *("conventions", "tfce_uncorrected", "missing", "regressors", "weights", "between", "test", "stop", "alpha"),
    *("covariance", "adjustment", "dof", "estimator", "visits", "groups", "combine"),
    *("combine_contrasts", "concordant", "combine_weights", "modality_contrast", "shufflings", "correlation"),
    *("effects", "subjects", "kinship", "component_bins", "component_interval"),
}


def test_each_option_either_tells_runs_apart_or_is_named_as_one_that_does_not():
    names = {one.name for one in fields(Options)}
    assert names == DETERMINING | INCIDENTAL
    assert not DETERMINING & INCIDENTAL


def test_the_options_are_those_of_the_call():
    parameters = set(inspect.signature(permutation_test).parameters)
    assert {one.name for one in fields(Options)} == parameters - {"maps", "design_matrix", "contrast", "overrides"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("tail", "gamma"), ("tfce_E", 1.0), ("errors", "ise"), ("block_scheme", "both"), ("two_sided", False)],
)
def test_a_durable_run_goes_on_under_the_same_options_alone(tmp_path, as_cohort, name, value):
    cohort = as_cohort(np.random.default_rng(0).normal(size=(8, 6)))
    blocks = {"exchangeability_blocks": [0, 0, 1, 1, 2, 2, 3, 3]}
    options = {"n_perm": 20, "cluster_forming_threshold": None, "store": tmp_path / "run"} | blocks
    first = permutation_test(cohort, **options)
    again = permutation_test(cohort, **options, progress=False, n_workers=1, p_interval=0.9)
    np.testing.assert_array_equal(first.h0["max_t"], again.h0["max_t"])
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert set(kept) >= DETERMINING
    assert not INCIDENTAL & set(kept)
    with pytest.raises(OutputExistsError, match="conventions" if name == "tfce_E" else name):
        permutation_test(cohort, **options | {name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exchangeability_blocks": None}, "'exchangeability_blocks'.*label for each map"),
        ({"exchangeability_blocks": np.ones((8, 3))}, "tree of 3 levels"),
        ({"adjustment": "HC3"}, "'adjustment'.*none without a sandwich"),
        ({"dof": "naive"}, "'dof'.*none without a sandwich"),
        ({"errors": "ee"}, "'errors'.*change sign, with covariance='binned-gls'"),
        ({"missing": "element"}, "'missing'.*'leave'"),
        ({"weights": np.ones(8)}, "'weights'.*none"),
        ({"variance_groups": [0, 1] * 4}, "'variance_groups'.*same components"),
        ({"effects": ("subject", "error")}, "'effects'.*subjects="),
        ({"component_bins": 0}, "'component_bins'"),
        ({"component_interval": 95}, "'component_interval'"),
        ({"covariance": None, "effects": ("family", "error")}, "'effects'.*None without covariance='binned-gls'"),
        ({"covariance": None, "kinship": np.eye(8)}, "'kinship'.*a ndarray.*None without"),
        ({"covariance": "sandwich", "component_bins": 5}, "'component_bins'.*binned-gls"),
    ],
)
def test_what_contradicts_a_mixed_model_is_refused_by_name(as_cohort, options, message):
    cohort = as_cohort(np.random.default_rng(0).normal(size=(8, 6)))
    asked = {"covariance": "binned-gls", "exchangeability_blocks": [0, 0, 1, 1, 2, 2, 3, 3]} | options
    with pytest.raises(InputError, match=message):
        permutation_test(cohort, **asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance": "kinship"}, "'covariance'.*'sandwich', 'binned-gls', or None"),
        ({"adjustment": "CR2", "covariance": "sandwich"}, "'adjustment'.*'C2'"),
        ({"dof": "kenward", "covariance": "sandwich"}, "'dof'.*satterthwaite"),
        ({"adjustment": "HC3"}, "'adjustment'.*none without a sandwich.*covariance='sandwich'"),
        ({"estimator": "modified"}, "'estimator'.*none without a sandwich"),
        ({"estimator": "swe", "covariance": "sandwich"}, "'estimator'.*classic.*modified"),
        ({"covariance": "sandwich", "visits": [0, 1] * 4}, "'visits'.*estimator='modified'"),
        ({"groups": [0, 1] * 4}, "'groups'.*estimator='modified'"),
        ({"covariance": "sandwich", "estimator": "modified"}, "'exchangeability_blocks'.*person"),
        ({"covariance": "sandwich", "estimator": "modified", "exchangeability_blocks": [0] * 8}, "'visits'.*its visit"),
        ({"covariance": "sandwich", "errors": "ee"}, "'errors'.*change sign"),
        ({"covariance": "sandwich", "block_scheme": "both"}, "'block_scheme'.*whole"),
        ({"covariance": "sandwich", "method": "kennedy"}, "'method'"),
        (
            {"covariance": "sandwich", "missing": "element", "visits": [0, 1] * 4}
            | {"estimator": "modified", "exchangeability_blocks": [0, 0, 1, 1, 2, 2, 3, 3]},
            "'missing'.*'leave' with estimator='modified'",
        ),
        ({"covariance": "sandwich", "weights": "variance"}, "'weights'.*'variance'.*weights of maps"),
        (
            {"covariance": "sandwich", "weights": np.ones(8), "visits": [0, 1] * 4}
            | {"estimator": "modified", "exchangeability_blocks": [0, 0, 1, 1, 2, 2, 3, 3]},
            "'weights'.*estimator='modified'",
        ),
        ({"covariance": "sandwich", "regressors": {"gm": "gm"}}, "'regressors'.*'a dict'.*none"),
        ({"covariance": "sandwich", "variance_groups": [0, 1] * 4}, "'variance_groups'.*each|every"),
        ({"covariance": "sandwich", "variance_smoothing_fwhm": 4.0}, "'variance_smoothing_fwhm'"),
        ({"covariance": "sandwich", "exchangeability_blocks": np.ones((8, 3))}, "tree of 3 levels"),
    ],
)
def test_what_contradicts_a_sandwich_is_refused_by_name(as_cohort, options, message):
    cohort = as_cohort(np.random.default_rng(0).normal(size=(8, 6)))
    with pytest.raises(InputError, match=message):
        permutation_test(cohort, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"exchangeability_blocks": "person"},
            r"'exchangeability_blocks': got 'person'.*one of the covariates \(none\)",
        ),
        ({"exchangeability_blocks": [[0, 1], [2]]}, "'exchangeability_blocks': got 'a list'.*a label for each map"),
        ({"exchangeability_blocks": 3}, "'exchangeability_blocks': got 3.*a label for each map"),
        ({"variance_groups": {"a": 1}}, "'variance_groups': got 'a dict'"),
        ({"covariance": "sandwich", "exchangeability_blocks": [0] * 8}, "one cluster of all maps.*two or more"),
        ({"covariance": "binned-gls", "exchangeability_blocks": ["a"] * 8}, "one cluster of all maps.*two or more"),
        ({"weights": [1, 2, 0, 1, 1, np.nan, 1, 1]}, r"'weights': got '0 in rows 2, 5 \(counted from 0\)'"),
        ({"weights": np.ones((8, 2))}, r"'weights': got 'a ndarray of shape \(8, 2\)'"),
        ({"weights": ["var.nii"] * 8}, r"'weights': got 'a list of str'.*a layer: layers=\{\"variance\": maps\}"),
    ],
)
def test_what_is_no_label_or_weight_of_each_map_is_told_by_what_it_is(as_cohort, options, message):
    cohort = as_cohort(np.random.default_rng(0).normal(size=(8, 6)))
    with pytest.raises(InputError, match=message):
        permutation_test(cohort, **options)


@pytest.mark.parametrize(("typed", "meant"), [("contrasts", "contrast"), ("n_perms", "n_perm"), ("tfce_h", "tfce_H")])
def test_an_option_that_is_misspelt_is_asked_for(typed, meant):
    with pytest.raises(InputError, match=f"Unknown option '{typed}'. Did you mean '{meant}'"):
        permutation_test(None, **{typed: 1})
    with pytest.raises(InputError, match=r"Unknown option\(s\) \['xyz'\]. Beside its own parameters"):
        permutation_test(None, xyz=1)


def test_what_has_a_value_a_map_is_named_as_a_covariate():
    """Blocks, groups, visits, subjects and weights by name are those by value; a layer comes before a covariate."""
    rng = np.random.default_rng(0)
    images = [nib.Nifti1Image(one, np.eye(4)) for one in rng.normal(size=(12, 6, 1, 1))]
    table = pd.DataFrame({"person": np.repeat(list("abcd"), 3), "site": list("xxxxxxyyyyyy"), "n": range(3, 15)})
    table = table.assign(visit=[1, 2, 3] * 4)
    cohort = Cohort.from_maps(images, covariates=table)
    sandwich = {"covariance": "sandwich", "exchangeability_blocks": "person"}
    modified = {"estimator": "modified", "visits": "visit", "groups": "site"}
    for asked in (
        {"exchangeability_blocks": "site", "variance_groups": "site", "errors": "ise"},
        {"exchangeability_blocks": "site", "variance_groups": "auto", "errors": "ise"},
        {"weights": "n", "exchangeability_blocks": "person"},
        sandwich | {"weights": "n"},
        sandwich | modified,
        {"covariance": "binned-gls", "exchangeability_blocks": "site", "subjects": "person"},
    ):
        by_value = {name: table.get(one, one) if name in VALUED else one for name, one in asked.items()}
        found, expected = (permutation_test(cohort, n_perm=20, **one) for one in (asked, by_value))
        assert found.maps.keys() == expected.maps.keys()
        for name, values in expected.maps.items():
            np.testing.assert_array_equal(found.maps[name], values, err_msg=name)
    for name in VALUED - {"subjects", "visits", "groups"}:
        with pytest.raises(
            InputError, match=rf"'{name}': got 'sit'.*covariates \(person, site, n.*Did you mean 'site'"
        ):
            permutation_test(cohort, **{name: "sit"})
    with pytest.raises(InputError, match="between='ml' take variances that are known"):
        permutation_test(cohort, weights="n", between="ml")


VALUED = {"exchangeability_blocks", "variance_groups", "weights", "visits", "groups", "subjects"}

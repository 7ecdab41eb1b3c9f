"""The 30 subjects of Wager et al. (2008): reappraising against looking at negative pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numbaglm import Cohort, permutation_test
from reference.glm import statistic

FOLDER = Path(os.environ.get("NUMBAGLM_DATA", "absent")) / "wager2008"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="NUMBAGLM_DATA names no folder with wager2008"),
]


@pytest.fixture(scope="module")
def cohort():
    return Cohort.from_maps(sorted(FOLDER.glob("*.nii.gz")), covariates=FOLDER / "covariates.tsv")


@pytest.fixture(scope="module")
def effect(cohort):
    return permutation_test(cohort, n_perm=499, cluster_forming_threshold=0.001)


def test_the_mask_and_what_left_it(cohort):
    assert (cohort.n_subjects, cohort.n_voxels) == (30, 75_919)
    assert cohort.geometry.shape == (47, 56, 31)
    np.testing.assert_allclose(cohort.geometry.voxel_sizes, [3.4375, 3.4375, 4.5], atol=0.01)
    (sentence,) = cohort.report
    assert sentence.startswith("5,673 of 81,592 grid voxels are left out: ")
    assert "NaN" in sentence
    assert "reappraisal_success" in cohort.covariates


def test_the_effect(cohort, effect):
    assert effect.provenance["errors"] == "ise"
    assert effect.provenance["left_out"] == list(cohort.report)
    voxels = np.random.default_rng(0).choice(cohort.n_voxels, 500, replace=False)
    Y = cohort.store.read(0, cohort.n_voxels)[:, voxels]
    np.testing.assert_allclose(effect.maps["t"][voxels], statistic(Y, np.ones((30, 1)), [[1.0]]), rtol=1e-9)
    assert np.isfinite(list(effect.maps.values())).all()
    largest = effect.clusters.iloc[0]
    assert largest["sign"] == "+"
    assert largest["p_fwe_size"] == largest["p_fwe_mass"] == 1 / 500
    significant = effect.maps["p_fwe_voxel"] <= 0.05
    assert 100 < significant.sum() < 5000
    assert 4.5 < effect.critical("max_t") < 7.5
    assert (significant == (np.abs(effect.maps["t"]) > effect.critical("max_t"))).all()


def test_the_peak_lies_where_the_statistic_is_largest(effect):
    t = effect.maps["t"]
    peak = effect.geometry.coordinates(np.array([np.abs(t).argmax()]))[0]
    table = effect.clusters
    row = table.loc[table["peak_stat"].abs().idxmax()]
    np.testing.assert_allclose([row["peak_x"], row["peak_y"], row["peak_z"]], peak)
    assert effect.to_nifti("t").shape == (47, 56, 31)


def test_parametric_and_permutation_p_agree(effect):
    # Both estimate the same p of a one-sample test; 500 flips know it to within a few percent.
    p, parametric = effect.maps["p_unc"], effect.maps["p_parametric"]
    middle = (parametric > 0.05) & (parametric < 0.95)
    assert np.abs(p - parametric)[middle].mean() < 0.03
    assert np.corrcoef(p, parametric)[0, 1] > 0.99


def test_the_correlation_with_success(cohort):
    design = pd.DataFrame({"success": cohort.covariates["reappraisal_success"].to_numpy(), "intercept": 1.0})
    result = permutation_test(cohort, design, "success", n_perm=199, memory_limit="1500MB")
    assert result.provenance["errors"] == "ee"
    voxels = np.random.default_rng(0).choice(cohort.n_voxels, 500, replace=False)
    Y = cohort.store.read(0, cohort.n_voxels)[:, voxels]
    np.testing.assert_allclose(result.maps["t"][voxels], statistic(Y, design.to_numpy(), [[1.0, 0.0]]), rtol=1e-8)
    assert result.maps["p_fwe_voxel"].min() <= 0.6

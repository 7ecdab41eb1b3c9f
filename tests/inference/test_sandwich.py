"""Repeated measures through `permutation_test`: visits of people, some of whom drop out."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import numbaglm as ng
from numbaglm.errors import InputError
from reference import sandwich as slow

PERSON = np.repeat(np.arange(8), [3, 3, 2, 3, 1, 3, 2, 3])
VISIT = np.concatenate([[0, 1, 2], [0, 1, 2], [0, 2], [0, 1, 2], [1], [0, 1, 2], [0, 1], [0, 1, 2]])
TABLE = pd.DataFrame(
    {
        "participant_id": [f"sub-{k:02d}" for k in PERSON],
        "session_id": [f"ses-{k}" for k in VISIT],
        "visit": VISIT,
        "group": np.where(PERSON % 2, "b", "a"),
        "age": np.round(30 + 3.7 * PERSON % 11 + VISIT, 1),
    }
)
LABELS = [f"sub-{k:02d}_ses-{v}" for k, v in zip(PERSON, VISIT, strict=True)]
RNG = np.random.default_rng(4)
Y = (RNG.normal(size=(20, 24)) + 1.5 * RNG.normal(size=(8, 24))[PERSON]).astype(np.float32)
ASK = {"covariance": "sandwich", "cluster_forming_threshold": None}


@pytest.fixture(scope="module")
def cohort():
    maps = pd.DataFrame(Y, index=LABELS)
    return ng.Cohort.from_maps(maps, covariates=TABLE.sample(frac=1, random_state=1))


@pytest.mark.parametrize("two_sided", [True, False])
def test_every_flip_of_people_is_a_wild_bootstrap(cohort, two_sided):
    person = cohort.covariates["participant_id"]
    result = ng.permutation_test(
        cohort,
        "~ visit * group + age",
        "visit:group[b]",
        exchangeability_blocks=person,
        two_sided=two_sided,
        **ASK,
    )
    X = pd.DataFrame(result.provenance["design"]["rows"], columns=result.provenance["design"]["columns"])
    C = (X.columns == "visit:group[b]").astype(float)[None]
    signs = (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1))[:, PERSON]
    null = slow.wild_bootstrap(X.to_numpy(), C, Y.astype(float), PERSON, "C2", signs)
    height = np.abs(null) if two_sided else null
    np.testing.assert_allclose(result.maps["t"], null[0], rtol=1e-9)
    np.testing.assert_allclose(np.sort(result.h0["max_t"]), np.sort(height.max(axis=1)), rtol=1e-9)
    reached = (height >= height[0] - 1e-9 * np.maximum(1, np.abs(height[0]))).sum(axis=0)
    np.testing.assert_array_equal(np.rint(256 * result.maps["p_unc"]), reached)
    beta, V = zip(*(slow.sandwich(X.to_numpy(), y, PERSON, "C2") for y in Y.T.astype(float)), strict=True)
    np.testing.assert_allclose(result.maps["effect"], np.array(beta) @ C[0], rtol=1e-6)
    np.testing.assert_allclose(result.maps["effect_se"], np.sqrt([C[0] @ v @ C[0] for v in V]), rtol=1e-6)
    assert result.provenance["dof"] == pytest.approx(slow.satterthwaite(X.to_numpy(), C, PERSON, "C2"))


def test_tables_with_a_column_of_labels_are_those_of_the_maps(cohort):
    given = pd.DataFrame({"subject_label": LABELS, "person": PERSON, "w": np.linspace(1, 2, 20)})
    ask = {"n_perm": 20, **ASK}
    plain = {"exchangeability_blocks": PERSON, "weights": given["w"].to_numpy()}
    turned = {
        "exchangeability_blocks": given[["subject_label", "person"]].iloc[::-1],
        "weights": given[["w", "subject_label"]].sample(frac=1, random_state=2),
    }
    one = ng.permutation_test(cohort, "~ visit", "visit", **plain, **ask)
    two = ng.permutation_test(cohort, "~ visit", "visit", **turned, **ask)
    np.testing.assert_array_equal(one.h0["max_t"], two.h0["max_t"])
    with pytest.raises(InputError, match="tree of 2 levels"):
        ng.permutation_test(cohort, "~ visit", "visit", exchangeability_blocks=given, **ask)


def test_random_flips_and_what_follows_of_them_do_not_depend_on_how_work_is_cut(cohort):
    options = {"exchangeability_blocks": cohort.covariates["participant_id"], "n_perm": 99, "seed": 3, **ASK}
    contrast = ["visit", "visit:group[b]"]
    one = ng.permutation_test(cohort, "~ visit * group + age", contrast, n_workers=1, **options)
    two = ng.permutation_test(cohort, "~ visit * group + age", contrast, n_workers=2, memory_limit="8GB", **options)
    np.testing.assert_array_equal(one.h0["max_f"], two.h0["max_f"])
    assert one.provenance["precision"] == "float32"
    assert one.h0["max_f"][0] == pytest.approx(one.maps["f"].max(), rel=1e-4)
    assert "effect_se" not in one.maps


def test_single_and_double_precision_count_alike(cohort):
    person = cohort.covariates["participant_id"]
    options = {"exchangeability_blocks": person, **ASK}
    every = ng.permutation_test(cohort, "~ visit * group", "visit", **options)
    some = ng.permutation_test(cohort, "~ visit * group", "visit", n_perm=254, **options)  # all but one of them
    assert some.provenance["precision"] == "float32"
    assert np.abs(np.rint(256 * every.maps["p_unc"]) - np.rint(255 * some.maps["p_unc"])).max() <= 1


def test_contrasts_share_their_flips(cohort):
    both = ng.permutation_test(
        cohort,
        "~ visit * group",
        {"slope": "visit", "difference": "visit:group[b]"},
        exchangeability_blocks=cohort.covariates["participant_id"],
        fwe_across_contrasts=True,
        **ASK,
    )
    over = [one.h0["max_z_contrasts"] for one in both.values()]
    np.testing.assert_array_equal(*over)


def test_few_clusters_are_told_of_where_flips_are_approximate(cohort, caplog):
    options = {"exchangeability_blocks": cohort.covariates["participant_id"], **ASK}
    ng.permutation_test(cohort, "~ visit", "visit", **options)
    assert "8 clusters are few" in caplog.text
    caplog.clear()
    modified = {"estimator": "modified", "visits": cohort.covariates["session_id"]}
    ng.permutation_test(cohort, "~ visit", "visit", **options, **modified)
    assert "error rates of t between 3 and 10 % were measured with 8 clusters" in caplog.text
    caplog.clear()
    ng.permutation_test(cohort, **options)  # a mean alone is exact
    assert not caplog.text


@pytest.mark.parametrize("two_sided", [True, False])
def test_every_flip_of_people_with_shared_covariances_of_visits(cohort, two_sided):
    table = cohort.covariates
    groups = table["group"].to_numpy()
    result = ng.permutation_test(
        cohort,
        "~ visit * group + age",
        "visit:group[b]",
        exchangeability_blocks=table["participant_id"],
        estimator="modified",
        visits=table["session_id"],
        groups=table["group"],
        two_sided=two_sided,
        **ASK,
    )
    X = pd.DataFrame(result.provenance["design"]["rows"], columns=result.provenance["design"]["columns"])
    C = (X.columns == "visit:group[b]").astype(float)[None]
    signs = (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1))[:, PERSON]
    null = slow.wild_bootstrap(X.to_numpy(), C, Y.astype(float), PERSON, "C2", signs, VISIT, groups)
    height = np.abs(null) if two_sided else null
    np.testing.assert_allclose(result.maps["t"], null[0], rtol=1e-8)
    np.testing.assert_allclose(np.sort(result.h0["max_t"]), np.sort(height.max(axis=1)), rtol=1e-8)
    reached = (height >= height[0] - 1e-9 * np.maximum(1, np.abs(height[0]))).sum(axis=0)
    np.testing.assert_array_equal(np.rint(256 * result.maps["p_unc"]), reached)
    variances = [slow.of_visits(X.to_numpy(), y, PERSON, "C2", VISIT, groups)[1] for y in Y.T.astype(float)]
    np.testing.assert_allclose(result.maps["effect_se"], np.sqrt([C[0] @ v @ C[0] for v in variances]), rtol=1e-6)
    assert result.asked.n_groups == 2
    assert result.asked.n_visits == 3


def test_shared_covariances_do_not_depend_on_how_work_is_cut(cohort):
    table = cohort.covariates
    options = {
        "exchangeability_blocks": table["participant_id"],
        "estimator": "modified",
        "visits": table["session_id"],
        "n_perm": 99,
        "seed": 3,
        **ASK,
    }
    contrast = ["visit", "visit:group[b]"]
    one = ng.permutation_test(cohort, "~ visit * group + age", contrast, n_workers=1, **options)
    two = ng.permutation_test(cohort, "~ visit * group + age", contrast, n_workers=2, memory_limit="8GB", **options)
    np.testing.assert_array_equal(one.h0["max_f"], two.h0["max_f"])
    assert one.provenance["precision"] == "float64"  # few people
    assert one.h0["max_f"][0] == pytest.approx(one.maps["f"].max(), rel=1e-9)


def test_weights_of_maps_through_the_engine(cohort):
    table = cohort.covariates
    weights = pd.Series(np.linspace(0.5, 2.0, 20), index=LABELS)
    result = ng.permutation_test(
        cohort,
        "~ visit * group",
        "visit:group[b]",
        exchangeability_blocks=table["participant_id"],
        weights=weights.sample(frac=1, random_state=0),
        **ASK,
    )
    X = pd.DataFrame(result.provenance["design"]["rows"], columns=result.provenance["design"]["columns"])
    C, root = (X.columns == "visit:group[b]").astype(float)[None], np.sqrt(weights.to_numpy())[:, None]
    signs = (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1))[:, PERSON]
    null = slow.wild_bootstrap(X.to_numpy() * root, C, Y * root, PERSON, "C2", signs)
    np.testing.assert_allclose(np.sort(result.h0["max_t"]), np.sort(np.abs(null).max(axis=1)), rtol=1e-7)
    assert result.asked.weighted_by == "subjects"
    with pytest.raises(InputError, match="one for each of the 20"):
        ng.permutation_test(cohort, "~ visit", "visit", weights=np.ones(19), **ASK)


@pytest.fixture(scope="module")
def with_gaps():
    """Maps of a volume in which some visits lack some voxels, and which values are there."""
    present = np.random.default_rng(6).random((20, 24)) > 0.15
    present[:, :8] = True
    present[:, 9] = present[:, 8]
    maps = np.where(present, Y, np.nan).T.reshape(4, 3, 2, 20)
    image = nib.Nifti1Image(maps.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    return ng.Cohort.from_maps(image, min_subjects=0.5), present


def test_every_flip_of_voxels_with_the_visits_that_they_have(with_gaps):
    cohort, present = with_gaps
    table = pd.DataFrame({"one": 1.0, "visit": VISIT.astype(float), "group": PERSON % 2})
    result = ng.permutation_test(
        cohort,
        table,
        "visit",
        exchangeability_blocks=PERSON,
        missing="element",
        **ASK | {"cluster_forming_threshold": ("z", 0.5)},
        tfce=True,
    )
    C = np.array([[0.0, 1, 0]])
    signs = (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1))[:, PERSON]
    null = slow.incomplete(Y.astype(float), present, table.to_numpy(), C, PERSON, "C2", signs)
    np.testing.assert_allclose(result.maps["t"], null[0], rtol=1e-8)
    height = np.abs(null)
    reached = (height >= height[0] - 1e-9 * np.maximum(1, height[0])).sum(axis=0)
    np.testing.assert_array_equal(np.rint(256 * result.maps["p_unc"]), reached)
    dof = result.maps["dof"]
    z = stats.norm.isf(stats.t.sf(height, dof))
    np.testing.assert_allclose(np.sort(result.h0["max_z"]), np.sort(z.max(axis=1)), rtol=1e-7)
    assert len(np.unique(dof)) > 5
    np.testing.assert_array_equal(result.maps["n_subjects"], present.sum(axis=0))
    assert (result.h0["max_size"] > 0).any()
    assert (result.h0["max_tfce"] > 0).all()


def test_every_flip_of_several_rows_at_voxels_with_the_visits_that_they_have(with_gaps):
    cohort, present = with_gaps
    table = pd.DataFrame({"one": 1.0, "visit": VISIT.astype(float), "group": PERSON % 2})
    ask = {"exchangeability_blocks": PERSON, "missing": "element", **ASK}
    result = ng.permutation_test(cohort, table, ["visit", "group"], **ask)
    signs = (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1))[:, PERSON]
    null = slow.incomplete(Y.astype(float), present, table.to_numpy(), np.eye(3)[1:], PERSON, "C2", signs)
    dof = result.maps["dof"]
    np.testing.assert_allclose(result.maps["f"], null[0] * dof / (2 * (dof + 1)), rtol=1e-8)
    reached = (null >= null[0] - 1e-9 * np.maximum(1, null[0])).sum(axis=0)
    np.testing.assert_array_equal(np.rint(256 * result.maps["p_unc"]), reached)
    np.testing.assert_allclose(result.maps["p_parametric"], stats.f.sf(result.maps["f"], 2, dof), rtol=1e-6)
    assert dof[present.all(axis=0)] == pytest.approx(result.provenance["dof"])


def test_a_cohort_that_kept_no_gaps_is_told_of(with_gaps, cohort, caplog):
    ask = {"missing": "element", "n_perm": 5, **ASK}
    ng.permutation_test(with_gaps[0], **ask)
    assert "min_subjects" not in caplog.text
    ng.permutation_test(cohort, **ask)
    assert "made without min_subjects=" in caplog.text


def test_gaps_do_not_depend_on_how_work_is_cut(with_gaps, tmp_path):
    cohort, _ = with_gaps
    table = pd.DataFrame({"one": 1.0, "visit": VISIT.astype(float), "group": PERSON % 2})
    options = {"exchangeability_blocks": PERSON, "missing": "element", "n_perm": 99, "tfce": True, **ASK}
    one = ng.permutation_test(cohort, table, ["visit", "group"], n_workers=1, **options)
    two = ng.permutation_test(cohort, table, ["visit", "group"], n_workers=2, store=tmp_path / "run", **options)
    assert one.provenance["precision"] == "float32"
    for name, null in one.h0.items():
        np.testing.assert_array_equal(null, two.h0[name])
    assert one.h0["max_z"][0] == pytest.approx(one.maps["z"].max(), rel=1e-4)

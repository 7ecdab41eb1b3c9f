"""Mixed models through `permutation_test`: families whose members have visits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.errors import InputError, OutputExistsError
from reference import components as slow

FAMILY = np.repeat(np.arange(8), [3, 3, 2, 3, 1, 3, 2, 4])
PERSON = np.array([f"p{k}" for k in [0, 0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 9, 10, 11, 11, 12, 12, 13, 13]])
N = len(FAMILY)
RNG = np.random.default_rng(4)
Y = (RNG.normal(size=(N, 24)) + np.linspace(0, 3, 24) * RNG.normal(size=(8, 24))[FAMILY]).astype(np.float32)
TABLE = pd.DataFrame({"person": PERSON, "family": FAMILY, "age": RNG.normal(size=N), "sex": FAMILY % 2 * 1.0})
ASK = {"covariance": "binned-gls", "exchangeability_blocks": FAMILY, "cluster_forming_threshold": None}
X = np.column_stack([np.ones(N), TABLE.age, TABLE.sex])


@pytest.fixture(scope="module")
def cohort():
    maps = pd.DataFrame(Y, index=[f"map-{k:02d}" for k in range(N)])
    return ng.Cohort.from_maps(maps, covariates=TABLE.assign(subject_label=maps.index))


@pytest.mark.parametrize(("contrast", "C"), [("age", [[0.0, 1, 0]]), (["age", "sex"], [[0.0, 1, 0], [0, 0, 1]])])
def test_every_flip_of_families_is_a_fit_of_whitened_data(cohort, contrast, C):
    result = ng.permutation_test(cohort, "~ age + sex", contrast, subjects="person", **ASK)
    effects = ("family", "subject", "error")
    assert result.provenance["gls"] == {"effects": list(effects), "bins": 20, "interval": None}
    C, matrices = np.array(C), slow.matrices_of(effects, FAMILY, PERSON)
    Z = X @ np.linalg.svd(C)[2][len(C) :].T
    shares = np.array([slow.shares(y, Z, matrices) for y in Y.T.astype(float)])
    np.testing.assert_allclose([result.maps[f"share_{one}"] for one in effects], shares.T, atol=1e-8)
    signs = (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1))[:, FAMILY]
    covariances = [np.tensordot(slow.bins_of(one, 20), matrices, 1) for one in shares]
    null = np.abs([slow.flipped(X, C, y, V, signs) for y, V in zip(Y.T.astype(float), covariances, strict=True)]).T
    name = result.statistic
    np.testing.assert_allclose(np.abs(result.maps[name]), null[0], rtol=1e-8)
    np.testing.assert_allclose(np.sort(result.h0[f"max_{name}"]), np.sort(null.max(axis=1)), rtol=1e-8)
    reached = (null >= null[0] - 1e-9 * np.maximum(1, null[0])).sum(axis=0)
    np.testing.assert_array_equal(np.rint(256 * result.maps["p_unc"]), reached)


def test_what_follows_does_not_depend_on_how_work_is_cut(cohort):
    options = {"n_perm": 99, "seed": 3, "component_interval": 0.9, "component_bins": 5, **ASK}
    one = ng.permutation_test(cohort, "~ age + sex", "age", n_workers=1, **options)
    two = ng.permutation_test(cohort, "~ age + sex", "age", n_workers=2, memory_limit="8GB", **options)
    assert one.provenance["precision"] == "float32"
    for name in ("t", "p_unc", "share_family", "share_family_lower", "share_error_upper"):
        np.testing.assert_array_equal(one.maps[name], two.maps[name])
    np.testing.assert_array_equal(one.h0["max_t"], two.h0["max_t"])


def test_a_mean_of_clusters_alike_is_that_of_their_means(cohort):
    # Of clusters of one size whose maps differ in nothing, t of a mean is that of the means of the clusters: weights
    # are the same for any shares, and so are flips.
    maps = pd.DataFrame(np.tile(Y[:9, None], (1, 2, 1)).reshape(18, -1) + 0.1 * RNG.normal(size=(18, 24)))
    block = np.repeat(np.arange(9), 2)
    gls = ng.permutation_test(maps, **ASK | {"exchangeability_blocks": block})
    np.testing.assert_allclose(gls.maps["effect"], maps.mean(), rtol=1e-4, atol=1e-6)
    assert gls.asked.n_shufflings == 512


def test_kinship_and_what_is_told_of_it(cohort):
    kinship = np.where(PERSON[:, None] == PERSON, 1.0, 0.5 * (FAMILY[:, None] == FAMILY))
    members = [np.flatnonzero(np.equal(FAMILY, k)) for k in range(8)]
    by_family = {k: kinship[np.ix_(rows, rows)] for k, rows in enumerate(members)}
    ask = {"effects": ("kinship", "error"), "n_perm": 50, **ASK}
    one = ng.permutation_test(cohort, "~ age", "age", kinship=by_family, **ask)
    two = ng.permutation_test(cohort, "~ age", "age", kinship=kinship, **ask)
    np.testing.assert_array_equal(one.maps["share_kinship"], two.maps["share_kinship"])
    assert "21 maps in 8 clusters" in one.summary()


def test_a_durable_run_knows_its_kinship(cohort, tmp_path):
    kinship = np.where(PERSON[:, None] == PERSON, 1.0, 0.5 * (FAMILY[:, None] == FAMILY))
    ask = {"effects": ("kinship", "error"), "n_perm": 20, "store": tmp_path / "run", **ASK}
    first = ng.permutation_test(cohort, "~ age", "age", kinship=kinship, **ask)
    again = ng.permutation_test(cohort, "~ age", "age", kinship=2 * kinship, **ask)
    np.testing.assert_array_equal(first.maps["t"], again.maps["t"])
    with pytest.raises(OutputExistsError, match="kinship"):
        ng.permutation_test(cohort, "~ age", "age", kinship=kinship + np.eye(N), **ask)


def test_clusters_and_tfce_of_the_same_flips(as_cohort):
    volume = as_cohort(Y, np.ones((4, 3, 2), bool))
    ask = ASK | {"cluster_forming_threshold": ("t", 1.5), "tfce": True, "tail": "pareto", "n_perm": 120}
    one = ng.permutation_test(volume, X[:, [1, 0]], [1, 0], **ask)
    assert {"max_t", "max_size", "max_mass", "max_tfce"} <= set(one.h0)
    assert one.h0["max_tfce"][0] == pytest.approx(np.abs(one.maps["tfce"]).max(), rel=1e-5)
    assert {"p_fwe_size", "source_fwe_voxel", "tdp", "share_family"} <= set(one.maps)


def test_intervals_of_the_effect_are_its_own_and_flips_of_least_squares_are_refused(cohort):
    one = ng.permutation_test(cohort, "~ age", "age", n_perm=20, **ASK)
    np.testing.assert_allclose(one.interval(0.95).lower, one.maps["effect_lower"], rtol=1e-9)
    with pytest.raises(InputError):
        one.interval(0.95, simultaneous=True, cohort=cohort)


def test_few_clusters_are_told_of_where_flips_are_approximate(cohort, caplog):
    ng.permutation_test(cohort, "~ age", "age", n_perm=20, **ASK)
    assert "8 clusters are few for a mixed model" in caplog.text
    caplog.clear()
    ng.permutation_test(cohort, n_perm=20, **ASK)  # a mean alone is exact
    assert not caplog.text


def test_modalities_share_their_flips(cohort):
    ask = {"n_perm": 30, **ASK}
    both = ng.permutation_test({"a": cohort, "b": cohort}, "~ age", "age", **ask)
    np.testing.assert_array_equal(both["a"].maps["p_fwe_voxel_modalities"], both["a"].maps["p_fwe_voxel"])

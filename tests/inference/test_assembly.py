from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from numbaglm import permutation_test
from numbaglm.stats import pvalues


def cohort_of(as_cohort, n=10, n_voxels=40, seed=0):
    return as_cohort(np.random.default_rng(seed).normal(0.4, 1, size=(n, n_voxels)))


@pytest.mark.parametrize("two_sided", [False, True])
def test_corrected_p_follow_from_the_nulls(as_cohort, two_sided):
    result = permutation_test(
        cohort_of(as_cohort), n_perm=200, two_sided=two_sided, cluster_forming_threshold=0.1, tfce=True
    )
    maps, h0, n = result.maps, result.h0, 201
    seen = np.abs(maps["t"]) if two_sided else maps["t"]
    # Nulls are stored in the kernels' precision: nothing lies that close to a statistic but what equals it.
    for p, observed, null in (
        (maps["p_fwe_voxel"], seen, h0["max_t"]),
        (maps["p_fwe_tfce"], np.abs(maps["tfce"]), h0["max_tfce"]),
        (result.clusters["p_fwe_size"], result.clusters["size_voxels"], h0["max_size"]),
        (result.clusters["p_fwe_mass"], result.clusters["mass"], h0["max_mass"]),
    ):
        expected = [(null >= value - 1e-5 * abs(value)).sum() / n for value in observed]
        np.testing.assert_allclose(p, expected, rtol=1e-12)
    np.testing.assert_allclose(maps["p_fdr"], pvalues.fdr(maps["p_unc"]))
    parametric = stats.t.sf(seen, 9) * (2 if two_sided else 1)
    np.testing.assert_allclose(maps["p_parametric"], parametric, rtol=1e-9)
    np.testing.assert_allclose(stats.norm.sf(np.abs(maps["z"])), stats.t.sf(np.abs(maps["t"]), 9), rtol=1e-8)
    np.testing.assert_allclose(maps["effect"].mean(), 0.4, atol=0.2)


def test_voxels_without_a_cluster_have_p_1(as_cohort):
    result = permutation_test(cohort_of(as_cohort), n_perm=50, cluster_forming_threshold=("t", 2.0))
    below = np.abs(result.maps["t"]) < 2
    assert below.any()
    for kind in ("size", "mass"):
        assert (result.maps[f"p_fwe_{kind}"][below] == 1).all()
        assert result.maps[kind][below].tolist() == [0] * below.sum()
        assert (result.maps[kind][~below] > 0).all()


def test_clusters_of_each_sign_apart(as_cohort):
    Y = np.random.default_rng(0).normal([3, 3, -3, -3, -3, 0, 3], 0.1, size=(8, 7))
    table = permutation_test(as_cohort(Y), n_perm=500, cluster_forming_threshold=("t", 10.0)).clusters
    assert table[["sign", "size_voxels"]].values.tolist() == [["-", 3], ["+", 2], ["+", 1]]
    assert table["size_mm3"].tolist() == [81.0, 54.0, 27.0]
    assert (table["peak_stat"] > 0).tolist() == [False, True, True]
    assert table["peak_y"].tolist() == [0.0] * 3
    assert table["peak_x"].iloc[2] == 18.0


def test_correction_over_contrasts(as_cohort):
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"x": rng.normal(size=10), "age": rng.normal(size=10), "intercept": 1.0})
    cohort = cohort_of(as_cohort)
    options = {"n_perm": 100, "cluster_forming_threshold": ("t", 1.5), "tfce": True, "p_interval": 0.9}
    both = permutation_test(cohort, design, {"x": "x", "age": "age"}, fwe_across_contrasts=True, **options)
    for name, result in both.items():
        for kind in ("voxel", "size", "mass", "tfce"):
            joint, alone = result.maps[f"p_fwe_{kind}_contrasts"], result.maps[f"p_fwe_{kind}"]
            assert (joint >= alone - 1e-12).all(), (name, kind)
        table = result.clusters
        peaks = np.rint(table["peak_x"] / 3).astype(int)  # the voxels are a row
        for kind in ("voxel", "size", "mass"):
            np.testing.assert_array_equal(
                table[f"p_fwe_{kind}_contrasts"], result.maps[f"p_fwe_{kind}_contrasts"][peaks]
            )
        for kind in ("size", "mass"):
            lower, p, upper = (table[f"p_fwe_{kind}_contrasts{end}"] for end in ("_lower", "", "_upper"))
            assert ((lower < p) & ((p < upper) | (upper == 1))).all()
        assert (result.maps["p_fwe_tfce_contrasts_upper"] >= result.maps["p_fwe_tfce_contrasts"]).all()
        n_voxels, n_tfce = (int((result.maps[f"p_fwe_{kind}_contrasts"] <= 0.05).sum()) for kind in ("voxel", "tfce"))
        n_size, n_mass = (int((table[f"p_fwe_{kind}_contrasts"] <= 0.05).sum()) for kind in ("size", "mass"))
        assert result.summary().splitlines()[-1] == (
            f"with FWE p <= 0.05 over all contrasts: {n_voxels} voxels, {n_size} clusters by size, {n_mass} "
            f"clusters by mass, {n_tfce} voxels by TFCE"
        )
        z = [one.maps["z"] for one in both.values()]
        assert result.h0["max_z_contrasts"][0] == pytest.approx(np.abs(z).max(), rel=1e-5)
        for kind in ("size", "mass", "tfce"):
            nulls = [one.h0[f"max_{kind}"] for one in both.values()]
            np.testing.assert_array_equal(result.h0[f"max_{kind}_contrasts"], np.maximum(*nulls))
    # One null for all: the smallest p is that of the largest z of any contrast.
    least = min((one.maps["p_fwe_voxel_contrasts"].min(), name) for name, one in both.items())
    assert least[1] == max((np.abs(one.maps["z"]).max(), name) for name, one in both.items())[1]


def test_the_provenance_determines_the_result(as_cohort):
    design = pd.DataFrame({"x": np.arange(10.0), "intercept": 1.0})
    cohort = cohort_of(as_cohort)
    found = permutation_test(cohort, design, "x", n_perm=30, seed=7, cluster_forming_threshold=("t", 2.5)).provenance
    assert json.loads(json.dumps(dict(found))) == dict(found)
    expected = {
        "contrast": {"name": "x", "weights": [[1.0, 0.0]]},
        "statistic": "t",
        "dof": 8,
        "two_sided": True,
        "cluster_forming_threshold": ["t", 2.5],
        "n_perm": 30,
        "n_shufflings": 31,
        "exhaustive": False,
        "errors": "ee",
        "seed": 7,
        "method": "freedman-lane",
        "precision": "float32",
        "n_subjects": 10,
        "n_voxels": 40,
        "subjects": cohort.subjects,
        "cohort_fingerprint": cohort.fingerprint,
        "design": {"columns": ["x", "intercept"], "rows": design.to_numpy().tolist()},
    }
    assert {name: found[name] for name in expected} == expected
    assert found["cluster_forming_statistic"] == pytest.approx(2.5)
    assert found["conventions"]["name"] == "numbaglm"


def test_nilearn_s_way_to_count_cluster_p_stays_off_0_and_1(as_cohort):
    result = permutation_test(cohort_of(as_cohort), n_perm=50, cluster_forming_threshold=0.2, conventions="nilearn")
    for kind in ("size", "mass"):
        p = result.maps[f"p_fwe_{kind}"]
        assert p.min() >= 1 / 50
        assert p.max() <= 1 - 1 / 50
        observed, null = result.clusters["size_voxels" if kind == "size" else kind], result.h0[f"max_{kind}"][1:]
        expected = [np.clip(np.mean(null >= value * (1 - 1e-5)), 0.02, 0.98) for value in observed]
        np.testing.assert_allclose(result.clusters[f"p_fwe_{kind}"], expected)


def test_a_single_shuffling_makes_no_cluster_p_of_0(as_cohort):
    result = permutation_test(cohort_of(as_cohort), n_perm=1, cluster_forming_threshold=0.2, conventions="nilearn")
    assert len(result.clusters)
    assert (result.maps["p_fwe_size"] == 1).all()
    assert (result.maps["p_fwe_mass"] == 1).all()


def test_without_shufflings_nothing_is_corrected_over_contrasts(as_cohort):
    design = pd.DataFrame({"x": np.arange(10.0), "age": np.arange(10) % 3, "intercept": 1.0})
    contrasts = {"x": "x", "age": "age"}
    both = permutation_test(cohort_of(as_cohort), design, contrasts, n_perm=0, fwe_across_contrasts=True)
    for result in both.values():
        assert not result.h0
        assert not any("contrasts" in name for name in result.maps)


def test_effect_sizes(as_cohort):
    rng = np.random.default_rng(0)
    n, group = 16, np.arange(16) // 8
    Y = rng.normal(size=(n, 30)).astype(np.float32).astype(np.float64) + group[:, None]
    M = np.column_stack([group, 1 - group, rng.normal(size=n)])
    design = pd.DataFrame(M, columns=["a", "b", "age"])
    options = {"n_perm": 0, "cluster_forming_threshold": None}
    found = permutation_test(as_cohort(Y), design, "a - b", **options).maps
    Y = np.asarray(Y, np.float32).astype(np.float64)
    beta = np.linalg.lstsq(M, Y, rcond=None)[0]
    sigma = np.sqrt(((Y - M @ beta) ** 2).sum(axis=0) / 13)
    effect, error = beta[0] - beta[1], sigma * np.sqrt(np.array([1, -1, 0]) @ np.linalg.inv(M.T @ M) @ [1, -1, 0])
    reach = stats.t.ppf(0.975, 13) * error
    expected = {
        "effect": effect,
        "effect_se": error,
        "effect_lower": effect - reach,
        "effect_upper": effect + reach,
        "cohens_d": effect / sigma,
        "partial_r2": (effect / error) ** 2 / ((effect / error) ** 2 + 13),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found["hedges_g"], found["cohens_d"] * (1 - 3 / (4 * 13 - 1)), rtol=2e-3)

    f = permutation_test(as_cohort(Y), design, ["a - b", "age"], **options).maps
    rss = [((Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]) ** 2).sum(axis=0) for X in (np.ones((n, 1)), M)]
    np.testing.assert_allclose(f["partial_r2"], 1 - rss[1] / rss[0], rtol=1e-6)
    assert not {"effect_se", "cohens_d"} & set(f)

    few = np.delete(np.arange(n), [0, 1, 2])  # groups of unlike size, where Welch's error is another than the pooled
    Y, group, design = Y[few], group[few], design.iloc[few]
    v = permutation_test(as_cohort(Y), design[["a", "b"]], "a - b", variance_groups=group, **options).maps
    sizes = np.array([[8.0], [5.0]])
    means = [Y[group == g].mean(axis=0) for g in (1, 0)]
    variances = np.stack([Y[group == g].var(axis=0, ddof=1) for g in (1, 0)])
    np.testing.assert_allclose(v["effect_se"], np.sqrt((variances / sizes).sum(axis=0)), rtol=1e-6)
    pooled = np.sqrt(((sizes - 1) * variances).sum(axis=0) / 11)
    np.testing.assert_allclose(v["cohens_d"], (means[0] - means[1]) / pooled, rtol=1e-6, atol=1e-9)
    assert "effect_lower" not in v


def test_effect_sizes_where_nothing_varies_are_0(as_cohort):
    Y = np.random.default_rng(0).normal(size=(8, 3))
    Y[:, 1] = 2.0
    design = pd.DataFrame({"x": np.arange(8.0), "one": 1.0})
    maps = permutation_test(as_cohort(Y), design, "x", n_perm=10, cluster_forming_threshold=None).maps
    for name in ("effect_se", "cohens_d", "hedges_g", "partial_r2"):
        assert maps[name][1] == 0
        assert (maps[name][[0, 2]] != 0).all()


def test_parametric_p_corrected(as_cohort):
    maps = permutation_test(cohort_of(as_cohort), n_perm=0).maps
    np.testing.assert_array_equal(maps["p_bonferroni"], np.minimum(40 * maps["p_parametric"], 1))
    np.testing.assert_array_equal(maps["p_fdr_parametric"], pvalues.fdr(maps["p_parametric"]))
    bky = permutation_test(cohort_of(as_cohort), n_perm=0, conventions="palm").maps
    np.testing.assert_array_equal(bky["p_fdr_parametric"], pvalues.fdr_bky(bky["p_parametric"]))

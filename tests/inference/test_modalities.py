"""Several modalities in one call, against refitting every shuffling."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.data.cohort.store import CohortStore
from numbaglm.errors import ContrastError, InputError, MaskError, NumbaglmWarning
from numbaglm.results.discoveries import bound_of
from numbaglm.results.reporting.words import methods_paragraph
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.discoveries import ari
from numbaglm.stats.families.multivariate import STATISTICS
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis
from reference import multivariate as twin
from reference.reports import asked

N, SHAPE = 7, (3, 2, 2)
GROUP = np.array([0, 0, 0, 1, 1, 2, 2])
CONFOUND = np.array([0.3, -1.0, 0.8, 0.1, 1.4, -0.6, -0.2])
DESIGN = np.column_stack([GROUP == 0, GROUP == 1, GROUP == 2, CONFOUND]).astype(float)
T, F = np.array([[1.0, -1, 0, 0]]), np.array([[1.0, -1, 0, 0], [0, 1, -1, 0]])


def cohort(Y, labels=None, mask=None, **options):
    mask = np.ones(SHAPE, bool) if mask is None else mask
    where = Geometry(mask, np.diag([2.0, 2, 2, 1]))
    labels = [f"s{i}" for i in range(len(Y))] if labels is None else labels
    return ng.Cohort(CohortStore.from_array(Y, where, subjects=labels, **options))


def test_a_formula_makes_one_design_of_all_modalities(data):
    def named(Y, **covariates):
        maps = pd.DataFrame(Y, index=[f"s{i}" for i in range(N)])
        table = None if not covariates else pd.DataFrame({"subject_label": maps.index, **covariates})
        return ng.Cohort.from_maps(maps, covariates=table)

    one, two = data.values()
    first = named(one, dose=CONFOUND, motion=GROUP)
    ask = {"n_perm": 5, "cluster_forming_threshold": None}
    expected = ng.permutation_test({"a": named(two, dose=CONFOUND), "b": first}, "~ dose", "dose", **ask)
    for other in (named(two), named(two, dose=CONFOUND, motion=CONFOUND)):
        found = ng.permutation_test({"a": first, "b": other}, "~ dose", "dose", **ask)
        np.testing.assert_array_equal(found["b"].maps["t"], expected["a"].maps["t"])
    for combine in (None, "fisher"):
        with pytest.raises(InputError, match=r"'a' and 'b' with other values of 'dose' \(of s0, s1, s2 and 4 more\)"):
            ng.permutation_test(
                {"a": first, "b": named(two, dose=CONFOUND + 1)}, "~ dose", "dose", combine=combine, **ask
            )


def test_what_one_modality_lacks_is_refused_before_any_is_tested(data, tmp_path):
    one, two = data.values()
    layers = {"variance": np.ones((N, 12), np.float32)}
    some = ng.Cohort.from_maps(
        nib.Nifti1Image(one.T.reshape(*SHAPE, N), np.eye(4)),
        layers={"variance": nib.Nifti1Image(layers["variance"].T.reshape(*SHAPE, N), np.eye(4))},
    )
    other = ng.Cohort.from_maps(nib.Nifti1Image(two.T.reshape(*SHAPE, N), np.eye(4)))
    with pytest.raises(InputError, match=r"Modality 'b'.*'weights'.*they have none.*to Cohort\.create"):
        ng.permutation_test({"a": some, "b": other}, weights="variance", store=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"weights": "variance"}, {"missing": "element"}], ids=["weights", "missing"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_layers_and_missing_values_follow_subjects_who_are_in_another_order(tmp_path, on_disk, options):
    rng = np.random.default_rng(1)
    Y, variance = rng.normal(size=(8, 3, 2, 2)), rng.uniform(0.5, 3, (8, 3, 2, 2))
    Y[[2, 5], 0] = np.nan

    def modality(rows, name):
        maps, layer = ([nib.Nifti1Image(block[k], np.eye(4)) for k in rows] for block in (Y, variance))
        given = {"subjects": [f"s{k}" for k in rows], "layers": {"variance": layer}, "min_subjects": 0.5}
        return ng.Cohort.create(tmp_path / name, maps, **given) if on_disk else ng.Cohort.from_maps(maps, **given)

    first, turned = modality(range(8), "a"), modality([3, 1, 7, 0, 5, 2, 6, 4], "b")
    design = np.column_stack([np.ones(8), rng.normal(size=8)])
    found = ng.permutation_test({"a": first, "b": turned}, design, [0, 1], n_perm=20, **options)
    for name, values in found["a"].maps.items():
        np.testing.assert_array_equal(found["b"].maps[name], values, err_msg=name)
    if "missing" in options:
        assert found["b"].maps["n_subjects"].reshape(3, 4)[:, 0].tolist() == [6, 8, 8]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(N, 12))
    return {f"m{k}": (shared + rng.normal(size=(N, 12)) + 4 * k).astype(np.float32) for k in range(2)}


def shufflings(contrast):
    design = Design.parse(DESIGN, N)
    parsed = Contrast.parse(contrast, design)
    shuffling = {"n_perm": 10_000, "seed": 0, "errors": None, "blocks": None, "block_scheme": "within"}
    found, _ = build_hypothesis(design, parsed, [parsed], "freedman-lane", shuffling, {})
    assert found.exhaustive
    return found.draw(0, found.n_shufflings)


def counted(scores):
    return (scores >= scores[0] - 1e-9 * (1 + np.abs(scores[0]))).mean(axis=0)


CALLS = [
    *((name, contrast, True) for name in ("fisher", "stouffer", "tippett", "edgington") for contrast in (T, F)),
    *((name, T, False) for name in ("fisher", "mudholkar-george", "conjunction")),
    ("hotelling", T, True),
    *((name, F, True) for name in ("wilks", "pillai", "lawley-hotelling", "roy", "roy-theta", "cca", "pls", "pls2")),
    ("pls", T, True),
]


@pytest.mark.parametrize(("combine", "contrast", "two_sided"), CALLS)
def test_every_shuffling_refitted_gives_the_same_counts(data, combine, contrast, two_sided):
    index, sign = shufflings(contrast)
    expected = np.empty((len(index), 12))
    for b in range(len(index)):
        for v in range(12):
            Y = np.column_stack([one[:, v].astype(float) for one in data.values()])
            if combine.startswith("pls"):
                expected[b, v] = twin.pls(Y, DESIGN, contrast, index[b], sign[b], int(combine[3:] or 1) - 1)
            elif combine in STATISTICS:
                found = twin.roots(Y, DESIGN, contrast, index[b], sign[b])
                expected[b, v] = twin.statistic(combine, found)
            else:
                p = [
                    twin.partial_p(one[:, v].astype(float), DESIGN, contrast, index[b], sign[b], two_sided)
                    for one in data.values()
                ]
                expected[b, v] = twin.combined(combine, np.array(p))
    cohorts = {name: cohort(one) for name, one in data.items()}
    result = ng.permutation_test(
        cohorts, DESIGN, contrast, combine=combine, two_sided=two_sided, cluster_forming_threshold=None
    )
    np.testing.assert_allclose(result.maps["p_unc"], counted(expected), atol=1e-12)
    largest = expected.max(axis=1)
    p = (largest[:, None] >= expected[0] - 1e-9 * (1 + np.abs(expected[0]))).mean(axis=0)
    np.testing.assert_allclose(result.maps["p_fwe_voxel"], p, atol=1e-12)


@pytest.mark.parametrize(("combine", "two_sided"), [("fisher", True), ("tippett", True), ("stouffer", False)])
def test_contrasts_are_combined_under_shufflings_that_they_share(data, combine, two_sided):
    """Those of t and F, of one cohort, of each, and of two together."""
    contrasts = {"t": T, "f": F, "slope": np.array([[0.0, 0, 0, 1]])}
    design = Design.parse(DESIGN, N)
    parsed = [Contrast.parse(one, design) for one in contrasts.values()]
    shuffling = {"n_perm": 40, "seed": 0, "errors": "ee", "blocks": None, "block_scheme": "within"}
    found, _ = build_hypothesis(design, parsed[0], parsed, "freedman-lane", shuffling, {})
    index, sign = found.draw(0, found.n_shufflings)
    p = np.empty((len(index), 12, 2, 3))
    for place in np.ndindex(p.shape):
        b, v, m, c = place
        y = data[f"m{m}"][:, v].astype(float)
        contrast = list(contrasts.values())[c]
        p[place] = twin.partial_p(y, DESIGN, contrast, index[b], sign[b], two_sided and len(contrast) == 1)
    options = {"combine": combine, "two_sided": two_sided, "errors": "ee", "n_perm": 40}
    options |= {"cluster_forming_threshold": None}
    cohorts = {name: cohort(one) for name, one in data.items()}
    both = ng.permutation_test(cohorts, DESIGN, contrasts, combine_contrasts=True, **options)
    within = ng.permutation_test(cohorts, DESIGN, contrasts, combine_contrasts="within", **options)
    alone = ng.permutation_test(cohorts["m1"], DESIGN, contrasts, combine_contrasts=True, **options)
    for result, its in ((both, p.reshape(*p.shape[:2], 6)), (within["m0"], p[:, :, 0]), (alone, p[:, :, 1])):
        expected = np.apply_along_axis(lambda one: twin.combined(combine, one), 2, its)
        tie = 2e-5 * (1 + np.abs(expected[0]))  # of single precision
        np.testing.assert_allclose(result.maps["p_unc"], (expected >= expected[0] - tie).mean(axis=0), atol=1e-12)
        largest = expected.max(axis=1)
        np.testing.assert_allclose(
            result.maps["p_fwe_voxel"], (largest[:, None] >= expected[0] - tie).mean(axis=0), atol=1e-12
        )
        assert result.asked.contrast == "t & f & slope"
        assert len(result.maps["effect"]) == result.asked.n_effects
        assert "3 contrasts" in methods_paragraph(result)[0]
    np.testing.assert_array_equal(within["m1"].maps["p_unc"], alone.maps["p_unc"])
    assert "p_fwe_voxel_modalities" in within["m1"].maps


@pytest.mark.parametrize(("combine", "contrast"), [("hotelling", T), ("wilks", F), ("cca", F), ("pls", F), ("pls", T)])
def test_loadings_are_those_of_a_fit_at_each_voxel(data, combine, contrast):
    cohorts = {name: cohort(one) for name, one in data.items()}
    options = {"cluster_forming_threshold": None, "n_perm": 10}
    result = ng.permutation_test(cohorts, DESIGN, contrast, combine=combine, **options)
    for v in range(12):
        Y = np.column_stack([one[:, v].astype(float) for one in data.values()])
        found = [result.maps[f"loading_{name}"][v] for name in data]
        np.testing.assert_allclose(found, twin.loadings(combine, Y, DESIGN, contrast), atol=1e-6)


VISITS = {"before": 1, "during": 2, "after": 3}


def visits():
    rng = np.random.default_rng(8)
    person = rng.normal(size=(N, 12))
    return {
        name: (person + 0.3 * k * GROUP[:, None] + rng.normal(size=(N, 12))).astype(np.float32)
        for name, k in VISITS.items()
    }


@pytest.mark.parametrize(
    ("combine", "contrast"),
    [("hotelling", T), ("wilks", F), ("pillai", F), ("lawley-hotelling", F), ("roy", F), ("pls", F)],
)
def test_contrasts_of_maps_are_tests_of_their_sums(combine, contrast):
    """C B M' = 0, each shuffling refitted; rows that span the same say the same."""
    maps = visits()
    M = np.array([[-1.0, 1, 0], [0, -1, 1]])
    index, sign = shufflings(contrast)
    expected = np.empty((len(index), 12))
    for b in range(len(index)):
        for v in range(12):
            Y = np.column_stack([one[:, v].astype(float) for one in maps.values()]) @ M.T
            if combine == "pls":
                expected[b, v] = twin.pls(Y, DESIGN, contrast, index[b], sign[b])
            else:
                expected[b, v] = twin.statistic(combine, twin.roots(Y, DESIGN, contrast, index[b], sign[b]))
    cohorts = {name: cohort(one) for name, one in maps.items()}
    options = {"combine": combine, "cluster_forming_threshold": None}
    rows = ["during - before", "after - during"]
    result = ng.permutation_test(cohorts, DESIGN, contrast, modality_contrast=rows, **options)
    np.testing.assert_allclose(result.maps["p_unc"], counted(expected), atol=1e-12)
    assert {"loading_row1", "loading_row2"} <= set(result.maps)
    assert len(result.maps["effect"]) == result.asked.n_effects == 2 * len(contrast)
    if combine != "pls":
        other = [[-2.0, 1, 1], [1, 0, -1]]
        again = ng.permutation_test(cohorts, DESIGN, contrast, modality_contrast=other, **options)
        np.testing.assert_allclose(again.maps[result.statistic], result.maps[result.statistic], rtol=1e-5)
        np.testing.assert_array_equal(again.maps["p_unc"], result.maps["p_unc"])


@pytest.mark.parametrize("name", ["Wilks' lambda", "Pillai's trace", "Hotelling-Lawley trace", "Roy's greatest root"])
def test_repeated_measures_are_those_of_statsmodels(name):
    """Its hypothesis L B M = 0: whether groups differ in their profiles, and whether there is a profile at all."""
    multivariate = pytest.importorskip("statsmodels.multivariate.multivariate_ols")
    combine = {"W": "wilks", "P": "pillai", "H": "lawley-hotelling", "R": "roy"}[name[0]]
    maps = visits()
    M = np.array([[1.0, -1, 0], [0, 1, -1]])
    cohorts = {key: cohort(one) for key, one in maps.items()}
    for contrast in (F, np.array([[1.0, 1, 1, 0]])):
        result = ng.permutation_test(
            cohorts, DESIGN, contrast, combine=combine, modality_contrast=M, cluster_forming_threshold=None, n_perm=0
        )
        for v in (0, 7):
            Y = np.column_stack([one[:, v].astype(float) for one in maps.values()])
            test = multivariate._MultivariateOLS(Y, DESIGN).fit(method="svd").mv_test([["h", contrast, M.T]])
            row = test.results["h"]["stat"].loc[name]
            assert result.maps[result.statistic][v] == pytest.approx(float(row["Value"]), rel=1e-5)
            if combine != "lawley-hotelling":  # of whose p there are several approximations
                assert result.maps["p_parametric"][v] == pytest.approx(float(row["Pr > F"]), rel=1e-4)


def test_the_difference_of_two_maps_is_a_paired_t():
    maps = visits()
    cohorts = {name: cohort(one) for name, one in maps.items() if name != "during"}
    options = {"cluster_forming_threshold": None, "errors": "ise", "n_perm": 200}
    result = ng.permutation_test(cohorts, combine="hotelling", modality_contrast="after - before", **options)
    alone = ng.permutation_test(cohort(maps["after"] - maps["before"]), **options)
    np.testing.assert_allclose(result.maps["t2"], alone.maps["t"] ** 2, rtol=1e-4)
    np.testing.assert_allclose(result.maps["p_unc"], alone.maps["p_unc"])
    assert result.maps["effect"].shape == (12,)


def test_what_a_contrast_of_maps_can_not_be(data):
    several = {name: cohort(one) for name, one in data.items()}
    with pytest.raises(InputError, match=r"'modality_contrast': got .*statistic of several variables"):
        ng.permutation_test(several, DESIGN, T, modality_contrast="m1 - m0")
    with pytest.raises(InputError, match=r"'modality_contrast': got .*statistic of several variables"):
        ng.permutation_test(several, DESIGN, T, combine="fisher", modality_contrast="m1 - m0")
    with pytest.raises(ContrastError, match="'modality_contrast': got 'm2 - m0'"):
        ng.permutation_test(several, DESIGN, T, combine="hotelling", modality_contrast="m2 - m0")
    with pytest.raises(ContrastError, match=r"'modality_contrast'.*depend on each other"):
        ng.permutation_test(several, DESIGN, T, combine="hotelling", modality_contrast=[[1, -1], [-1, 1]])
    with pytest.raises(InputError, match="'combine': got 'cca2'"):
        ng.permutation_test(several, DESIGN, F, combine="cca2", modality_contrast="m1 - m0")


def test_clusters_tell_loadings_at_their_peaks_and_reports_show_them(tmp_path):
    volume, design = asked()
    Y = volume.store.read(0, volume.n_voxels)
    noise = np.random.default_rng(1).normal(size=Y.shape).astype(np.float32)
    several = {"a": volume, "b.2": ng.Cohort(CohortStore.from_array(Y + 3 * noise, volume.store.space))}
    result = ng.permutation_test(several, design, "intercept", combine="hotelling", n_perm=60)
    assert len(result.clusters) > 1
    for row in result.clusters.to_dict("records"):
        xyz = [row["peak_x"], row["peak_y"], row["peak_z"]]
        places = result.space.coordinates(np.arange(result.space.n))
        peak = np.argmin(np.linalg.norm(places - xyz, axis=1))
        for name in ("loading_a", "loading_b.2"):
            assert row[name] == result.maps[name][peak]
    again = ng.PermutationResult.load(result.save(tmp_path / "saved"))
    pd.testing.assert_frame_equal(again.clusters, result.clusters)
    page = result.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("with the sum of the modalities that goes with what is tested, at the peak") >= 2


def test_where_nothing_can_be_tested_there_is_no_result():
    volume, design = asked()
    with pytest.raises(MaskError, match=r"nothing to test: .* have variables that follow from each other"):
        ng.permutation_test({"a": volume, "b": volume}, design, "intercept", combine="hotelling", n_perm=60)


@pytest.mark.parametrize(
    ("combine", "contrast", "holds"),
    [
        ("fisher", T, False),
        ("stouffer", T, False),
        ("winer", F, False),
        ("tippett", T, True),
        ("conjunction", T, True),
        ("hotelling", T, True),
        ("wilks", F, True),
        ("roy", T, True),
        ("roy", F, False),
        ("cca", F, False),
    ],
)
def test_true_discoveries_do_not_rest_on_p_that_take_maps_for_independent(data, tmp_path, combine, contrast, holds):
    several = {name: cohort(one) for name, one in data.items()}
    options = {"combine": combine, "n_perm": 60, "cluster_forming_threshold": ("z", 1.0)}
    result = ng.permutation_test(several, DESIGN, contrast, **options)
    region = np.ones(12, bool)
    assert ("tdp" in result.maps, "tdp" in result.clusters) == (holds, holds)
    again = ng.PermutationResult.load(result.save(tmp_path / "saved"))
    if holds:
        assert again.true_discoveries(region) == ari(result.maps["p_parametric"]).of(region)
        return
    for one in (again.true_discoveries, lambda _: again.discovery_map()):
        with pytest.raises(InputError, match=f"{combine}.* are too small .* discoveries='simes'"):
            one(region)
    calibrated = ng.permutation_test(several, DESIGN, contrast, discoveries="simes", **options)
    assert "tdp" in calibrated.maps
    assert calibrated.true_discoveries(region).n_elements == 12


def test_bounds_of_combined_maps_that_hang_together_err_as_seldom_as_they_say():
    rng = np.random.default_rng(3)
    n_wrong = {"ari": 0, "simes": 0}
    for seed in range(40):
        shared = rng.normal(size=(16, 50))
        two = {name: pd.DataFrame(shared + 0.3 * rng.normal(size=shared.shape)) for name in ("a", "b")}
        maps = {name: ng.Cohort.from_maps(one.add_prefix("r")) for name, one in two.items()}
        options = {"combine": "stouffer", "n_perm": 99, "seed": seed, "cluster_forming_threshold": None}
        result = ng.permutation_test(maps, discoveries="simes", **options)
        for name, bound in (("ari", ari(result.maps["p_parametric"])), ("simes", bound_of(result))):
            n_wrong[name] += bound.n_true > 0
    assert n_wrong["simes"] <= 6 < n_wrong["ari"]  # of 40; at 5 %, seven or more have a chance of 1 %


def test_partial_least_squares_has_no_parametric_p(data, tmp_path):
    several = {name: cohort(one) for name, one in data.items()}
    options = {"combine": "pls", "n_perm": 60}
    result = ng.permutation_test(several, DESIGN, F, cluster_forming_threshold=("z", 1.0), tfce=True, **options)
    assert not {"p_parametric", "p_fdr_parametric", "p_bonferroni", "tdp"} & set(result.maps)
    assert {"pls", "z", "loading_m0", "p_fwe_size", "p_fwe_tfce"} <= set(result.maps)
    np.testing.assert_allclose(
        result.maps["z"], np.sqrt(result.asked.dof - 1) * np.arctanh(result.maps["pls"] / 2), rtol=1e-9
    )
    again = ng.PermutationResult.load(result.save(tmp_path / "saved"))
    np.testing.assert_array_equal(again.maps["loading_m1"], result.maps["loading_m1"])
    assert "McIntosh & Lobaugh, 2004" in methods_paragraph(again)[0]
    with pytest.raises(InputError, match="has none"):
        result.true_discoveries(np.ones(12, bool))
    assert "p_fwe_size" not in ng.permutation_test(several, DESIGN, F, **options).maps
    with pytest.raises(InputError, match="as pls has no parametric p"):
        ng.permutation_test(several, DESIGN, F, cluster_forming_threshold=0.01, **options)
    with pytest.raises(InputError, match="no parametric maps"):
        ng.permutation_test(several, DESIGN, F, combine="pls", n_perm=0)
    with pytest.raises(InputError, match=r"has none\. Leave it out"):
        ng.permutation_test(several, DESIGN, F, discoveries="simes", **options)
    many = {f"m{k}": cohort(np.random.default_rng(k).normal(size=(N, 12)).astype(np.float32)) for k in range(6)}
    assert ng.permutation_test(many, DESIGN, T, **options).maps["pls"].min() > 0


def test_subjects_meet_by_label_and_elements_by_place(data):
    order = np.array([4, 0, 6, 2, 1, 5, 3])
    mask = np.ones(SHAPE, bool)
    mask[0, 0, 1] = False
    other = cohort(data["m1"][order][:, mask[np.ones(SHAPE, bool)]], [f"s{i}" for i in order], mask)
    options = {"combine": "fisher", "cluster_forming_threshold": None}
    found = ng.permutation_test({"a": cohort(data["m0"]), "b": other}, DESIGN, T, **options)
    plain = ng.permutation_test({"a": cohort(data["m0"]), "b": cohort(data["m1"])}, DESIGN, T, **options)
    assert found.geometry.n_voxels == 11
    np.testing.assert_array_equal(found.maps["fisher"], plain.maps["fisher"][mask.ravel()])
    apart = ng.permutation_test({"a": cohort(data["m0"]), "b": other}, DESIGN, T, cluster_forming_threshold=None)
    assert {name: one.geometry.n_voxels for name, one in apart.items()} == {"a": 12, "b": 11}
    null = np.maximum(*(one.h0["max_t"] for one in apart.values()))
    for one in apart.values():
        np.testing.assert_allclose(
            one.maps["p_fwe_voxel_modalities"],
            (null[:, None] >= np.abs(one.maps["t"]) * (1 - 1e-9)).mean(axis=0),
            atol=1e-12,
        )


def test_cohorts_on_disk_give_what_those_in_memory_do(data, tmp_path):
    images = {name: cohort(one) for name, one in data.items()}
    stored = {}
    for name, one in images.items():
        affine = np.diag([2.0, 2, 2, 1])
        maps = [nib.Nifti1Image(row.reshape(SHAPE), affine) for row in data[name]]
        mask = nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine)
        stored[name] = ng.Cohort.create(tmp_path / f"{name}.zarr", maps, mask=mask, subjects=list(one.subjects))
    options = {"combine": "wilks", "cluster_forming_threshold": ("z", 1.0), "tfce": True, "n_perm": 50}
    there = ng.permutation_test(stored, DESIGN, F, store=tmp_path / "run", **options)
    here = ng.permutation_test(images, DESIGN, F, **options)
    for name, values in here.maps.items():
        np.testing.assert_array_equal(there.maps[name], values, err_msg=name)
    again = ng.PermutationResult.load(here.save(tmp_path / "saved"))
    np.testing.assert_array_equal(again.maps["wilks"], here.maps["wilks"])
    assert again.asked.modalities == ("m0", "m1")


def test_what_can_not_be_combined_is_refused(data):
    one, two = (cohort(values) for values in data.values())
    several = {"a": one, "b": two}
    with pytest.raises(InputError, match="of other subjects: 1 in 'a' alone"):
        ng.permutation_test({"a": one, "b": cohort(data["m1"][:6])}, DESIGN, T)
    with pytest.raises(InputError, match="None for one cohort"):
        ng.permutation_test(one, DESIGN, T, combine="fisher")
    with pytest.raises(InputError, match="combine"):
        ng.permutation_test(several, DESIGN, T, combine="fischer")
    with pytest.raises(InputError, match="several contrasts or cohorts to make one test of"):
        ng.permutation_test(one, DESIGN, {"t": T}, combine="fisher", combine_contrasts=True)
    with pytest.raises(InputError, match="False without a combination of p"):
        ng.permutation_test(several, DESIGN, {"t": T, "f": F}, combine="wilks", combine_contrasts=True)
    with pytest.raises(InputError, match="leave one of them out"):
        ng.permutation_test(
            one, DESIGN, {"t": T, "f": F}, combine="fisher", combine_contrasts=True, fwe_across_contrasts=True
        )
    with pytest.raises(InputError, match="'within' for the contrasts"):
        ng.permutation_test(several, DESIGN, {"t": T, "f": F}, combine="fisher", combine_contrasts="both")
    with pytest.raises(InputError, match="None without a combination"):
        ng.permutation_test(several, DESIGN, T, combine_weights=[1, 2])
    apart = {
        "variance_groups": GROUP,
        "variance_smoothing_fwhm": 4.0,
        "weights": "variance",
        "regressors": ["b"],
        "covariance": "sandwich",
    }
    for option, value in {**apart, "missing": "element", "method": "manly"}.items():
        with pytest.raises(InputError, match=f"does not go with {option}.*Leave one of them out"):
            ng.permutation_test(several, DESIGN, T, combine="fisher", **{option: value})
    with pytest.raises(InputError, match="an empty dict"):
        ng.permutation_test({}, DESIGN, T)
    with pytest.raises(InputError, match="too many"):
        ng.permutation_test({f"m{k}": one for k in range(5)}, DESIGN, T, combine="hotelling")
    with pytest.raises(InputError, match="'stouffer' where there are weights"):
        ng.permutation_test(several, DESIGN, T, combine="fisher", combine_weights=[1, 2])
    with pytest.raises(InputError, match="a number above 0 for each"):
        ng.permutation_test(several, DESIGN, T, combine="stouffer", combine_weights={"a": 1})
    for odd in ("heavy", {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(InputError, match="a number above 0 for each"):
            ng.permutation_test(several, DESIGN, T, combine="stouffer", combine_weights=odd)
    with pytest.raises(InputError, match="a name that a folder can have"):
        ng.permutation_test({"a": one, "../b": two}, DESIGN, T)
    with pytest.raises(InputError, match="one sign in all maps"):
        ng.permutation_test(several, DESIGN, F, combine="wilks", concordant=True)
    with pytest.raises(InputError, match=r"the F contrast .* has none"):
        ng.permutation_test(several, DESIGN, F, combine="fisher", concordant=True)
    with pytest.raises(InputError, match="a Cohort for each modality"):
        ng.permutation_test({"a": one, "b": "maps.nii"}, DESIGN, T)


def test_variables_that_follow_from_each_other_leave(data, caplog):
    other = data["m1"].copy()
    other[:, 3] = 2 * data["m0"][:, 3] + 1
    result = ng.permutation_test(
        {"a": cohort(data["m0"]), "b": cohort(other)}, DESIGN, T, combine="hotelling", cluster_forming_threshold=None
    )
    assert "1 voxels have variables that follow from each other" in caplog.text
    assert result.maps["t2"][3] == 0
    assert result.maps["p_unc"][3] == 1


def test_what_was_combined_is_told(data, tmp_path):
    several = {name: cohort(values) for name, values in data.items()}

    def told(contrast=T, threshold=None, **options):
        options |= {"n_perm": 20, "cluster_forming_threshold": threshold}
        result = ng.permutation_test(several, DESIGN, contrast, **options)
        again = ng.PermutationResult.load(result.save(tmp_path / str(len(list(tmp_path.iterdir())))))
        return methods_paragraph(again)[0]

    assert "al., 2016), of two-sided p, whatever the signs." in told(combine="fisher")
    assert "with a Fisher test of 2 maps a subject (m0, m1)" in told(combine="fisher")
    assert "al., 2016), of one-sided p." in told(combine="tippett", two_sided=False)
    assert "of p of both sides, where all maps have one sign" in told(combine="fisher", concordant=True)
    assert "whatever the signs, with weights 1, 3." in told(combine="stouffer", combine_weights={"m1": 3, "m0": 1})
    assert "al., 2016)." in told(F, combine="fisher")
    assert "al., 2016)." in told(combine="hotelling")
    rows = told(F, combine="pls2", modality_contrast=["m1 - m0", "m0 + 2 * m1"])
    assert "a PLS test of 2 maps a subject (m0, m1: m1 - m0; m0 + 2 * m1)" in rows
    assert "the second largest singular value of the correlations of what is tested of the maps" in rows
    assert "the correlation of the first pair of scores" in told(F, combine="pls", conventions="palm")
    assert "formed at z \u2265 1.28 (uncorrected p 0.1)" in told(combine="stouffer", threshold=0.1)


def test_reports_of_several_modalities_have_all_their_nulls(data, tmp_path):
    pytest.importorskip("matplotlib")
    several = {name: cohort(values) for name, values in data.items()}
    options = {"n_perm": 20, "cluster_forming_threshold": 0.1, "fwe_across_contrasts": True}
    found = ng.permutation_test(several, DESIGN, {"x": T, "y": F}, **options)
    text = found["m0"]["x"].report(tmp_path / "report.html").read_text()
    assert all(f"over {what}" in text for what in ("contrasts", "modalities", "modalities and contrasts"))


def test_parametric_p_of_combinations_come_with_a_warning(data):
    several = {name: cohort(one) for name, one in data.items()}
    with pytest.warns(NumbaglmWarning, match=r"combine='fisher' take what is combined for independent.*n_perm=1000"):
        ng.permutation_test(several, DESIGN, T, combine="fisher", n_perm=0)

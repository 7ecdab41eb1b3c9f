"""Regressors of elements' own, against refitting every shuffling of every element."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.layout import Arrays, Header
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation.plan import make_plan
from numbaglm.errors import ContrastError, DesignError, InputError, OutputExistsError
from numbaglm.inference import running
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis
from reference.elementwise import statistics

N, V = 7, 9
RNG = np.random.default_rng(5)
TABLE = pd.DataFrame({"intercept": 1.0, "age": RNG.normal(40, 9, N), "group": np.arange(N) % 2.0})
GM, LESION = RNG.normal(0.6, 0.1, (N, V)).astype("f4"), RNG.gamma(1.0, 1.0, (N, V)).astype("f4")
Y = (RNG.normal(100, 1, (N, V)) + 8 * GM * (np.arange(V) % 2) + 0.05 * TABLE[["age"]].to_numpy()).astype("f4")
LAYERS = {"grey_matter": GM, "lesion": LESION}


def cohort_of(Y, **layers):
    data = {"data": Y, **layers}
    subjects = pd.DataFrame({"subject_label": [f"s{k}" for k in range(len(Y))]})
    space = Space.of(Geometry(np.ones((Y.shape[1], 1, 1), bool), np.eye(4)))
    header = Header(space, subjects, layers=tuple(data))
    return Cohort(
        CohortStore(None, header, Arrays({name: np.ascontiguousarray(one) for name, one in data.items()}, None, None))
    )


COHORT = cohort_of(Y, **LAYERS)
CASES = {  # columns, regressors, contrast, weights, options
    "nuisance": (["intercept", "group"], {"gm": "grey_matter"}, "group", [0, 1, 0], {}),
    "nuisance beside age": (["intercept", "group", "age"], {"gm": "grey_matter"}, "group", [0, 1, 0, 0], {}),
    "tested": (["intercept"], {"gm": "grey_matter"}, "gm", [0, 1], {}),
    "tested beside age": (["intercept", "age"], {"gm": "grey_matter"}, "gm", [0, 0, 1], {}),
    "two, one tested": (["intercept"], {"gm": "grey_matter", "les": "lesion"}, "les", [0, 0, 1], {}),
    "their difference": (["intercept"], {"gm": "grey_matter", "les": "lesion"}, "gm - les", [0, 1, -1], {}),
    "a mixture": (["intercept", "age"], {"gm": "grey_matter"}, [0, 0.1, 1], [0, 0.1, 1], {}),
    "interaction": (
        ["intercept", "group"],
        {"gm": "grey_matter", "group:gm": "group:grey_matter"},
        "group:gm",
        [0, 0, 0, 1],
        {},
    ),
    "F": (["intercept", "group"], {"gm": "grey_matter"}, ["group", "gm"], [[0, 1, 0], [0, 0, 1]], {}),
    "F of two": (
        ["intercept"],
        {"gm": "grey_matter", "les": "lesion"},
        ["gm", "les"],
        [[0, 1, 0], [0, 0, 1]],
        {},
    ),
    "no column": ([], {"gm": "grey_matter"}, "gm", [1], {}),
    "a mean": (["intercept"], {"gm": "grey_matter"}, "intercept", [1, 0], {}),
    "flips": (["intercept", "age"], {"gm": "grey_matter"}, "gm", [0, 0, 1], {"errors": "ise"}),
    "flips, F": (
        ["intercept", "age"],
        {"gm": "grey_matter"},
        ["intercept", "gm"],
        [[1, 0, 0], [0, 0, 1]],
        {"errors": "ise"},
    ),
    "one-sided": (["intercept"], {"gm": "grey_matter"}, "gm", [0, 1], {"two_sided": False}),
    "manly": (["intercept", "age"], {"gm": "grey_matter"}, "gm", [0, 0, 1], {"method": "manly"}),
    "dekker": (["intercept", "age"], {"gm": "grey_matter"}, "gm", [0, 0, 1], {"method": "dekker"}),
    "dekker, nuisance": (["intercept", "group"], {"gm": "grey_matter"}, "group", [0, 1, 0], {"method": "dekker"}),
    "dekker, flips": (
        ["intercept", "age"],
        {"gm": "grey_matter"},
        "gm",
        [0, 0, 1],
        {"method": "draper-stoneman", "errors": "ise"},
    ),
    "blocks": (
        ["intercept"],
        {"gm": "grey_matter"},
        "gm",
        [0, 1],
        {"exchangeability_blocks": [1, 1, 1, 2, 2, 2, 2]},
    ),
    "both": (
        ["intercept", "age"],
        {"gm": "grey_matter"},
        "gm",
        [0, 0, 1],
        {"exchangeability_blocks": [1, 1, 1, 2, 2, 2, 2], "errors": "both"},
    ),
    "both, dekker": (
        ["intercept", "age"],
        {"gm": "grey_matter"},
        "gm",
        [0, 0, 1],
        {"errors": "both", "method": "dekker"},
    ),
}
RANDOM = ("both", "both, dekker")
N_PERM = 6000  # enough for all of them


def run_case(case, n_perm=N_PERM, **more):
    columns, regressors, contrast, _, options = CASES[case]
    return ng.permutation_test(
        COHORT,
        TABLE[columns],
        contrast,
        n_perm=n_perm,
        cluster_forming_threshold=None,
        regressors=regressors,
        **options,
        **more,
    )


def own(regressors):
    found = []
    for source in regressors.values():
        column, _, layer = source.rpartition(":")
        found.append(LAYERS[layer] * (TABLE[[column]].to_numpy() if column else 1.0))
    return np.array(found, float)


def drawn(case, n_perm=N_PERM):
    """Shufflings of a case, and all statistics under them."""
    columns, regressors, contrast, weights, options = CASES[case]
    design = Design.parse(TABLE[columns], N, regressors)
    parsed = Contrast.parse(contrast, design)
    np.testing.assert_array_equal(parsed.matrix, np.atleast_2d(weights))
    method = options.get("method", "freedman-lane")
    shuffling = {"n_perm": n_perm, "seed": 0, "errors": options.get("errors"), "block_scheme": "within"}
    shuffling["blocks"] = options.get("exchangeability_blocks")
    shufflings, hypothesis = build_hypothesis(design, parsed, [parsed], method, shuffling, {})
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    assert pickle.loads(pickle.dumps(hypothesis)).family.score is hypothesis.family.score
    twin = "dekker" if method == "draper-stoneman" else method
    return shufflings, statistics(Y, TABLE[columns].to_numpy(), own(regressors), weights, index, sign, twin)


@pytest.mark.parametrize("case", [case for case in CASES if case not in RANDOM])
def test_every_shuffling_refitted_counts_the_same(case):
    shufflings, all_ = drawn(case)
    assert shufflings.exhaustive
    result = run_case(case)
    name, options = result.statistic, CASES[case][-1]
    seen = np.abs(all_) if name == "t" and options.get("two_sided", True) else all_
    np.testing.assert_allclose(result.maps[name], all_[0], rtol=1e-7, atol=1e-9)
    tie = 1e-8 * np.maximum(seen[0], 1)
    n = len(seen)
    np.testing.assert_array_equal(np.rint(result.maps["p_unc"] * n), (seen >= seen[0] - tie).sum(axis=0))
    null = seen.max(axis=1)
    np.testing.assert_allclose(np.sort(result.h0[f"max_{name}"]), np.sort(null), rtol=1e-6)
    np.testing.assert_array_equal(np.rint(result.maps["p_fwe_voxel"] * n), (null[:, None] >= seen[0] - tie).sum(axis=0))
    columns = CASES[case][0]
    assert result.asked.dof == N - len(columns) - len(CASES[case][1])


@pytest.mark.parametrize("case", ["nuisance beside age", "a mean", "F", *RANDOM])
def test_random_shufflings_are_those_of_the_twin_too(case):
    shufflings, all_ = drawn(case, n_perm=20)
    assert not shufflings.exhaustive
    result = run_case(case, n_perm=20)
    seen = np.abs(all_) if result.statistic == "t" else all_
    np.testing.assert_allclose(result.h0[f"max_{result.statistic}"], seen.max(axis=1), rtol=1e-3)


def test_effects_are_those_of_a_fit():
    columns, regressors = ["intercept", "age"], {"gm": "grey_matter"}
    result = ng.permutation_test(COHORT, TABLE[columns], "age + 2 * gm", n_perm=10, regressors=regressors)
    for v in range(V):
        M = np.column_stack([TABLE[columns], GM[:, v]])
        beta, rss, *_ = np.linalg.lstsq(M, Y[:, v].astype(float), rcond=None)
        c = np.array([0, 1, 2])
        se = np.sqrt(rss[0] / (N - 3) * c @ np.linalg.inv(M.T @ M) @ c)
        found = [result.maps[name][v] for name in ("effect", "effect_se", "t")]
        np.testing.assert_allclose(found, [c @ beta, se, c @ beta / se], rtol=1e-6)
        assert result.maps["effect_lower"][v] < c @ beta < result.maps["effect_upper"][v]
    assert "cohens_d" not in result.maps
    assert "cohens_d" in run_case("nuisance", n_perm=10).maps


def test_intervals_are_there_one_by_one():
    result = run_case("nuisance", n_perm=20)
    interval = result.interval(0.95, simultaneous=False)
    np.testing.assert_allclose(interval.lower, result.maps["effect_lower"], rtol=1e-6)
    with pytest.raises(InputError, match=r"elements' own \(gm\), and intervals of Cohen's d"):
        result.interval(0.95, simultaneous=False, of="cohens_d")
    with pytest.raises(InputError, match=r"simultaneous=False"):
        result.interval(0.95, simultaneous=True, cohort=COHORT)


def test_the_same_regressor_everywhere_is_a_column():
    """Where all elements have one regressor it is as if the design held it, to the last count."""
    one = np.repeat(TABLE[["age"]].to_numpy("f4"), V, axis=1)
    shared = TABLE[["intercept", "group"]].assign(age=one[:, 0].astype(float))
    for contrast in ("group", "age"):
        options = {"n_perm": N_PERM, "cluster_forming_threshold": None}
        there = ng.permutation_test(COHORT, shared, contrast, **options)
        here = ng.permutation_test(
            cohort_of(Y, a=one), shared[["intercept", "group"]], contrast, regressors={"age": "a"}, **options
        )
        np.testing.assert_allclose(here.maps["t"], there.maps["t"], rtol=1e-7)
        for name in ("effect", "effect_se", "partial_r2"):
            np.testing.assert_allclose(here.maps[name], there.maps[name], rtol=1e-6)
        for name in ("p_unc", "p_fwe_voxel"):
            np.testing.assert_array_equal(here.maps[name], there.maps[name])
        assert here.provenance["regressors"] == {"age": "a"}


def test_units_of_a_regressor_change_nothing():
    scaled = cohort_of(Y, grey_matter=(1024 * GM), lesion=LESION)
    for case in ("nuisance", "tested beside age"):
        columns, regressors, contrast, *_ = CASES[case]
        options = {"n_perm": N_PERM, "cluster_forming_threshold": None, "regressors": regressors}
        here = ng.permutation_test(scaled, TABLE[columns], contrast, **options)
        there = run_case(case)
        for name in ("p_unc", "p_fwe_voxel"):
            np.testing.assert_array_equal(here.maps[name], there.maps[name])
        np.testing.assert_allclose(here.maps["t"], there.maps["t"], rtol=1e-9)


def test_elements_without_a_regressor_leave_with_a_reason(caplog):
    gm = GM.copy()
    gm[:, 2] = 0.7
    gm[:, 4] = (3 * TABLE["age"] + 2).to_numpy("f4")
    cohort = cohort_of(Y, grey_matter=gm)
    options = {"n_perm": 50, "regressors": "grey_matter"}
    result = ng.permutation_test(cohort, TABLE[["intercept", "age"]], "grey_matter", **options)
    away = np.isin(np.arange(V), [2, 4])
    assert (result.maps["t"][away] == 0).all()
    assert (result.maps["p_unc"][away] == 1).all()
    np.testing.assert_array_equal(result.maps["reason"] == 1, away)
    assert "2 voxels have a regressor of their own that is constant there" in caplog.text
    rest = ng.permutation_test(
        cohort_of(Y[:, ~away], grey_matter=gm[:, ~away]),
        TABLE[["intercept", "age"]],
        "grey_matter",
        **options,
    )
    for name in ("t", "p_unc", "p_fwe_voxel", "effect"):
        np.testing.assert_array_equal(result.maps[name][~away], rest.maps[name])


WRONG = {
    "no such layer": ({"regressors": {"gm": "white_matter"}}, InputError, "no layer 'white_matter'"),
    "no such column": ({"regressors": {"gm": "sex:grey_matter"}}, DesignError, "'sex' is no column"),
    "a name that is taken": ({"regressors": {"age": "grey_matter"}}, DesignError, "another name"),
    "the same twice": ({"regressors": {"gm": "lesion", "les": "lesion"}}, DesignError, "there twice"),
    "numbers": ({"regressors": {"gm": GM}}, InputError, "names of layers"),
    "nothing": ({"regressors": {}}, InputError, "names of layers"),
    "weights of the columns alone": ({"contrast": [0, 1]}, ContrastError, "3 weights"),
    "groups": ({"variance_groups": [0, 0, 0, 1, 1, 1, 1]}, InputError, "variance_groups"),
    "smoothed variances": ({"variance_smoothing_fwhm": 4.0}, InputError, "regressors"),
    "weights": ({"weights": np.arange(1.0, N + 1)}, InputError, "weights don't go with regressors"),
    "a method": ({"method": "ter-braak"}, InputError, "freedman-lane"),
    "F by dekker": ({"method": "dekker", "contrast": ["age", "gm"]}, InputError, "freedman-lane"),
    "too many": (
        {
            "regressors": {
                "a": "lesion",
                "b": "grey_matter",
                "c": "age:lesion",
                "d": "age:grey_matter",
                "e": "intercept:lesion",
            }
        },
        DesignError,
        "no degrees of freedom",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name):
    options, error, text = WRONG[name]
    given = {"contrast": "age", "regressors": {"gm": "grey_matter"}, "n_perm": 5, **options}
    with pytest.raises(error, match=text):
        ng.permutation_test(COHORT, TABLE[["intercept", "age"]], **given)


def test_layers_may_come_with_the_call():
    labels = [f"s{k}" for k in range(N)]
    table, grey = pd.DataFrame(Y, index=labels), pd.DataFrame(GM, index=labels)
    options = {"n_perm": 20, "cluster_forming_threshold": None, "regressors": {"gm": "grey_matter"}}
    here = ng.permutation_test(table, TABLE[["intercept"]], "gm", layers={"grey_matter": grey}, **options)
    there = ng.permutation_test(COHORT, TABLE[["intercept"]], "gm", **options)
    np.testing.assert_array_equal(here.maps["t"], there.maps["t"])
    np.testing.assert_array_equal(here.h0["max_t"], there.h0["max_t"])


def test_maps_alone_have_no_layers():
    table = pd.DataFrame(Y, index=[f"s{k}" for k in range(N)])
    with pytest.raises(InputError, match=r"no layer 'grey_matter'.*Cohort\.create"):
        ng.permutation_test(table, n_perm=5, regressors=["grey_matter"])


def test_runs_from_disk_are_the_same_and_can_be_gone_on_with(tmp_path, monkeypatch):
    rng = np.random.default_rng(8)
    n_elements = 1100  # two tiles
    table, grey = (pd.DataFrame(rng.normal(size=(N, n_elements)), index=[f"s{k}" for k in range(N)]) for _ in range(2))
    cohort = ng.Cohort.create(tmp_path / "c.zarr", table, layers={"grey": grey})
    design = TABLE[["intercept", "age"]]
    options = {"n_perm": 300, "regressors": {"gm": "grey"}}
    there = ng.permutation_test(cohort, design, "gm", **options)
    here = ng.permutation_test(
        cohort_of(table.to_numpy("f4"), grey=grey.to_numpy("f4")),
        design,
        "gm",
        cluster_forming_threshold=None,
        **options,
    )
    monkeypatch.setattr(running, "make_plan", lambda *limits, **_: make_plan(*limits, keep=False))
    for _ in range(2):
        again = ng.permutation_test(cohort, design, "gm", store=tmp_path / "run", n_workers=1, **options)
        for one in (here, again):
            np.testing.assert_array_equal(one.h0["max_t"], there.h0["max_t"])
            for name, values in there.maps.items():
                np.testing.assert_array_equal(one.maps[name], values)
    with pytest.raises(OutputExistsError, match="regressors"):
        ng.permutation_test(cohort, design, "gm", store=tmp_path / "run", n_perm=300, regressors={"gm": "age:grey"})
    saved = again.save(tmp_path / "result")
    assert ng.PermutationResult.load(saved).asked.terms == ("intercept", "age", "gm")
    plan = ng.permutation_test(cohort, design, "gm", dry_run=True, **options)
    assert plan.memory > 0
    assert "p_unc" not in ng.permutation_test(cohort, design, "gm", **options | {"n_perm": 0}).maps


def test_the_report_and_the_words_name_them(tmp_path):
    result = run_case("no column", n_perm=20)
    assert result.asked.columns == ()
    page = result.report(tmp_path / "report.html").read_text()
    assert "gm was a regressor of each voxel" in page
    assert "gm (grey_matter)" in page

"""Regressors of elements' own where subjects are missing, against refitting every shuffling of every element."""

from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.layout import Arrays, Header
from numbaglm.data.cohort.presence import pack
from numbaglm.data.cohort.store import CohortStore
from numbaglm.errors import InputError
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis, make_incomplete
from numbaglm.stats.scales import Correlation, Share
from reference.incomplete import own_scores

N, V = 8, 8
RNG = np.random.default_rng(8)
TABLE = pd.DataFrame({"intercept": 1.0, "age": RNG.normal(40, 9, N), "group": np.arange(N) % 2.0})
GM, LESION = RNG.normal(0.6, 0.1, (N, V)).astype("f4"), RNG.gamma(1.0, 1.0, (N, V)).astype("f4")
PRESENT = np.ones((N, V), bool)
PRESENT[[0, 3, 3, 6, 6], [1, 2, 3, 4, 5]] = False
PRESENT[1, 5] = False
Y = (RNG.normal(100, 1, (N, V)) + 8 * GM * (np.arange(V) % 2) + 0.05 * TABLE[["age"]].to_numpy()).astype("f4")


def cohort_of(present=PRESENT, Y=Y, **layers):
    layers = layers or {"grey_matter": GM, "lesion": LESION}
    data = {name: np.where(present, one, np.float32(0)) for name, one in {"data": Y, **layers}.items()}
    subjects = pd.DataFrame({"subject_label": [f"s{k}" for k in range(len(Y))]})
    space = Space.of(Geometry(np.ones((Y.shape[1], 1, 1), bool), np.eye(4)))
    header = Header(space, subjects, layers=tuple(data), has_presence=True, keeps_missing=True)
    return Cohort(CohortStore(None, header, Arrays(data, pack(present), None)))


CASES = {  # columns, regressors, contrast, options
    "nuisance": (["intercept", "group"], {"gm": "grey_matter"}, "group", {}),
    "tested": (["intercept"], {"gm": "grey_matter"}, "gm", {}),
    "tested beside age": (["intercept", "age"], {"gm": "grey_matter"}, "gm", {}),
    "their difference": (["intercept"], {"gm": "grey_matter", "les": "lesion"}, "gm - les", {}),
    "a mixture": (["intercept", "age"], {"gm": "grey_matter"}, [0, 0.1, 1], {}),
    "interaction": (["intercept", "group"], {"gm": "grey_matter", "group:gm": "group:grey_matter"}, "group:gm", {}),
    "F": (["intercept", "group"], {"gm": "grey_matter"}, ["group", "gm"], {}),
    "no column": ([], {"gm": "grey_matter"}, "gm", {}),
    "a mean": (["intercept"], {"gm": "grey_matter"}, "intercept", {}),
    "flips": (["intercept", "age"], {"gm": "grey_matter"}, "gm", {"errors": "ise"}),
    "flips, F": (["intercept"], {"gm": "grey_matter"}, ["intercept", "gm"], {"errors": "ise"}),
    "blocks": (["intercept"], {"gm": "grey_matter"}, "gm", {"exchangeability_blocks": [1, 1, 1, 1, 2, 2, 2, 2]}),
    "both": (["intercept", "age"], {"gm": "grey_matter"}, "gm", {"errors": "both"}),
    "one-sided": (["intercept"], {"gm": "grey_matter"}, "gm", {"two_sided": False}),
}
LAYERS = {"grey_matter": GM, "lesion": LESION}


def run_case(case, cohort, missing="element", n_perm=600, **more):
    columns, regressors, contrast, options = CASES[case]
    options = {"missing": missing, "regressors": regressors, "cluster_forming_threshold": None} | options
    return ng.permutation_test(cohort, TABLE[columns], contrast, n_perm=n_perm, **options, **more)


def drawn(case, present=PRESENT, n_perm=600):
    """Scores of a case under its shufflings, and the scales of elements."""
    columns, regressors, contrast, options = CASES[case]
    design = Design.parse(TABLE[columns], N, regressors)
    parsed = Contrast.parse(contrast, design)
    shuffling = {"n_perm": n_perm, "seed": 0, "errors": options.get("errors"), "block_scheme": "within"}
    shuffling["blocks"] = options.get("exchangeability_blocks")
    shufflings, hypothesis = build_hypothesis(design, parsed, [parsed], "freedman-lane", shuffling, {})
    made = make_incomplete(hypothesis, shufflings)
    assert pickle.loads(pickle.dumps(made)).family.score is made.family.score
    own = []
    for source in regressors.values():
        column, _, layer = source.rpartition(":")
        own.append((TABLE[[column]].to_numpy() if column else np.ones((N, 1)), LAYERS[layer].astype(float)))
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    S = TABLE[columns].to_numpy()
    number = own_scores(Y.astype(float), present, S, own, parsed.matrix, index, sign)
    dof = present.sum(axis=0) - S.shape[1] - len(own)
    scales = [Correlation(d) if parsed.is_t else Share(d, len(parsed.matrix)) for d in dof]
    return number, scales


@pytest.mark.parametrize("case", CASES)
def test_every_shuffling_is_what_a_refit_gives(case):
    number, scales = drawn(case)
    result = run_case(case, cohort_of())
    z = np.stack([scale.to_z(one) for scale, one in zip(scales, number.T, strict=True)], axis=1)
    observed = np.array([scale.to_statistic(one) for scale, one in zip(scales, number[0], strict=True)])
    np.testing.assert_allclose(result.maps["t" if "t" in result.maps else "f"], observed, rtol=1e-6, atol=1e-6)
    signed = isinstance(scales[0], Correlation) and case != "one-sided"
    height, size = (np.abs(z), np.abs(number)) if signed else (z, number)
    null = result.h0["max_z"]
    np.testing.assert_allclose(null, height.max(axis=1), atol=2e-5)
    near = 1e-5 if CASES[case][3].get("errors") == "ise" else 1e-7
    least, most = ((size >= size[0] + off).mean(axis=0) for off in (near, -near))
    assert (result.maps["p_unc"] >= least - 1e-12).all()
    assert (result.maps["p_unc"] <= most + 1e-12).all()
    np.testing.assert_array_equal(result.maps["n_subjects"], PRESENT.sum(axis=0))


@pytest.mark.parametrize(
    "case", ["nuisance", "tested beside age", "a mixture", "F", "flips", "flips, F", "interaction", "blocks"]
)
def test_complete_data_are_the_test_with_regressors_of_their_own(case):
    whole = cohort_of(np.ones((N, V), bool))
    here, there = run_case(case, whole), run_case(case, whole, "leave")
    for name, values in there.maps.items():
        np.testing.assert_allclose(here.maps[name], values, rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("errors", ["ee", "ise"])
def test_a_regressor_that_all_elements_share_is_a_column(errors):
    age = np.repeat(TABLE[["age"]].to_numpy("f4"), V, axis=1)
    columns = ["intercept", "group"]
    options = {"n_perm": 600, "cluster_forming_threshold": None, "missing": "element", "errors": errors}
    # The mean stands in for those that are missing: only where none is are they the same under permutations.
    present = PRESENT | (errors == "ee")
    cohort = cohort_of(present, age=age)
    own = ng.permutation_test(cohort, TABLE[columns], "group", regressors={"age": "age"}, **options)
    column = ng.permutation_test(cohort, TABLE[[*columns, "age"]].astype("f4"), "group", **options)
    for name in ("t", "effect", "effect_se", "p_unc", "p_fwe_voxel", "n_subjects", "dof"):
        np.testing.assert_allclose(own.maps[name], column.maps[name], rtol=2e-4, atol=1e-6, err_msg=name)


def test_who_can_not_be_tested_leaves_with_a_reason(caplog):
    present, gm = PRESENT.copy(), GM.copy()
    present[3:, 0] = False  # too few
    gm[:, 6] = 1.0  # constant
    gm[3, 3] = 7.0
    gm[np.arange(N) != 3, 3] = 0.5  # constant but for who is missing there
    result = run_case("nuisance", cohort_of(present, grey_matter=gm))
    np.testing.assert_array_equal(result.maps["reason"], [1, 0, 0, 3, 0, 0, 3, 0])
    left = result.maps["reason"] > 0
    assert (result.maps["t"][left] == 0).all()
    assert (result.maps["p_unc"][left] == 1).all()
    assert "fewer than the 5 subjects" in caplog.text
    assert "constant there, or follows from the others" in caplog.text


def test_who_has_no_regressor_at_an_element_has_no_part_there():
    def images(values):
        return [nib.Nifti1Image(one.reshape(V, 1, 1), np.eye(4)) for one in values]

    gm = GM.copy()
    gm[~PRESENT] = np.nan
    result = ng.permutation_test(
        images(Y),
        TABLE[["intercept", "age"]],
        "age",
        layers={"grey_matter": images(gm)},
        regressors={"gm": "grey_matter"},
        missing="element",
        n_perm=50,
        cluster_forming_threshold=None,
    )
    np.testing.assert_array_equal(result.maps["n_subjects"], PRESENT.sum(axis=0))
    own = ng.permutation_test(
        cohort_of(), TABLE[["intercept", "age"]], "age", regressors={"gm": "grey_matter"}, missing="element", n_perm=50
    )
    np.testing.assert_allclose(result.maps["t"], own.maps["t"], rtol=1e-9)


def test_shufflings_that_are_not_there_leave_nothing_without_rank(caplog):
    run_case("tested beside age", cohort_of(), n_perm=101)  # no whole group of a batch
    assert "without its rank" not in caplog.text


def test_what_has_no_algebra_is_refused_by_name():
    with pytest.raises(InputError, match="'freedman-lane' with missing='element'"):
        run_case("tested", cohort_of(), method="manly")
    with pytest.raises(InputError, match="variance_groups"):
        run_case("tested", cohort_of(), variance_groups=np.arange(N) % 2)

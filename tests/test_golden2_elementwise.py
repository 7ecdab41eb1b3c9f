"""Regressors of each voxel's own against PALM's -evperdat (tests/golden2/README.md)."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.layout import Arrays, Header
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation.records import Spec
from numbaglm.inference.running import Running
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from numbaglm.stats import pvalues
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.hypothesis import Hypothesis
from numbaglm.stats.shuffling.own import plan_own
from reference.kept_arrays import kept_arrays

GOLDEN = Path(__file__).parent / "golden2"


class Case:
    """A golden case: its cohort with the regressor as a layer, and a recount of PALM's answers."""

    def __init__(self, name):
        self.folder = GOLDEN / name
        mask = nib.load(self.folder / "mask.nii.gz").get_fdata() > 0
        maps = {}
        for layer, file in (("data", "data"), ("ev", "ev")):
            maps[layer] = np.ascontiguousarray(
                nib.load(self.folder / f"{file}.nii.gz").get_fdata(dtype=np.float32)[mask].T
            )
        subjects = pd.DataFrame({"subject_label": [f"s{k}" for k in range(len(maps["data"]))]})
        header = Header(Space.of(Geometry(mask, np.eye(4))), subjects, layers=("data", "ev"))
        self.cohort = Cohort(CohortStore(None, header, Arrays(maps, None, None)))
        self.ref = kept_arrays(self.folder / "ref.npz")

    def of(self, tag):
        return {name.removeprefix(f"{tag}/"): self.ref[name] for name in self.ref if name.startswith(f"{tag}/")}


@pytest.fixture(scope="module")
def case(request):
    return Case(request.param)


TESTED, NUISANCE = "e1_evperdat_tested", "e2_evperdat_nuisance"
COLUMNS = {
    TESTED: (pd.DataFrame({"intercept": np.ones(6)}), "ev", 720),
    NUISANCE: (pd.DataFrame({"a": np.repeat([1.0, 0], 4), "b": np.repeat([0.0, 1], 4)}), "a - b", 70),
}
RUNS = [
    (TESTED, "extent_tfce", {"tfce": True, "tfce_uncorrected": True}),
    (NUISANCE, "extent_tfce", {"tfce": True, "tfce_uncorrected": True}),
    (NUISANCE, "two_mass", {"two_sided": True}),
    (NUISANCE, "dekker", {"method": "dekker", "cluster_forming_threshold": None}),
]


@pytest.mark.parametrize(("case", "tag", "options"), RUNS, indirect=["case"])
def test_all_shufflings(case, tag, options):
    design, contrast, n = COLUMNS[case.folder.name]
    expected = case.of(tag)
    given = {"two_sided": False, "cluster_forming_threshold": ("z", 2.0), "n_perm": 800, **options}
    result = ng.permutation_test(case.cohort, design, contrast, conventions="palm", regressors="ev", **given)
    absolute = np.abs if given["two_sided"] else np.asarray
    np.testing.assert_allclose(absolute(result.maps["t"]), absolute(expected["vox_tstat"]), rtol=1e-8, atol=1e-9)
    counted = {"p_unc": "vox_tstat_uncp", "p_fwe_voxel": "vox_tstat_fwep"}
    counted |= {"p_fwe_size": "clustere_tstat_fwep", "p_fwe_mass": "clusterm_tstat_fwep"}
    counted |= {"p_fwe_tfce": "tfce_tstat_fwep", "p_unc_tfce": "tfce_tstat_uncp"}
    checked = 0
    for ours, theirs in counted.items():
        if theirs in expected:
            np.testing.assert_array_equal(np.rint(result.maps[ours] * n), np.rint(expected[theirs] * n))
            checked += 1
    assert checked == sum(name in expected for name in counted.values()) > 1
    if "tfce_tstat" in expected:
        np.testing.assert_allclose(result.maps["tfce"], expected["tfce_tstat"], rtol=1e-7, atol=1e-9)
    if "vox_tstat_uncparap" in expected:
        np.testing.assert_allclose(result.maps["p_parametric"], expected["vox_tstat_uncparap"], rtol=1e-7)
    for null, theirs in (("max_size", "clustere_tstat_max"), ("max_tfce", "tfce_tstat_max")):
        if theirs in expected:
            np.testing.assert_allclose(np.sort(result.h0[null]), np.sort(expected[theirs]), rtol=1e-6)


DRAWN = {
    "two_mass": ({"two_sided": True}, "design.csv"),
    "noint_guttman": ({}, "design_ev1.csv"),
    "demean_guttman": ({}, "design.csv"),  # demeaning, which takes no degree of freedom, but for an intercept
    "cov": ({}, "design_cov.csv"),
    "cov_Dekker": ({"method": "dekker"}, "design_cov.csv"),
    "cov_Draper-Stoneman": ({"method": "draper-stoneman"}, "design_cov.csv"),
    "cov_Manly": ({"method": "manly"}, "design_cov.csv"),
}


@pytest.mark.parametrize("tag", DRAWN)
def test_shufflings_that_palm_drew(tag):
    case = Case(TESTED)
    options, file = DRAWN[tag]
    names = dict(line.split(": ") for line in (case.folder / "shufflings" / "index.txt").read_text().splitlines())
    rows = np.loadtxt(case.folder / "shufflings" / names[tag].split()[0], delimiter=",").astype(int)
    matrix = np.loadtxt(case.folder / file, delimiter=",", ndmin=2)[:, 1:]
    design = Design.parse(matrix, 6, {"ev": "ev"})
    contrast = Contrast.parse("ev", design)
    shufflings = plan_own(rows, 0, design_rows=np.arange(6.0)[:, None])
    orbits = shufflings.orbits()
    hypothesis = Hypothesis.build(design, contrast, "ee", orbits, options.get("method", "freedman-lane"))
    two_sided = options.get("two_sided", False)
    threshold = hypothesis.scale.to_score("z", 2.0, two_sided)
    spec = Spec(hypothesis, shufflings, CONVENTIONS["palm"], two_sided, threshold, tfce=False, precision="float64")
    with Running.parse(None, None, 1, False, None).opened(case.cohort.store, dict, 1) as run:
        found = run.test(spec, "told")
    expected, n = case.of(tag), len(rows)
    dof = 5 / 4 if tag == "demean_guttman" else 1.0
    t = found.statistic * np.sqrt(dof)
    t, scores = (np.abs(t), np.abs(found.max_score)) if two_sided else (t, found.max_score)
    np.testing.assert_allclose(t, np.abs(expected["vox_tstat"]) if two_sided else expected["vox_tstat"], rtol=1e-8)
    np.testing.assert_array_equal(found.counts, np.rint(expected["vox_tstat_uncp"] * n))
    null = pvalues.to_z(hypothesis.scale.to_statistic(scores) * np.sqrt(dof), hypothesis.scale.dof + (dof > 1))
    np.testing.assert_allclose(null, expected["vox_tstat_max"].ravel(), rtol=1e-7)
    if "clusterm_tstat_max" in expected:
        np.testing.assert_allclose(found.max_mass[0], expected["clusterm_tstat_max"].ravel(), rtol=1e-6)

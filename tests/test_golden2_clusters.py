"""Clusters and TFCE on meshes against PALM (tests/golden2/README.md)."""

from pathlib import Path

import numpy as np
import pytest

import numbaglm as ng
from reference.kept_arrays import kept_arrays

GOLDEN = Path(__file__).parent / "golden2"
TFCE_2D = {"tfce": True, "tfce_uncorrected": True}
ONE = {
    "extent_tfce2D": TFCE_2D,
    "mass": {},
    "tfce_default": {**TFCE_2D, "tfce_E": 0.5, "cluster_forming_threshold": None},
    "areafile": {**TFCE_2D, "areas": "lh.area.csv"},
    "area1": {**TFCE_2D, "areas": 1},
    "two": {**TFCE_2D, "two_sided": True},
    "gii": {**TFCE_2D, "surfaces": "lh.surf.gii"},
}
BOTH = {"corrmod": TFCE_2D, "corrmod_mass": {}, "corrmod_two": {**TFCE_2D, "two_sided": True}}
NAMES = {"size": "clustere", "mass": "clusterm", "tfce": "tfce"}


def run(case, sides, contrasts, threshold, **options):
    folder, short = GOLDEN / case, {"left": "lh", "right": "rh"}
    given = {"surfaces": "{}.white", "mask": "{}.mask.func.gii", **options}
    for name in ("surfaces", "mask", "areas"):
        if isinstance(given.get(name), str):
            given[name] = {side: folder / given[name].format(short[side]) for side in sides}
    return ng.permutation_test(
        {side: folder / f"{short[side]}.data.func.gii" for side in sides},
        np.loadtxt(folder / "design.csv", delimiter=","),
        contrasts,
        conventions="palm",
        **{"two_sided": False, "cluster_forming_threshold": ("z", threshold), **given},
    )


def check(result, ref, tag, ends, corrected, over=""):
    """Every key of a run that is of clusters or TFCE; ``ends`` are those of its parts."""
    n, inside = len(result.h0["max_t"]), result.space.kept

    def of_all(name):
        return np.concatenate([ref[f"{tag}/{name}{end}"] for end in ends])[inside]

    checked = 0
    for kind, palm in NAMES.items():
        if f"{tag}/{palm}_tstat{ends[0]}" not in ref:
            continue
        np.testing.assert_allclose(result.maps[kind], of_all(f"{palm}_tstat"), rtol=1e-7, atol=1e-7)
        p = result.maps[f"p_fwe_{kind}{over}"] * n
        expected = of_all(f"{palm}_tstat_{corrected}") * n
        counted = np.ones(p.size, bool) if kind == "tfce" else result.maps[kind] > 0
        np.testing.assert_array_equal(np.rint(p[counted]), np.rint(expected[counted]))
        if not over:
            null = np.max([ref[f"{tag}/{palm}_tstat_max{end}"] for end in ends], axis=0)
            np.testing.assert_allclose(np.sort(result.h0[f"max_{kind}"]), np.sort(null.ravel()), rtol=1e-6, atol=1e-7)
        if kind == "tfce":
            unc = of_all("tfce_tstat_uncp") * n
            np.testing.assert_array_equal(np.rint(result.maps["p_unc_tfce"] * n), np.rint(unc))
            if f"{tag}/tfce_tstat_mfdrp{ends[0]}" in ref:
                np.testing.assert_allclose(result.maps["p_fdr_tfce"], of_all("tfce_tstat_mfdrp"), rtol=1e-9)
        checked += 1
    assert checked > 0


@pytest.mark.parametrize("tag", ONE)
def test_a_hemisphere(tag):
    contrast = np.loadtxt(GOLDEN / "s1_surface" / "contrasts.csv", delimiter=",")
    result = run("s1_surface", ["left"], contrast, 2.0, **ONE[tag])
    check(result, kept_arrays(GOLDEN / "s1_surface" / "ref.npz"), tag, [""], "fwep")


@pytest.mark.parametrize("tag", BOTH)
@pytest.mark.parametrize("number", [1, 2])
def test_both_hemispheres_share_a_null(tag, number):
    contrasts = np.loadtxt(GOLDEN / "s2_surface_lr" / "contrasts.csv", delimiter=",")
    result = run("s2_surface_lr", ["left", "right"], contrasts[number - 1], 1.9, **BOTH[tag])
    ends = [f"_m1_c{number}", f"_m2_c{number}"]
    check(result, kept_arrays(GOLDEN / "s2_surface_lr" / "ref.npz"), tag, ends, "mfwep")


def test_contrasts_share_it_too():
    rows = np.loadtxt(GOLDEN / "s2_surface_lr" / "contrasts.csv", delimiter=",")
    contrasts = dict(zip(("c1", "c2"), rows, strict=True))
    results = run("s2_surface_lr", ["left", "right"], contrasts, 1.9, fwe_across_contrasts=True, **TFCE_2D)
    ref = kept_arrays(GOLDEN / "s2_surface_lr" / "ref.npz")
    for name, result in results.items():
        check(result, ref, "corrmod_corrcon", [f"_m1_{name}", f"_m2_{name}"], "mfwep")
        check(result, ref, "corrmod_corrcon", [f"_m1_{name}", f"_m2_{name}"], "mcfwep", "_contrasts")

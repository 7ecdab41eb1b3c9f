"""Maps on meshes against PALM: statistics, areas and voxelwise p (tests/golden2/README.md)."""

from pathlib import Path

import numpy as np
import pytest

import numbaglm as ng
from reference.kept_arrays import kept_arrays

GOLDEN = Path(__file__).parent / "golden2"


def arguments(folder, sides, mesh="white", **more):
    given = {"maps": "{}.data.func.gii", "mask": "{}.mask.func.gii", "surfaces": f"{{}}.{mesh}"}
    names = {"left": "lh", "right": "rh"}
    return {name: {side: folder / file.format(names[side]) for side in sides} for name, file in (given | more).items()}


@pytest.mark.parametrize(
    ("case", "sides", "ends"),
    [("s1_surface", ["left"], [""]), ("s2_surface_lr", ["left", "right"], ["_m1_c1", "_m2_c1"])],
)
def test_statistics_and_p_are_those_of_palm(case, sides, ends):
    folder, tag = GOLDEN / case, "extent_tfce2D" if len(sides) == 1 else "corrmod"
    design = np.loadtxt(folder / "design.csv", delimiter=",")
    contrast = np.loadtxt(folder / "contrasts.csv", delimiter=",", ndmin=2)[0]
    given = arguments(folder, sides)
    result = ng.permutation_test(given.pop("maps"), design, contrast, two_sided=False, **given)
    inside, ref = result.space.kept, kept_arrays(folder / "ref.npz")
    corrected = "fwep" if len(sides) == 1 else "mfwep"
    for name, kind in (("t", ""), ("p_unc", "_uncp"), ("p_fwe_voxel", f"_{corrected}")):
        expected = np.concatenate([ref[f"{tag}/dpv_tstat{kind}{end}"] for end in ends])
        np.testing.assert_allclose(result.maps[name], expected[inside], rtol=1e-12, atol=1e-12)
        assert not expected[~inside].any()


@pytest.mark.parametrize("mesh", ["white", "surf.gii"])
def test_areas_add_up_to_the_extents_of_palm(mesh):
    folder = GOLDEN / "s1_surface"
    ref = kept_arrays(folder / "ref.npz")
    for tag, areas in (("extent_tfce2D", {}), ("areafile", {"areas": "{}.area.csv"}), ("area1", {})):
        given = arguments(folder, ["left"], mesh, **areas)
        given |= {"areas": 1} if tag == "area1" else {}
        space = ng.Cohort.from_maps(**given).store.space
        extent = ref[f"{tag}/clustere_tstat"][space.kept]
        for size in np.unique(extent[extent > 0]):
            of_size = extent == size  # one cluster, where areas differ
            if tag != "area1":
                np.testing.assert_allclose(space.measure[of_size].sum(), size, rtol=1e-6)
            else:
                assert of_size.sum() % size == 0

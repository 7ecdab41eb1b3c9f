"""Maps on surfaces and of parcels, from the shell."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
from numbaglm.errors import InputError
from numbaglm.results.result import PermutationResult
from reference.command_line import run
from reference.meshes import icosphere

VALUES = np.random.default_rng(0).normal(size=(6, 84)).astype(np.float32)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file a subject and hemisphere, and the meshes."""
    monkeypatch.chdir(tmp_path)
    for k, row in enumerate(VALUES):
        for side, half in (("L", row[:42]), ("R", row[42:])):
            image = nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(half)])
            nib.save(image, f"sub-{k}_hemi-{side}_thickness.func.gii")
    for hemi, seed in (("lh", 1), ("rh", 2)):
        nib.freesurfer.write_geometry(f"{hemi}.white", *icosphere(seed=seed))
    return tmp_path


def test_surfaces_are_converted_and_tested(place):
    maps = sorted(place.glob("*.func.gii"))
    run("convert", *maps, "--surface", "left=lh.white", "--surface", "right=rh.white", "-o", "c.zarr")
    cohort = Cohort.open("c.zarr")
    np.testing.assert_array_equal(cohort.store.read(0, 84), VALUES)
    assert cohort.store.space.measure.min() > 1
    facts = json.loads(run("info", "c.zarr", "--json")[0])
    assert facts["parts"] == {"surface left": 42, "surface right": 42}
    run("permute", "c.zarr", "--n-perm", "63", "-o", "result")
    t = nib.load("result/t_hemi-R.func.gii").darrays[0].data
    np.testing.assert_allclose(t, PermutationResult.load("result").maps["t"][42:], rtol=1e-6)
    run("permute", "c.zarr", "--n-perm", "63", "--bids", "-o", "other")
    named = place / "other" / "group" / "hemi-R_den-42_contrast-intercept_stat-t_statmap.func.gii"
    np.testing.assert_array_equal(nib.load(named).darrays[0].data, t)
    assert {"statistic.png", "corrected.png"} <= {path.name for path in (place / "result" / "figures").iterdir()}
    meshes = ["--surface", "left=lh.white", "--surface", "right=rh.white"]
    assert "of 6 maps stand" in run("quality", *maps, *meshes)[0]
    with pytest.raises(InputError, match="use to_image"):
        PermutationResult.load("result").to_nifti("t")
    run("report", "result", *meshes, "--background", "left=lh.depth", "--background", "right=lh.depth", code=1)
    run("report", "result", *meshes)
    assert 'id="surfaces"' in (place / "result" / "report.html").read_text(encoding="utf-8")
    told = run("permute", "c.zarr", "--n-perm", "31", "--cluster-forming-threshold", "0.2", "-o", "clusters")[0]
    assert "vertices" in told.partition("Clusters, p corrected")[2]
    assert (
        "write SIDE=FILE"
        in run("convert", *maps, "--surface", "lh.white", "--surface", "rh.white", "-o", "d", code=2)[1]
    )


def test_hemispheres_are_named_as_modalities_are(place):
    for hemi, rows in (("lh", VALUES[:, :42]), ("rh", VALUES[:, 42:])):  # a file of all subjects a side
        nib.save(nib.MGHImage(rows.T[:, None, None], np.eye(4)), f"{hemi}.stack.mgh")
    run("convert", *sorted(place.glob("*.func.gii")), "-o", "one.zarr")
    run("convert", "left=*hemi-L_*.func.gii", "right=*hemi-R_*.func.gii", "-o", "two.zarr")
    run("convert", "left=lh.stack.mgh", "right=rh.stack.mgh", "-o", "three.zarr")
    run("convert", "lh.stack.mgh", "rh.stack.mgh", "-o", "four.zarr")
    for path in ("one.zarr", "two.zarr", "three.zarr", "four.zarr"):
        np.testing.assert_array_equal(Cohort.open(path).store.read(0, 84), VALUES)
    said = run("permute", "left=lh.stack.mgh", "right=rh.stack.mgh", "--n-perm", "63", "-o", "out", "--no-report")[0]
    assert "84 vertices, 6 subjects" in said
    run("permute", "left=one.zarr", "right=two.zarr", "--n-perm", "31", "-o", "modalities", "--no-report")
    assert {"left", "right"} <= {path.name for path in (place / "modalities").iterdir()}


def test_a_model_is_fitted_on_surfaces_and_parcels(place):
    maps = sorted(place.glob("*.func.gii"))
    told = run("fit", *maps, "-o", "fit")[0].splitlines()
    t = VALUES.mean(0) / (VALUES.std(0, ddof=1) / np.sqrt(6))
    assert told[0] == "intercept: 84 vertices, 6 subjects, 5 degrees of freedom"
    assert f"largest t: {t.max():.2f} at {'left' if t.argmax() < 42 else 'right'}" in told[1]
    np.testing.assert_allclose(nib.load("fit/t_hemi-R.func.gii").darrays[0].data, t[42:], rtol=1e-5)
    assert run("info", "fit")[0].splitlines()[0] == told[0]
    run("fit", *maps, "--bids", "-o", "other")
    assert (place / "other" / "group" / "hemi-L_den-42_contrast-intercept_stat-z_statmap.func.gii").exists()
    table = pd.DataFrame(VALUES[:, :2], [f"sub-{k}" for k in range(6)], ["insula", "cuneus"])
    table.to_csv("parcels.tsv", sep="\t", index_label="participant_id")
    best = table.columns[t[:2].argmax()]
    assert run("fit", "parcels.tsv", "-o", "parcels")[0].splitlines()[1].endswith(f"at {best}")


def test_networks_grow_by_one_matrix_and_are_looked_at(place):
    for k in range(6):
        matrix = np.random.default_rng(k).normal(size=(5, 5))
        np.savetxt(f"net-{k}.tsv", matrix + matrix.T, delimiter="\t")
    run("convert", *(f"net-{k}.tsv" for k in range(4)), "--network", "-o", "n.zarr")
    told = json.loads(run("append", "n.zarr", "net-4.tsv", "--json")[0])
    assert (told["n_subjects"], told["parts"]) == (5, {"network": 10})
    maps = [f"net-{k}.tsv" for k in range(6)]
    assert "of 6 maps stand" in run("quality", *maps, "--network")[0]
    assert "blocks of up to 10 edges" in run("permute", "n.zarr", "-o", "out", "--dry-run")[0]
    run("permute", "n.zarr", "-o", "out")
    assert "voxels" not in (place / "out" / "README.md").read_text()


def test_a_table_of_parcels_is_tested(place):
    table = pd.DataFrame(VALUES[:, :2], columns=["insula", "cuneus"])
    table.insert(0, "participant_id", [f"sub-{k}" for k in range(6)])
    table.to_csv("parcels.tsv", sep="\t", index=False)
    run("permute", "parcels.tsv", "-o", "result")
    assert list(pd.read_csv("result/t.tsv", sep="\t").columns) == ["map", "insula", "cuneus"]


def test_clusters_are_told_where_they_are(place):
    """Of maps as they are, within a mask a hemisphere."""
    maps = sorted(place.glob("*.func.gii"))
    meshes = ("--surface", "left=lh.white", "--surface", "right=rh.white")
    for side in "lr":
        np.savetxt(f"{side}h.txt", np.arange(42) >= 2)
    masks = ("--mask", "left=lh.txt", "--mask", "right=rh.txt")
    options = ("--cluster-forming-threshold", "0.2", "--tfce", "--mass", "area", "--n-perm", "63")
    told = run("permute", *maps, *meshes, *masks, *options, "-o", "result")[0]
    result = PermutationResult.load("result")
    assert result.asked.conventions["mass"] == "area"
    assert result.space.n == 80
    first = result.clusters.iloc[0]
    assert f"clusters with FWE p <= 0.05 by size: 0 of {len(result.clusters)}" in told
    assert first["peak"] in told
    assert " mm2" in told
    assert json.loads(run("info", "result", "--json")[0])["n_fwe_0.05"]["clusters_by_size"] == 0
    refused = run("permute", *maps, *meshes, *options, "--structures", "apart", "-o", "other", code=1)[1]
    assert "left and right surfaces" in refused

"""What numbaglm reads, a record each: a sound example, how a user hands it over, and when what comes out is right.

A format that is added to numbaglm is added here: a record in `FORMATS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

import numbaglm as ng
from hostile import peers
from hostile.mutations import Fields
from numbaglm.data.images.atlases import read_atlas
from numbaglm.errors import NumbaglmError
from reference.maps import AFFINE
from reference.meshes import icosphere

N, SHAPE = 4, (5, 4, 3)
MESH = icosphere()
V = len(MESH[0])

Arrays = dict[str, Any]


def same(folder: Path, found: Arrays, sound: Arrays) -> str:
    """Nothing may have changed: checksums tell."""
    for name, values in sound.items():
        if not np.array_equal(np.asarray(found[name]), np.asarray(values), equal_nan=values.dtype.kind == "f"):
            return f"{name} is not what was stored"
    return ""


def anything(folder: Path, found: Arrays, sound: Arrays) -> str:
    """Nobody knows what a changed text was to say."""
    return ""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    make
        Lays a sound example into a folder.
    targets
        Pattern of the files that may be damaged.
    use
        Does with it what a user does; arrays by name.
    right
        "", or what is wrong with what came out of a damaged one, beside that of the sound one.
    fields
        Of the header.
    text
        Whether it is one.
    """

    make: Callable[[Path], None]
    targets: str
    use: Callable[[Path], Arrays]
    right: Callable[[Path, Arrays, Arrays], str] = anything
    fields: Fields | None = None
    text: bool = False


# --- Images ---------------------------------------------------------------------------------------------------------

NIFTI1 = Fields(
    (
        *((0, "i"), (40, "h"), (42, "h"), (44, "h"), (46, "h"), (48, "h"), (68, "h"), (70, "h"), (72, "h"), (76, "f")),
        *((80, "f"), (108, "f"), (112, "f"), (116, "f"), (252, "h"), (254, "h"), (280, "f"), (344, "i")),
    )
)
NIFTI2 = Fields(
    (
        *((0, "i"), (12, "h"), (14, "h"), (16, "q"), (24, "q"), (32, "q"), (56, "q"), (64, "q"), (104, "d")),
        *((168, "q"), (176, "d"), (184, "d"), (344, "i"), (400, "d"), (504, "i"), (540, "i"), (544, "i"), (548, "i")),
    )
)
MGH = Fields(((0, "i"), (4, "i"), (8, "i"), (12, "i"), (16, "i"), (20, "i"), (28, "h"), (30, "f"), (42, "f")), ">")
CURV = Fields(((3, "i"), (7, "i"), (11, "i")), ">")


def volumes(folder: Path, ending: str, kind: Any = nib.Nifti1Image, dtype: str = "f4") -> None:
    rng = np.random.default_rng(0)
    for k in range(N):
        values = rng.normal(20, 5, SHAPE).astype(dtype)
        image = kind(values, AFFINE)
        if dtype == "i2":
            image.header.set_slope_inter(0.5, 1.0)
        nib.save(image, folder / f"sub-{k}{ending}")
    nib.save(nib.Nifti1Image(np.ones(SHAPE, "u1"), AFFINE), folder / "mask.nii")


def read_volumes(folder: Path) -> Arrays:
    maps = sorted(one for one in folder.glob("sub-*") if not one.name.endswith(".hdr"))
    cohort = ng.Cohort.from_maps(maps, mask=folder / "mask.nii", n_workers=1)
    return {"values": cohort.store.read(0, cohort.n_voxels)[0], "mask": cohort.store.geometry.mask}


def as_nibabel_has_it(folder: Path, found: Arrays, sound: Arrays) -> str:
    """Another reader finds the same numbers."""
    path = next(iter(sorted(one for one in folder.glob("sub-*") if not one.name.endswith(".hdr"))))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        image = nib.load(path)
        slope = abs(image.dataobj.slope) if hasattr(image.dataobj, "slope") else 0.0
        theirs = np.asarray(image.dataobj, np.float64).reshape(SHAPE)[found["mask"]]
    ours = found["values"]
    fits = np.isclose(ours, theirs, rtol=1e-5, atol=1e-37) | ((ours == 0) & (np.abs(theirs) <= slope))
    return "" if fits.all() else f"{ours[~fits][:3]} where nibabel has {theirs[~fits][:3]}"


def surfaces(folder: Path, ending: str) -> None:
    rng = np.random.default_rng(1)
    codes = {"gz": "GIFTI_ENCODING_B64GZ", "text": "GIFTI_ENCODING_ASCII", "b64": "GIFTI_ENCODING_B64BIN"}
    for k in range(N):
        values = rng.normal(2, 0.5, V).astype(np.float32)
        if ending == "thickness":
            nib.freesurfer.write_morph_data(folder / f"lh.s{k}_thickness", values)
        elif ending.startswith("mg"):
            nib.save(nib.MGHImage(values[:, None, None], np.eye(4)), folder / f"lh.s{k}.{ending}")
        else:
            one = nib.gifti.GiftiDataArray(values, encoding=codes[ending])
            nib.save(nib.GiftiImage(darrays=[one]), folder / f"s{k}.func.gii")


def read_surfaces(folder: Path) -> Arrays:
    cohort = ng.Cohort.from_maps(sorted(folder.iterdir()), n_workers=1)
    return {"values": cohort.store.read(0, cohort.n_voxels)[0], "vertices": cohort.store.space.parts[0].vertices}


def surface_as_nibabel_has_it(folder: Path, found: Arrays, sound: Arrays) -> str:
    path = sorted(folder.iterdir())[0]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if path.suffix == ".gii":
            theirs = nib.load(path).darrays[0].data
        elif path.suffix.startswith(".mg"):
            theirs = np.asarray(nib.load(path).dataobj).ravel(order="F")
        else:
            theirs = nib.freesurfer.read_morph_data(path)
        theirs = np.asarray(theirs, np.float64).ravel()[found["vertices"]]
    fits = np.isclose(found["values"], theirs, rtol=1e-5, atol=1e-37)
    return "" if fits.all() else f"{found['values'][~fits][:3]} where nibabel has {theirs[~fits][:3]}"


def grayordinates(folder: Path, kind: str) -> None:
    rng, mask = np.random.default_rng(2), np.zeros((4, 3, 2), bool)
    mask[1:3, :, 1] = True
    axis = nib.cifti2.BrainModelAxis.from_surface(np.array([1, 4, 40]), V, name="CortexLeft")
    axis = axis + nib.cifti2.BrainModelAxis.from_mask(mask, name="thalamus_left", affine=np.diag([2.0, 2, 2, 1]))
    if kind == "pscalar":
        axis = nib.cifti2.ParcelsAxis.from_brain_models([("one", axis[:3]), ("two", axis[3:5]), ("three", axis[5:])])
    for k in range(N):
        values = rng.normal(2, 0.5, (1, len(axis))).astype(np.float32)
        nib.save(nib.Cifti2Image(values, (nib.cifti2.ScalarAxis(["map"]), axis)), folder / f"s{k}.{kind}.nii")


def read_grayordinates(folder: Path) -> Arrays:
    cohort = ng.Cohort.from_maps(sorted(folder.iterdir()), n_workers=1)
    kept = cohort.store.space.kept
    where = np.arange(cohort.n_voxels) if kept is None else np.flatnonzero(kept)
    columns = cohort.store.space.template.columns
    return {
        "values": cohort.store.read(0, cohort.n_voxels)[0],
        "vertices": where if columns is None else columns[where],
    }


def grayordinates_as_nibabel_has_them(folder: Path, found: Arrays, sound: Arrays) -> str:
    path = sorted(folder.iterdir())[0]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        theirs = np.asarray(nib.load(path).dataobj, np.float64).ravel()[found["vertices"]]
    fits = np.isclose(found["values"], theirs, rtol=1e-5, atol=1e-37)
    return "" if fits.all() else f"{found['values'][~fits][:3]} where nibabel has {theirs[~fits][:3]}"


# --- Meshes and atlases ---------------------------------------------------------------------------------------------


def mesh(folder: Path, kind: str) -> None:
    if kind == "white":
        nib.freesurfer.write_geometry(folder / "lh.white", *MESH)
        return
    points = nib.gifti.GiftiDataArray(MESH[0].astype(np.float32), intent="NIFTI_INTENT_POINTSET")
    faces = nib.gifti.GiftiDataArray(MESH[1], intent="NIFTI_INTENT_TRIANGLE")
    nib.save(nib.GiftiImage(darrays=[points, faces]), folder / "L.surf.gii")


def use_mesh(folder: Path) -> Arrays:
    values = np.random.default_rng(3).normal(0.3, 1, (6, V)).astype(np.float32)
    path = next(iter(folder.iterdir()))
    cohort = ng.Cohort.from_maps({"left": values}, surfaces={"left": path}, n_workers=1)
    found = ng.permutation_test(cohort, n_perm=9, cluster_forming_threshold=("t", 1.0), tfce=True, n_workers=1)
    return {"t": found.maps["t"]}


def atlas(folder: Path, kind: str) -> None:
    labels = np.arange(V, dtype=np.int32) % 3
    if kind == "annot":
        colours = np.array([[0, 0, 0, 0, 0], [9, 9, 9, 0, 1], [8, 8, 8, 0, 2]])
        nib.freesurfer.write_annot(folder / "lh.annot", labels, colours, ["???", "one", "two"], fill_ctab=True)
    elif kind == "label":
        image = nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(labels, intent="NIFTI_INTENT_LABEL")])
        for key, name in enumerate(("???", "one", "two")):
            one = nib.gifti.GiftiLabel(key, 1, 0, 0, 1)
            one.label = name
            image.labeltable.labels.append(one)
        nib.save(image, folder / "L.label.gii")
    else:
        values = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3).astype(np.int16)
        nib.save(nib.Nifti1Image(values, AFFINE), folder / "atlas.nii")
        (folder / "atlas.tsv").write_text("index\tname\n1\tone\n2\ttwo\n")


def use_atlas(folder: Path) -> Arrays:
    path = max(folder.iterdir(), key=lambda one: one.suffix != ".tsv")
    if path.suffix == ".nii":
        cohort = ng.Cohort.from_maps([nib.Nifti1Image(np.full(SHAPE, k, "f4"), AFFINE) for k in (1, 2)], n_workers=1)
        return {"regions": np.array(read_atlas(path).regions(cohort.store.space))}
    cohort = ng.Cohort.from_maps({"left": np.random.default_rng(0).normal(size=(2, V))}, n_workers=1)
    return {"regions": np.array(read_atlas({"left": path}).regions(cohort.store.space))}


# --- Cohorts, runs and results --------------------------------------------------------------------------------------


def maps_of(n_subjects: int) -> list[nib.Nifti1Image]:
    rng = np.random.default_rng(4)
    return [nib.Nifti1Image(rng.normal(0.5, 1, SHAPE).astype("f4"), AFFINE) for _ in range(n_subjects)]


def cohort(folder: Path) -> None:
    ng.Cohort.create(folder / "c.zarr", maps_of(6), covariates=pd.DataFrame({"age": np.arange(6.0)}), n_workers=1)


def old_cohort(folder: Path) -> None:
    import shutil

    shutil.copytree(Path(__file__).parents[1] / "data" / "cohort" / "schema3.zarr", folder / "c.zarr")


def use_cohort(folder: Path) -> Arrays:
    found = ng.Cohort.open(folder / "c.zarr")
    found.verify(n_workers=1)
    return {"values": found.store.read(0, found.n_voxels), "mask": found.store.geometry.mask}


def tested(folder: Path, **options: Any) -> Any:
    laid = ng.Cohort.open(folder / "c.zarr")
    return ng.permutation_test(laid, n_perm=40, cluster_forming_threshold=("t", 1.0), n_workers=1, **options)


def run(folder: Path) -> None:
    cohort(folder)
    tested(folder, store=folder / "run")


def use_run(folder: Path) -> Arrays:
    found = tested(folder, store=folder / "run")
    return {**found.maps.stored, **found.h0}


def result(folder: Path) -> None:
    found = ng.permutation_test(maps_of(6), n_perm=40, cluster_forming_threshold=("t", 1.0), n_workers=1)
    found.save(folder / "out")


def use_result(folder: Path) -> Arrays:
    found = ng.PermutationResult.load(folder / "out")
    assert found.summary()
    assert found._repr_html_()
    return {"t": found.maps["t"], "p": found.maps["p_fwe_voxel"], "null": found.h0["max_t"]}


# --- Tables and other texts -----------------------------------------------------------------------------------------

AGES = [31, 45, 28, 60, 52, 39]


def table(folder: Path, ending: str) -> None:
    people = pd.DataFrame({"age": AGES, "iq": [99.5, 101.25, 120, 87, 95.125, 110], "intercept": 1.0})
    people.to_csv(folder / f"people{ending}", sep="\t" if ending == ".tsv" else ",", index=False)


def use_table(folder: Path) -> Arrays:
    path = next(iter(folder.iterdir()))
    ng.Cohort.from_maps(maps_of(6), covariates=path, n_workers=1)
    found = ng.permutation_test(maps_of(6), path, "age", n_perm=9, cluster_forming_threshold=None, n_workers=1)
    return {"t": found.maps["t"]}


def formula(folder: Path) -> None:
    (folder / "formula.txt").write_text("~ center(age) + C(group) + I(np.log(age) ** 2)")


def use_formula(folder: Path) -> Arrays:
    people = pd.DataFrame({"age": np.array(AGES, float), "group": ["a", "b"] * 3})
    held = ng.Cohort.from_maps(maps_of(6), covariates=people, n_workers=1)
    text = (folder / "formula.txt").read_bytes().decode("utf-8", "replace")
    found = ng.permutation_test(
        held, text, "intercept", n_perm=9, errors="ise", cluster_forming_threshold=None, n_workers=1
    )
    return {"t": found.maps["t"]}


def contrast(folder: Path) -> None:
    (folder / "contrast.txt").write_text("2 * patient - control / 2")


def use_contrast(folder: Path) -> Arrays:
    design = pd.DataFrame({"patient": [1.0, 0] * 3, "control": [0, 1.0] * 3})
    text = (folder / "contrast.txt").read_bytes().decode("utf-8", "replace")
    found = ng.permutation_test(
        maps_of(6), design, text, n_perm=9, errors="ise", cluster_forming_threshold=None, n_workers=1
    )
    return {"t": found.maps["t"]}


def parcels(folder: Path) -> None:
    rows = np.random.default_rng(5).normal(size=(6, 3)).round(3)
    frame = pd.DataFrame(rows, columns=["insula", "cuneus", "pole"])
    frame.insert(0, "participant_id", [f"s{k}" for k in range(6)])
    frame.to_csv(folder / "parcels.tsv", sep="\t", index=False)


def use_parcels(folder: Path) -> Arrays:
    found = ng.Cohort.from_maps(folder / "parcels.tsv", n_workers=1)
    return {"values": found.store.read(0, found.n_voxels)}


def networks(folder: Path, ending: str) -> None:
    rng = np.random.default_rng(6)
    for k in range(3):
        matrix = np.corrcoef(rng.normal(size=(4, 20))).round(3)
        if ending == ".npy":
            np.save(folder / f"s{k}.npy", matrix)
        else:
            np.savetxt(folder / f"s{k}{ending}", matrix, fmt="%.3f", delimiter="," if ending == ".csv" else " ")


def use_networks(folder: Path) -> Arrays:
    found = ng.Cohort.from_maps(sorted(folder.iterdir()), space="network", n_workers=1)
    return {"values": found.store.read(0, found.n_voxels)}


def _format(make: Any, targets: str, use: Any, right: Any = anything, **options: Any) -> Format:
    return Format(make, targets, use, right, **options)


FORMATS = {
    "nifti": _format(partial(volumes, ending=".nii"), "sub-0.nii", read_volumes, as_nibabel_has_it, fields=NIFTI1),
    "nifti, packed": _format(
        partial(volumes, ending=".nii.gz"), "sub-0.nii.gz", read_volumes, as_nibabel_has_it, fields=NIFTI1
    ),
    "nifti, scaled": _format(
        partial(volumes, ending=".nii.gz", dtype="i2"), "sub-0.nii.gz", read_volumes, as_nibabel_has_it, fields=NIFTI1
    ),
    "nifti-2": _format(
        partial(volumes, ending=".nii", kind=nib.Nifti2Image),
        *("sub-0.nii", read_volumes, as_nibabel_has_it),
        fields=NIFTI2,
    ),
    "pair": _format(
        partial(volumes, ending=".img", kind=nib.Nifti1Pair),
        *("sub-0.hdr", read_volumes, as_nibabel_has_it),
        fields=NIFTI1,
    ),
    **{
        f"gifti, {kind}": _format(
            partial(surfaces, ending=kind), "s0.func.gii", read_surfaces, surface_as_nibabel_has_it, text=True
        )
        for kind in ("gz", "text", "b64")
    },
    "mgh": _format(partial(surfaces, ending="mgh"), "lh.s0.mgh", read_surfaces, surface_as_nibabel_has_it, fields=MGH),
    "mgz": _format(partial(surfaces, ending="mgz"), "lh.s0.mgz", read_surfaces, surface_as_nibabel_has_it, fields=MGH),
    "thickness": _format(
        partial(surfaces, ending="thickness"),
        *("lh.s0_thickness", read_surfaces, surface_as_nibabel_has_it),
        fields=CURV,
    ),
    **{
        kind: _format(
            partial(grayordinates, kind=kind),
            *(f"s0.{kind}.nii", read_grayordinates, grayordinates_as_nibabel_has_them),
            fields=NIFTI2,
            text=True,
        )
        for kind in ("dscalar", "pscalar")
    },
    "mesh, gifti": _format(partial(mesh, kind="gii"), "L.surf.gii", use_mesh, text=True),
    "mesh, freesurfer": _format(partial(mesh, kind="white"), "lh.white", use_mesh),
    "atlas, annot": _format(partial(atlas, kind="annot"), "lh.annot", use_atlas),
    "atlas, gifti": _format(partial(atlas, kind="label"), "L.label.gii", use_atlas, text=True),
    "atlas, nifti": _format(partial(atlas, kind="nifti"), "atlas.*", use_atlas, fields=None),
    "cohort": _format(cohort, "c.zarr/**/*", use_cohort, same),
    "cohort, text": _format(cohort, "c.zarr/**/zarr.json", use_cohort, same, text=True),
    "cohort of 0.1": _format(old_cohort, "c.zarr/**/*", use_cohort, same),
    "cohort of 0.1, text": _format(old_cohort, "c.zarr/**/zarr.json", use_cohort, anything, text=True),
    "run": _format(run, "run/**/*", use_run, same),
    "run, plans": _format(run, "run/**/*.json", use_run, same, text=True),
    "result": _format(result, "out/result.npz", use_result, same),
    "result, texts": _format(result, "out/*.[jt]s*", use_result, anything, text=True),
    "table, tsv": _format(partial(table, ending=".tsv"), "people.tsv", use_table, text=True),
    "table, csv": _format(partial(table, ending=".csv"), "people.csv", use_table, text=True),
    "formula": _format(formula, "formula.txt", use_formula, text=True),
    "contrast": _format(contrast, "contrast.txt", use_contrast, text=True),
    "parcels": _format(parcels, "parcels.tsv", use_parcels, text=True),
    "network, csv": _format(partial(networks, ending=".csv"), "s0.csv", use_networks, text=True),
    "network, txt": _format(partial(networks, ending=".txt"), "s0.txt", use_networks, text=True),
    "network, npy": _format(partial(networks, ending=".npy"), "s0.npy", use_networks),
    "spm": _format(partial(peers.spm_study, packed=True), "group/SPM.mat", peers.use_spm),
    "spm, not packed": _format(partial(peers.spm_study, packed=False), "group/SPM.mat", peers.use_spm, text=True),
    "afni, header": _format(
        peers.bricks, "sub-0+tlrc.HEAD", peers.read_bricks, peers.bricks_as_nibabel_has_them, text=True
    ),
    "afni, values": _format(peers.bricks, "sub-0+tlrc.BRIK", peers.read_bricks, peers.bricks_as_nibabel_has_them),
    "afni, covariates": _format(peers.covariates, "covariates.1D", peers.use_covariates, text=True),
    "afni, table": _format(peers.data_table, "table.txt", peers.use_data_table, text=True),
    "fsgd": _format(peers.descriptor, "g.fsgd", peers.use_descriptor, text=True),
    "mtx": _format(peers.matrix, "group.mtx", peers.use_matrix, text=True),
    "text matrix": _format(peers.text_matrix, "design.con", peers.use_text_matrix, text=True),
    "palm, sets": _format(peers.sets, "c.mset", peers.use_sets, text=True),
    "palm, blocks": _format(peers.blocks, "blocks.csv", peers.use_blocks, text=True),
    "shufflings, csv": _format(partial(peers.shufflings, ending=".csv"), "set.csv", peers.use_shufflings, text=True),
    "shufflings, npy": _format(partial(peers.shufflings, ending=".npy"), "set.npy", peers.use_shufflings),
    "shufflings, npz": _format(partial(peers.shufflings, ending=".npz"), "set.npz", peers.use_shufflings),
}
if find_spec("h5py") is not None:
    FORMATS["spm, v7.3"] = _format(partial(peers.spm_study, hdf5=True), "group/SPM.mat", peers.use_spm)

REFUSALS = NumbaglmError

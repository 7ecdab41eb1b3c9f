"""Maps on surfaces, of parcels and of networks: in from every format, out in the same, and what is refused."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.data.images import element_listing, elements
from numbaglm.data.images.element_writing import element_image, save_mesh
from numbaglm.data.images.elements import opening
from numbaglm.errors import GridError, ImageError, InputError
from numbaglm.spaces.surface import Mesh
from reference.meshes import icosphere

N, V = 6, 42
RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.normal(size=(2, N, V)).astype(np.float32)
MESHES = {"left": icosphere(seed=1), "right": icosphere(seed=2)}
MATRICES = [one + one.T for one in RNG.normal(size=(N, 5, 5))]
CIFTI = Path(os.environ.get("NUMBAGLM_DATA", "absent")) / "cifti"
EDGES = np.triu_indices(5, 1)


def gifti(*rows):
    return nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(row.astype(np.float32)) for row in rows])


def mesh_file(path, mesh):
    points = nib.gifti.GiftiDataArray(mesh[0].astype(np.float32), intent="NIFTI_INTENT_POINTSET")
    triangles = nib.gifti.GiftiDataArray(mesh[1], intent="NIFTI_INTENT_TRIANGLE")
    nib.save(nib.GiftiImage(darrays=[points, triangles]), path)
    return path


def values(maps, **options):
    cohort = ng.Cohort.from_maps(maps, **options)
    return cohort.store.read(0, cohort.n_voxels), cohort


def surface_image(left, right):
    data = SimpleNamespace(parts={"left": left, "right": right})
    parts = {side: SimpleNamespace(coordinates=xyz, faces=faces) for side, (xyz, faces) in MESHES.items()}
    shape = (len(left) + len(right), *left.shape[1:])
    return SimpleNamespace(mesh=SimpleNamespace(parts=parts), data=data, shape=shape)


@pytest.fixture
def files(tmp_path):
    """A file a subject and hemisphere, in every format, by what each is called."""
    made = {}
    for side, rows in (("L", LEFT), ("R", RIGHT)):
        hemi = {"L": "lh", "R": "rh"}[side]
        for k, row in enumerate(rows):
            subject = tmp_path / f"sub-{k}"
            (subject / "surf").mkdir(parents=True, exist_ok=True)
            nib.save(gifti(row), subject / f"sub-{k}_hemi-{side}_thickness.func.gii")
            nib.save(gifti(row), tmp_path / f"s{k}.{side}.thickness.shape.gii")
            nib.save(nib.MGHImage(row[:, None, None], np.eye(4)), subject / f"{hemi}.thickness.mgz")
            nib.freesurfer.write_morph_data(subject / "surf" / f"{hemi}.thickness", row)
            made.setdefault(("bids", side), []).append(subject / f"sub-{k}_hemi-{side}_thickness.func.gii")
            made.setdefault(("shape", side), []).append(tmp_path / f"s{k}.{side}.thickness.shape.gii")
            made.setdefault(("mgz", side), []).append(subject / f"{hemi}.thickness.mgz")
            made.setdefault(("curv", side), []).append(subject / "surf" / f"{hemi}.thickness")
    return made


def test_files_named_of_the_other_hemisphere_are_told_of(files, tmp_path, caplog):
    left, right = files["mgz", "L"], files["mgz", "R"]
    lh = mesh_file(tmp_path / "lh.white.surf.gii", MESHES["left"])
    meshes = {"lh": lh, "right": MESHES["right"]}
    read, cohort = values({"left": left, "right": right}, surfaces=meshes)  # keys as those of maps may be
    assert cohort.store.space.parts[0].mesh is not None
    assert not caplog.records
    swapped, _ = values({"left": right, "right": left}, surfaces={"left": MESHES["left"], "right": lh})
    np.testing.assert_array_equal(swapped, np.roll(read, V, axis=1))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert "is named as of the right hemisphere, and given in maps as of the left, as 5 more: what was" in told[0]
    assert "of the left hemisphere, and given in surfaces as of the right: what was given counts" in told[2]


def test_files_that_say_the_other_hemisphere_are_refused(files, tmp_path):
    """A GIFTI file names its structure itself, whatever it is called."""
    sides = {"left": files["shape", "L"], "right": files["shape", "R"]}
    for path, structure in ((sides["left"][0], "CortexLeft"), (sides["right"][1], "CortexLeft")):
        image = nib.load(path)
        image.meta["AnatomicalStructurePrimary"] = structure
        nib.save(image, path)
    told = r"s1\.R\.thickness\.shape\.gii is given as of the right .*CortexLeft .*-set-structure FILE CORTEX_RIGHT"
    for maps in (sides, [*sides["left"], *sides["right"]]):  # by what files are called, too
        with pytest.raises(ImageError, match=told):
            values(maps)
    image = gifti(*LEFT)
    image.darrays[0].meta["AnatomicalStructurePrimary"] = "CortexRight"
    with pytest.raises(ImageError, match=r"the left surface is given as of the left .*CortexRight"):
        values({"left": image})
    save_mesh(Mesh(*MESHES["left"]), "left", tmp_path / "mesh.surf.gii")
    for option in ("surfaces", "areas"):
        wrong = tmp_path / "mesh.surf.gii" if option == "surfaces" else sides["left"][0]
        with pytest.raises(ImageError, match=r"\.gii.* is given as of the right .*CortexLeft"):
            values({"right": files["mgz", "R"]}, **{option: {"right": wrong}})
    assert values({"left": sides["left"]}, surfaces={"left": tmp_path / "mesh.surf.gii"})[0].shape == (N, V)


@pytest.mark.parametrize("form", ["bids", "shape", "mgz", "curv"])
def test_files_of_both_hemispheres_come_in_by_dict_and_by_name(files, form):
    left, right = files[form, "L"], files[form, "R"]
    for maps in ({"left": left, "right": right}, [*right, *left], {"lh": left, "rh": right}):
        read, cohort = values(maps)
        np.testing.assert_array_equal(read, np.concatenate([LEFT, RIGHT], axis=1))
        assert [part.name for part in cohort.store.space.parts] == ["left", "right"]
    expected = [f"s{k}.thickness" for k in range(N)] if form == "shape" else [f"sub-{k}" for k in range(N)]
    assert cohort.subjects == expected
    np.testing.assert_array_equal(values(left)[0], LEFT)


def test_freesurfer_overlays_go_out_as_such(files, tmp_path):
    cohort = values({"left": files["mgz", "L"], "right": files["curv", "R"]})[1]
    result = ng.permutation_test(cohort, n_perm=20)
    result.save(tmp_path / "saved")
    ng.save_bids(result, tmp_path / "bids")
    written = [nib.MGHImage.from_bytes((tmp_path / "saved" / f"{hemi}.t.mgh").read_bytes()) for hemi in ("lh", "rh")]
    t = np.concatenate([image.get_fdata().ravel() for image in written])
    np.testing.assert_array_equal(t, result.maps["t"].astype(np.float32))
    both = np.stack([result.maps["t"], result.maps["z"]])
    frames = element_image(cohort.store.space, both, 0.0, "t")
    assert {image.shape for image in frames.values()} == {(V, 1, 1, 2)}
    assert {path.name for path in (tmp_path / "bids").rglob("*hemi-*_stat-t_*")}


def test_one_file_of_all_subjects_arrays_and_surface_images_come_in(tmp_path):
    whole = np.concatenate([LEFT, RIGHT], axis=1)
    for side, rows in (("L", LEFT), ("R", RIGHT)):
        nib.save(gifti(*rows), tmp_path / f"all.{side}.func.gii")
    maps = {"left": tmp_path / "all.L.func.gii", "right": tmp_path / "all.R.func.gii"}
    np.testing.assert_array_equal(values(maps)[0], whole)
    np.testing.assert_array_equal(values({"left": LEFT, "right": RIGHT})[0], whole)
    np.testing.assert_array_equal(values([gifti(row) for row in LEFT])[0], LEFT)
    read, cohort = values(surface_image(LEFT.T, RIGHT.T))
    np.testing.assert_array_equal(read, whole)
    assert cohort.store.space.measure.min() > 1
    read, _ = values([surface_image(one, two) for one, two in zip(LEFT, RIGHT, strict=True)])
    np.testing.assert_array_equal(read, whole)


def test_meshes_and_areas_come_in_from_files_and_arrays(tmp_path):
    maps = {"left": LEFT, "right": RIGHT}
    sides = {"left": mesh_file(tmp_path / "L.surf.gii", MESHES["left"]), "right": tmp_path / "rh.white"}
    nib.freesurfer.write_geometry(sides["right"], *MESHES["right"])
    of_files = ng.Cohort.from_maps(maps, surfaces=sides).store.space
    of_arrays = ng.Cohort.from_maps(maps, surfaces=MESHES).store.space
    np.testing.assert_allclose(of_files.measure, of_arrays.measure, rtol=1e-4)
    assert of_files.same(of_arrays)
    nib.save(gifti(np.arange(1, 43)), tmp_path / "area.shape.gii")
    np.savetxt(tmp_path / "area.csv", np.arange(43, 85))
    areas = {"left": tmp_path / "area.shape.gii", "right": tmp_path / "area.csv"}
    np.testing.assert_array_equal(ng.Cohort.from_maps(maps, areas=areas).store.space.measure, np.arange(1, 85))
    assert set(ng.Cohort.from_maps(maps, areas=1.5).store.space.measure) == {1.5}


def test_the_medial_wall_leaves_by_mask_by_nan_and_by_being_constant(tmp_path):
    wall = np.arange(V) < 10
    inside = LEFT[:, ~wall]
    nib.save(gifti((~wall).astype(np.float32)), tmp_path / "mask.shape.gii")
    (tmp_path / "lh.cortex.label").write_text(
        "#!ascii label\n32\n" + "\n".join(f"{k} 0 0 0 0" for k in np.flatnonzero(~wall)) + "\n"
    )
    for mask in (tmp_path / "mask.shape.gii", tmp_path / "lh.cortex.label", (~wall).astype(int)):
        np.testing.assert_array_equal(values({"left": LEFT}, mask={"left": mask})[0], inside)
    for filler in (np.nan, 0.0):
        read, cohort = values({"left": np.where(wall, np.float32(filler), LEFT)})
        np.testing.assert_array_equal(read, inside)
        assert "10 of 42 vertices are left out: 10" in cohort.report[0]
    some = LEFT.copy()
    some[2, :10] = np.nan
    _, cohort = values({"left": some})
    assert "10 NaN or infinite in at least one map" in cohort.report[0]
    assert cohort.n_voxels == V - 10


def dense_axis():
    mask = np.zeros((4, 3, 2), bool)
    mask[1:3, :, 1] = True
    left = nib.cifti2.BrainModelAxis.from_surface(np.array([1, 4, 40]), V, name="CortexLeft")
    below = nib.cifti2.BrainModelAxis.from_mask(mask, name="thalamus_left", affine=np.diag([2.0, 2, 2, 1]))
    return left + below[::-1]  # voxels in another order than a volume's


@pytest.mark.parametrize("kind", ["dscalar", "dtseries", "pscalar", "pconn"])
def test_cifti_comes_in_and_goes_out_on_its_axes(tmp_path, kind):
    axis, scalar = dense_axis(), nib.cifti2.ScalarAxis(["map"])
    if kind.startswith("p"):
        axis = nib.cifti2.ParcelsAxis.from_brain_models([("one", axis[:3]), ("two", axis[3:5]), ("three", axis[5:])])
    rows = RNG.normal(size=(N, 3 if kind == "pconn" else 1, len(axis))).astype(np.float32)
    if kind == "pconn":
        rows = rows + rows.transpose(0, 2, 1)
    row_axis = {"pconn": axis, "dtseries": nib.cifti2.SeriesAxis(0, 1, 1)}.get(kind, scalar)
    paths = [tmp_path / f"sub-{k}.{kind}.nii" for k in range(N)]
    for path, row in zip(paths, rows, strict=True):
        nib.save(nib.Cifti2Image(row, (row_axis, axis)), path)
    cohort = ng.Cohort.create(tmp_path / "c.zarr", paths)
    assert cohort.subjects == [f"sub-{k}" for k in range(N)]
    images = [nib.load(path) for path in paths]
    assert ng.Cohort.from_maps(images).fingerprint == cohort.fingerprint
    result = ng.permutation_test(cohort, n_perm=63)
    ng.PermutationResult.load(result.save(tmp_path / "out"))
    written = {"dtseries": "dscalar"}.get(kind, kind)
    saved = nib.load(tmp_path / "out" / f"effect.{written}.nii")
    assert saved.header.get_axis(1) == axis
    expected = rows.mean(axis=0)
    if kind == "pconn":
        np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(saved.get_fdata(), expected, atol=1e-6)
    with pytest.raises(InputError, match="to_nifti is for maps of a volume"):
        result.to_nifti("t")


@pytest.mark.real_data
@pytest.mark.skipif(not (CIFTI / "ones.dscalar.nii").exists(), reason="NUMBAGLM_DATA names no folder with cifti")
def test_standard_grayordinates_come_in_and_go_out(tmp_path):
    axis = nib.load(CIFTI / "ones.dscalar.nii").header.get_axis(1)
    rows = RNG.normal(size=(3, len(axis))).astype(np.float32)
    for k, row in enumerate(rows):
        nib.save(nib.Cifti2Image(row[None], (nib.cifti2.ScalarAxis(["x"]), axis)), tmp_path / f"s{k}.dscalar.nii")
    cohort = ng.Cohort.from_maps(sorted(tmp_path.glob("*.nii")))
    space = cohort.store.space
    assert [part.n for part in space.parts] == [29696, 29716, 91282 - 29696 - 29716]
    assert len(space.parts[2].names) == 19
    image = cohort.to_image(1)
    np.testing.assert_array_equal(image.get_fdata()[0], rows[1])
    where = axis.name == "CIFTI_STRUCTURE_PUTAMEN_LEFT"
    voxels = axis.voxel[where] @ axis.affine[:3, :3].T + axis.affine[:3, 3]
    found = np.array(space.places(np.arange(space.n))) == "putamen left"
    assert set(map(tuple, space.coordinates(np.flatnonzero(found)))) == set(map(tuple, voxels))


def test_further_layers_lie_on_the_same_elements():
    cohort = ng.Cohort.from_maps({"left": LEFT}, layers={"sulc": {"left": RIGHT}})
    np.testing.assert_array_equal(cohort.store.read(0, V, "sulc"), RIGHT)
    with pytest.raises(GridError, match="do not lie on the same elements"):
        ng.Cohort.from_maps({"left": LEFT}, layers={"sulc": {"left": RIGHT[:, :30]}})


def test_a_file_of_several_maps_has_one_a_subject(tmp_path):
    rows = RNG.normal(size=(N, len(dense_axis()))).astype(np.float32)
    names = nib.cifti2.ScalarAxis([f"m{k}" for k in range(N)])
    path = tmp_path / "all.dscalar.nii"
    nib.save(nib.Cifti2Image(rows, (names, dense_axis())), path)
    cohort = ng.Cohort.from_maps(path)
    image = cohort.to_image(2)
    np.testing.assert_array_equal(image.get_fdata()[0], rows[2])
    with pytest.raises(ImageError, match="holds 6 maps"):
        ng.Cohort.from_maps([path, path])


def test_tables_come_in_with_labels_and_go_out(tmp_path):
    table = pd.DataFrame(LEFT[:, :3], columns=["insula", "cuneus", "pole"])
    labelled = table.assign(participant_id=[f"s{k}" for k in range(N)])
    labelled.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    for maps in (labelled, tmp_path / "t.tsv"):
        read, cohort = values(maps)
        np.testing.assert_allclose(read, LEFT[:, :3], rtol=1e-6)
        assert cohort.subjects[1] == "s1"
    assert cohort.store.space.places(np.array([2])) == ["pole"]
    result = ng.permutation_test(table, n_perm=63)
    result.save(tmp_path / "out")
    back = pd.read_csv(tmp_path / "out" / "t.tsv", sep="\t", index_col=0)
    np.testing.assert_allclose(back.loc["t"], result.maps["t"], rtol=1e-6)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "not described" not in readme


def test_networks_come_in_as_matrices_files_and_edges(tmp_path):
    nodes = list("abcde")
    expected = np.array([matrix[EDGES] for matrix in MATRICES], np.float32)
    lists = []
    for k, matrix in enumerate(MATRICES):
        np.savetxt(tmp_path / f"s{k}.csv", matrix, delimiter=",")
        edges = [(nodes[a], nodes[b], matrix[a, b]) for a, b in zip(*EDGES, strict=True)]
        lists.append(pd.DataFrame(edges, columns=["source", "target", "weight"]))
    frames = [pd.DataFrame(matrix, nodes, nodes) for matrix in MATRICES]
    for maps in (MATRICES, np.array(MATRICES), frames, [tmp_path / f"s{k}.csv" for k in range(N)], lists):
        read, cohort = values(maps, space="network", nodes=nodes)
        np.testing.assert_allclose(read, expected, rtol=1e-6)
    assert cohort.store.space.places(np.array([0])) == ["a - b"]
    result = ng.permutation_test(MATRICES, space="network", nodes=nodes, n_perm=63)
    matrix = result.to_image("effect")
    np.testing.assert_allclose(matrix.to_numpy()[EDGES], expected.mean(axis=0), rtol=1e-5)
    assert list(matrix.columns) == nodes
    with pytest.raises(InputError, match="pass nodes="):
        ng.Cohort.from_maps(lists, space="network")


def test_a_cohort_on_a_surface_is_stored_resumed_and_added_to(files, tmp_path):
    maps = {"left": files["bids", "L"], "right": files["bids", "R"]}
    made = ng.Cohort.create(tmp_path / "c.zarr", {side: some[:4] for side, some in maps.items()}, surfaces=MESHES)
    made.append({side: some[4:] for side, some in maps.items()})
    opened = ng.Cohort.open(tmp_path / "c.zarr")
    whole = ng.Cohort.from_maps(maps, surfaces=MESHES)
    assert opened.fingerprint == whole.fingerprint
    assert opened.store.space.same(whole.store.space)
    one = ng.permutation_test(opened, n_perm=63, store=tmp_path / "run")
    again = ng.permutation_test(opened, n_perm=63, store=tmp_path / "run")
    for result in (one, again):
        np.testing.assert_array_equal(
            result.maps["p_fwe_voxel"], ng.permutation_test(whole, n_perm=63).maps["p_fwe_voxel"]
        )
    with pytest.raises(GridError, match="do not lie on the same elements"):
        opened.append({"left": LEFT[:2, :20], "right": RIGHT[:2]}, subjects=["x", "y"])


BAD = {
    "lengths": (lambda: {"maps": {"left": LEFT, "right": RIGHT[:4]}}, InputError, "6 maps on the left and 4 maps"),
    "mesh": (lambda: {"maps": {"left": LEFT[:, :30]}, "surfaces": MESHES["left"]}, GridError, "30 vertices"),
    "one mesh": (
        lambda: {"maps": {"left": LEFT, "right": RIGHT}, "surfaces": {"left": MESHES["left"]}},
        InputError,
        "nothing for 'right'",
    ),
    "side": (lambda: {"maps": {"top": LEFT}}, InputError, "'left' and 'right'"),
    "subject": (lambda: {"maps": [gifti(*LEFT[:2]), gifti(LEFT[0])]}, ImageError, "holds 2 maps"),
    "vertices": (lambda: {"maps": [gifti(LEFT[0]), gifti(LEFT[0, :30])]}, GridError, "30 values"),
    "area": (lambda: {"maps": {"left": LEFT}, "areas": -1}, InputError, "areas"),
    "smoothing": (lambda: {"maps": {"left": LEFT}, "smoothing_fwhm": 5}, InputError, "metric-smoothing"),
    "mask": (lambda: {"maps": {"left": LEFT}, "mask": {"left": np.ones(30)}}, GridError, "30 vertices"),
    "column": (lambda: {"maps": pd.DataFrame({"a": [1.0, 2], "b": ["x", "y"]})}, InputError, "'b'"),
    "graph": (lambda: {"maps": LEFT, "space": ng.spaces.graph(1 - np.eye(5))}, GridError, "5 elements"),
    "space": (lambda: {"maps": LEFT, "space": "sphere"}, InputError, "'network'"),
    "matrix": (lambda: {"maps": [np.arange(9.0).reshape(3, 3)] * 2, "space": "network"}, InputError, "not symmetric"),
    "nodes": (lambda: {"maps": MATRICES, "space": "network", "nodes": ["a"]}, GridError, "5 nodes, but 1"),
    "volumes": (lambda: {"maps": ["a.nii", "b.nii"], "surfaces": MESHES}, InputError, "these maps are volumes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_error_that_says_what_is_wrong(case):
    given, kind, words = BAD[case]
    with pytest.raises(kind, match=words):
        ng.Cohort.from_maps(**given())


def test_hemispheres_of_different_subjects_are_refused(files):
    left, right = files["bids", "L"], files["bids", "R"]
    with pytest.raises(InputError, match="sub-0 on the left where sub-1 is on the right"):
        ng.Cohort.from_maps({"left": left, "right": [right[1], right[0], *right[2:]]})
    mesh = mesh_file(left[0].with_name("L.surf.gii"), MESHES["left"])
    with pytest.raises(ImageError, match="is a mesh: pass it as surfaces="):
        ng.Cohort.from_maps([mesh, mesh])


def test_labels_of_cifti_are_no_values(tmp_path):
    axis = dense_axis()
    labels = nib.cifti2.LabelAxis(["atlas"], [{0: ("none", (0, 0, 0, 0)), 1: ("area", (1, 0, 0, 1))}])
    nib.save(nib.Cifti2Image(np.ones((1, len(axis)), np.float32), (labels, axis)), tmp_path / "atlas.dlabel.nii")
    with pytest.raises(ImageError, match="holds labels"):
        ng.Cohort.from_maps([tmp_path / "atlas.dlabel.nii"] * 2)


def test_cifti_axes_that_differ_are_refused(tmp_path):
    for k, axis in enumerate((dense_axis(), dense_axis()[:-1])):
        row = RNG.normal(size=(1, len(axis))).astype(np.float32)
        nib.save(nib.Cifti2Image(row, (nib.cifti2.ScalarAxis(["x"]), axis)), tmp_path / f"s{k}.dscalar.nii")
    with pytest.raises(GridError, match=r"list different grayordinates .*\(.* has \d+ and \d+\).*zero_is_missing"):
        ng.Cohort.from_maps([tmp_path / "s0.dscalar.nii", tmp_path / "s1.dscalar.nii"])
    (tmp_path / "s2.dscalar.nii").write_bytes((tmp_path / "s0.dscalar.nii").read_bytes()[:-8])
    with pytest.raises(ImageError, match="truncated"):
        ng.Cohort.from_maps([tmp_path / "s0.dscalar.nii", tmp_path / "s2.dscalar.nii"])


@pytest.mark.parametrize("options", [{"tfce": True}, {"cluster_forming_threshold": 0.01}])
def test_clusters_and_tfce_without_a_mesh_are_refused(options):
    with pytest.raises(InputError, match=r"need the mesh of the left surface.*pass surfaces="):
        ng.permutation_test({"left": LEFT}, **options)
    with pytest.raises(InputError, match=r"pass .*space=numbaglm.spaces.graph"):
        ng.permutation_test(pd.DataFrame(LEFT[:, :3], columns=["a", "b", "c"]), **options)


def test_gifti_says_what_its_values_are_and_of_which_side(tmp_path):
    folder = ng.permutation_test({"left": LEFT, "right": RIGHT}, n_perm=50).save(tmp_path / "out")
    for name, intent in (("t", "t test"), ("z", "z score"), ("p_fwe_voxel", "p value"), ("logp_unc", "log10 p value")):
        image = nib.load(folder / f"{name}_hemi-R.func.gii")
        assert image.darrays[0].intent == nib.nifti1.intent_codes.code[intent]
        assert image.meta["AnatomicalStructurePrimary"] == "CortexRight"
        assert image.darrays[0].meta["Name"] == name


def test_one_file_of_all_subjects_is_read_once(tmp_path, monkeypatch):
    nib.save(gifti(*LEFT), tmp_path / "all.func.gii")
    reads = []
    rows_of_gifti = elements.rows_of_gifti
    monkeypatch.setattr(elements, "rows_of_gifti", lambda *given: reads.append(1) or rows_of_gifti(*given))
    found, _ = values(tmp_path / "all.func.gii")
    np.testing.assert_array_equal(found, LEFT)
    assert len(reads) == 1


def test_a_damaged_gifti_file_is_named(tmp_path):
    nib.save(gifti(LEFT[0]), tmp_path / "a.func.gii")
    (tmp_path / "b.func.gii").write_bytes((tmp_path / "a.func.gii").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"b.func.gii can't be read \(ExpatError"):
        ng.Cohort.from_maps([tmp_path / "a.func.gii", tmp_path / "b.func.gii"])


def test_listing_cifti_files_keeps_what_one_of_them_says(tmp_path, monkeypatch):
    """The XML of standard grayordinates takes megabytes, and there may be ten thousand files."""
    axis = dense_axis()
    for k in range(6):
        row = RNG.normal(size=(1, len(axis))).astype(np.float32)
        nib.save(nib.Cifti2Image(row, (nib.cifti2.ScalarAxis(["x"]), axis)), tmp_path / f"s{k}.dscalar.nii")
    opened, alive = [], []
    of = element_listing.CIFTI.of

    def counted(*given):
        one = of(*given)
        opened.append(weakref.ref(one))
        alive.append(sum(other() is not None for other in opened))
        return one

    monkeypatch.setattr(element_listing.CIFTI, "of", counted)
    assert len(element_listing.list_elements(sorted(tmp_path.glob("*.dscalar.nii"))).sources) == 6
    assert max(alive) <= 3  # the first, the last and this one


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
@pytest.mark.parametrize("name", ["lh.a.mgh", "a.func.gii", "a.csv"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ImageError, match="a pipe or a device"):
        opening(name, tmp_path / name, lambda path: path.read_bytes())

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from numbaglm.data.images.atlases import read_atlas, read_names
from numbaglm.errors import GridError, ImageError, InputError, MissingFileError
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Surface
from numbaglm.spaces.volume import Geometry

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
LABELS = np.zeros((4, 4, 4), np.int16)
LABELS[:2], LABELS[2:, :2] = 1, 7
NAMES = {1: "insula", 7: "cuneus"}
FINE = Geometry(np.ones((8, 8, 8), bool), np.diag([1.0, 1.0, 1.0, 1.0]))


@pytest.fixture
def folder(tmp_path):
    nib.save(nib.Nifti1Image(LABELS, AFFINE), tmp_path / "atlas.nii.gz")
    return tmp_path


def expected(geometry):
    ijk = np.rint(geometry.coordinates(np.arange(geometry.n)) / 2).astype(int)
    values = [LABELS[tuple(one)] if (one < 4).all() else 0 for one in ijk]
    return [NAMES.get(int(value), "") for value in values]


FILES = {
    "tsv": ("atlas.tsv", "index\tname\n1\tinsula\n7\tcuneus\n"),
    "csv": ("atlas.csv", "name,label\ninsula,1\ncuneus,7\n"),
    "xml": (
        "atlas.xml",
        '<atlas><data><label index="0" x="1">insula</label><label index="6" x="1">cuneus</label></data></atlas>',
    ),
    "txt": ("atlas.txt", "# FreeSurfer\n0 Unknown 0 0 0 0\n1 insula 255 0 0 0\n7 cuneus 0 0 255 0\n"),
}


@pytest.mark.parametrize("kind", FILES)
def test_names_stand_beside_the_image_or_are_given(folder, kind):
    name, text = FILES[kind]
    (folder / name).write_text(text)
    found = read_atlas(folder / "atlas.nii.gz")
    assert found.regions(Space.of(FINE)) == expected(FINE)
    other = (folder / name).rename(folder / f"other{(folder / name).suffix}")
    pair = read_atlas((folder / "atlas.nii.gz", other))
    assert pair.regions(Space.of(FINE)) == expected(FINE)
    assert read_atlas((folder / "atlas.nii.gz", NAMES)).regions(Space.of(FINE)) == expected(FINE)
    nameless = read_atlas(folder / "atlas.nii.gz")
    assert set(nameless.regions(Space.of(FINE))) == {"", "region 1", "region 7"}


def test_vertices_have_the_label_of_their_side(tmp_path):
    values = np.array([0, 1, 1, 2, 2], np.int32)
    table = nib.gifti.GiftiLabelTable()
    for key, name in ((0, "???"), (1, "insula"), (2, "cuneus")):
        label = nib.gifti.GiftiLabel(key=key)
        label.label = name
        table.labels.append(label)
    image = nib.gifti.GiftiImage(
        darrays=[nib.gifti.GiftiDataArray(values, intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")],
        labeltable=table,
    )
    nib.save(image, tmp_path / "L.label.gii")
    colours = np.array([[25, 5, 25, 0, 0], [10, 20, 30, 0, 0], [90, 20, 30, 0, 0]])
    nib.freesurfer.write_annot(tmp_path / "rh.annot", values, colours, ["unknown", "insula", "pole"], fill_ctab=True)
    atlas = read_atlas({"left": tmp_path / "L.label.gii", "right": tmp_path / "rh.annot"})
    space = Space((Surface("left", 5, np.arange(5)), Surface("right", 5, np.array([0, 2, 4]))))
    assert atlas.regions(space) == ["", "insula", "insula", "cuneus", "cuneus", "", "insula", "pole"]
    with pytest.raises(GridError, match=r"5 vertices.*6"):
        atlas.regions(Space.of(Surface("left", 6, np.arange(6))))
    with pytest.raises(InputError, match="of their space"):
        atlas.regions(Space.of(FINE))


def test_a_dlabel_has_labels_of_surfaces_and_voxels(tmp_path):
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1:3] = True
    models = nib.cifti2.BrainModelAxis.from_surface(np.array([0, 2]), 4, "cortex_left")
    models = models + nib.cifti2.BrainModelAxis.from_mask(mask, affine=AFFINE, name="thalamus_left")
    colours = {0: ("???", (0, 0, 0, 0)), 1: ("insula", (1, 0, 0, 1)), 2: ("thalamus", (0, 1, 0, 1))}
    axis = nib.cifti2.LabelAxis(["parcels"], [colours])
    nib.save(nib.Cifti2Image(np.array([[1.0, 0.0, 2.0, 2.0]], np.float32), (axis, models)), tmp_path / "a.dlabel.nii")
    geometry = Geometry(mask, AFFINE)
    voxels = Structures(geometry, ("thalamus left",), np.zeros(2, np.int16))
    found = read_atlas(tmp_path / "a.dlabel.nii").regions(Space((Surface("left", 4, np.array([0, 1, 2])), voxels)))
    assert found == ["insula", "", "", "thalamus", "thalamus"]


def test_what_is_no_atlas_is_refused(folder):
    nib.save(nib.Nifti1Image(LABELS + np.float32(0.5), AFFINE), folder / "t.nii.gz")
    with pytest.raises(ImageError, match="no image of labels"):
        read_atlas(folder / "t.nii.gz")
    with pytest.raises(MissingFileError):
        read_atlas(folder / "none.nii.gz")
    with pytest.raises(InputError, match="by side"):
        read_atlas(folder / "lh.annot")
    with pytest.raises(InputError, match="'atlas'"):
        read_atlas(5)
    (folder / "a.tsv").write_text("number\tlabel_en\n1\tinsula\n")
    with pytest.raises(ImageError, match="'index' and 'name'"):
        read_names(folder / "a.tsv")
    (folder / "a.txt").write_text("# nothing\n")
    with pytest.raises(ImageError, match="names no region"):
        read_names(folder / "a.txt")

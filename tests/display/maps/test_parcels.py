from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from numbaglm.data.images.atlases import Atlas, Labels
from numbaglm.display.maps.parcels import spread
from numbaglm.display.panels import maps
from numbaglm.errors import InputError
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Space
from reference.reports import hemispheres

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


@pytest.fixture
def image(tmp_path):
    labels = np.zeros((8, 8, 8), np.int16)
    labels[1:4, 1:7, 1:7], labels[4:7, 1:7, 1:7] = 3, 5
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "p.nii.gz")
    return tmp_path / "p.nii.gz"


def test_voxels_have_the_value_of_their_parcel(image):
    parcels = Parcels(("Cuneus", "insula_a"))
    space, number = spread(parcels, (image, {3: "insula a", 5: "cuneus"}), None)
    x = space.coordinates(np.arange(space.n))[:, 0]
    np.testing.assert_array_equal(number, np.where(x < 14, 1, 0))
    figure = maps(Space.of(parcels), {"": np.array([3.0, -2.0])}, parcellation=(image, {3: "insula a", 5: "cuneus"}))
    assert len(figure.axes) == 4, "three brains and a colour bar"


def test_vertices_have_the_value_of_the_parcel_of_their_side():
    meshes = {part.name: (part.mesh.coordinates, part.mesh.faces) for part in hemispheres().parts}
    halves = {side: Labels((xyz[:, 2] > 0).astype(np.int64), {1: "top"}) for side, (xyz, _) in meshes.items()}
    atlas = Atlas(sides=halves)
    parcels = Parcels(("rh_top", "L top"))
    space, number = spread(parcels, atlas, meshes)
    assert [part.name for part in space.parts] == ["left", "right"]
    assert [set(number[where].tolist()) for where in space.slices] == [{1}, {0}]
    assert space.coordinates(np.arange(space.n))[:, 2].min() > 0
    figure = maps(Space.of(parcels), {"": np.array([3.0, -2.0])}, parcellation=atlas, surface=meshes)
    assert len(figure.axes) == 5
    with pytest.raises(InputError, match="'surface'"):
        spread(parcels, atlas, None)


def test_a_parcellation_names_every_parcel(image):
    with pytest.raises(InputError, match=r"no 'pole' \(1 of 2"):
        spread(Parcels(("cuneus", "pole")), (image, {3: "insula", 5: "cuneus"}), None)
    with pytest.raises(InputError, match="'parcellation'"):
        maps(hemispheres(), {"": np.ones(hemispheres().n)}, parcellation=(image, {3: "a"}))

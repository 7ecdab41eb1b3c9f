from __future__ import annotations

import numpy as np
import pytest

from numbaglm.display.background import Background, mask_slices
from numbaglm.display.projection import upright
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE, image, volumes

GEOMETRY = Geometry(volumes(1)[0] != 0, AFFINE)


def test_an_anatomy_is_grey_between_its_own_limits():
    values = np.abs(volumes(1)[0]) + 0.0
    values[2, 2, 2] = np.nan
    found = Background.of(upright(GEOMETRY), image(values))
    assert not found.masked
    assert found.dark == 0
    held = values[np.isfinite(values) & (values != 0)]
    assert found.bright == pytest.approx(np.percentile(held, 99.5), rel=1e-6)
    # Where a voxel lies in mm, there is its value.
    mm = AFFINE @ [3, 4, 2, 1]
    assert found.volume[tuple(np.rint(found.to_voxels @ mm)[:3].astype(int))] == pytest.approx(values[3, 4, 2])


def test_without_one_the_mask_is_grey():
    found = Background.of(upright(GEOMETRY), None)
    assert found.masked
    assert (found.dark, found.bright) == (0.0, 1.0)
    with pytest.raises(InputError, match="2 volumes"):
        Background.of(upright(GEOMETRY), [image(one) for one in volumes(2)])


def test_slices_of_a_mask_are_drawn():
    figure = mask_slices(GEOMETRY)
    assert 1 <= len(figure.axes) <= 8
    assert all(ax.images for ax in figure.axes)
    outlined = mask_slices(GEOMETRY, image(volumes(1)[0]))
    assert any(ax.collections for ax in outlined.axes)

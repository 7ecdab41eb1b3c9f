from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from numbaglm.display.maps import background
from numbaglm.display.maps.background import Anatomy, Background, mask_slices, template_of
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE, image, volumes

GEOMETRY = Geometry(volumes(1)[0] != 0, AFFINE)


def test_an_anatomy_is_grey_between_its_own_limits():
    values = np.abs(volumes(1)[0]) + 0.0
    values[2, 2, 2] = np.nan
    found = Background.under(GEOMETRY, image(values))
    assert not found.masked
    assert found.dark == 0
    held = values[np.isfinite(values) & (values != 0)]
    assert found.bright == pytest.approx(np.percentile(held, 99.5), rel=1e-6)
    # Where a voxel lies in mm, there is its value.
    mm = AFFINE @ [3, 4, 2, 1]
    assert found.volume[tuple(np.rint(found.to_voxels @ mm)[:3].astype(int))] == pytest.approx(values[3, 4, 2])


def test_without_one_the_mask_is_grey():
    found = Background.under(GEOMETRY, None)
    assert found.masked
    assert (found.dark, found.bright) == (0.0, 1.0)
    with pytest.raises(InputError, match="2 volumes"):
        Background.under(GEOMETRY, [image(one) for one in volumes(2)])


def test_slices_of_a_mask_are_drawn():
    figure = mask_slices(GEOMETRY)
    assert 1 <= len(figure.axes) <= 8
    assert all(ax.images for ax in figure.axes)
    outlined = mask_slices(GEOMETRY, image(volumes(1)[0]))
    assert any(ax.collections for ax in outlined.axes)


def test_an_anatomy_is_seen_whole_and_the_map_where_it_lies():
    values = np.zeros((30, 40, 30), np.float32)
    values[4:26, 4:36, 4:26] = 5.0
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [60.0, -80.0, -60.0]
    found = Background.under(GEOMETRY, image(values, affine))
    grid = found.grid
    for axis, (low, high) in enumerate([(-40.0, 44.0), (-64.0, 60.0), (-44.0, 40.0)]):
        assert grid.origin[axis] <= low
        assert grid.origin[axis] + (grid.index.shape[axis] - 1) * grid.step[axis] >= high
    alone = Background.under(GEOMETRY, None).grid
    ijk = np.argwhere(grid.index == 0)[0]
    np.testing.assert_allclose(
        grid.origin + ijk * grid.step, alone.origin + np.argwhere(alone.index == 0)[0] * alone.step
    )


def test_an_anatomy_is_resampled_for_the_viewer_where_it_lies():
    ramp = np.arange(1.0, 31.0)[:, None, None] * np.ones((30, 40, 30))
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [30.0, -40.0, -30.0]
    one = Anatomy.read(image(ramp.astype(np.float32), affine))
    shades, origin, step = one.resampled(20)
    assert max(shades.shape) <= 21
    x = origin[0] + step * np.arange(shades.shape[0])
    expected = (np.interp(-(x - 30.0) / 2, np.arange(30), np.arange(1.0, 31.0)) - one.dark) / (one.bright - one.dark)
    inside = (x > -28) & (x < 24)
    np.testing.assert_allclose(shades[inside, 5, 5], expected.clip(0, 1)[inside], atol=1e-5)


def test_the_template_is_found_where_maps_say_that_they_are_in_its_space(monkeypatch, tmp_path):
    unknown = Geometry(GEOMETRY.mask, AFFINE)
    mni = Geometry(GEOMETRY.mask, AFFINE, (4, 0))
    folder = tmp_path / "nilearn" / "datasets" / "data"
    folder.mkdir(parents=True)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "nilearn")])
    monkeypatch.setattr(background, "find_spec", lambda name: spec)
    assert template_of(mni) is None, "an older nilearn, say"
    (folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz").touch()
    assert template_of(mni).name.startswith("mni_icbm152_t1")
    assert template_of(unknown) is None
    monkeypatch.setattr(background, "find_spec", lambda name: None)
    assert template_of(mni) is None

"""Images on surfaces: values, masks, connected vertices."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from numbaglm.errors import ImageError, InputError, MaskError
from numbaglm.spaces.surface import SurfaceMask, is_surface, label_clusters, part_slices, values_of
from reference.surfaces import N_VERTICES, surface

TEMPLATE = surface(np.zeros(N_VERTICES))


def test_values():
    values = np.random.default_rng(0).normal(size=(3, N_VERTICES))
    assert_array_equal(values_of(surface(values.T)), values)
    assert_array_equal(values_of(surface(values[0])), values[:1])
    assert is_surface(TEMPLATE)
    assert not is_surface(values)
    with pytest.raises(ImageError, match="empty"):
        values_of(surface(np.empty((N_VERTICES, 0))))


def test_mask():
    mask = SurfaceMask.of_image(surface(np.where(np.arange(N_VERTICES) < 5, np.nan, np.arange(N_VERTICES))), TEMPLATE)
    assert mask.n_inside == 13
    rows = np.arange(26.0).reshape(2, 13)
    image = mask.unmask(rows)
    assert image.data.parts["right"].shape == (10, 2)
    assert_array_equal(values_of(image)[:, mask.inside], rows)
    assert not values_of(image)[:, ~mask.inside].any()
    with pytest.raises(InputError, match="13"):
        mask.unmask(np.zeros(12))
    with pytest.raises(MaskError, match="No vertex"):
        SurfaceMask.of_image(TEMPLATE, TEMPLATE)


def test_clusters():
    """Neighbours are at most two steps apart on the strip; parts never touch."""
    inside = np.zeros(N_VERTICES, bool)
    inside[[0, 1, 3, 6, 7, 8, 11, 14]] = True
    label, n_clusters = label_clusters(TEMPLATE, inside)
    assert n_clusters == 5
    assert_array_equal(label[inside], [1, 1, 1, 2, 2, 3, 4, 5])
    assert not label[~inside].any()
    assert label_clusters(TEMPLATE, ~inside | True)[1] == 2
    assert label_clusters(TEMPLATE, np.zeros(N_VERTICES, bool))[1] == 0


def test_parts():
    assert part_slices(TEMPLATE) == {"left": slice(0, 8), "right": slice(8, 18)}

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from numbaglm.display.panels import maps
from numbaglm.errors import InputError
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Space
from reference.reports import ball, hemispheres

STRUCTURES = Structures(ball(), ("thalamus",), np.zeros(ball().n, np.int16))
SPACES = {
    "volume": Space.of(ball()),
    "surfaces": hemispheres(),
    "no mesh": hemispheres(with_mesh=False),
    "grayordinates": Space((*hemispheres().parts, STRUCTURES)),
    "voxels": Space.of(STRUCTURES),
    "parcels": Space.of(Parcels(("a", "b", "c"))),
    "network": Space.of(Connectome.of_matrix(("a", "b", "c", "d"))),
}
N_AXES = {"volume": 6, "surfaces": 8, "grayordinates": 8 + 14, "voxels": 14, "parcels": 2, "network": 4}


@pytest.mark.parametrize("kind", N_AXES)
def test_every_space_is_drawn_as_it_is_looked_at(kind, tmp_path):
    space = SPACES[kind]
    values = np.linspace(-3.0, 5.0, space.n)
    figure = maps(space, {"one": values, "two": -values}, threshold=2.0, title="T", label="t", save=tmp_path / "a.png")
    with_bar = kind != "parcels"
    assert len(figure.axes) == N_AXES[kind] + with_bar
    texts = [text.get_text() for text in figure.texts]
    if kind != "parcels":
        assert {"T", "one", "two"} <= set(texts)
        assert figure.axes[-1].get_ylim() == (-5.0, 5.0), "the colour bar spans both"
    assert (tmp_path / "a.png").stat().st_size > 2000


@pytest.mark.parametrize("kind", ["surfaces", "grayordinates", "network", "volume"])
def test_where_nothing_is_shown_it_is_said(kind):
    space = SPACES[kind]
    figure = maps(space, {"": np.full(space.n, 0.5)}, threshold=2.0)
    texts = [text.get_text() for holder in (figure, *figure.axes) for text in holder.texts]
    assert any("reaches 2" in text for text in texts)


def test_text_in_a_svg_is_text_and_in_a_pdf_no_type_3_font(tmp_path):
    space = SPACES["parcels"]
    maps(space, {"": np.ones(3)}, label="beta weight", save=tmp_path / "a.svg")
    assert "beta weight" in (tmp_path / "a.svg").read_text()
    maps(space, {"": np.ones(3)}, label="beta weight", save=tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in content
    assert b"/TrueType" in content or b"/Type0" in content


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("surfaces", {"alpha": 2.0}, "'alpha'"),
        ("surfaces", {"contours": True}, "'contours'.*no voxels"),
        ("surfaces", {"views": ("front",)}, "'views'"),
        ("surfaces", {"surface": {"left": "nowhere.surf.gii"}}, "surfaces"),
        ("no mesh", {}, "pass surface="),
        ("parcels", {"surface": {"left": "x"}}, "'surface'"),
        ("parcels", {"threshold": -1.0}, "'threshold'"),
    ],
)
def test_what_can_not_be_drawn_is_refused(kind, options, message):
    space = SPACES[kind]
    with pytest.raises(InputError, match=message):
        maps(space, {"": np.ones(space.n)}, **options)
    with pytest.raises(InputError, match="'panels'"):
        maps(space, {})
    with pytest.raises(InputError, match="'panels'"):
        maps(space, {"": np.ones(space.n + 1)})


def test_pictures_for_papers_have_their_size_pixels_and_colours(tmp_path):
    space = SPACES["surfaces"]
    values = np.linspace(-3.0, 5.0, space.n)
    plain = maps(space, {"": values}, threshold=1.0)
    figure = maps(space, {"": values}, threshold=1.0, cmap="PuOr", dpi=300, figsize=(7.0, 2.0), save=tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[:2] == (600, 2100)
    assert figure.axes[0].images[0].get_array().shape[0] > 1.5 * plain.axes[0].images[0].get_array().shape[0]
    half = maps(space, {"": values}, threshold=1.0, cmap="PuOr", alpha=0.3)
    colours = [one.axes[0].images[0].get_array() for one in (plain, half)]
    spread = [np.ptp(image[..., :3], axis=2).max() for image in colours]
    assert spread[0] > 2 * spread[1]
    for wrong in ({"cmap": "nothing"}, {"dpi": 0}, {"figsize": (3.0,)}, {"figsize": (3.0, -1.0)}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            maps(space, {"": values}, **wrong)


def test_a_volume_over_an_anatomy_is_drawn_in_slices():
    space = SPACES["volume"]
    figure = maps(space, {"one": np.linspace(-3.0, 5.0, space.n)}, background=np.ones(space.n), cuts=[0.0, 3.0])
    assert len(figure.axes) == 3
    assert [ax.texts[-1].get_text() for ax in figure.axes[:2]] == ["z = 0 mm", "z = 3 mm"]

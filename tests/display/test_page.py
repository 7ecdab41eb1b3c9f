import base64
import io

import numpy as np
from matplotlib.image import imread

from numbaglm.display.canvas import new_figure
from numbaglm.display.page import indexed_png, picture


def noise():
    figure = new_figure(4.0, 3.0, "Noise")
    figure.add_axes((0.1, 0.1, 0.8, 0.7)).imshow(np.random.default_rng(0).normal(size=(200, 200)), cmap="RdBu")
    return figure


def test_few_colours_look_the_same_and_take_less():
    whole, few = (picture(noise(), "alt", "caption", few_colours=few) for few in (False, True))
    assert whole.width == few.width == 480
    assert len(few.url) < 0.4 * len(whole.url)
    one, other = (imread(io.BytesIO(base64.b64decode(shown.url.partition(",")[2]))) for shown in (whole, few))
    assert np.abs(one[..., :3] - other[..., :3]).max() <= 16 / 255 + 1e-6
    assert len(np.unique(other.reshape(-1, other.shape[-1]), axis=0)) <= 256


def test_a_picture_of_few_colours_keeps_them():
    figure = new_figure(2.0, 1.0, None)
    figure.add_axes((0, 0, 1, 1)).axis("off")
    figure.axes[0].imshow([[0, 1], [1, 0]], cmap="gray", interpolation="nearest", aspect="auto")
    pixels = imread(io.BytesIO(indexed_png(figure)))
    figure.canvas.draw()
    np.testing.assert_allclose(pixels[..., :3], np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255, atol=1e-6)

"""Small pictures of inputs: PNG that any reader takes."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cimrobust.certificate.blocks.picture import is_image, picture, png_base64


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((1, 8, 8), (8, 8, 1)),
        ((28, 28), (28, 28, 1)),
        ((3, 64, 48), (24, 24, 3)),
        ((32, 32, 3), (24, 24, 3)),
    ],
)
def test_a_picture_is_read_back_by_another_library(shape, shown):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    pixels = picture(values)
    assert pixels.shape == shown
    assert (pixels.min(), pixels.max()) == (0, 255)
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(png_base64(pixels)))))
    assert np.array_equal(read.reshape(shown), pixels)


@pytest.mark.parametrize("shape", [(30,), (2, 64), (5, 8, 8), (1, 1, 8, 8)])
def test_what_is_no_picture(shape):
    assert not is_image(shape)


def test_a_flat_input_is_black():
    assert picture(np.full((4, 4), 7.0)).max() == 0

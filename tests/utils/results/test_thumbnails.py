"""Thumbnails: small, upright, RGB, whatever the file was."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from datasets.decoding import Undecodable, decode
from utils.results import thumbnails


def decoded(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        image.load()
        return image


@pytest.mark.parametrize("size, small", [((400, 100), (96, 24)), ((40, 30), (40, 30)), ((96, 200), (46, 96))])
def test_the_longer_side_has_96_pixels_at_most(tmp_path, size, small):
    Image.new("RGB", size, (200, 30, 40)).save(tmp_path / "a.jpg")
    image = decoded(thumbnails.of_file(tmp_path / "a.jpg"))
    assert image.size == small and image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image).mean((0, 1)), (200, 30, 40), atol=6)


@pytest.mark.parametrize(
    "mode, name, value",
    [
        *(("L", "a.png", 70), ("P", "a.gif", 70), ("1", "a.png", 1), ("CMYK", "a.jpg", (0, 100, 200, 30))),
        *(("RGBA", "a.png", (200, 0, 0, 128)), ("I;16", "a.png", 32000), ("F", "a.tif", 0.5)),
    ],
)
def test_every_kind_of_file_is_shown_as_the_network_sees_it(tmp_path, mode, name, value):
    """Of what is stretched between its own darkest and lightest value, half is one and half the other."""
    image = Image.new(mode, (120, 120), value)
    if mode == "F":
        image.paste(0.1, (0, 0, 60, 120))
    image.save(tmp_path / name)
    shown = decoded(thumbnails.of_file(tmp_path / name))
    assert shown.size == (96, 96)
    seen = decode(tmp_path / name, 96).transpose(1, 2, 0)
    np.testing.assert_allclose(np.asarray(shown).mean((0, 1)), seen.mean((0, 1)), atol=4)


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (800, 400)).save(tmp_path / "a.jpg", exif=exif)
    assert decoded(thumbnails.of_file(tmp_path / "a.jpg")).size == (48, 96)


def test_pixels_keep_their_size_where_they_are_few():
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4] = 255
    image = decoded(thumbnails.of_pixels(pixels))
    assert image.size == (8, 8)
    np.testing.assert_allclose(np.asarray(image).mean((1, 2)), [255] * 4 + [0] * 4, atol=12)
    assert decoded(thumbnails.of_pixels(np.zeros((300, 200, 3), dtype=np.uint8))).size == (64, 96)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(Undecodable):
        thumbnails.of_file(tmp_path / "a.png")

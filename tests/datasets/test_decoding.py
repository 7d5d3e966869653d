"""One image file to pixels: every kind of image that a folder may hold, and what cannot be decoded."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datasets.decoding import Undecodable, decode, decode_whole, refusing_bombs
from tests.datasets.folders import write_image, write_noise


def pixel(path, at=(5, 5), size=32):
    return tuple(decode(path, size)[:, at[1], at[0]].tolist())


@pytest.mark.parametrize(
    "mode, colour, rgb",
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),  # on white
        ("RGBA", (0, 100, 200, 51), (204, 224, 244)),  # a fifth of the colour and four of white
        ("LA", (100, 51), (224, 224, 224)),
        ("I;16", 0, (0, 0, 0)),
        ("I;16", 257 * 77, (77, 77, 77)),
        ("I;16", 65535, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, rgb):
    write_image(tmp_path / "a.png", colour, mode=mode)
    assert pixel(tmp_path / "a.png") == rgb


def test_cmyk_becomes_rgb(tmp_path):
    write_image(tmp_path / "a.jpg", (0, 255, 255, 0), mode="CMYK", quality=100)  # no cyan, all magenta and yellow
    red, green, blue = pixel(tmp_path / "a.jpg")
    assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_palette_keeps_its_colours_and_its_transparency(tmp_path, suffix):
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    ImageDraw.Draw(image).rectangle((16, 0, 31, 31), fill=2)
    image.save(tmp_path / f"a{suffix}", transparency=2)
    assert pixel(tmp_path / f"a{suffix}") == (10, 20, 30)
    assert pixel(tmp_path / f"a{suffix}", at=(25, 5)) == (255, 255, 255)


def test_a_colour_may_be_the_transparent_one(tmp_path):
    write_image(tmp_path / "a.png", (9, 9, 9), transparency=(9, 9, 9))
    assert pixel(tmp_path / "a.png") == (255, 255, 255)


def test_16_bits_are_scaled_over_their_whole_range(tmp_path):
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "b.tif")
    for name in ("a.png", "b.tif"):
        np.testing.assert_allclose(decode(tmp_path / name, 32)[0], ramp / 257, atol=0.51)


def test_floats_and_numbers_beyond_16_bits_are_stretched(tmp_path):
    ramp = np.linspace(-1, 1, 32 * 32).reshape(32, 32)
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "a.tif")
    Image.fromarray((ramp * 1e6).astype(np.int32)).save(tmp_path / "b.tif")
    Image.fromarray(np.full((32, 32), 7.5, np.float32)).save(tmp_path / "c.tif")
    for name in ("a.tif", "b.tif"):
        np.testing.assert_allclose(decode(tmp_path / name, 32)[0], 127.5 * (1 + ramp), atol=0.6)
    assert pixel(tmp_path / "c.tif") == (0, 0, 0)  # nothing to stretch


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_of_several_frames_the_first_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    assert pixel(tmp_path / f"a{suffix}") == (255, 0, 0)


@pytest.mark.parametrize("true_format", ["JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_misnamed_image_is_decoded_as_what_it_is(tmp_path, true_format):
    write_image(tmp_path / "a.png", (255, 255, 255), format=true_format)
    assert pixel(tmp_path / "a.png") == (255, 255, 255)


# What a viewer sees of each orientation of EXIF when the stored image is red on the left and blue on the right.
TURNED = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}


@pytest.mark.parametrize("orientation, red_is", TURNED.items())
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_images_are_turned_as_exif_says(tmp_path, orientation, red_is, suffix):
    image, exif = Image.new("RGB", (64, 64), "blue"), Image.Exif()
    ImageDraw.Draw(image).rectangle((0, 0, 31, 63), fill="red")
    exif[0x0112] = orientation
    image.save(tmp_path / f"a{suffix}", exif=exif)
    middles = {"left": (2, 16), "right": (29, 16), "top": (16, 2), "bottom": (16, 29)}
    reds = {where: pixel(tmp_path / f"a{suffix}", at)[0] for where, at in middles.items()}
    assert max(reds, key=reds.get) == red_is and reds[red_is] > 240


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_around_whole_pixels_do_not_matter(tmp_path):
    write_image(tmp_path / "a.jpg", (200, 200, 200), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\xff" * 40)
    assert pixel(tmp_path / "a.jpg") == (200, 200, 200)


# -- size ------------------------------------------------------------------------------------------------------------


def test_wide_image_loses_its_sides_and_tall_image_its_ends(tmp_path):
    for name, size in (("a", (64, 32)), ("b", (32, 64))):
        image = Image.new("RGB", size, (255, 0, 0))
        left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
        ImageDraw.Draw(image).rectangle((left, top, left + 31, top + 31), fill=(0, 255, 0))
        image.save(tmp_path / f"{name}.png")
        pixels = decode(tmp_path / f"{name}.png", 32)
        assert (pixels[0] == 0).all() and (pixels[1] == 255).all()


@pytest.mark.parametrize("size", [(100, 75), (31, 47), (500, 32), (33, 33), (7, 5)])
def test_resize_and_crop_are_those_of_torchvision(tmp_path, size):
    from torchvision.transforms import CenterCrop, Compose, Resize

    image = Image.fromarray(write_noise(tmp_path / "a.png", size))
    expected = np.asarray(Compose([Resize(32), CenterCrop(32)])(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 32), expected)


@pytest.mark.parametrize("size, read", [((1600, 1200), (200, 150)), ((300, 64), (300, 64)), ((300, 128), (150, 64))])
def test_a_large_jpeg_is_read_at_a_reduced_scale_of_at_least_twice_the_size(tmp_path, monkeypatch, size, read):
    sizes, load = [], Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: sizes.append(image.size) or load(image))
    y, x = np.mgrid[: size[1], : size[0]] / max(size)  # smooth: what is left of it after resizing is known
    smooth = np.stack([255 * x, 255 * y, 128 + 0 * x], axis=2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    sizes.clear()
    reduced = decode(tmp_path / "a.jpg", 32).astype(int)
    assert sizes[0] == read
    assert np.abs(reduced - decode(tmp_path / "a.png", 32)).max() <= 3


# -- what does not decode --------------------------------------------------------------------------------------------


def reason(path, size=32):
    with pytest.raises(Undecodable) as caught, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        decode(path, size)
    assert str(caught.value).startswith(f"{path} {caught.value.reason} — ") and "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("content", [b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_none_whatever_its_name(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert reason(tmp_path / "a.png") == "does not decode as an image (of no known format)"


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_truncated_image(tmp_path, name):
    write_noise(tmp_path / name)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
    assert reason(tmp_path / name).startswith("does not decode as an image (")


def test_file_that_cannot_be_opened(tmp_path):
    assert reason(tmp_path / "gone.png") == "cannot be read (No such file or directory)"


@pytest.mark.parametrize("limit", [1000, 400], ids=["warned of by Pillow", "refused by Pillow"])
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    write_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # 32 x 32 = 1024 pixels: above it, or above its double
    assert reason(tmp_path / "a.png").startswith("is too large to decode")


def test_image_so_thin_that_resizing_it_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    write_image(tmp_path / "a.png", size=(100, 1))  # 100 pixels, but 3200 x 32 once resized
    assert reason(tmp_path / "a.png").startswith("is too large to decode")


def test_a_whole_image_is_upright_and_neither_resized_nor_cropped(tmp_path):
    pixels, exif = write_noise(tmp_path / "a.png", size=(20, 10)), Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(decode_whole(tmp_path / "a.png", 224), pixels)
    np.testing.assert_array_equal(decode_whole(tmp_path / "b.png", 224), pixels[::-1, ::-1])


def test_of_a_large_jpeg_a_fraction_is_decoded_that_is_at_least_twice_the_side(tmp_path):
    write_image(tmp_path / "a.jpg", size=(800, 640))
    sizes = {side: decode_whole(tmp_path / "a.jpg", side).size for side in (400, 160, 80, 79, 10)}
    assert sizes == {400: (800, 640), 160: (400, 320), 80: (200, 160), 79: (200, 160), 10: (100, 80)}


@pytest.mark.parametrize("limit", [2000, 99, 40])
def test_a_whole_image_whose_resizing_would_fill_the_memory(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    write_image(tmp_path / "a.png", size=(100, 1))
    with refusing_bombs(), pytest.raises(Undecodable, match="a.png is too large to decode"):
        decode_whole(tmp_path / "a.png", 32)

"""One folder with every defect that a collection of pictures may have: what is said, and what becomes of the rest."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datasets import load
from tests.datasets.folders import write_image, write_noise
from utils.errors import UserError

SIZE = 32


def rotated(path):
    """Blue with a red left half as it is stored; EXIF says: turn it by 180 degrees."""
    image, exif = Image.new("RGB", (64, 64), "blue"), Image.Exif()
    ImageDraw.Draw(image).rectangle((0, 0, 31, 63), fill="red")
    exif[0x0112] = 3
    image.save(path, quality=95, exif=exif)


def huge(path):
    """The head of a PNG of 100,000 x 100,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [struct.pack(">I", 13), head, struct.pack(">I", zlib.crc32(head)), struct.pack(">I", 1), b"IDAT"]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.fixture
def defects(root, tmp_path):
    """In train/cat, beside the plain a.png and b.png."""
    cats = root / "train/cat"
    write_image(cats / "animated.gif", (200, 0, 0), save_all=True, append_images=[Image.new("RGB", (SIZE, SIZE))])
    (cats / "broken.jpg").write_text("not an image")
    write_image(cats / "cmyk.jpg", (0, 255, 255, 0), mode="CMYK", quality=95)
    (cats / "empty.jpg").write_bytes(b"")
    write_image(cats / "grey.png", 90, mode="L")
    write_noise(cats / "half.jpg")
    os.truncate(cats / "half.jpg", 3000)
    huge(cats / "huge.png")
    (cats / "inside.png").symlink_to(root / "train/dog/a.png")
    (cats / "loop").symlink_to(cats)
    write_image(cats / "misnamed.jpg", (60, 70, 80), format="PNG")
    (cats / "nowhere.png").symlink_to(cats / "gone.png")
    write_image(tmp_path / "secret.png")
    (cats / "outside.png").symlink_to(tmp_path / "secret.png")
    Image.new("RGB", (SIZE, SIZE), (30, 120, 240)).quantize(4).save(cats / "palette.png")
    os.mkfifo(cats / "pipe.png")
    os.symlink(b"/nowhere/\xff.png", os.fsencode(cats / "not_utf8.png"))
    (cats / "readme.txt").write_text("cats")
    rotated(cats / "rotated.jpg")
    Image.fromarray(np.full((SIZE, SIZE), 257 * 40, dtype=np.uint16)).save(cats / "sixteen_bits.png")
    return root


BROKEN = {
    "broken.jpg": "does not decode as an image (of no known format)",
    "empty.jpg": "does not decode as an image (of no known format)",
    "half.jpg": "does not decode as an image (image file is truncated",
    "huge.png": "is too large to decode (Image size (10000000000 pixels) exceeds limit of",
    "loop": "is a link to a folder, which is not followed",
    "not_utf8.png": "is a link to /nowhere/",
    "nowhere.png": "cannot be read (No such file or directory)",
    "outside.png": "is a link to {secret}, outside {train}, and is not followed",
    "pipe.png": "is not a regular file",
}
LEFT = {  # the pixel in the middle of the left edge
    "a.png": (0, 100, 200),
    "animated.gif": (200, 0, 0),
    "b.png": (1, 100, 200),
    "cmyk.jpg": (255, 0, 0),
    "grey.png": (90, 90, 90),
    "inside.png": (2, 100, 200),
    "misnamed.jpg": (60, 70, 80),
    "palette.png": (30, 120, 240),
    "rotated.jpg": (0, 0, 255),
    "sixteen_bits.png": (40, 40, 40),
}


def reasons(root):
    known = {"secret": root.parent / "secret.png", "train": root / "train"}
    return {f"train/cat/{name}": reason.format(**known) for name, reason in BROKEN.items()}


def test_one_error_names_all_that_cannot_be_used(defects):
    with pytest.raises(UserError) as caught:
        load("folder", defects)
    message = str(caught.value)
    assert message.startswith(f"{len(BROKEN)} of {len(BROKEN) + len(LEFT) + 2} images in {defects} cannot be used: ")
    assert message.endswith(" — replace or remove them, or leave them out with --skip_broken") and "\n" not in message
    for name, reason in reasons(defects).items():
        assert f"{name} {reason}" in message


def test_all_others_are_read_as_a_viewer_shows_them(defects):
    train = load("folder", defects, skip_broken=True)
    assert train.left_out.keys() == reasons(defects).keys() and train.passed_over == {".txt": 1}
    assert train.file_names == (*(f"train/cat/{name}" for name in LEFT), "train/dog/a.png", "train/dog/b.png")
    for image, colour in zip(train.images, LEFT.values(), strict=False):
        np.testing.assert_allclose(image[:, SIZE // 2, 0], colour, atol=3)  # JPEG loses a little


def test_what_lies_outside_is_opened_neither_first_nor_from_the_cache(defects, decoded):
    for _ in range(2):
        load("folder", defects, skip_broken=True)
    names = [os.path.basename(path) for path in decoded]
    assert names.count("a.png") == 2  # of both classes, once each
    assert not {"outside.png", "nowhere.png", "pipe.png", "loop"} & set(names)

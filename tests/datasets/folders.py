"""A small image folder for tests, and what can be read off its images."""

import numpy as np
from PIL import Image

from datasets.image_set import ImageSet

TRAIN = ("train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "train/dog/b.png")
TEST = ("test/cat/c.png", "test/dog/c.png")


def write_image(path, colour=(10, 20, 30), size=(32, 32), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def write_noise(path, size=(64, 64), **options):
    """Pixels that no decoder can guess where the file ends too soon."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def reds(image_set: ImageSet) -> list[int]:
    """The red channel of a corner of each image, which tells them apart."""
    return image_set.images[:, 0, 0, 0].tolist()

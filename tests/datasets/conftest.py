"""Fixtures of the tests of image folders."""

import pytest

from datasets import image_cache
from tests.datasets.folders import TEST, TRAIN, write_image


@pytest.fixture
def root(tmp_path):
    """Two classes, two train images and one test image each; the red channel tells the images apart: 0-3, 50, 51."""
    root = tmp_path / "root"
    for first, names in ((0, TRAIN), (50, TEST)):
        for red, name in enumerate(names, first):
            write_image(root / name, (red, 100, 200))
    return root


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, so that a test can tell reading the cache from decoding."""
    paths = []
    decode = image_cache.decode

    def record(path, image_size):
        paths.append(path)
        return decode(path, image_size)

    monkeypatch.setattr(image_cache, "decode", record)
    return paths

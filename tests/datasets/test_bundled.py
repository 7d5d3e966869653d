"""The two sets that come with scikit-learn."""

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from datasets import load


@pytest.mark.parametrize("name", ["digits", "patches"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_arrays_keep_the_contract(name, split):
    loaded = load(name, split=split)
    assert loaded.images.dtype == np.uint8 and loaded.images.flags.c_contiguous
    assert loaded.labels.dtype == np.int64 and set(loaded.labels) == set(range(loaded.num_classes))
    np.testing.assert_array_equal(loaded.sample_ids, np.arange(len(loaded)))
    assert loaded.name == name and loaded.split == split and loaded.file_names is None


@pytest.mark.parametrize("name", ["digits", "patches"])
def test_reading_twice_gives_the_same_bytes(name):
    assert load(name).fingerprint() == load(name).fingerprint() != load(name, split="test").fingerprint()


def test_root_is_ignored(tmp_path):
    assert load("digits", root=tmp_path / "nowhere").fingerprint() == load("digits").fingerprint()


def test_every_fifth_digit_is_for_testing():
    original = sklearn_datasets.load_digits()
    train, test = load("digits"), load("digits", split="test")
    assert (len(train), len(test)) == (1438, 359)
    np.testing.assert_array_equal(test.labels, original.target[4::5])
    np.testing.assert_array_equal(train.labels[:6], original.target[[0, 1, 2, 3, 5, 6]])


def test_digits_are_grey_and_span_all_values():
    original = sklearn_datasets.load_digits().images
    train = load("digits")
    assert train.images.shape == (1438, 3, 8, 8) and not train.mirrored
    assert train.images.min() == 0 and train.images.max() == 255
    np.testing.assert_array_equal(train.images[:, 0], train.images[:, 1])
    np.testing.assert_array_equal(train.images[:, 0], train.images[:, 2])
    eight = np.argwhere(original[0] == 8)[0]  # 8 of 16 is 127.5, which rounds to the even 128
    assert train.images[0, 0, eight[0], eight[1]] == 128


def test_patches_are_eight_equal_classes_of_colour_images():
    train, test = load("patches"), load("patches", split="test")
    # Quarters of 213 x 320 pixels: 12 rows; 15 columns in the left 256 pixels, 3 in the 64 at the right.
    assert np.bincount(train.labels).tolist() == [12 * 15] * 8
    assert np.bincount(test.labels).tolist() == [12 * 3] * 8
    assert train.images.shape[1:] == (3, 32, 32) and train.mirrored
    assert train.class_names[0] == "china top left" and train.class_names[7] == "flower bottom right"


def test_patches_are_cut_where_the_description_says():
    china, flower = sklearn_datasets.load_sample_images().images
    train, test = load("patches"), load("patches", split="test")
    np.testing.assert_array_equal(train.images[1], china[:32, 16:48].transpose(2, 0, 1))
    first = np.flatnonzero(train.labels == 7)[0]  # bottom right starts at row 213, column 320
    np.testing.assert_array_equal(train.images[first], flower[213:245, 320:352].transpose(2, 0, 1))
    np.testing.assert_array_equal(test.images[0], china[:32, 256:288].transpose(2, 0, 1))


def test_no_pixel_is_in_both_splits_of_the_patches(monkeypatch):
    # Photographs whose pixels count 0, 1, 2, ... over the three bytes: equal colours mean the same pixel.
    position = np.arange(427 * 640)
    numbered = np.stack([position & 255, position >> 8 & 255, position >> 16], -1).astype(np.uint8).reshape(427, 640, 3)
    bunch = type("Bunch", (), {"images": [numbered, numbered]})
    monkeypatch.setattr(sklearn_datasets, "load_sample_images", lambda: bunch)

    def pixels(split: str, label: int) -> set[int]:
        loaded = load("patches", split=split)
        low, middle, high = loaded.images[loaded.labels == label].astype(int).transpose(1, 0, 2, 3)
        return set((low + (middle << 8) + (high << 16)).ravel().tolist())

    parts = [pixels(split, label) for split in ("train", "test") for label in range(4)]
    assert sum(map(len, parts)) == len(set.union(*parts))

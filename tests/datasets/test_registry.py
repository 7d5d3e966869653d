"""The registry, the class subsets, and what an ImageSet promises."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import datasets
from datasets import DATASETS, default_root, load
from datasets.image_set import ImageSet
from utils.errors import UserError

PROJECT = Path(datasets.__file__).resolve().parents[1]


def test_importing_the_package_loads_neither_numpy_nor_torch():
    program = "import sys, datasets; print({'numpy', 'torch', 'torchvision', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_entry_points_to_a_function_that_exists():
    assert list(DATASETS) == ["cifar10", "cifar100", "svhn", "digits", "patches", "folder"]
    for info in DATASETS.values():
        module, function = info.loader.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_digits_are_never_mirrored_and_only_folders_take_a_size():
    assert [name for name, info in DATASETS.items() if not info.mirrored] == ["svhn", "digits"]
    assert [name for name, info in DATASETS.items() if info.sized] == ["folder"]


def test_default_root_is_the_data_folder_beside_the_package():
    assert default_root("cifar10") == PROJECT / "datasets" / "cifar10" / "data"


@pytest.mark.parametrize("call", [load, default_root])
def test_unknown_name_lists_the_known_ones(call):
    with pytest.raises(UserError, match="unknown data set 'cifar' — choose one of cifar10, cifar100, svhn"):
        call("cifar")


def test_unknown_split_is_a_programming_error():
    with pytest.raises(ValueError, match="'valid'"):
        load("digits", split="valid")


def test_image_size_for_a_set_of_one_size():
    with pytest.raises(UserError, match="digits comes in one image size only"):
        load("digits", image_size=16)


def test_repeated_classes():
    with pytest.raises(UserError, match="repeats 3, 5 "):
        load("digits", classes=[5, 3, 3, 1, 5])


@pytest.mark.parametrize("classes", [[], [4]])
def test_subset_of_fewer_than_two_classes(classes):
    with pytest.raises(UserError, match="at least two classes"):
        load("digits", classes=classes)


@pytest.mark.parametrize("outside", [10, -1])
def test_class_out_of_range_names_those_that_exist(outside):
    with pytest.raises(UserError, match=f"digits has no class {outside} — choose from 0 to 9"):
        load("digits", classes=[0, outside])


def test_subset_relabels_in_the_order_given_and_keeps_the_positions():
    whole, subset = load("digits"), load("digits", classes=[7, 2])
    assert subset.class_names == ("7", "2") and subset.num_classes == 2
    np.testing.assert_array_equal(subset.sample_ids, np.flatnonzero(np.isin(whole.labels, [7, 2])))
    np.testing.assert_array_equal(subset.images, whole.images[subset.sample_ids])
    np.testing.assert_array_equal(np.array([7, 2])[subset.labels], whole.labels[subset.sample_ids])
    assert subset.labels.dtype == np.int64 and subset.images.flags.c_contiguous


def small_set(**changes) -> ImageSet:
    content = {
        "name": "small",
        "split": "train",
        "images": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2),
        "labels": np.array([0, 1]),
        "class_names": ("a", "b"),
        "sample_ids": np.arange(2),
        "mirrored": True,
    }
    return ImageSet(**{**content, **changes})


def test_subset_takes_the_file_names_along():
    subset = small_set(file_names=("train/a/0.png", "train/b/0.png")).take_classes([1])
    assert subset.file_names == ("train/b/0.png",) and len(subset) == 1


def test_fingerprint_is_that_of_equal_content():
    fingerprint = small_set().fingerprint()
    assert len(fingerprint) == 64 and int(fingerprint, 16) > 0
    assert small_set(name="other name", sample_ids=np.array([5, 9])).fingerprint() == fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((2, 3, 2, 2), dtype=np.uint8)},
        {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 1, 4)},  # the same bytes in another shape
        {"labels": np.array([1, 0])},
        {"class_names": ("b", "a")},
    ],
    ids=["images", "shape", "labels", "class names"],
)
def test_fingerprint_changes_with(changes):
    assert small_set(**changes).fingerprint() != small_set().fingerprint()


def test_fingerprint_is_not_inherited_by_a_changed_copy():
    first = small_set()
    first.fingerprint()
    assert replace(first, labels=np.array([1, 1])).fingerprint() != first.fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((2, 2, 2, 3), dtype=np.uint8)},
        {"images": np.zeros((2, 3, 2, 2), dtype=np.float32)},
        {"images": np.zeros((2, 2, 2, 3), dtype=np.uint8).transpose(0, 3, 1, 2)},
        {"labels": np.array([0, 1], dtype=np.int32)},
        {"labels": np.array([0, 1, 1])},
        {"sample_ids": np.arange(3)},
        {"file_names": ("one",)},
    ],
    ids=["axes", "image type", "memory order", "label type", "label count", "id count", "file name count"],
)
def test_image_set_refuses_a_wrong(changes):
    with pytest.raises(ValueError):
        small_set(**changes)

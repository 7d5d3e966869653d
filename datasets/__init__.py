"""Where images and labels come from: one registry, one function `load`.

Importing this package imports neither numpy nor torch, so that `--help` stays quick.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from datasets.image_set import ImageSet


@dataclass(frozen=True)
class DatasetInfo:
    """What one needs to know of a data set before reading it."""

    loader: str  # "module:function", imported when the set is read
    mirrored: bool  # a mirrored image is still of its class
    sized: bool  # takes an image_size
    description: str
    bundled: bool = False  # comes with scikit-learn: no files, no root
    trusted: bool = True  # its own labels are taken for the truth; those of one's own images are in doubt


DATASETS: dict[str, DatasetInfo] = {
    "cifar10": DatasetInfo(
        loader="datasets.torchvision_sets:load_cifar10",
        mirrored=True,
        sized=False,
        description="10 classes of 32x32 photographs, 50,000 for training, 10,000 for testing",
    ),
    "cifar100": DatasetInfo(
        loader="datasets.torchvision_sets:load_cifar100",
        mirrored=True,
        sized=False,
        description="100 classes of 32x32 photographs, 50,000 for training, 10,000 for testing",
    ),
    "svhn": DatasetInfo(
        loader="datasets.torchvision_sets:load_svhn",
        mirrored=False,
        sized=False,
        description="digits of house numbers, 32x32, 73,257 for training, 26,032 for testing",
    ),
    "digits": DatasetInfo(
        loader="datasets.bundled:load_digits",
        mirrored=False,
        sized=False,
        description="1,797 handwritten digits of 8x8, bundled with scikit-learn",
        bundled=True,
    ),
    "patches": DatasetInfo(
        loader="datasets.bundled:load_patches",
        mirrored=True,
        sized=False,
        description="32x32 patches of the two photographs bundled with scikit-learn",
        bundled=True,
    ),
    "folder": DatasetInfo(
        loader="datasets.folder:load_folder",
        mirrored=True,
        sized=True,
        description="your own images: ROOT/<class>/*, or ROOT/train/<class>/* and, if there, ROOT/test/<class>/*",
        trusted=False,
    ),
}


def dataset_info(name: str) -> DatasetInfo:
    """The registry's entry for `name`, or a UserError that lists the names there are."""
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}", f"choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


def default_root(name: str) -> Path:
    """Where the files of data set `name` are looked for when no root is given: `datasets/<name>/data`."""
    dataset_info(name)
    return Path(__file__).resolve().parent / name / "data"


def load(
    name: str,
    root: str | os.PathLike | None = None,
    split: str = "train",
    classes: Sequence[int] | None = None,
    image_size: int | None = None,
    *,
    labels: str | None = None,
    skip_broken: bool = False,
) -> ImageSet | None:
    """Read one split ("train" or "test") of a data set; None where the set has no test part.

    `classes` keeps these of the set's classes and relabels them 0..k-1 in the order given; the images stay
    in the set's order. `image_size` is for sized sets only (None: their default). The bundled sets (digits,
    patches) need no `root` and ignore it. `labels` is a file with other labels for the train split
    (label_file.py), which are those that `classes` go by. `skip_broken` leaves out images of 'folder' that do not
    decode.
    """
    info = dataset_info(name)
    if split not in ("train", "test"):
        raise ValueError(f"split is 'train' or 'test', not {split!r}")
    if image_size is not None and not info.sized:
        raise UserError(f"{name} comes in one image size only", "leave the image size out")
    if skip_broken and not info.sized:
        raise UserError(f"the images of {name} are never skipped", "leave skip_broken out")
    if classes is not None:
        _check_subset(classes)
    module, function = info.loader.split(":")
    options = {"image_size": image_size, "skip_broken": skip_broken or None}
    options = {key: value for key, value in options.items() if value is not None}
    read = getattr(importlib.import_module(module), function)
    image_set = read(default_root(name) if root is None else Path(root), split, **options)
    if image_set is None:
        return None
    if labels is not None and split == "train":
        from datasets.label_file import with_labels  # here, not above: it imports numpy

        image_set = with_labels(image_set, labels, info.trusted, partial=classes is not None)
    if classes is not None:
        _check_classes_exist(name, classes, image_set.num_classes)
        image_set = image_set.take_classes(classes)
    if labels is not None:
        _check_no_class_is_empty(image_set, labels)
    return image_set


def _check_subset(classes: Sequence[int]) -> None:
    """What can be said about a class subset before the data are read (and perhaps downloaded)."""
    repeated = sorted({c for c in classes if list(classes).count(c) > 1})
    if repeated:
        raise UserError(f"the class subset repeats {_listed(repeated)}", "name each class once")
    if len(classes) < 2:
        raise UserError(f"a class subset of {len(classes)} is not enough", "name at least two classes")


def _check_classes_exist(name: str, classes: Sequence[int], num_classes: int) -> None:
    unknown = [c for c in classes if not 0 <= c < num_classes]
    if unknown:
        raise UserError(f"{name} has no class {_listed(unknown)}", f"choose from 0 to {num_classes - 1}")


def _check_no_class_is_empty(image_set: ImageSet, labels: str) -> None:
    used = set(image_set.labels.tolist())
    unused = [name for c, name in enumerate(image_set.class_names) if c not in used]
    if unused:
        raise UserError(
            f"{labels} labels no image as {', '.join(unused[:20])}", "label some, or keep the other classes as a subset"
        )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(int(number)) for number in numbers)

"""CIFAR-10, CIFAR-100 and SVHN, read (and downloaded, and MD5-checked) by torchvision's own classes."""

from __future__ import annotations

import contextlib
import http.client
import io
from pathlib import Path
from typing import Any

import numpy as np

from datasets import DATASETS
from datasets.image_set import ImageSet
from utils.errors import UserError
from utils.torchvision_access import download_timeout, import_torchvision


def load_cifar10(root: Path, split: str) -> ImageSet:
    return _load_cifar("cifar10", "CIFAR10", root, split)


def load_cifar100(root: Path, split: str) -> ImageSet:
    return _load_cifar("cifar100", "CIFAR100", root, split)


def load_svhn(root: Path, split: str) -> ImageSet:
    torchvision_svhn = import_torchvision("datasets").SVHN
    _, file_name, md5 = torchvision_svhn.split_list[split]
    data = _read("svhn", torchvision_svhn, root, {file_name: md5}, split=split)
    return _image_set("svhn", split, data.data, data.labels, [str(digit) for digit in range(10)])


def _load_cifar(name: str, class_name: str, root: Path, split: str) -> ImageSet:
    torchvision_cifar = getattr(import_torchvision("datasets"), class_name)
    md5s = {file_name: md5 for file_name, md5 in torchvision_cifar.train_list + torchvision_cifar.test_list}
    md5s[torchvision_cifar.meta["filename"]] = torchvision_cifar.meta["md5"]
    files = {f"{torchvision_cifar.base_folder}/{file_name}": md5 for file_name, md5 in md5s.items()}
    data = _read(name, torchvision_cifar, root, files, train=split == "train")
    images = data.data.transpose(0, 3, 1, 2)  # (N, 32, 32, 3) -> (N, 3, 32, 32)
    return _image_set(name, split, images, data.targets, data.classes)


def _image_set(name: str, split: str, images: Any, labels: Any, class_names: list[str]) -> ImageSet:
    return ImageSet(
        name=name,
        split=split,
        images=np.ascontiguousarray(images),
        labels=np.asarray(labels, dtype=np.int64),
        class_names=tuple(class_names),
        sample_ids=np.arange(len(images)),
        mirrored=DATASETS[name].mirrored,
    )


def _read(name: str, torchvision_class: type, root: Path, files: dict[str, str], **options: Any) -> Any:
    """Torchvision's data set from `root`, downloaded first where a file is missing or fails its MD5 check.

    `files` maps the path of each file below `root` to its MD5 sum; it serves the message only.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), download_timeout():
            return torchvision_class(str(root), download=True, **options)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UserError(
            f"{name}: {_fault(root, files)} in {root} and the download failed ({error})",
            f"place the files in {root} or go online",
        ) from error


def _fault(root: Path, files: dict[str, str]) -> str:
    """The first file that keeps the set from being read, and why."""
    from torchvision.datasets.utils import check_integrity

    for file_name, md5 in files.items():
        if not (root / file_name).is_file():
            return f"{file_name} is missing"
        try:
            if not check_integrity(str(root / file_name), md5):
                return f"{file_name} is damaged (wrong MD5 sum)"
        except OSError:
            return f"{file_name} cannot be read"
    return "the files are whole but cannot be read"

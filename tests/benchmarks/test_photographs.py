"""The photographs of the tables: how many of each class, in which order, from torchvision's files."""

import numpy as np
import torchvision

from datasets import load
from tests.benchmarks import photographs
from tests.torchvision_files import CIFAR10_NAMES, write_cifar10


def test_the_first_of_each_class_are_written(tmp_path, monkeypatch, capsys):
    for name, value in write_cifar10(tmp_path, n_train=60, n_test=20).items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)
    flags = ["--train_per_class", "3", "--test_per_class", "5", "--root", str(tmp_path)]
    photographs.main([str(tmp_path / "photos"), *flags])
    printed = capsys.readouterr().out
    assert "30 images in" in printed and "20 images in" in printed  # there are two of a class for testing
    before, after = load("cifar10", tmp_path), load("folder", tmp_path / "photos")
    assert after.class_names == tuple(CIFAR10_NAMES)
    first = np.concatenate([np.flatnonzero(before.labels == label)[:3] for label in range(10)])
    apart = after.images[:, None].astype(int) - before.images[first].astype(int)
    nearest = np.abs(apart).mean(axis=(2, 3, 4)).argmin(axis=1)  # JPEG loses a little of each
    assert nearest.tolist() == list(range(30))

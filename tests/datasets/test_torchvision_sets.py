"""CIFAR and SVHN through torchvision, on tiny files in its formats; no test touches the network."""

import sys
import urllib.error

import numpy as np
import pytest
import torchvision

from datasets import load
from tests.torchvision_files import CIFAR10_NAMES, write_cifar10, write_cifar100, write_svhn
from utils.errors import UserError

WRITERS = {
    "cifar10": (write_cifar10, torchvision.datasets.CIFAR10),
    "cifar100": (write_cifar100, torchvision.datasets.CIFAR100),
    "svhn": (write_svhn, torchvision.datasets.SVHN),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        print("Downloading something")  # older torchvision prints a line here
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes the files of a named set under tmp_path and lets torchvision accept them."""

    def write(name: str, **options):
        writer, torchvision_class = WRITERS[name]
        for attribute, value in writer(tmp_path, **options).items():
            monkeypatch.setattr(torchvision_class, attribute, value)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "name, classes, mirrored", [("cifar10", 10, True), ("cifar100", 100, True), ("svhn", 10, False)]
)
def test_both_splits_keep_the_contract(files, capfd, name, classes, mirrored):
    root = files(name, n_train=200, n_test=100)
    for split, n in (("train", 200), ("test", 100)):
        loaded = load(name, root, split)
        assert loaded.images.shape == (n, 3, 32, 32) and loaded.images.dtype == np.uint8
        assert loaded.images.flags.c_contiguous and loaded.labels.dtype == np.int64
        assert loaded.labels.tolist() == [i % classes for i in range(n)]
        assert loaded.sample_ids.tolist() == list(range(n))
        assert loaded.num_classes == classes and loaded.mirrored is mirrored
    assert capfd.readouterr().out == ""


def test_class_names(files):
    assert load("cifar10", files("cifar10")).class_names == tuple(CIFAR10_NAMES)
    assert load("cifar100", files("cifar100")).class_names[42] == "fine_42"
    assert load("svhn", files("svhn")).class_names == tuple("0123456789")


def test_pixels_arrive_where_torchvision_has_them(files):
    root = files("cifar10")
    image, label = torchvision.datasets.CIFAR10(str(root), train=False)[3]
    loaded = load("cifar10", root, "test")
    np.testing.assert_array_equal(loaded.images[3], np.asarray(image).transpose(2, 0, 1))
    assert loaded.labels[3] == label


def test_subset_of_cifar100_is_relabelled(files):
    subset = load("cifar100", files("cifar100"), classes=[90, 2, 14])
    assert subset.sample_ids.tolist() == [2, 14, 90, 102, 114, 190]
    assert subset.labels.tolist() == [1, 2, 0, 1, 2, 0]
    assert subset.class_names == ("fine_90", "fine_2", "fine_14")


def test_fixture_content_can_be_learnt(files):
    root = files("cifar10", n_train=100, n_test=50)
    train, test = load("cifar10", root), load("cifar10", root, "test")
    centroids = np.stack([train.images[train.labels == c].mean(axis=0) for c in range(10)])
    distance = np.square(test.images[:, None] - centroids).sum(axis=(2, 3, 4))  # (50, 10)
    assert (distance.argmin(axis=1) == test.labels).all()


@pytest.mark.parametrize("name", list(WRITERS))
def test_missing_files_without_a_network(tmp_path, capfd, name):
    with pytest.raises(UserError) as caught:
        load(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{name}: ") and f"is missing in {tmp_path}" in message
    assert "Name or service not known" in message and f"place the files in {tmp_path} or go online" in message
    assert "\n" not in message and capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "name, file_name",
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("cifar10", "cifar-10-batches-py/batches.meta"),
        ("cifar100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "empty"])
def test_file_with_a_wrong_md5_sum(files, name, file_name, damage):
    path = files(name) / file_name
    path.write_bytes(path.read_bytes()[:-1] if damage == "truncated" else b"")
    with pytest.raises(UserError, match=f"{file_name} is damaged"):
        load(name, path.parents[file_name.count("/")])


def test_downloads_that_arrive_corrupted(tmp_path, monkeypatch):
    def write_rubbish(url, filename, *args):
        with open(filename, "wb") as handle:
            handle.write(b"rubbish")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops=3: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", write_rubbish)
    with pytest.raises(UserError, match="download failed .*corrupted"):
        load("cifar10", tmp_path)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(UserError, match="is missing in .*data and the download failed"):
        load("svhn", tmp_path / "data")


@pytest.mark.parametrize(
    "statement",
    ["raise RuntimeError('operator torchvision::nms does not exist')", "raise ImportError('no torchvision')"],
)
def test_torchvision_from_another_build(tmp_path, monkeypatch, statement):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(statement)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision")
    with pytest.raises(UserError, match="different builds .*torchvision.*requirements.txt"):
        load("cifar10", tmp_path)

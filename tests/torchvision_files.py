"""Tiny CIFAR-10, CIFAR-100 and SVHN files in torchvision's own formats, for tests without a network.

Each `write_*` function writes the files under `root` and returns the class attributes (file lists with MD5
sums) to patch so that torchvision accepts them:

    for name, value in write_cifar10(root).items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)

The images can be learnt: each class has a colour and a stripe direction of its own, under noise.
"""

import hashlib
import pickle
from pathlib import Path

import numpy as np

CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def learnable_images(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images uint8 (N, 3, 32, 32): a colour and a stripe pattern per class, plus noise of 20 grey levels."""
    of_class = np.random.default_rng(0)  # the same colours and stripes whatever the seed, so that splits agree
    colour = of_class.uniform(60, 195, size=(100, 3))
    frequency = of_class.uniform(-0.7, 0.7, size=(100, 2))
    y, x = np.mgrid[:32, :32]
    stripes = 50 * np.sin(frequency[labels, 0, None, None] * y + frequency[labels, 1, None, None] * x)  # (N, 32, 32)
    noise = rng.normal(0, 20, size=(len(labels), 3, 32, 32))
    return np.clip(colour[labels][:, :, None, None] + stripes[:, None] + noise, 0, 255).astype(np.uint8)


def write_cifar10(root: Path, n_train: int = 60, n_test: int = 20, seed: int = 0) -> dict[str, object]:
    """`cifar-10-batches-py/` with five train batches, the test batch and the meta file."""
    folder = Path(root) / "cifar-10-batches-py"
    rng = np.random.default_rng(seed)
    parts = np.array_split(np.arange(n_train) % 10, 5)  # labels 0..9 in turn
    batches = [(f"data_batch_{k + 1}", part) for k, part in enumerate(parts)]
    train_list = [[name, _write_batch(folder / name, labels, rng, "labels")] for name, labels in batches]
    test_list = [["test_batch", _write_batch(folder / "test_batch", np.arange(n_test) % 10, rng, "labels")]]
    md5 = _write_pickle(folder / "batches.meta", {"label_names": CIFAR10_NAMES})
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5}
    return {"train_list": train_list, "test_list": test_list, "meta": meta}


def write_cifar100(root: Path, n_train: int = 200, n_test: int = 100, seed: int = 0) -> dict[str, object]:
    """`cifar-100-python/` with its train, test and meta files; the class names are "fine_0" to "fine_99"."""
    folder = Path(root) / "cifar-100-python"
    rng = np.random.default_rng(seed)
    train_list = [["train", _write_batch(folder / "train", np.arange(n_train) % 100, rng, "fine_labels")]]
    test_list = [["test", _write_batch(folder / "test", np.arange(n_test) % 100, rng, "fine_labels")]]
    md5 = _write_pickle(folder / "meta", {"fine_label_names": [f"fine_{c}" for c in range(100)]})
    return {
        "train_list": train_list,
        "test_list": test_list,
        "meta": {"filename": "meta", "key": "fine_label_names", "md5": md5},
    }


def write_svhn(root: Path, n_train: int = 40, n_test: int = 20, seed: int = 0) -> dict[str, object]:
    """`train_32x32.mat` and `test_32x32.mat`, in which digit 0 has label 10 as in the original."""
    import scipy.io

    Path(root).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    split_list = {}
    for split, n in (("train", n_train), ("test", n_test)):
        digits = np.arange(n) % 10
        images = learnable_images(digits, rng).transpose(2, 3, 1, 0)  # (N, 3, 32, 32) -> (32, 32, 3, N)
        path = Path(root) / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": np.where(digits == 0, 10, digits)[:, None].astype(np.uint8)})
        split_list[split] = [f"http://invalid/{path.name}", path.name, _md5(path)]
    return {"split_list": split_list}


def _write_batch(path: Path, labels: np.ndarray, rng: np.random.Generator, key: str) -> str:
    rows = learnable_images(labels, rng).reshape(len(labels), -1)  # red plane, green plane, blue plane
    return _write_pickle(path, {"data": rows, key: [int(label) for label in labels]})


def _write_pickle(path: Path, content: dict) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return _md5(path)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()

"""A data set as the methods see it: images on the device or the host, observed labels, the truth where it is known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

import datasets
from datasets.image_set import ImageSet
from utils.compute import Compute, stream_generator
from utils.data.choice import DataChoice
from utils.data.device_images import DeviceImages, stay_on_host
from utils.data.noise import add_label_noise, confusion_of, describe_noise, share_to_plant
from utils.data.out_of_distribution import mix
from utils.errors import UserError


@dataclass
class Planted:
    """Errors planted among the labels on purpose (utils/scoring/planted.py says what for)."""

    ids: np.ndarray  # int64 (P,), ascending
    labels: Tensor  # int64 (N,), on the device: the observed labels with the planted ones in place


@dataclass
class NoisyData:
    """Training images, observed labels; `clean_labels` (N,) int64 and `is_noisy` (N,) bool are None where unknown."""

    choice: DataChoice
    images: DeviceImages
    labels: np.ndarray
    clean_labels: np.ndarray | None
    class_names: tuple[str, ...]
    sample_ids: np.ndarray
    file_names: tuple[str, ...] | None
    test_images: DeviceImages | None
    test_labels: np.ndarray | None
    source_fingerprint: str  # of the data set's images, own labels and class names
    planted: Planted | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)  # {file or sample id: why it is not among the images}
    passed_over: Mapping[str, int] = field(default_factory=dict)  # {ending, or what else: files so left aside}
    labels_digest: str | None = None  # of the labels file
    test_file_names: tuple[str, ...] | None = None
    replaced: np.ndarray = field(
        default_factory=lambda: np.empty(0, dtype=np.int64)
    )  # ids of the images of another set
    ood_digest: str | None = None  # of the set that these came from

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_noisy(self) -> np.ndarray | None:
        return None if self.clean_labels is None else self.clean_labels != self.labels

    @property
    def noise_ratio(self) -> float | None:
        """The realised share of wrong labels, in [0, 1]."""
        return None if self.is_noisy is None else float(self.is_noisy.mean())

    @cached_property
    def device_labels(self) -> Tensor:
        return torch.from_numpy(self.labels).to(self.images.pixels.device)

    @property
    def training_labels(self) -> Tensor:
        """int64 (N,), on the device: the observed labels, but for errors planted among them (`prepare(plant=)`)."""
        return self.device_labels if self.planted is None else self.planted.labels

    @cached_property
    def trained(self) -> np.ndarray:
        """The training labels on the host, int64 (N,)."""
        return self.labels if self.planted is None else self.planted.labels.cpu().numpy()

    def with_planted(self, trained: np.ndarray) -> NoisyData:
        """The same data for a training on the labels `trained`, int64 (N,), wrong on purpose where they differ."""
        ids = np.flatnonzero(trained != self.labels)
        planted = Planted(ids, torch.from_numpy(trained).to(self.images.pixels.device)) if len(ids) else None
        return replace(self, planted=planted)

    @cached_property
    def prior(self) -> Tensor:
        """float32 (C,), on the device: the share of each class among the observed labels."""
        return torch.bincount(self.device_labels, minlength=self.num_classes) / len(self)

    @cached_property
    def ids(self) -> Tensor:
        return torch.arange(len(self), device=self.images.pixels.device)

    @property
    def bytes_of_images(self) -> int:
        return sum(math.prod(of.pixels.shape) for of in (self.images, self.test_images) if of is not None)

    def fingerprint(self) -> dict:
        """What scores belong to: the choice of data and noise, and digests.

        "seed" is that of the label noise; "images" covers the data set as it was read (images, class names, labels
        before any noise is added: those of a file where one was named), "labels" the observed labels, "labels_file" the
        file that they came from, "ood" the images put in from another set.
        """
        found = {
            "data_set": self.choice.name,
            "class_subset": self.choice.subset,
            "noise_type": self.choice.noise_type,
            "noise_ratio": self.choice.noise_ratio,
            "seed": self.choice.seed_of_labels,
            "samples": len(self),
            "images": self.source_fingerprint,
            "labels": hashlib.sha256(self.labels.tobytes()).hexdigest()[:16],
        }
        if self.labels_digest is not None:
            found["labels_file"] = self.labels_digest
        if (ood := self.choice.ood) is not None:
            found["ood"] = {
                "ratio": ood.ratio, "data_set": ood.name, "class_subset": ood.subset, "images": self.ood_digest
            }  # fmt: skip
        return found

    def describe(self, augmented: bool = True) -> str:
        """The data and what the noise did, as printable lines; `augmented`: training images are changed at random."""
        height, width = self.images.side
        test = "no test set" if self.test_labels is None else f"{len(self.test_labels)} test images"
        lines = [
            f"data: {self.choice.name}, {len(self)} training images of {height}x{width} pixels, "
            f"{self.num_classes} classes, {test}"
        ]
        if augmented and self.choice.mirrored_by_default:
            mirrored = "are mirrored at random" if self.choice.mirror else "are not mirrored"
            lines.append(f"augmentation: training images {mirrored} (--mirror, --no-mirror)")
        if self.images.on_host:
            where = "in the file of their cache" if self.images.pixels.mapped else "in the memory of the host"
            lines.append(f"images: {self.bytes_of_images / 1e9:.1f} GB stay {where} (--images_on)")
        if self.left_out:
            lines.append(f"left out: {len(self.left_out)} images, listed in skipped.csv")
        if self.passed_over:
            counts = ", ".join(f"{ending or 'without an ending'} {n}" for ending, n in self.passed_over.items())
            lines.append(f"passed over: {sum(self.passed_over.values())} files that do not count as images ({counts})")
        if self.clean_labels is None:
            source = "they are" if self.choice.labels is None else f"{self.choice.labels} has them"
            lines.append(
                f"labels: taken as {source}, none made wrong on purpose (noise type none); the truth is unknown, so "
                "nothing here is measured against it"
            )
        else:
            kind, ratio = self.choice.noise_type, self.choice.noise_ratio
            if self.choice.labels is not None:
                kind, ratio = f"as {self.choice.labels} has it", None
            own = np.delete(np.arange(len(self)), self.replaced)  # images
            lines.append(describe_noise(self.clean_labels[own], self.labels[own], self.class_names, kind, ratio))
            if self.choice.noise_type == "real_in_noise":
                lines.append(f"class-dependent noise: {confusion_in_words(self.choice.name, self.class_names)}")
            if self.choice.ood is not None:
                lines.append(
                    f"out-of-distribution noise: {self.choice.ood.in_words()}, {len(self.replaced)} of {len(self)}, in "
                    f"place of others, whose labels they keep; {self.noise_ratio:.4f} of all labels are wrong, these "
                    "counted"
                )
        return "\n".join(lines)


def prepare(
    choice: DataChoice,
    compute: Compute,
    *,
    stream: str = "label_noise",
    like: DeviceImages | None = None,
    with_test: bool = True,
    plant: float | None = 0.0,
) -> NoisyData:
    """Load, corrupt the training labels and images as `choice` says, and put the images where they belong.

    `like`: the images of another set, whose size and normalisation are taken over. `plant`: share of the labels among
    which errors are planted for training, None = `share_to_plant`. Test labels stay as they are.
    Raises UserError where class counts disagree, the data cannot be read or images of another set cannot be put in.
    """
    train, test = read(choice, compute, like, with_test)
    labels = add_label_noise(
        train.labels,
        choice.noise_type,
        choice.noise_ratio,
        stream_generator(choice.seed_of_labels, stream),
        num_classes=train.num_classes,
        confused_with=confusion_of(choice.name, train.class_names),
    )
    clean_labels = train.labels if choice.noise_type != "none" else train.clean_labels
    with compute.ranks.first_alone():
        mixed = mix(choice.ood, train.images, clean_labels, choice.seed_of_labels)
    mirrored = train.mirrored and choice.mirror
    images, test_images = placed(mixed.images, None if test is None else test.images, mirrored, like, compute)
    data = NoisyData(
        choice=choice,
        images=images,
        labels=labels,
        clean_labels=mixed.clean_labels,
        class_names=train.class_names,
        sample_ids=train.sample_ids,
        file_names=train.file_names,
        test_images=test_images,
        test_labels=None if test is None else test.labels,
        source_fingerprint=train.fingerprint()[:16],
        left_out={**train.left_out, **({} if test is None else test.left_out), **mixed.left_out},
        passed_over=train.passed_over,
        labels_digest=train.labels_digest,
        test_file_names=None if test is None else test.file_names,
        replaced=mixed.replaced,
        ood_digest=mixed.digest,
    )
    plant = share_to_plant(len(labels)) if plant is None else plant
    generator = stream_generator(choice.seed_of_labels, "planted")
    trained = add_label_noise(labels, "random_in_noise", plant, generator, num_classes=train.num_classes)
    return data.with_planted(trained)


def read(
    choice: DataChoice, compute: Compute, like: DeviceImages | None, with_test: bool
) -> tuple[ImageSet, ImageSet | None]:
    """The training and the test set as they are, perhaps in the size of other images.

    Raises UserError where class counts disagree or the data cannot be read.
    """
    size = choice.image_size if like is None else like.side[0]
    size = size if datasets.DATASETS[choice.name].sized else None
    options = {"classes": choice.subset, "image_size": size, "skip_broken": choice.skip_broken}
    load = partial(datasets.load, choice.name, choice.root, **options)
    with compute.ranks.first_alone():  # which makes the cache of a folder, and unpacks
        train = load(split="train", labels=choice.labels)
        test = load(split="test") if with_test else None
    if choice.num_classes is not None and choice.num_classes != train.num_classes:
        raise UserError(
            f"{choice.num_classes} classes were asked for and {choice.name} gives {train.num_classes}",
            "correct the number of classes or the subset, or leave the number out",
        )
    return train, test


def placed(
    train: np.ndarray, test: np.ndarray | None, mirrored: bool, like: DeviceImages | None, compute: Compute
) -> tuple[DeviceImages, DeviceImages | None]:
    """Images uint8 (N, 3, h, w) on the device or on the host, as `compute` says and memory allows.

    Raises UserError where they are to lie on the device and do not fit.
    """
    side, statistics = (None, None) if like is None else (like.side, like.statistics)
    height, width = train.shape[2:] if side is None else side
    of_all = 3 * height * width * (len(train) + (0 if test is None else len(test)))  # bytes
    place = partial(DeviceImages, compute=compute, on_host=stay_on_host(of_all, compute))
    images = place(train, mirrored=mirrored, side=side, statistics=statistics)
    if test is None:
        return images, None
    return images, place(test, mirrored=False, side=images.side, statistics=images.statistics)


def confusion_in_words(name: str, class_names: tuple[str, ...]) -> str:
    target = confusion_of(name, class_names)
    pairs = [f"{class_names[c]}→{class_names[t]}" for c, t in enumerate(target) if t != c]
    return (
        ", ".join(pairs[:12])
        + (f" and {len(pairs) - 12} more" if len(pairs) > 12 else "")
        + ("" if pairs else "no class of this subset is ever mistaken")
    )

"""Out-of-distribution noise: images of another set take the place of some of the training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

import datasets
from datasets.image_set import NO_CLASS, ImageSet
from utils.compute import stream_generator
from utils.data.choice import OutOfDistribution
from utils.data.device_images import resize
from utils.errors import UserError


@dataclass(frozen=True)
class Mixed:
    """The training images of a set with those of another one among them."""

    images: np.ndarray  # uint8 (N, 3, H, W)
    clean_labels: np.ndarray | None  # int64 (N,), NO_CLASS where replaced
    replaced: np.ndarray  # int64 (K,), ids, ascending
    digest: str | None = None  # of the other set
    left_out: Mapping[str, str] = field(default_factory=dict)  # {file of the other set: why it is not among them}


def mix(ood: OutOfDistribution | None, images: np.ndarray, clean_labels: np.ndarray | None, seed: int) -> Mixed:
    """Put images of another set in place of some, or of none. Raises UserError where that cannot be done."""
    if ood is None:
        return Mixed(images, clean_labels, np.empty(0, dtype=np.int64))
    if clean_labels is None:
        raise UserError(
            "--ood_ratio makes wrong labels to measure by, and here the truth of the others is unknown",
            "with noise type random_in_noise and noise ratio 0 the labels count as right",
        )
    others = load_images(ood, images.shape[2:])
    images, replaced = replace_images(images, others.images, ood.ratio, stream_generator(seed, "ood"))
    clean_labels = clean_labels.copy()
    clean_labels[replaced] = NO_CLASS
    left_out = {f"{ood.root}/{file}": why for file, why in others.left_out.items()}
    return Mixed(images, clean_labels, replaced, others.fingerprint()[:16], left_out)


def load_images(ood: OutOfDistribution, side: tuple[int, int]) -> ImageSet:
    """The images to put in, of sized sets with the shorter side of `side` (H, W)."""
    size = min(side) if datasets.DATASETS[ood.name].sized else None
    return datasets.load(ood.name, ood.root, classes=ood.subset, image_size=size, skip_broken=ood.skip_broken)


def replace_images(
    images: np.ndarray, others: np.ndarray, ratio: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A copy of uint8 `images` (N, 3, H, W) with exactly round(ratio·N) replaced; which, int64 (K,), ascending.

    In their place come as many different ones of `others` (M, 3, h, w), resized. Both are chosen uniformly. Raises
    UserError where there are fewer of these than are to be replaced.
    """
    count = round(ratio * len(images))
    if count > len(others):
        raise UserError(f"{count} images are to be replaced and the other set has {len(others)}", "lower --ood_ratio")
    ids = np.sort(generator.permutation(len(images))[:count])
    chosen = np.ascontiguousarray(others[generator.permutation(len(others))[:count]])
    if count and chosen.shape[2:] != images.shape[2:]:
        chosen = resize(torch.from_numpy(chosen), images.shape[2:]).numpy()
    images = images.copy()
    images[ids] = chosen
    return images, ids

"""Out-of-distribution noise: images of another set take the place of some of the training images."""

from __future__ import annotations

import numpy as np
import torch

import datasets
from datasets.image_set import ImageSet
from utils.data.choice import OutOfDistribution
from utils.data.device_images import resize
from utils.errors import UserError


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

"""One split of a data set, whole in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, the labels that come with them, and where each one stands in its data set.

    Meant to be read, not written to: `fingerprint` is computed once.
    """

    name: str
    split: str  # "train" or "test"
    images: np.ndarray  # uint8 (N, 3, H, W), RGB, C-contiguous
    labels: np.ndarray  # int64 (N,), 0..C-1
    class_names: tuple[str, ...]  # C names, in the order of the labels
    sample_ids: np.ndarray  # int64 (N,), position in the whole split, before any class subset
    mirrored: bool  # a mirrored image is still of its class
    file_names: tuple[str, ...] | None = None  # N paths below the root, if each image is a file

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images must be uint8 (N, 3, H, W): {self.images.dtype} {self.images.shape}")
        if not self.images.flags.c_contiguous:
            raise ValueError("images must be C-contiguous")
        for what, array in (("labels", self.labels), ("sample_ids", self.sample_ids)):
            if array.dtype != np.int64 or array.shape != (n,):
                raise ValueError(f"{what} must be int64 ({n},), not {array.dtype} {array.shape}")
        if self.file_names is not None and len(self.file_names) != n:
            raise ValueError(f"{len(self.file_names)} file names for {n} images")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def take_classes(self, classes: Sequence[int]) -> ImageSet:
        """The images of `classes` only, in their old order; class `classes[k]` gets label k."""
        new_label = np.full(self.num_classes, -1, dtype=np.int64)
        new_label[list(classes)] = np.arange(len(classes))
        labels = new_label[self.labels]
        kept = np.flatnonzero(labels >= 0)
        return replace(
            self,
            images=self.images[kept],
            labels=labels[kept],
            class_names=tuple(self.class_names[c] for c in classes),
            sample_ids=self.sample_ids[kept],
            file_names=None if self.file_names is None else tuple(self.file_names[i] for i in kept),
        )

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over images, labels, their shapes and the class names."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps([self.images.shape, self.class_names]).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(self.images.data)
        return digest.hexdigest()

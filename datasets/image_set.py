"""One split of a data set: its images, in memory or mapped into it, and their labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from utils.files import let_go

HASHED = 1024  # images at a time
NO_CLASS = -1  # the truth of an image that belongs to none of the classes


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, the labels that come with them, and where each one stands in its data set.

    Meant to be read, not written to: `fingerprint` is computed once, and `images` may be a read-only memory map.
    """

    name: str
    split: str  # "train" or "test"
    images: np.ndarray  # uint8 (N, 3, H, W), RGB, C-contiguous
    labels: np.ndarray  # int64 (N,), 0..C-1: the set's own, or those of a labels file
    class_names: tuple[str, ...]  # C names, in the order of the labels
    sample_ids: np.ndarray  # int64 (N,), position in the whole split, before any class subset, broken images apart
    mirrored: bool  # a mirrored image is still of its class
    file_names: tuple[str, ...] | None = None  # N paths below the root, if each image is a file
    left_out: Mapping[str, str] = field(default_factory=dict)  # {file or sample id: why it is not among the images}
    passed_over: Mapping[str, int] = field(default_factory=dict)  # {ending, or what else: files so left aside}
    clean_labels: np.ndarray | None = None  # int64 (N,), the truth beside a labels file, if known; -1 = of no class
    labels_digest: str | None = None  # 16 hex digits, of the labels file

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images must be uint8 (N, 3, H, W): {self.images.dtype} {self.images.shape}")
        if not self.images.flags.c_contiguous:
            raise ValueError("images must be C-contiguous")
        arrays = {"labels": self.labels, "sample_ids": self.sample_ids, "clean_labels": self.clean_labels}
        for what, array in arrays.items():
            if array is None and what == "clean_labels":
                continue
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
        """The images labelled as one of `classes` only, in their old order; class `classes[k]` gets label k.

        A true class that is not among them becomes -1: the image belongs to none.
        """
        new_label = np.full(self.num_classes + 1, NO_CLASS, dtype=np.int64)  # the last is that of -1
        new_label[list(classes)] = np.arange(len(classes))
        relabelled = replace(
            self,
            labels=new_label[self.labels],
            class_names=tuple(self.class_names[c] for c in classes),
            clean_labels=None if self.clean_labels is None else new_label[self.clean_labels],
        )
        return relabelled.take(np.flatnonzero(relabelled.labels >= 0))

    def take(self, kept: np.ndarray) -> ImageSet:
        """The images at these positions, int (K,), ascending."""
        if len(kept) == len(self):
            return self
        whole_range = len(kept) > 0 and kept[-1] - kept[0] + 1 == len(kept)
        rows = slice(kept[0], kept[-1] + 1) if whole_range else kept  # a slice copies nothing
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[kept],
            sample_ids=self.sample_ids[kept],
            file_names=None if self.file_names is None else tuple(self.file_names[i] for i in kept),
            clean_labels=None if self.clean_labels is None else self.clean_labels[kept],
        )

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over images, labels, their shapes and the class names."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps([self.images.shape, self.class_names]).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        for start in range(0, len(self), HASHED):  # a memory map is not to be in memory as a whole
            digest.update(self.images[start : start + HASHED].data)
            let_go(self.images)
        return digest.hexdigest()

"""Two small sets that come with scikit-learn: no network, no files of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets import DATASETS
from datasets.image_set import ImageSet

PATCH = 32  # side of a patch, pixels
STRIDE = 16
TEST_STRIP = 64  # width of the strip at the right of each quarter that is kept for testing, pixels


def load_digits(root: Path, split: str) -> ImageSet:
    """scikit-learn's 1,797 handwritten digits of 8x8, grey on three channels.

    Every fifth image (the 5th, 10th, ... in scikit-learn's order) is the test split, 359 images; the other
    1,438 are the train split.
    """
    from sklearn import datasets as sklearn_datasets

    bunch = sklearn_datasets.load_digits()
    labels = bunch.target.astype(np.int64)
    is_test = np.arange(len(labels)) % 5 == 4
    kept = np.flatnonzero(is_test if split == "test" else ~is_test)
    grey = np.rint(bunch.images[kept] * (255 / 16)).astype(np.uint8)  # (N, 8, 8), values came as 0..16
    return ImageSet(
        name="digits",
        split=split,
        images=np.repeat(grey[:, None], 3, axis=1),
        labels=labels[kept],
        class_names=tuple(str(digit) for digit in range(10)),
        sample_ids=np.arange(len(kept)),
        mirrored=DATASETS["digits"].mirrored,
    )


def load_patches(root: Path, split: str) -> ImageSet:
    """32x32 RGB patches, 16 pixels apart, of the two photographs bundled with scikit-learn (china, flower).

    The 8 classes are photograph x quarter (which photograph, and where in it): places, not objects, yet
    telling them apart takes colour and texture. The strip of 64 pixels at the right of each quarter is the
    test split. No pixel is in both splits or in two classes; patches of one split overlap their neighbours.
    """
    from sklearn import datasets as sklearn_datasets

    photographs = sklearn_datasets.load_sample_images().images  # two (427, 640, 3) uint8: china, flower
    patches, labels, class_names = [], [], []
    for photograph, content in zip(photographs, ("china", "flower"), strict=True):
        height, width = (side // 2 for side in photograph.shape[:2])
        for row, vertical in enumerate(("top", "bottom")):
            for column, horizontal in enumerate(("left", "right")):
                quarter = photograph[row * height :, column * width :][:height, :width]
                part = quarter[:, -TEST_STRIP:] if split == "test" else quarter[:, :-TEST_STRIP]
                found = _cut(part)
                patches.append(found)
                labels += [len(class_names)] * len(found)
                class_names.append(f"{content} {vertical} {horizontal}")
    return ImageSet(
        name="patches",
        split=split,
        images=np.concatenate(patches),
        labels=np.array(labels, dtype=np.int64),
        class_names=tuple(class_names),
        sample_ids=np.arange(len(labels)),
        mirrored=DATASETS["patches"].mirrored,
    )


def _cut(part: np.ndarray) -> np.ndarray:
    """All patches of an image part (H, W, 3), row by row: (n, 3, 32, 32)."""
    # (H, W, 3) -> (H-31, W-31, 3, 32, 32)
    windows = np.lib.stride_tricks.sliding_window_view(part, (PATCH, PATCH), axis=(0, 1))
    return np.ascontiguousarray(windows[::STRIDE, ::STRIDE]).reshape(-1, 3, PATCH, PATCH)

"""Passes of a network over images without augmentation: logits, scores of every sample, accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from utils.compute import Compute
from utils.data.device_images import DeviceImages
from utils.data.noisy_data import NoisyData
from utils.errors import Diverged
from utils.scoring.tracker import Snapshot, Tracker


@torch.inference_mode()
def infer(
    network: nn.Module, images: DeviceImages, compute: Compute, *, ids: Tensor | None = None, features: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Batches of (positions in `ids`, logits (B, C), features (B, D) or None), in order, without augmentation.

    The network runs in evaluation mode and every module is left in the mode it came in. `ids` None = all images.
    """
    modes = [module.training for module in network.modules()]  # batch norm may be in another mode than the rest
    network.eval()
    n = len(images) if ids is None else len(ids)
    try:
        batches = torch.arange(n, device=compute.device).split(compute.eval_batch_size)
        batches_ids = batches if ids is None else ids.split(compute.eval_batch_size)
        images.announce(batches_ids)
        for positions, batch_ids in zip(batches, batches_ids, strict=True):
            batch = images.batch(batch_ids)
            with compute.autocast():
                logits, feats = network(batch, return_features=True) if features else (network(batch), None)
            yield positions, logits, feats
    finally:
        for module, training in zip(network.modules(), modes, strict=True):
            module.training = training


def score_samples(
    network: nn.Module,
    images: DeviceImages,
    tracker: Tracker,
    compute: Compute,
    *,
    where: str,
    ids: Tensor | None = None,
) -> Snapshot:
    """One pass of `network` over the samples `ids` (None = all), scored by `tracker`.

    Raises Diverged saying `where` (the epoch or step) if the network has diverged.
    """
    for positions, logits, features in infer(network, images, compute, ids=ids, features=tracker.settings.with_ce):
        tracker.update(logits, positions, features)
    return finish(tracker, where)


def finish(tracker: Tracker, where: str) -> Snapshot:
    """What a whole pass said. Raises Diverged saying `where` if it was of a network that has diverged."""
    try:
        return tracker.finish()
    except FloatingPointError:
        raise Diverged(f"the network's outputs are no longer finite at {where}", "lower the learning rate") from None


def accuracy(network: nn.Module, images: DeviceImages, labels: np.ndarray, compute: Compute) -> float:
    """Share of samples whose prediction is their label, in [0, 1]."""
    predictions = torch.cat([logits.argmax(1) for _, logits, _ in infer(network, images, compute)])
    return float(np.mean(predictions.cpu().numpy() == labels))


def accuracy_on_test(network: nn.Module, data: NoisyData, compute: Compute) -> float | None:
    """Share of the test images classified right, in [0, 1]; None without a test set."""
    if data.test_images is None:
        return None
    return accuracy(network, data.test_images, data.test_labels, compute)

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
    Of several ranks each takes one batch of as many as there are ranks, and all get all.
    """
    modes = [module.training for module in network.modules()]  # batch norm may be in another mode than the rest
    network.eval()
    n = len(images) if ids is None else len(ids)
    ranks = compute.ranks
    try:
        batches = torch.arange(n, device=compute.device).split(compute.eval_batch_size)
        batches_ids = batches if ids is None else ids.split(compute.eval_batch_size)
        images.announce(batches_ids[ranks.rank :: ranks.size])
        for start in range(0, len(batches), ranks.size):
            group = batches[start : start + ranks.size]
            counts = [len(positions) for positions in group] + [0] * (ranks.size - len(group))
            own = start + ranks.rank
            # With none left a rank looks at any image, for the shape of what it has no rows of.
            batch = images.batch(batches_ids[own] if own < len(batches) else batches_ids[start][:1])
            with compute.autocast():
                logits, feats = network(batch, return_features=True) if features else (network(batch), None)
            own_rows = counts[ranks.rank]
            logits = ranks.rows(logits[:own_rows], counts).split(counts)
            feats = [None] * len(group) if feats is None else ranks.rows(feats[:own_rows], counts).split(counts)
            yield from zip(group, logits, feats, strict=False)
    finally:
        for module, training in zip(network.modules(), modes, strict=True):
            module.training = training


def probabilities(network: nn.Module, images: DeviceImages, compute: Compute, ids: Tensor | None = None) -> Tensor:
    """Softmax float32 (N, C) of the images `ids` (None = all), without augmentation."""
    return torch.cat([logits.float().softmax(1) for _, logits, _ in infer(network, images, compute, ids=ids)])


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


def require_finite(network: nn.Module, where: str) -> None:
    """Raises Diverged saying `where` if a weight or a buffer of the network is not."""
    finite = [value.isfinite().all() for value in network.state_dict().values()]
    if not torch.stack(finite).all():  # the device is waited for once
        raise Diverged(f"the weights are no longer finite at {where}", "lower the learning rate")


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

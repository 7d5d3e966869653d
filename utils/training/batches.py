"""The order of an epoch: which samples come together in which batch."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.compute import seed_torch


def batches_per_epoch(n: int, batch_size: int) -> int:
    """How many batches n samples make; never one of a single sample, which batch norm could not take."""
    return min(-(-n // batch_size), max(1, n // 2))


def epoch_batches(ids: Tensor, batch_size: int, seed: int, *counters: int) -> list[Tensor]:
    """The sample ids (N,) of one epoch in a fresh random order, cut into batches of at most `batch_size`.

    Every id comes exactly once. Batches differ in size by one at most; where an odd sample would be left
    alone in one, `batch_size` is exceeded by one.
    `counters` (stream, epoch ...) pick the order together with the seed.
    """
    seed_torch(seed, "order", *counters)
    order = ids[torch.randperm(len(ids)).to(ids.device)]
    return list(order.tensor_split(batches_per_epoch(len(ids), batch_size)))

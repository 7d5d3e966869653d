"""mixup: convex combinations of two images and of their targets (Zhang et al. 2018, https://arxiv.org/abs/1710.09412)."""

from __future__ import annotations

import torch
from torch import Tensor


def mixup(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor | slice]:
    """(B, 3, H, W) and soft targets (B, C), each mixed with those of a random partner by one λ ~ Beta(alpha, alpha).

    Also whose image each mixed one is for the larger part: positions int64 (B,), each of them once. alpha 0: all as
    they are. A network that is trained so memorises wrong labels later, or not at all.
    """
    if not alpha:
        return images, targets, slice(None)
    partner = torch.randperm(len(images), device=images.device)
    lam = torch.distributions.Beta(alpha, alpha).sample().to(images.device)
    larger = torch.where(lam < 0.5, partner, torch.arange(len(images), device=images.device))
    return lam * images + (1 - lam) * images[partner], lam * targets + (1 - lam) * targets[partner], larger

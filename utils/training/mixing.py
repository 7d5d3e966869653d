"""mixup: convex combinations of two images and of their targets (Zhang et al. 2018, https://arxiv.org/abs/1710.09412)."""

from __future__ import annotations

import torch
from torch import Tensor


def mixup(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) and soft targets (B, C), each mixed with those of a random partner by one λ ~ Beta(alpha, alpha).

    alpha 0: as they are. A network that is trained so memorises wrong labels later, or not at all.
    """
    if not alpha:
        return images, targets
    partner = torch.randperm(len(images), device=images.device)
    lam = torch.distributions.Beta(alpha, alpha).sample().to(images.device)
    return lam * images + (1 - lam) * images[partner], lam * targets + (1 - lam) * targets[partner]

"""The loss terms of joint optimisation (Tanaka et al. 2018), shared by relabelling and pseudo-labelling."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LossWeights:
    """Of the terms beside L_c, from 0, which switches one off."""

    prior: float  # of L_p
    entropy: float  # of L_e


def soft_cross_entropy(logits: Tensor, soft_labels: Tensor) -> Tensor:
    """L_c: mean over the batch of −Σ_c soft_label_c · log p_c, in nats. logits and soft_labels: float32 (B, C)."""
    return F.cross_entropy(logits, soft_labels)


def prior_regulariser(logits: Tensor, prior: Tensor | None = None) -> Tensor:
    """L_p = −Σ_c prior_c·log p̄_c, p̄ the mean prediction of the batch: keeps the network from favouring some classes.

    prior (C,): None = 1/C each, as in the paper. Its smallest value is the entropy of the prior, at p̄ = prior.
    """
    log_mean = logits.softmax(1).mean(0).clamp_min(1e-8).log()
    return -(log_mean.mean() if prior is None else (prior * log_mean).sum())


def entropy_regulariser(logits: Tensor) -> Tensor:
    """L_e: mean entropy of the predictions, in nats, 0..log C: makes each prediction decide for one class."""
    log_probs = logits.log_softmax(1)
    return -(log_probs.exp() * log_probs).sum(1).mean()


def joint_loss(logits: Tensor, soft_labels: Tensor, weights: LossWeights) -> Tensor:
    """L_c + weights.prior · L_p + weights.entropy · L_e, a scalar; L_p towards 1/C each, as in the paper."""
    loss = soft_cross_entropy(logits, soft_labels)
    return loss + weights.prior * prior_regulariser(logits) + weights.entropy * entropy_regulariser(logits)

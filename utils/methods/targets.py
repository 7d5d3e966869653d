"""What ssl.py's network learns from: labels of a clean set beside its own predictions, or the posterior of each label.

Both give soft targets (B, C) for sample ids and take in a pass of the network after every epoch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from utils.data.noisy_data import NoisyData
from utils.scoring.accumulated import Accumulated
from utils.scoring.choosing import mean_rank
from utils.scoring.label_posterior import align
from utils.training.soft_labels import SoftLabels


class SplitTargets:
    """Clean samples keep their labels, the others get the network's last predictions (Arazo et al. 2020).

    `clean` bool (N,); before the epoch `begin` (from 0) the network learns from the clean set alone.
    """

    def __init__(self, data: NoisyData, clean: np.ndarray, begin: int) -> None:
        self.data, self.begin = data, begin
        self.is_clean = torch.from_numpy(clean).to(data.device_labels.device)
        self.soft_labels = SoftLabels(data.device_labels, data.num_classes)

    def __getitem__(self, ids: Tensor) -> Tensor:
        return self.soft_labels[ids]

    def ids(self, epoch: int) -> Tensor:
        """int64: the samples that an epoch, counted from 0, learns from."""
        return self.data.ids[self.is_clean] if epoch < self.begin else self.data.ids

    def update(self, logits: Tensor, epoch: int) -> None:
        """Logits (N, C) after an epoch, counted from 0, made without dropout: the next one learns from them."""
        if epoch + 1 >= self.begin:
            self.soft_labels.record(self.data.ids, logits)
            self.soft_labels.commit(replace=~self.is_clean)

    @property
    def current(self) -> np.ndarray:
        """float32 (N, C), rows sum to 1."""
        return self.soft_labels.current.cpu().numpy()

    def state_dict(self) -> dict:
        return self.soft_labels.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.soft_labels.load_state_dict(state)


class PosteriorTargets:
    """Each sample's label with the probability that it is right, and the predictions of other classes with the rest.

    `p_noisy` (N,) and `probs` (N, C) are those of a separation, or of the run before. From the epoch `renew_from` (from
    0) on both are renewed after every epoch: probs as the mean of the given and of the network's own accumulated ones;
    of p_noisy the values stay, which are calibrated, and go to the samples in the order that given and own predictions
    together put them in.
    """

    def __init__(self, data: NoisyData, p_noisy: np.ndarray, probs: np.ndarray, renew_from: int) -> None:
        self.data, self.renew_from = data, renew_from
        self.p_noisy, self.probs = p_noisy, probs
        self.accumulated = Accumulated(data.device_labels, data.num_classes)
        self._targets = torch.from_numpy(posterior_of(data.labels, p_noisy, probs)).to(data.device_labels.device)

    def __getitem__(self, ids: Tensor) -> Tensor:
        return self._targets[ids]

    def ids(self, epoch: int) -> Tensor:
        return self.data.ids

    def update(self, logits: Tensor, epoch: int) -> None:
        """As in SplitTargets."""
        self.accumulated.add(logits)
        if epoch + 1 >= self.renew_from:
            p_noisy, probs = self.renewed()
            targets = posterior_of(self.data.labels, p_noisy, probs)
            self._targets = torch.from_numpy(targets).to(self._targets.device)

    def renewed(self) -> tuple[np.ndarray, np.ndarray]:
        """(p_noisy (N,), probs (N, C)) by what was given and by what the network has predicted since."""
        probs = (self.probs + self.accumulated.predictions()) / 2
        own = self.accumulated.scores(self.data.device_labels)["prediction"]
        order = np.argsort(mean_rank(self.p_noisy, own), kind="stable")
        p_noisy = np.empty_like(self.p_noisy)
        p_noisy[order] = np.sort(self.p_noisy)
        return p_noisy, probs

    @property
    def current(self) -> np.ndarray:
        return self._targets.cpu().numpy()

    def state_dict(self) -> dict:
        return {"accumulated": self.accumulated.state_dict(), "targets": self._targets}

    def load_state_dict(self, state: dict) -> None:
        self.accumulated.load_state_dict(state["accumulated"])
        self._targets = state["targets"].to(self._targets.device)


def posterior_of(labels: np.ndarray, p_noisy: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """float32 (N, C): 1 − p_noisy for the label, p_noisy for the other classes in proportion to `probs` (N, C)."""
    rows = np.arange(len(labels))
    others = np.maximum(probs.astype(np.float64), 1e-8)
    others[rows, labels] = 0
    targets = p_noisy[:, None] * others / others.sum(axis=1, keepdims=True)
    targets[rows, labels] = 1 - p_noisy
    return targets.astype(np.float32)


def class_factors(logits: Tensor, labels: np.ndarray) -> np.ndarray:
    """float32 (C,): what to add to a classifier's logits (N, C) so that its classes come as often as the labels do."""
    prior = np.bincount(labels, minlength=logits.shape[1]) / len(labels)
    return np.log(align(logits.softmax(1).cpu().numpy(), prior)[1]).astype(np.float32)

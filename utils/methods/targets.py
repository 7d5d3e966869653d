"""What a network learns from in ssl.py and relabel.py: a clean set's labels and its own predictions, or a posterior.

Both give soft targets (B, C) for sample ids and take in a pass of the network after every epoch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from utils.data.noisy_data import NoisyData
from utils.scoring.accumulated import Accumulated
from utils.scoring.label_posterior import posterior_at_rate
from utils.training.soft_labels import SoftLabels

RENEWED_EVERY = 5  # epochs


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
    """The posterior of each sample's true class, given its label and what networks predict.

    `posterior` and `probs` (N, C) are those of a separation, or of the run before; `labels` int64 (N,) on the device.
    From the epoch `renew_from` (from 0) on they are the mean of the given posterior and of that which the network's own
    accumulated predictions suggest. The estimated share of wrong labels stays.
    """

    def __init__(
        self, labels: Tensor, num_classes: int, posterior: np.ndarray, probs: np.ndarray, renew_from: int
    ) -> None:
        self.labels, self.probs, self.renew_from = labels.cpu().numpy(), probs, renew_from
        self.ids_of_all = torch.arange(len(labels), device=labels.device)
        self.accumulated = Accumulated(labels, num_classes)
        self.rate = float(1 - posterior[np.arange(len(labels)), self.labels].mean())
        self._given = self._targets = torch.from_numpy(np.float32(posterior)).to(labels.device)

    def __getitem__(self, ids: Tensor) -> Tensor:
        return self._targets[ids]

    def ids(self, epoch: int) -> Tensor:
        """As in SplitTargets: all of them."""
        return self.ids_of_all

    def update(self, logits: Tensor, epoch: int) -> None:
        """As in SplitTargets."""
        self.accumulated.add(logits)
        if epoch + 1 >= self.renew_from and (epoch + 1 - self.renew_from) % RENEWED_EVERY == 0:
            renewed = posterior_at_rate(self.renewed_probs(), self.labels, self.rate)
            self._targets = (self._given + torch.from_numpy(renewed.posterior_).to(self._given.device)) / 2

    def renewed_probs(self) -> np.ndarray:
        """float32 (N, C): the mean of the given and of the network's own predictions."""
        return (self.probs + self.accumulated.predictions()) / 2

    @property
    def current(self) -> np.ndarray:
        """float32 (N, C), rows sum to 1."""
        return self._targets.cpu().numpy()

    @property
    def p_noisy(self) -> np.ndarray:
        """float32 (N,): how probably each label is wrong."""
        return 1 - self.current[np.arange(len(self.labels)), self.labels]

    def state_dict(self) -> dict:
        return {"accumulated": self.accumulated.state_dict(), "targets": self._targets}

    def load_state_dict(self, state: dict) -> None:
        self.accumulated.load_state_dict(state["accumulated"])
        self._targets = state["targets"].to(self._targets.device)

"""What a network learns from in ssl.py: a clean set's labels and its own predictions, or a posterior.

Both give soft targets (B, C) for sample ids and take in a pass of the network after every epoch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from utils.compute import stream_generator
from utils.data.noisy_data import NoisyData
from utils.training.soft_labels import SoftLabels


class SplitTargets:
    """Clean samples keep their labels, the others get the network's predictions (Arazo et al. 2020).

    `clean` bool (N,); before the epoch `begin` (from 0) the network learns from the clean set alone. `epochs`: the
    predictions are the mean of so many last epochs. `uniform`: in place of that share of them, drawn anew after each
    epoch by (seed, run, epoch), every class is given the same probability.
    """

    def __init__(
        self,
        data: NoisyData,
        clean: np.ndarray,
        begin: int,
        epochs: int = 1,
        uniform: float = 0.0,
        seed: int = 0,
        run: int = 1,
    ) -> None:
        self.data, self.begin, self.share, self.seed, self.run = data, begin, uniform, seed, run
        self.is_clean = torch.from_numpy(clean).to(data.device_labels.device)
        self.soft_labels = SoftLabels(data.device_labels, data.num_classes, epochs)
        self.uniform = torch.zeros_like(self.is_clean)  # whose prediction is not taken in the next epoch

    def __getitem__(self, ids: Tensor) -> Tensor:
        return torch.where(self.uniform[ids][:, None], 1 / self.data.num_classes, self.soft_labels[ids])

    def ids(self, epoch: int) -> Tensor:
        """int64: the samples that an epoch, counted from 0, learns from."""
        return self.data.ids[self.is_clean] if epoch < self.begin else self.data.ids

    def update(self, logits: Tensor, epoch: int) -> None:
        """Logits (N, C) after an epoch, counted from 0, made without dropout: the next one learns from them."""
        self.soft_labels.record(self.data.ids, logits)
        if epoch + 1 < self.begin:
            self.soft_labels.keep()
            return
        self.soft_labels.commit(replace=~self.is_clean)
        others = self.data.ids[~self.is_clean].cpu().numpy()
        generator = stream_generator(self.seed, "uniform", self.run, epoch)
        drawn = generator.permutation(others)[: round(self.share * len(others))]
        self.uniform = torch.zeros_like(self.is_clean)
        self.uniform[torch.from_numpy(drawn).to(self.is_clean.device)] = True

    @property
    def current(self) -> np.ndarray:
        """float32 (N, C), rows sum to 1: labels and predictions, those that `uniform` replaces too."""
        return self.soft_labels.current.cpu().numpy()

    def state_dict(self) -> dict:
        return self.soft_labels.state_dict() | {"uniform": self.uniform}

    def load_state_dict(self, state: dict) -> None:
        self.soft_labels.load_state_dict(state)
        self.uniform = state["uniform"].to(self.is_clean.device)


class PosteriorTargets:
    """The posterior (N, C) of each sample's true class, given its label and what networks predict: it stays."""

    def __init__(self, posterior: np.ndarray, data: NoisyData) -> None:
        self.data, self.current = data, posterior
        self._targets = torch.from_numpy(posterior).to(data.device_labels.device)

    def __getitem__(self, ids: Tensor) -> Tensor:
        return self._targets[ids]

    def ids(self, epoch: int) -> Tensor:
        """As in SplitTargets: all of them."""
        return self.data.ids

    def update(self, logits: Tensor, epoch: int) -> None:
        """As in SplitTargets."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass

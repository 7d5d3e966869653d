"""Soft labels that are replaced once an epoch by the network's own predictions, of the last epoch or of several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.scoring.coverage import Coverage


class SoftLabels:
    """float32 (N, C) soft labels, rows summing to 1, and the predictions that will replace them.

    labels: int64 (N,), the one-hot start. During an epoch `record` collects each sample's softmax once; `commit` then
    puts the mean of the last `epochs` of them in place, of fewer at first; `keep` lets them count in later means alone.
    A row can therefore never be left empty: both refuse unless every sample was recorded once.
    """

    def __init__(self, labels: Tensor, num_classes: int, epochs: int = 1) -> None:
        self.current = F.one_hot(labels, num_classes).float()
        self._next = torch.zeros_like(self.current)
        self._epochs = epochs
        self._before: list[Tensor] = []  # what was recorded in up to epochs - 1 epochs before, the oldest first
        self._coverage = Coverage(len(labels), labels.device)

    def __getitem__(self, sample_ids: Tensor) -> Tensor:
        return self.current[sample_ids]

    def record(self, sample_ids: Tensor, logits: Tensor) -> None:
        """The predictions of a batch, logits (B, C) of samples (B,)."""
        self._next[sample_ids] = logits.detach().float().softmax(1)
        self._coverage.add(sample_ids)

    def commit(self, replace: Tensor | None = None) -> None:
        """Put the mean of the recorded predictions in place where `replace` (N,) bool is True (None = everywhere).

        Raises ValueError unless every sample was recorded exactly once since the last commit or keep.
        """
        recorded = [*self._before, self._next]
        self.keep()
        mean = sum(recorded[1:], recorded[0]) / len(recorded)  # no copy of all of them
        self.current = mean if replace is None else torch.where(replace[:, None], mean, self.current)

    def keep(self) -> None:
        """Leave the labels as they are; the recorded predictions count in the means of later epochs.

        Raises ValueError as commit does.
        """
        if not bool(self._coverage.complete()):
            raise ValueError("every sample must be recorded exactly once an epoch")
        if self._epochs > 1:
            self._before = [*self._before, self._next.clone()][1 - self._epochs :]
        self._coverage.reset()

    def state_dict(self) -> dict[str, Tensor | list[Tensor] | None]:
        seen = self._coverage.seen
        recorded = bool(seen.any())  # between two epochs there is nothing to keep of the next
        return {"current": self.current, "next": self._next if recorded else None, "seen": seen, "before": self._before}

    def load_state_dict(self, state: dict[str, Tensor | list[Tensor] | None]) -> None:
        device = self.current.device
        self.current, self._coverage.seen = state["current"].to(device), state["seen"].to(device)
        self._before = [recorded.to(device) for recorded in state["before"]]
        if state["next"] is not None:
            self._next = state["next"].to(device)

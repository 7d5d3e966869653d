"""Soft labels that are replaced once an epoch by the network's own predictions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.scoring.coverage import Coverage


class SoftLabels:
    """float32 (N, C) soft labels, rows summing to 1, and the predictions that will replace them.

    labels: int64 (N,), the one-hot start. During an epoch `record` collects each sample's softmax once; `commit` then
    puts them in place. A row can therefore never be left empty: commit refuses unless every sample was recorded once.
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self.current = F.one_hot(labels, num_classes).float()
        self._next = torch.zeros_like(self.current)
        self._coverage = Coverage(len(labels), labels.device)

    def __getitem__(self, sample_ids: Tensor) -> Tensor:
        return self.current[sample_ids]

    def record(self, sample_ids: Tensor, logits: Tensor) -> None:
        """The predictions of a batch, logits (B, C) of samples (B,)."""
        self._next[sample_ids] = logits.detach().float().softmax(1)
        self._coverage.add(sample_ids)

    def commit(self, replace: Tensor | None = None) -> None:
        """Put the recorded predictions in place where `replace` (N,) bool is True (None = everywhere).

        Raises ValueError unless every sample was recorded exactly once since the last commit or discard.
        """
        if not bool(self._coverage.complete()):
            raise ValueError("every sample must be recorded exactly once an epoch")
        self.current = (
            self._next.clone() if replace is None else torch.where(replace[:, None], self._next, self.current)
        )
        self.discard()

    def discard(self) -> None:
        """Forget what was recorded."""
        self._coverage.reset()

    def state_dict(self) -> dict[str, Tensor | None]:
        seen = self._coverage.seen
        recorded = bool(seen.any())  # between two epochs there is nothing to keep of the next
        return {"current": self.current, "next": self._next if recorded else None, "seen": seen}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        device = self.current.device
        self.current, self._coverage.seen = state["current"].to(device), state["seen"].to(device)
        if state["next"] is not None:
            self._next = state["next"].to(device)

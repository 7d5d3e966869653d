"""Whether a pass has seen every sample exactly once."""

from __future__ import annotations

import torch
from torch import Tensor


class Coverage:
    """How often each of N samples was seen since the last reset."""

    def __init__(self, n: int, device: torch.device) -> None:
        self.seen = torch.zeros(n, dtype=torch.int32, device=device)

    def add(self, sample_ids: Tensor) -> None:
        """sample_ids int64 (B,); a repeated one counts twice."""
        self.seen.index_add_(0, sample_ids, torch.ones_like(sample_ids, dtype=torch.int32))

    def complete(self) -> Tensor:
        """bool (), on the device: whether every sample was seen exactly once."""
        return (self.seen == 1).all()

    def reset(self) -> None:
        self.seen.zero_()

"""Training dynamics of every sample: since when it has been learnt, how often it was forgotten, and when for good.

A sample is learnt at a moment where the network predicts the label it was given.
forgetting event     learnt at one moment, not at the next (Toneva et al. 2019, https://arxiv.org/abs/1812.05159)
forgotten for good   not learnt from a moment of fine-tuning on until its end (Maini et al. 2022,
                     https://arxiv.org/abs/2210.15031)
"""

from __future__ import annotations

import torch
from torch import Tensor

NEVER = -1


class Streak:
    """Since when something has held of each of N samples without a break, and how often it broke.

    `since` int32 (N,): the first moment of the streak that still lasts, `NEVER` where there is none.
    `breaks` int32 (N,): how often it held at one moment and not at the next.
    """

    def __init__(self, samples: int, device: torch.device) -> None:
        self.since = torch.full((samples,), NEVER, dtype=torch.int32, device=device)
        self.breaks = torch.zeros_like(self.since)

    def update(self, moment: int, holds: Tensor) -> None:
        """The next moment, a number from 0 that rises; `holds` bool (N,)."""
        held = self.since != NEVER
        self.breaks += held & ~holds
        self.since[~held] = moment
        self.since[~holds] = NEVER

    def state_dict(self) -> dict:
        return {"since": self.since, "breaks": self.breaks}

    def load_state_dict(self, state: dict) -> None:
        self.since.copy_(state["since"])
        self.breaks.copy_(state["breaks"])


def learnt(logits: Tensor, labels: Tensor) -> Tensor:
    """bool (N,): whether logits (N, C) predict labels int64 (N,)."""
    return logits.argmax(1) == labels

"""The average of a network's weights that a training keeps beside them."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """Exponential, of weights and buffers (Mean Teacher, Tarvainen 2017).

    Its decay a step grows to `decay`: at first the start would weigh too much.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    def follow(self, network: nn.Module, step: int) -> None:
        """Take in the weights that a step, counted from 0 over the whole training, has left."""
        self.multi_avg_fn = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        self.update_parameters(network)

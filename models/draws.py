"""Random draws of a training step, distributed as torch's, which on a CPU take a fraction of their time.

torch draws one number after the other where memory is not in the order of the dimensions (channels last), and for
dropout on other processors than Intel's wherever it lies.
"""

import torch
from torch import Tensor, nn

LEVELS = 2**16  # of a draw: a probability is met to 1/131,072


class Dropout(nn.Dropout):
    """torch's; on a CPU each value is kept by 16 random bits of its own, four values by one draw."""

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * LEVELS)
        if not self.training or x.device.type != "cpu" or dropped in (0, LEVELS) or torch.compiler.is_compiling():
            return super().forward(x)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = laid_out(draws.view(torch.int16)[: x.numel()] >= dropped - LEVELS // 2, x)
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


def normal_like(x: Tensor) -> Tensor:
    """Standard normal draws in the shape, layout, precision and on the device of x."""
    return laid_out(torch.randn(x.numel(), dtype=x.dtype, device=x.device), x)


def laid_out(values: Tensor, like: Tensor) -> Tensor:
    """Values (N,), one after the other in the memory of a tensor of N values like that one."""
    return values.as_strided(like.shape, torch.empty_like(like).stride())

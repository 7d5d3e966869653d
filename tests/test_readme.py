"""What the README shows in Python works as it stands."""

import re

import numpy as np
import torch
from torch import nn

from tests.tiny import ROOT


def test_the_tracker_in_ones_own_loop():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    centres = 4 * torch.eye(3)
    true = torch.arange(60) % 3
    images = centres[true] + 0.1 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    labels = true.clone()
    labels[:6] = (labels[:6] + 1) % 3
    found = {
        "torch": torch,
        "labels": labels,
        "num_classes": 3,
        "epochs": 2,
        "network": nn.Identity(),  # its inputs are logits of the true class
        "train_one_epoch": lambda network: None,
        "loader_in_order": images.split(20),
    }
    exec(code, found)
    assert set(found["scores"]) == {"prediction", "mean_loss", "aum"}
    for score in found["scores"].values():
        assert set(np.argsort(-score)[:6]) == set(range(6))  # the wrong labels rank first

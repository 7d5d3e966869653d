"""Networks and their registry. Importing this package imports neither numpy nor torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PREACT_RESNET18 = "preactResNet18"
CNN13 = "13-CNN"
MODELS = {PREACT_RESNET18: "PreAct-ResNet-18 (He 2016)", CNN13: "the 13-layer CNN of Mean Teacher (Tarvainen 2017)"}
DROPOUT = {PREACT_RESNET18: 0.0, CNN13: 0.1}  # unless asked otherwise
INPUT_NOISE = {PREACT_RESNET18: 0.0, CNN13: 0.15}  # standard deviation, on normalised images, unless asked otherwise
ALIASES = {"PR18": PREACT_RESNET18, "MT_Net": CNN13}  # the names that ssl.py's --network takes


def channels(paper: int, width: float) -> int:
    """The paper's number of channels times `width`, as a multiple of 16.

    With fewer than 16 torch's CPU convolutions (oneDNN) write beyond their arrays at some batch sizes.
    """
    return max(1, round(width * paper / 16)) * 16


def build(
    name: str, num_classes: int, width: float = 1.0, dropout: float = 0.0, input_noise: float | None = None
) -> nn.Module:
    """The network called `name`, freshly initialised from torch's global random state.

    `width` multiplies every layer's channels (1 = the paper's), which stay multiples of 16. `dropout` is a probability,
    `input_noise` the standard deviation of Gaussian noise on training images (None = what is usual for the network;
    PreAct-ResNet-18 has none). Every network offers `model(images) -> logits (B, C)`,
    `model(images, return_features=True) -> (logits, features)` and `model.forward_features(images) -> (B, D)`, all
    float32; PreAct-ResNet-18, once it was given a second head, also `model(images, head=2)`.
    """
    name = ALIASES.get(name, name)
    if name == PREACT_RESNET18:
        from models.preact_resnet import PreActResNet18

        return PreActResNet18(num_classes, width=width, dropout=dropout)
    if name == CNN13:
        from models.cnn13 import CNN13Layers

        input_noise = INPUT_NOISE[CNN13] if input_noise is None else input_noise
        return CNN13Layers(num_classes, width=width, dropout=dropout, input_noise=input_noise)
    raise ValueError(f"unknown network {name!r}; known: {', '.join([*MODELS, *ALIASES])}")

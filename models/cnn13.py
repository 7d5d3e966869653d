"""The 13-layer CNN of Mean Teacher (Tarvainen & Valpola 2017; first used by Laine & Aila 2017)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from models import channels
from models.draws import Dropout, normal_like

MIN_SIDE = 16  # two poolings and one unpadded 3x3 convolution leave at least 2x2 of it
LEAK = 0.1


class ConvBlock(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, padding: int = 1) -> None:
        super().__init__(
            weight_norm(nn.Conv2d(channels_in, channels_out, kernel, padding=padding)),
            nn.BatchNorm2d(channels_out),
            nn.LeakyReLU(LEAK),
        )


class CNN13Layers(nn.Module):
    """Images (B, 3, H, W) to logits; images with a side under 16 pixels are enlarged to 16 first.

    Weight norm on every layer, leaky ReLU 0.1, Gaussian input noise and dropout in training only.
    `width` 1 means the paper's 128-256-512 channels; `input_noise` is a standard deviation, 0 = off.
    """

    def __init__(self, num_classes: int, *, width: float, dropout: float, input_noise: float) -> None:
        super().__init__()
        self.input_noise = input_noise
        c128, c256, c512 = (channels(paper, width) for paper in (128, 256, 512))
        self.stages = nn.Sequential(
            ConvBlock(3, c128), ConvBlock(c128, c128), ConvBlock(c128, c128),
            nn.MaxPool2d(2), Dropout(dropout),
            ConvBlock(c128, c256), ConvBlock(c256, c256), ConvBlock(c256, c256),
            nn.MaxPool2d(2), Dropout(dropout),
            ConvBlock(c256, c512, padding=0), ConvBlock(c512, c256, 1, padding=0), ConvBlock(c256, c128, 1, padding=0),
        )  # fmt: skip
        self.num_features = c128
        self.head1 = weight_norm(nn.Linear(c128, num_classes))

    def forward_features(self, images: Tensor) -> Tensor:
        """Pooled features float32 (B, D), D about 128 · width."""
        if min(images.shape[2:]) < MIN_SIDE:
            scale = MIN_SIDE / min(images.shape[2:])
            size = [max(MIN_SIDE, round(side * scale)) for side in images.shape[2:]]
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        if self.training and self.input_noise:
            images = images + self.input_noise * normal_like(images)
        return self.stages(images).float().mean(dim=(2, 3))

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, C), or (logits, features (B, D)) from the same pass."""
        features = self.forward_features(images)
        with torch.autocast(images.device.type, enabled=False):  # bf16 logits would tie the small losses
            logits = self.head1(features)
        return (logits, features) if return_features else logits

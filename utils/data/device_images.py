"""Images that live on the device as uint8, and batches of them that are made and augmented there."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.compute import Compute

PIXELS_PER_PADDING = 8  # 4 pixels of padding for a 32-pixel image, in proportion for other sizes ...
MIN_CROPPED_SIDE = 16  # ... and none for tiny ones, where a shift by a single pixel loses strokes


class DeviceImages:
    """All images of a split on the device, uint8 (N, H, W, 3), and how a batch is made of them.

    `mirrored`: a mirrored image is still its class, so training batches may be flipped.
    `statistics`: (mean, std) per channel in [0, 1]; None = measured on these images.
    """

    def __init__(
        self,
        images: np.ndarray,
        compute: Compute,
        *,
        mirrored: bool,
        side: tuple[int, int] | None = None,
        statistics: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        pixels = torch.from_numpy(images).to(compute.device)  # (N, 3, H, W)
        if side is not None and tuple(pixels.shape[2:]) != tuple(side):
            pixels = resize(pixels, side)
        self.pixels = pixels.permute(0, 2, 3, 1).contiguous()  # (N, H, W, 3): a gathered batch is channels-last
        self.mirrored = mirrored
        self.padding = min(self.side) // PIXELS_PER_PADDING if min(self.side) >= MIN_CROPPED_SIDE else 0
        self.mean, self.std = channel_statistics(self.pixels) if statistics is None else statistics

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.std

    @property
    def side(self) -> tuple[int, int]:
        return tuple(self.pixels.shape[1:3])

    @cached_property
    def coloured(self) -> bool:
        """Whether any pixel is not grey."""
        return bool((self.pixels != self.pixels[..., :1]).any())

    def batch(self, ids: Tensor | slice) -> Tensor:
        """Normalised float32 (B, 3, H, W) in channels-last layout, never augmented: for tracking and evaluation."""
        return self._normalise(self.pixels[ids])

    def augmented_batch(self, ids: Tensor, colour_jitter: float = 0.0) -> Tensor:
        """The same after a random padded crop, a flip where allowed and, if > 0, colour jitter of that strength."""
        pixels = random_crop(self.pixels, ids, self.padding) if self.padding else self.pixels[ids]
        if self.mirrored:
            pixels = random_flip(pixels)
        if colour_jitter:
            return self._normalise(random_colour(pixels.float(), colour_jitter))
        return self._normalise(pixels)

    def _normalise(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) float32 per channel of uint8 (N, H, W, 3), as fractions of 255."""
    counts = torch.stack([torch.bincount(pixels[..., c].flatten().int(), minlength=256) for c in range(3)]).double()
    values = torch.arange(256, device=pixels.device, dtype=torch.float64) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return mean.float(), variance.sqrt().clamp_min(1e-3).float()


def resize(pixels: Tensor, side: tuple[int, int]) -> Tensor:
    """uint8 (N, 3, H, W) to another size, bilinear with antialiasing, a few thousand images at a time."""
    chunks = [
        F.interpolate(chunk.float(), size=side, mode="bilinear", antialias=True, align_corners=False)
        .round_()
        .clamp_(0, 255)
        .byte()
        for chunk in pixels.split(4096)
    ]
    return torch.cat(chunks)


def random_crop(pixels: Tensor, ids: Tensor, padding: int) -> Tensor:
    """uint8 (N, H, W, 3), ids (B,) -> (B, H, W, 3): each image moved by up to `padding` pixels, black beyond."""
    height, width = pixels.shape[1:3]
    device = pixels.device
    shift = torch.randint(-padding, padding + 1, (2, len(ids)), device=device)
    rows = torch.arange(height, device=device) + shift[0, :, None]  # (B, H)
    columns = torch.arange(width, device=device) + shift[1, :, None]  # (B, W)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return pixels[ids[:, None, None], rows[:, :, None], columns[:, None, :]] * inside[..., None]


def random_flip(pixels: Tensor) -> Tensor:
    """(B, H, W, 3): half of the images mirrored left to right."""
    flip = torch.rand(len(pixels), device=pixels.device) < 0.5
    return torch.where(flip[:, None, None, None], pixels.flip(2), pixels)


def random_colour(pixels: Tensor, strength: float) -> Tensor:
    """float (B, H, W, 3) in [0, 255]: brightness, contrast, saturation times factors in [1−strength, 1+strength]."""
    brightness, contrast, saturation = 1 + strength * (
        2 * torch.rand(3, len(pixels), 1, 1, 1, device=pixels.device) - 1
    )
    pixels = pixels * brightness
    grey = luma(pixels)
    mean = grey.mean(dim=(1, 2), keepdim=True)
    pixels = mean + (pixels - mean) * contrast
    grey = luma(pixels)
    return (grey + (pixels - grey) * saturation).clamp(0, 255)


def luma(pixels: Tensor) -> Tensor:
    """Brightness (B, H, W, 1) of pixels (B, H, W, 3), ITU-R BT.601."""
    return 0.299 * pixels[..., :1] + 0.587 * pixels[..., 1:2] + 0.114 * pixels[..., 2:]

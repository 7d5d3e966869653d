"""Images as uint8, on the device or on the host, and batches of them that are made and augmented on the device."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.compute import Compute
from utils.data.host_pixels import HostPixels, portions, resize
from utils.errors import UserError
from utils.files import let_go
from utils.memory import free_memory

SHARE_ON_DEVICE = 0.5  # of its free memory, which images may take there; the rest is for the network
AFFINE = 0.13  # of tiny images, 7.5 degrees
CUT_OUT = 3 / 8  # side of the hole over the image's side: 12 pixels of 32
PIXELS_PER_PADDING = 8  # 4 pixels of padding for a 32-pixel image, in proportion for other sizes ...
MIN_CROPPED_SIDE = 16  # ... and none for tiny ones, where a shift by a single pixel loses strokes


class DeviceImages:
    """All images of a split, uint8 (N, H, W, 3), and how a batch is made of them on the device.

    `mirrored`: a mirrored image is still its class, so training batches may be flipped.
    `statistics`: (mean, std) per channel in [0, 1]; None = measured on these images. `on_host`: they stay where they
    are, in memory or in a file that is mapped into it, and batches come to the device one by one, as they are needed.
    """

    def __init__(
        self,
        images: np.ndarray,
        compute: Compute,
        *,
        mirrored: bool,
        side: tuple[int, int] | None = None,
        statistics: tuple[Tensor, Tensor] | None = None,
        on_host: bool = False,
    ) -> None:
        side = tuple(images.shape[2:] if side is None else side)
        place = HostPixels if on_host else on_device
        self.pixels: Tensor | HostPixels = place(images, compute.device, side)
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
        parts = (self.pixels[part] for part in portions(self.pixels.shape))
        return any(bool((pixels != pixels[..., :1]).any()) for pixels in parts)

    @property
    def on_host(self) -> bool:
        return isinstance(self.pixels, HostPixels)

    def announce(self, batches: Sequence[Tensor]) -> None:
        """The ids of the next batches, in their order: of images on the host the next ones are copied ahead."""
        if self.on_host:
            self.pixels.announce(batches)

    def batch(self, ids: Tensor | slice) -> Tensor:
        """Normalised float32 (B, 3, H, W) in channels-last layout, never augmented: for tracking and evaluation."""
        return self._normalise(self.pixels[ids])

    def augmented_batch(self, ids: Tensor, augment: str = "standard", colour_jitter: float = 0.0) -> Tensor:
        """The same after random changes that keep the class. `augment` is one of AUGMENT:

        none      nothing
        standard  a padded crop, a flip where allowed
        strong    a crop padded by reflection, a flip where allowed, and a hole (cut-out, DeVries & Taylor 2017)

        Tiny images are neither cropped nor cut; strong turns, shears and scales them a little. `colour_jitter` > 0 adds
        colour jitter of that strength.
        """
        if augment == "none":
            return self.batch(ids)
        strong = augment == "strong"
        pixels, places = self.pixels, ids
        if self.on_host:  # first a copy of the batch, then the same draws on it
            pixels, places = self.pixels[ids], torch.arange(len(ids), device=ids.device)
        pixels = random_crop(pixels, places, self.padding, reflect=strong) if self.padding else pixels[places]
        if self.mirrored:
            pixels = random_flip(pixels)
        if colour_jitter:
            pixels = random_colour(pixels.float(), colour_jitter)
        images = self._normalise(pixels)
        if not strong:
            return images
        images = cut_out(images) if self.padding else random_affine(images)
        return images.contiguous(memory_format=torch.channels_last)

    def _normalise(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)


def stay_on_host(size: int, compute: Compute) -> bool:
    """Whether images of so many bytes stay on the host, as --images_on says.

    Raises UserError where they are to lie on the device and do not fit.
    """
    free = free_memory(compute)
    if compute.images_on == "device" and free is not None and size > free:
        raise UserError(
            f"the images take {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            "leave them on the host with --images_on host or, for 'folder', lower --image_size",
        )
    if compute.images_on == "auto":
        return free is not None and size > SHARE_ON_DEVICE * free
    return compute.images_on == "host"


def on_device(images: np.ndarray, device: torch.device, side: tuple[int, int]) -> Tensor:
    """uint8 (N, 3, h, w) on the host -> (N, H, W, 3) on the device, where a gathered batch is channels-last."""
    pixels = torch.empty((len(images), *side, 3), dtype=torch.uint8, device=device)
    for part in portions(images.shape):  # never a second copy of all
        with warnings.catch_warnings():  # they may be a read-only memory map, and are never written to
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            portion = torch.from_numpy(images[part]).to(device)
        if tuple(portion.shape[2:]) != side:
            portion = resize(portion, side)
        pixels[part] = portion.permute(0, 2, 3, 1)
        let_go(images)
    return pixels


def channel_statistics(pixels: Tensor | HostPixels) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) float32 per channel of uint8 (N, H, W, 3), as fractions of 255."""
    counts = torch.zeros(3, 256, dtype=torch.int64, device=pixels.device)
    for portion in (pixels[part] for part in portions(pixels.shape)):
        counts += torch.stack([torch.bincount(portion[..., c].flatten().int(), minlength=256) for c in range(3)])
    counts = counts.double()
    values = torch.arange(256, device=pixels.device, dtype=torch.float64) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return mean.float(), variance.sqrt().clamp_min(1e-3).float()


def random_crop(pixels: Tensor, ids: Tensor, padding: int, reflect: bool = False) -> Tensor:
    """uint8 (N, H, W, 3), ids (B,) -> (B, H, W, 3): each image moved by up to `padding` pixels, black beyond.

    `reflect`: beyond the border comes the mirrored image instead.
    """
    height, width = pixels.shape[1:3]
    device = pixels.device
    shift = torch.randint(-padding, padding + 1, (2, len(ids)), device=device)
    rows = torch.arange(height, device=device) + shift[0, :, None]  # (B, H)
    columns = torch.arange(width, device=device) + shift[1, :, None]  # (B, W)
    if reflect:
        rows, columns = (reflected(at, size) for at, size in ((rows, height), (columns, width)))
        return pixels[ids[:, None, None], rows[:, :, None], columns[:, None, :]]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return pixels[ids[:, None, None], rows[:, :, None], columns[:, None, :]] * inside[..., None]


def reflected(positions: Tensor, size: int) -> Tensor:
    """Positions up to size − 1 beyond either border, folded back: −1 -> 1, size -> size − 2."""
    positions = positions.abs()
    return torch.where(positions >= size, 2 * size - 2 - positions, positions)


def cut_out(images: Tensor) -> Tensor:
    """Normalised (B, 3, H, W) with a square hole of zeros, the mean colour, whose centre lies anywhere in the image."""
    height, width = images.shape[2:]
    half = CUT_OUT * min(height, width) / 2
    centre = torch.rand(2, len(images), 1, device=images.device)
    rows = (torch.arange(height, device=images.device) + 0.5 - height * centre[0]).abs() < half  # (B, H)
    columns = (torch.arange(width, device=images.device) + 0.5 - width * centre[1]).abs() < half  # (B, W)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def random_affine(images: Tensor) -> Tensor:
    """(B, 3, H, W), each turned and sheared by up to `AFFINE` (radians; shift per pixel) and scaled by up to 10 %."""
    draws = 2 * torch.rand(4, len(images), device=images.device) - 1
    angle, shear, scale_x, scale_y = AFFINE * draws[0], AFFINE * draws[1], 1 + 0.1 * draws[2], 1 + 0.1 * draws[3]
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack([angle.cos() * scale_x, (shear - angle.sin()) * scale_y, zero], 1),
        torch.stack([angle.sin() * scale_x, angle.cos() * scale_y, zero], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


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

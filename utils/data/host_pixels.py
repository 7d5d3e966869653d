"""Images that stay on the host: in memory, or in a file mapped into it, which may be larger than the memory.

A batch of them comes to the device when it is asked for. Batches that were announced are read, and copied to the
device, by a thread while those before are in use.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.files import let_go

PORTION = 2**25  # bytes of images that are moved or counted at a time
RESIZED = 4096  # images that are resized at a time
AHEAD = 2  # batches that are ready or on their way
LET_GO_EVERY = 2**28  # bytes that are read of a memory map between two times that its pages are let go


class HostPixels:
    """Taken by ids like a tensor uint8 (N, H, W, 3), but that it gives copies; `images` are uint8 (N, 3, h, w).

    Images of another size than `side` (H, W) are resized as they come.
    """

    def __init__(self, images: np.ndarray, device: torch.device, side: tuple[int, int]) -> None:
        self.images, self.device = images, device
        self.shape = (len(images), *side, 3)
        self._read = 0  # bytes, since pages were let go
        self._announced: Iterator[tuple[Tensor, np.ndarray]] = iter(())
        self._coming: deque[tuple[Tensor, Future]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def mapped(self) -> bool:
        """Whether they lie in a file."""
        return isinstance(self.images, np.memmap)

    def announce(self, batches: Sequence[Tensor]) -> None:
        """The ids (B,) that are asked for next, in this order; what was announced before and not asked for is void."""
        if not batches:
            return
        on_host = torch.cat(list(batches)).cpu().split([len(ids) for ids in batches])  # the device is waited for once
        self._announced = zip(batches, (ids.numpy() for ids in on_host), strict=True)
        self._coming.clear()
        for _ in range(AHEAD):
            self._fetch_next()

    def _fetch_next(self) -> None:
        for ids, places in self._announced:
            self._coming.append((ids, self._thread.submit(self._fetched, places)))
            return

    def __getitem__(self, ids: Tensor | slice | int) -> Tensor:
        """uint8 (B, H, W, 3) on the device, of one image (H, W, 3)."""
        if self._coming and self._coming[0][0] is ids:
            pixels, copied = self._coming.popleft()[1].result()
            self._fetch_next()
        else:
            pixels, copied = self._fetched(ids.cpu().numpy() if isinstance(ids, Tensor) else ids)
        if copied is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(copied)
            pixels.record_stream(stream)  # its memory is not given away while that stream uses it
        return pixels

    def _fetched(self, places: np.ndarray | slice | int) -> tuple[Tensor, torch.cuda.Event | None]:
        """The images, and on a GPU what says that their copy is complete."""
        one = isinstance(places, int)
        rows = np.asarray(self.images)[slice(places, places + 1) if one else places]
        if self._stream is None:
            pixels, copied = self._on_device(rows), None
        else:
            with torch.cuda.stream(self._stream):
                pixels, copied = self._on_device(rows), self._stream.record_event()
        self._read += rows.nbytes
        if self._read > LET_GO_EVERY:
            let_go(self.images)
            self._read = 0
        return pixels[0] if one else pixels, copied

    def _on_device(self, rows: np.ndarray) -> Tensor:
        """(B, 3, h, w) on the host -> (B, H, W, 3), contiguous: channels-last images are made of it."""
        side = self.shape[1:3]
        if rows.shape[2:] == side:
            return self._moved(channels_last(rows))
        return resize(self._moved(np.array(rows)), side).permute(0, 2, 3, 1).contiguous()

    def _moved(self, rows: np.ndarray) -> Tensor:
        batch = torch.from_numpy(rows)
        return batch if self._stream is None else batch.pin_memory().to(self.device, non_blocking=True)


def portions(shape: Sequence[int]) -> Iterator[slice]:
    """Of images uint8 of that shape, (N, ...), as many at a time as are to be in memory twice."""
    step = max(1, PORTION // math.prod(shape[1:]))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def channels_last(images: np.ndarray) -> np.ndarray:
    """(B, 3, H, W) -> (B, H, W, 3), a copy; a channel at a time takes a third of the time of numpy's own way."""
    pixels = np.empty((len(images), *images.shape[2:], 3), dtype=images.dtype)
    for channel in range(3):
        pixels[..., channel] = images[:, channel]
    return pixels


def resize(pixels: Tensor, side: tuple[int, int]) -> Tensor:
    """uint8 (N, 3, H, W) to another size, bilinear with antialiasing, a few thousand images at a time."""
    chunks = [
        F.interpolate(chunk.float(), size=side, mode="bilinear", antialias=True, align_corners=False)
        .round_()
        .clamp_(0, 255)
        .byte()
        for chunk in pixels.split(RESIZED)
    ]
    return torch.cat(chunks)

"""Pictures in full size, read one by one as they are needed: from their files, or from the arrays of other sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from datasets.decoding import decode_whole
from utils.data.device_images import DeviceImages


class Pictures:
    """N pictures: of the files `file_names` below `root`, or, where these are None, of `images`."""

    def __init__(self, images: DeviceImages, root: str | None, file_names: tuple[str, ...] | None) -> None:
        self._images, self._files = images, None
        if file_names is not None:
            self._files = [Path(root) / name for name in file_names]

    def __len__(self) -> int:
        return len(self._images)

    def read(self, i: int, side: int) -> Image.Image:
        """One as RGB and upright, for someone who resizes its shorter side to `side`. Raises Undecodable."""
        if self._files is None:
            return Image.fromarray(self._images.pixels[i].cpu().numpy())
        return decode_whole(self._files[i], side)

    def batches(
        self, transforms: Callable[[Image.Image], Tensor], side: int, portions: Sequence[range]
    ) -> Iterator[Tensor]:
        """(B, 3, H, W) of what `transforms` make of each of a portion of the pictures, portion by portion.

        All cores read the next batch while the one before is in use; no more than two are in memory.
        """

        def one(i: int) -> Tensor:
            return transforms(self.read(i, side))

        ahead = []
        with ThreadPoolExecutor() as pool:  # Pillow works without the interpreter's lock
            for portion in (*portions, ()):  # behind the last one nothing, which pushes it out
                batch, ahead = ahead, [pool.submit(one, i) for i in portion]
                if batch:
                    yield torch.stack([future.result() for future in batch])


def portions_of(n: int, batch_size: int, first: int = 0) -> list[range]:
    """The positions of n pictures from `first` on, cut into batches."""
    return [range(start, min(start + batch_size, n)) for start in range(first, n, batch_size)]

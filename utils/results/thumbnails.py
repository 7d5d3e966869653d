"""Small pictures for a page that holds everything itself: base64 text, as compact as the browser can show it."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
from PIL import Image, features

from datasets.decoding import decode_whole

SIDE = 96  # pixels, of the longer side at most
QUALITY = 80
# WebP has hardly a header: of a 32x32 photograph it takes a third of what JPEG does. Some builds of Pillow lack it.
FORMAT = "WEBP" if features.check("webp") else "JPEG"
URI_PREFIX = f"data:image/{FORMAT.lower()};base64,"


def of_file(path: str | os.PathLike) -> str:
    """Base64 of an image file, decoded as for training, made smaller where it is larger than SIDE.

    Raises Undecodable. To be called within `refusing_bombs`, which also all threads of such calls must be in: filters
    of warnings are global.
    """
    return _encoded(decode_whole(path, SIDE))


def of_pixels(pixels: np.ndarray) -> str:
    """Base64 of an image uint8 (H, W, 3), made smaller where it is larger than SIDE (larger: the page)."""
    return _encoded(Image.fromarray(np.ascontiguousarray(pixels)))


def _encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(buffer, FORMAT, quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")

"""Small pictures for a page that holds everything itself: base64 text, as compact as the browser can show it."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
from PIL import Image, ImageOps, features

SIDE = 96  # pixels, of the longer side at most
QUALITY = 80
# WebP has hardly a header: of a 32x32 photograph it takes a third of what JPEG does. Some builds of Pillow lack it.
FORMAT = "WEBP" if features.check("webp") else "JPEG"
URI_PREFIX = f"data:image/{FORMAT.lower()};base64,"


def of_file(path: str | os.PathLike) -> str:
    """Base64 of an image file, turned as its EXIF says, made smaller where it is larger than SIDE.

    Raises OSError, and whatever else decoders raise, where it cannot be read. To be called within `refusing_bombs`,
    which also all threads of such calls must be in: filters of warnings are global.
    """
    with Image.open(path) as image:
        image.draft("RGB", (SIDE, SIDE))  # a large JPEG is decoded at a fraction of its size
        return _encoded(ImageOps.exif_transpose(image))


def of_pixels(pixels: np.ndarray) -> str:
    """Base64 of an image uint8 (H, W, 3), made smaller where it is larger than SIDE (larger: the page)."""
    return _encoded(Image.fromarray(np.ascontiguousarray(pixels)))


def _encoded(image: Image.Image) -> str:
    small, buffer = image.convert("RGB"), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(buffer, FORMAT, quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")

"""An image file as pixels: RGB, upright, square, of one size.

What becomes of images that are not plain RGB of 8 bits:

grey, palette, CMYK   converted by Pillow, colour profiles left aside
transparent           laid on white, as on a page
16 bits               scaled: 65,535 becomes 255
32 bits, floats       stretched from the image's own lowest value to its highest
turned by EXIF        turned, so that it stands as a viewer shows it
several frames        the first
misnamed              decoded as what it is, if that is one of FORMATS
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# What a file may hold, whatever its name says. Pillow knows more, and runs other programs for some of it.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")
WHITE = (255, 255, 255, 255)

Image.init()
_KNOWN_FORMATS = [name for name in FORMATS if name in Image.OPEN]  # by this build of Pillow


class Undecodable(UserError):
    """An image file that cannot be used; `reason` is what is wrong with it, to be read after its name."""

    def __init__(self, path: str | os.PathLike, reason: str, remedy: str = "replace or remove it") -> None:
        super().__init__(f"{path} {reason}", remedy)
        self.reason = " ".join(reason.split())


def decode(path: str | os.PathLike, image_size: int) -> np.ndarray:
    """One image as uint8 (3, S, S): RGB, shorter side resized to S (bilinear, antialiased), centre crop.

    A JPEG of more than twice that size is decoded at a half, a quarter or an eighth of its size, never below twice S,
    which is many times faster and leaves the resizing something to average. Raises Undecodable.
    """
    with _as_undecodable(path):
        pixels = np.asarray(_resize_and_crop(_decoded(path, image_size), image_size))
    return pixels.transpose(2, 0, 1)


def decode_whole(path: str | os.PathLike, side: int) -> Image.Image:
    """One image as RGB, upright, neither resized nor cropped, for someone who resizes its shorter side to `side`.

    A large JPEG is decoded as for `decode`: at a fraction of its size, never below twice that. Raises Undecodable, also
    where the resizing would fill the memory.
    """
    with _as_undecodable(path):
        image = _decoded(path, side)
        _resized(image.size, side)
        return image


@contextlib.contextmanager
def refusing_bombs() -> Iterator[None]:
    """Around decoding, and around all threads that decode: what would fill the memory is not decoded."""
    with warnings.catch_warnings():  # filters are global
        warnings.filterwarnings("ignore", module="PIL")  # damaged metadata around whole pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextlib.contextmanager
def _as_undecodable(path: str | os.PathLike) -> Iterator[None]:
    """Whatever a decoder raises as an Undecodable that names the file."""
    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError, MemoryError) as error:
        raise Undecodable(path, f"is too large to decode ({error})", "shrink or remove it") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        if isinstance(error, OSError) and error.strerror:
            raise Undecodable(path, f"cannot be read ({error.strerror})") from error
        unknown = isinstance(error, UnidentifiedImageError)  # whose message is the path again
        reason = "of no known format" if unknown else error
        raise Undecodable(path, f"does not decode as an image ({reason})") from error


def _decoded(path: str | os.PathLike, side: int) -> Image.Image:
    """RGB, upright, of a JPEG a fraction whose shorter side is at least twice `side`."""
    with Image.open(path, formats=_KNOWN_FORMATS) as image:
        image.draft(image.mode, (2 * side, 2 * side))  # does nothing unless it is a JPEG
        image.load()
        return _to_rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data around whole pixels: as it lies
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    page = Image.new("RGBA", image.size, WHITE)
    page.alpha_composite(image.convert("RGBA"))
    return page.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats as grey of 8: 0 to 65,535 scaled, whatever goes beyond stretched."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    if image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0, 65535
    return Image.fromarray(np.rint((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))


def _resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    resized = _resized(image.size, size)
    if resized != image.size:
        image = image.resize(resized, Image.Resampling.BILINEAR)  # antialiased, as ever in Pillow
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) once the shorter of them is `side`; refused for a very long, thin image."""
    width, height = (side * length // min(size) for length in size)
    if (width, height) != size and Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"it would be resized to {width}x{height}")
    return width, height

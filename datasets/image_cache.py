"""Image files decoded once into `ROOT/.cache/<split>_<size>.npy`, a memory map: a set may be larger than memory.

The file is what np.load reads, uint8 (N, 3, S, S), with a trailer behind the pixels: JSON with the key of the files it
was made from and those that do not decode, then a checksum of pixels and JSON. It appears whole or not at all; one of
other files, a damaged one and none at all are alike: it is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import shutil
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from datasets.decoding import Undecodable, decode, refusing_bombs
from utils.errors import UserError
from utils.files import write_atomically

CACHE_VERSION = 2  # raise it whenever the same files would decode to other arrays
HEADER = 128  # bytes before the pixels; fixed, since how many images decode is known last
CHECKSUM = 8  # hex digits at the very end
AHEAD = 64  # images that may be decoded before they are written: bounds the memory
CHUNK = 2**24  # bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFile:
    """A file that may be an image; `fault` says why it cannot be opened at all."""

    name: str  # relative to the root, with forward slashes
    size: int = 0  # bytes
    mtime_ns: int = 0
    fault: str = ""


@dataclass(frozen=True)
class DecodedImages:
    """What became of image files."""

    images: np.ndarray  # uint8 (K, 3, S, S) of those that decode, in their order
    broken: dict[str, str]  # {name: reason} of the others


def decoded_images(root: Path, split: str, files: Sequence[ImageFile], image_size: int) -> DecodedImages:
    """`files` below `root`, from the cache where it was made from these very files, else decoded and cached.

    The images are a read-only memory map, or in memory where there is no cache: on a full or read-only disk.
    """
    with refusing_bombs():
        return _cached_or_decoded(root, split, files, image_size)


def _cached_or_decoded(root: Path, split: str, files: Sequence[ImageFile], image_size: int) -> DecodedImages:
    path = root / ".cache" / f"{split}_{image_size}.npy"
    key = cache_key(files, image_size)
    cached = _read(path, key)
    if cached is not None and not _mended(root, files, cached.broken, image_size):
        return cached
    stream = _DecodedStream(root, split, files, image_size)
    try:
        _write(path, key, stream)
        if (cached := _read(path, key)) is not None:
            return cached
        reason = "it was damaged or replaced while it was written"
    except (OSError, UserError) as error:  # a read-only or full disk is no reason to stop
        reason = str(error)
    log.warning("no image cache in %s, the images are decoded anew each time (%s)", path.parent, reason)
    return _in_memory(stream)


def cache_key(files: Sequence[ImageFile], image_size: int) -> str:
    """Changes when a file is added, removed, renamed or written, and with the settings."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {image_size}\n".encode())
    for file in files:
        digest.update(os.fsencode(f"{file.name}\0{file.size}\0{file.mtime_ns}\0{file.fault}\n"))
    return digest.hexdigest()


# -- decoding --------------------------------------------------------------------------------------------------------


class _DecodedStream:
    """The images of `files`, decoded by all cores, a few at a time; may be gone through again."""

    def __init__(self, root: Path, split: str, files: Sequence[ImageFile], image_size: int) -> None:
        self.files, self.image_size = files, image_size
        self.broken: dict[str, str] = {}  # after a round
        self._root, self._split = root, split

    @property
    def bytes(self) -> int:
        return len(self.files) * 3 * self.image_size**2

    def __iter__(self) -> Iterator[np.ndarray]:
        """uint8 (3, S, S) of each file that decodes, in order; on a terminal a bar, where it takes a while."""
        self.broken.clear()
        bar = tqdm(total=len(self.files), desc=f"decoding {self._split} images", unit="image", disable=None, delay=1)
        with bar, ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
            waiting = deque()
            for file in (*self.files, *[None] * AHEAD):  # behind the last ones something that pushes them out
                waiting.append((file, file and pool.submit(decode_or_reason, self._root, file, self.image_size)))
                if len(waiting) > AHEAD:
                    done, future = waiting.popleft()
                    if isinstance(result := future.result(), str):
                        self.broken[done.name] = result
                    else:
                        yield result
                    bar.update()


def decode_or_reason(root: Path, file: ImageFile, image_size: int) -> np.ndarray | str:
    """The pixels, uint8 (3, S, S), or why there are none."""
    if file.fault:
        return file.fault
    try:
        return decode(os.path.join(root, file.name), image_size)
    except Undecodable as error:
        return error.reason


def _mended(root: Path, files: Sequence[ImageFile], broken: dict[str, str], image_size: int) -> bool:
    """Whether a file decodes now that did not when the cache was made: its disk or Pillow's limits were to blame."""
    tried = (file for file in files if file.name in broken)
    return any(not isinstance(decode_or_reason(root, file, image_size), str) for file in tried)


def _in_memory(stream: _DecodedStream) -> DecodedImages:
    images, count = np.empty((len(stream.files), 3, stream.image_size, stream.image_size), dtype=np.uint8), 0
    for pixels in stream:
        images[count] = pixels
        count += 1
    return DecodedImages(images[:count], dict(stream.broken))


# -- the file --------------------------------------------------------------------------------------------------------


def _write(path: Path, key: str, stream: _DecodedStream) -> None:
    """Raises OSError or UserError where the disk refuses."""
    folder = path.parent
    if folder.is_symlink():
        raise OSError(f"{folder} is a link")
    folder.mkdir(exist_ok=True)
    _remove_leftovers(path)
    if shutil.disk_usage(folder).free < stream.bytes + CHUNK:
        raise OSError(f"{stream.bytes / 1e9:.1f} GB are needed and the disk has less free")

    def write(handle: BinaryIO) -> None:
        handle.write(bytes(HEADER))
        checksum, count = 0, 0
        for pixels in stream:
            content = pixels.tobytes()
            checksum, count = zlib.crc32(content, checksum), count + 1
            handle.write(content)
        trailer = json.dumps({"key": key, "broken": stream.broken}).encode()
        handle.write(trailer + f"{zlib.crc32(trailer, checksum):0{CHECKSUM}x}".encode())
        handle.seek(0)
        handle.write(_header((count, 3, stream.image_size, stream.image_size)))

    write_atomically(path, write, held=_held_where_possible)
    path.with_suffix(".npz").unlink(missing_ok=True)  # what version 1 left


def _header(shape: tuple[int, ...]) -> bytes:
    """Of a .npy file, version 1.0, always HEADER bytes long."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).ljust(HEADER - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _read(path: Path, key: str) -> DecodedImages | None:
    """What the cache holds, or None where there is none, it is of other files, or it is damaged."""
    if path.parent.is_symlink():
        return None
    try:
        with open(path, "rb") as handle:
            header = handle.read(HEADER)
            shape, _, _ = np.lib.format.read_array_header_1_0(io.BytesIO(header[8:]))  # behind the magic
            pixels = math.prod(shape)
            handle.seek(HEADER + pixels)
            trailer = handle.read()
            record, checksum = json.loads(trailer[:-CHECKSUM]), int(trailer[-CHECKSUM:], 16)
            if header != _header(shape) or record["key"] != key:
                return None
            if zlib.crc32(trailer[:-CHECKSUM], _checksum_of(handle, pixels)) != checksum:
                return None
            images = np.memmap(handle, np.uint8, "r", offset=HEADER, shape=shape)
        return DecodedImages(images, record["broken"])
    except Exception:  # none yet, or damaged: readers raise a dozen kinds, and each time it is remade
        return None


def _checksum_of(handle: BinaryIO, pixels: int) -> int:
    """CRC-32 of so many bytes behind the header."""
    checksum = 0
    handle.seek(HEADER)
    while pixels > 0:
        chunk = handle.read(min(CHUNK, pixels))
        if not chunk:
            break
        checksum = zlib.crc32(chunk, checksum)
        pixels -= len(chunk)
    return checksum


@contextlib.contextmanager
def _held(temporary: Path, *, patience: float = 0) -> Iterator[None]:
    """While it is held a temporary file is no leftover. Raises OSError where others hold it for `patience` seconds."""
    with FileLock(f"{temporary}.lock", timeout=patience) as lock:  # beside it: Windows lets nobody write a locked file
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # on Windows, and in older versions of filelock, the release does it
                os.unlink(lock.lock_file)


@contextlib.contextmanager
def _held_where_possible(temporary: Path) -> Iterator[None]:
    with contextlib.ExitStack() as lock:
        with contextlib.suppress(OSError):  # a file system without locks; others who do not let go of it
            lock.enter_context(_held(temporary, patience=1))  # somebody may be asking just now
        yield


def _remove_leftovers(path: Path) -> None:
    """What writers of this cache left that were killed: temporary files that nobody holds, and their locks."""
    for temporary in {Path(str(file).removesuffix(".lock")) for file in path.parent.glob(f".{path.name}.*.tmp*")}:
        with contextlib.suppress(OSError), _held(temporary):
            temporary.unlink(missing_ok=True)

"""Images of your own: `ROOT/train/<class>/*` and `ROOT/test/<class>/*`, decoded once into an array cache.

Layout and class order are those of torchvision's `ImageFolder`: classes are the sorted names of the class
folders, images come class by class, sorted by path. Without `test/` there is no test split.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import DATASETS
from datasets.image_set import ImageSet
from utils.errors import UserError
from utils.files import write_atomically

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's list
LAYOUT = "lay the images out as ROOT/train/<class>/<image>"
CACHE_VERSION = 1  # raise it whenever the same files would decode to other arrays

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _ImageFile:
    name: str  # relative to the root, with forward slashes
    label: int
    size: int  # bytes
    mtime_ns: int


def load_folder(root: Path, split: str, image_size: int = 32) -> ImageSet | None:
    """One split of an image folder, image_size x image_size pixels; None for "test" without a test/."""
    if image_size < 1:
        raise UserError(f"an image size of {image_size} pixels is too small", "choose a positive size, such as 32")
    class_names = _class_names(root, "train")
    if len(class_names) < 2:
        raise UserError(f"{root / 'train'} has a single class", f"give at least two: {LAYOUT}")
    if split == "test":
        if not os.path.lexists(root / "test"):
            return None
        _check_same_classes(root, class_names, _class_names(root, "test"))
    files = []
    for label, class_name in enumerate(class_names):
        files += _class_files(root, f"{split}/{class_name}", label)
    return ImageSet(
        name="folder",
        split=split,
        images=_cached_images(root, split, files, image_size),
        labels=np.array([file.label for file in files], dtype=np.int64),
        class_names=tuple(class_names),
        sample_ids=np.arange(len(files)),
        mirrored=DATASETS["folder"].mirrored,
        file_names=tuple(file.name for file in files),
    )


# ---- what is there: class folders and image files --------------------------------------------------------


def _class_names(root: Path, split: str) -> list[str]:
    """Sorted names of the class folders of a split; hidden folders and loose files are not classes."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}", LAYOUT)
    folder = root / split
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", LAYOUT)
    _refuse_link_out(root, folder)
    try:
        names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise _cannot_read(folder, error) from error
    if not names:
        raise UserError(f"{folder} has no class folders", LAYOUT.replace("train", split))
    return names


def _check_same_classes(root: Path, train_classes: list[str], test_classes: list[str]) -> None:
    for name in test_classes:
        if name not in train_classes:
            raise UserError(f"{root / 'test' / name} is a class train/ does not have", "give both the same classes")
    for name in train_classes:
        if name not in test_classes:
            raise UserError(f"{root / 'test'} lacks the class {name} of train/", "give both the same classes")


def _class_files(root: Path, class_folder: str, label: int) -> list[_ImageFile]:
    """The image files of a class folder and its sub-folders, in the order of torchvision's ImageFolder."""
    top = root / class_folder
    _refuse_link_out(root, top)
    found = []
    for folder, subfolders, file_names in sorted(os.walk(top, onerror=_raise_walk_error)):
        inside = Path(folder).relative_to(top).parts
        if any(part.startswith(".") for part in inside):
            continue
        for name in subfolders:
            if os.path.islink(os.path.join(folder, name)) and not name.startswith("."):
                raise UserError(f"{folder}/{name} is a link to a folder, not followed", "copy the images or remove it")
        for name in sorted(file_names):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                found.append(_image_file(root, "/".join((class_folder, *inside, name)), label))
    if not found:
        raise UserError(f"{top} has no images ({', '.join(EXTENSIONS)})", "add some or remove the folder")
    return found


def _image_file(root: Path, name: str, label: int) -> _ImageFile:
    path = os.path.join(root, name)
    try:
        if os.path.islink(path):
            _refuse_link_out(root, Path(path))
        status = os.stat(path)
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not a regular file", "remove it")
    return _ImageFile(name, label, status.st_size, status.st_mtime_ns)


def _refuse_link_out(root: Path, path: Path) -> None:
    """Files outside the root are never opened: image folders are passed around, links may point anywhere."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(root)):
        raise UserError(
            f"{path} is a link to {target}, outside {root}, and is not followed",
            "copy the target or remove the link",
        )


def _raise_walk_error(error: OSError) -> None:
    raise _cannot_read(error.filename, error) from error


def _cannot_read(path: str | os.PathLike, error: OSError) -> UserError:
    return UserError(f"cannot read {path} ({error.strerror or error})", "mend or remove it")


# ---- the array cache -------------------------------------------------------------------------------------


def _cached_images(root: Path, split: str, files: list[_ImageFile], image_size: int) -> np.ndarray:
    """Images uint8 (N, 3, S, S) of `files`, from `ROOT/.cache` where it was made from these very files."""
    path = root / ".cache" / f"{split}_{image_size}.npz"
    key = _cache_key(files, image_size)
    images = _read_cache(path, key, shape=(len(files), 3, image_size, image_size))
    if images is None:
        images = _decode_all(root, files, image_size)
        _write_cache(path, key, images)
    return images


def _cache_key(files: list[_ImageFile], image_size: int) -> str:
    """Changes when a file is added, removed, renamed or written, and with the settings."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {image_size}\n".encode())
    for file in files:
        digest.update(os.fsencode(file.name) + f"\0{file.size}\0{file.mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached images, or None where there is no cache, it is of other files, or it is damaged."""
    if path.parent.is_symlink():
        return None
    try:
        with np.load(path, allow_pickle=False) as cache:
            if str(cache["key"]) != key:
                return None
            images = cache["images"]  # the zip's checksum is verified while reading
    except Exception:  # none yet, or damaged: zip and npy readers raise a dozen kinds, and each time it is remade
        return None
    whole = images.dtype == np.uint8 and images.shape == shape and images.flags.c_contiguous
    return images if whole else None


def _write_cache(path: Path, key: str, images: np.ndarray) -> None:
    try:
        if path.parent.is_symlink():
            raise OSError(f"{path.parent} is a link")
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda handle: np.savez(handle, key=np.array(key), images=images))
    except (OSError, UserError) as error:  # a read-only or full disk is no reason to stop
        log.warning("no image cache in %s, the images are decoded anew each time (%s)", path.parent, error)


# ---- decoding --------------------------------------------------------------------------------------------


def _decode_all(root: Path, files: list[_ImageFile], image_size: int) -> np.ndarray:
    """Images uint8 (N, 3, S, S), in the order of `files`."""
    images = np.empty((len(files), 3, image_size, image_size), dtype=np.uint8)

    def decode_into(index: int) -> None:
        images[index] = decode(os.path.join(root, files[index].name), image_size)

    # Filters are global, so they are set around all threads. Pillow decodes without the interpreter lock.
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for _ in pool.map(decode_into, range(len(files))):
            pass
    return images


def decode(path: str | os.PathLike, image_size: int) -> np.ndarray:
    """One image as uint8 (3, S, S): RGB, shorter side resized to S (bilinear, antialiased), centre crop."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(_resize_and_crop(image.convert("RGB"), image_size))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError, MemoryError) as error:
        raise UserError(f"{path} is too large to decode ({error})", "shrink or remove it") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UserError(f"{path} does not decode as an image ({error})", "replace or remove it") from error
    return pixels.transpose(2, 0, 1)


def _resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    shorter = min(image.size)
    if shorter != size:
        width, height = (size * side // shorter for side in image.size)
        if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:  # a very long, thin image
            raise Image.DecompressionBombError(f"it would be resized to {width}x{height}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)  # antialiased, as ever in Pillow
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))

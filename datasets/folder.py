"""Images of your own: folders of classes, found, checked and decoded.

Two layouts:

    ROOT/<class>/*                                  all for training
    ROOT/train/<class>/* and ROOT/test/<class>/*    test/ may be missing; other folders beside them are left aside

A root whose train/ has sub-folders has the second; so has one with nothing but folders called like splits. Any other
has the first, where train/ may well be a class, between plane/ and ship/. A test/ with sub-folders but no such train/
beside it is refused: whether its images are to be trained on is not for us to guess.

Class order and image order are those of torchvision's `ImageFolder`: classes are the sorted names of the class folders,
images come class by class, sorted by path, those of sub-folders among them. Hidden files and folders are left aside.
ROOT, ROOT/train and ROOT/test may be links to anywhere. Below them a class folder that is a link out, or to nothing, is
refused; inside the classes a picture that is a link out, and any link to a folder, counts as a broken image.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets import DATASETS
from datasets.decoding import EXTENSIONS
from datasets.image_cache import ImageFile, decoded_images
from datasets.image_set import ImageSet
from utils.errors import UserError
from utils.files import write_atomically

LAYOUT = "lay the images out as ROOT/<class>/<image> or ROOT/train/<class>/<image>"
# Names of folders that are rather splits than classes, in whatever case.
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
HIDDEN = "images in hidden folders"  # counted among the files that are passed over
NAMED = 20  # broken images that an error names


def load_folder(root: Path, split: str, image_size: int = 32, skip_broken: bool = False) -> ImageSet | None:
    """One split of an image folder, image_size x image_size pixels; None for "test" where there is none.

    `skip_broken` leaves out what does not decode, as if it were not there: sample ids count what is left. Without it
    one UserError names all such files.
    """
    if image_size < 1:
        raise UserError(f"an image size of {image_size} pixels is too small", "choose a positive size, such as 32")
    train = _split_folder(root)
    class_names = _class_names(root / train)
    if len(class_names) < 2:
        raise UserError(f"{root / train} has a single class", f"give at least two: {LAYOUT}")
    folder = train
    if split == "test":
        if not train or not os.path.lexists(root / "test"):
            return None
        folder = "test"
        _check_same_classes(root, class_names, _class_names(root / folder, LAYOUT.replace("train", "test")))
    files, labels, others = [], [], Counter()
    for label, class_name in enumerate(class_names):
        found = _class_files(root, folder, class_name, others)
        files += found
        labels += [label] * len(found)
    for hidden in (root / folder).glob(".*/"):
        others[HIDDEN] += sum(_pictures(names) for _, _, names in os.walk(hidden))
    decoded = decoded_images(root, split, files, image_size)
    if decoded.broken and not skip_broken:
        raise _unusable(root, len(files), decoded.broken)
    kept = [i for i, file in enumerate(files) if file.name not in decoded.broken]
    labels = np.array(labels, dtype=np.int64)[kept]
    for label in np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0):
        raise UserError(f"{root / folder / class_names[label]} has no image that decodes", "add some or remove it")
    return ImageSet(
        name="folder",
        split=split,
        images=decoded.images,
        labels=labels,
        class_names=tuple(class_names),
        sample_ids=np.arange(len(kept)),
        mirrored=DATASETS["folder"].mirrored,
        file_names=tuple(files[i].name for i in kept),
        left_out=decoded.broken,
        passed_over=dict((+others).most_common()),  # without what was counted and is not there
    )


# -- the layout ------------------------------------------------------------------------------------------------------


def _split_folder(root: Path) -> str:
    """Where the classes for training lie below the root: "train", or "" for the root itself."""
    if not os.path.isdir(root):  # which a folder that may not be looked into is not, either
        raise UserError(f"there is no folder {root}", LAYOUT)
    for split in ("train", "test"):
        _refuse_link_to_nothing(root / split)
    names = _subfolders(root)
    splits = [name for name in names if name.casefold() in SPLITS]
    if "train" in names and (splits == names or _subfolders(root / "train")):
        return "train"
    for name in splits:
        if _subfolders(root / name):
            raise UserError(f"{root / name} has sub-folders, but there is no {root / 'train'} with classes", LAYOUT)
    if splits and splits == names:
        raise UserError(f"{root} has {' and '.join(splits)}, but there is no {root / 'train'} with classes", LAYOUT)
    return ""


def _refuse_link_to_nothing(path: Path) -> None:
    if os.path.islink(path) and not os.path.exists(path):  # nor where links lead in a circle
        raise UserError(f"{path} is a link to {os.readlink(path)}, which is not there", "mend or remove it")


def _subfolders(folder: Path) -> list[str]:
    """Sorted names; hidden folders do not count."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise _cannot_read(folder, error) from error
    for entry in entries:
        if not Path(entry.name).suffix:  # a class on a disk that is not mounted would be gone without a word
            _refuse_link_to_nothing(Path(entry.path))
    return sorted(entry.name for entry in entries if os.path.isdir(entry.path))  # of a link in a circle, too


def _class_names(folder: Path, layout: str = LAYOUT) -> list[str]:
    if not os.path.isdir(folder):
        raise UserError(f"there is no folder {folder}", layout)
    names = _subfolders(folder)
    if not names:
        raise UserError(f"{folder} has no class folders", layout)
    return names


def _check_same_classes(root: Path, train_classes: list[str], test_classes: list[str]) -> None:
    for name in test_classes:
        if name not in train_classes:
            raise UserError(f"{root / 'test' / name} is a class train/ does not have", "give both the same classes")
    for name in train_classes:
        if name not in test_classes:
            raise UserError(f"{root / 'test'} lacks the class {name} of train/", "give both the same classes")


# -- the files -------------------------------------------------------------------------------------------------------


def _class_files(root: Path, folder: str, class_name: str, others: Counter[str]) -> list[ImageFile]:
    """The image files of a class folder and its sub-folders, in the order of torchvision's ImageFolder.

    `others`: counts the endings of all other files, and the pictures in hidden folders.
    """
    top = root / folder / class_name
    inside = [os.path.realpath(root), os.path.realpath(root / folder)]  # the second may be a link out of the first
    if fault := _leads_out(inside, top):
        raise UserError(f"{top} {fault}", "copy the target or remove the link")
    found = []
    for path, subfolders, file_names in sorted(os.walk(top, onerror=_raise_walk_error)):
        if any(part.startswith(".") for part in Path(path).relative_to(top).parts):
            others[HIDDEN] += _pictures(file_names)
            continue
        for name in sorted(subfolders):
            if os.path.islink(os.path.join(path, name)) and not name.startswith("."):
                link = (Path(path) / name).relative_to(root).as_posix()
                found.append(ImageFile(link, fault="is a link to a folder, which is not followed"))
        for name in sorted(file_names):
            if name.startswith("."):
                continue
            if _is_picture(name):
                found.append(_image_file(root, inside, Path(path) / name))
            else:
                others[Path(name).suffix.lower()] += 1
    if not found:
        raise UserError(f"{top} has no images ({', '.join(EXTENSIONS)})", "add some or remove the folder")
    return found


def _pictures(names: list[str]) -> int:
    return sum(map(_is_picture, names))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _image_file(root: Path, inside: list[str], path: Path) -> ImageFile:
    name = path.relative_to(root).as_posix()
    try:
        if path.is_symlink() and (fault := _leads_out(inside, path)):
            return ImageFile(name, fault=fault)
        status = os.stat(path)
    except OSError as error:
        return ImageFile(name, fault=f"cannot be read ({error.strerror or error})")
    if not stat.S_ISREG(status.st_mode):
        return ImageFile(name, fault="is not a regular file")
    return ImageFile(name, status.st_size, status.st_mtime_ns)


def _leads_out(inside: list[str], path: Path) -> str:
    """What is wrong with a link out, else "". Files outside are never opened: folders are passed around."""
    target = Path(os.path.realpath(path))
    if any(target.is_relative_to(folder) for folder in inside):
        return ""
    return f"is a link to {target}, outside {inside[-1]}, and is not followed"


def _raise_walk_error(error: OSError) -> None:
    raise _cannot_read(error.filename, error) from error


def _cannot_read(path: str | os.PathLike, error: OSError) -> UserError:
    return UserError(f"cannot read {path} ({error.strerror or error})", "mend or remove it")


# -- what is broken --------------------------------------------------------------------------------------------------


def _unusable(root: Path, number: int, broken: Mapping[str, str]) -> UserError:
    """One error for all broken files, {name: reason}; more than a few of them are listed in a file."""
    lines = [f"{name} {reason}" for name, reason in broken.items()]
    words = "; ".join(lines[:NAMED])
    if len(lines) > NAMED:
        words += f"; and {len(lines) - NAMED} more, all listed in {_write_list(root, lines)}"
    return UserError(
        f"{len(lines)} of {number} images in {root} cannot be used: {words}",
        "replace or remove them, or leave them out with --skip_broken",
    )


def _write_list(root: Path, lines: list[str]) -> Path:
    """A text file of the lines beside the image cache, or among the temporary files where that cannot be written."""
    content = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    path = root / ".cache" / "unreadable.txt"
    if not path.parent.is_symlink():
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, lambda handle: handle.write(content))
            return path
        except (OSError, UserError):
            pass
    with tempfile.NamedTemporaryFile(prefix="unreadable_", suffix=".txt", delete=False) as handle:
        handle.write(content)
    return Path(handle.name)

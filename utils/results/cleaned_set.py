"""The cleaned set: a folder of images by class, or a file of labels. Originals are only read."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from utils.errors import UserError
from utils.files import rename, write_atomically, write_csv
from utils.results.decisions import Decided
from utils.results.suspects import printable

LOCAL_FILES = "/data/local-files/?d="  # how Label Studio names files below the folder that it serves


def require_all_classes(decided: list[Decided], class_names: list[str]) -> None:
    """Raises UserError where a class would have no image left."""
    left = {one.label for one in decided}
    if empty := [name for name in class_names if name not in left]:
        raise UserError(f"no image of class {empty[0]} would be left", "raise --p_noisy or remove fewer of them")


# -- a folder ----------------------------------------------------------------------------------------------------------


def require_free(destination: Path, root: Path) -> None:
    """Raises UserError where something lies at the destination already or where it is among the originals."""
    real = Path(os.path.realpath(destination))
    if any(top == real or top in real.parents for top in tops(root)):
        raise UserError(f"{destination} lies within the originals in {root}", "choose a folder outside")
    if not os.path.lexists(destination):
        return
    if os.path.islink(destination) or not os.path.isdir(destination):
        raise UserError(f"{destination} is no folder", "choose a folder that does not exist yet")
    try:
        inside = os.listdir(destination)
    except OSError as error:
        raise UserError(f"cannot read {destination} ({error.strerror})", "choose another folder") from error
    if inside:
        raise UserError(f"{destination} is not empty", "choose a folder that does not exist yet")


def tops(root: Path) -> list[Path]:
    """Where originals may lie: below the root, and below its train/, which may be a link to elsewhere."""
    return [Path(os.path.realpath(path)) for path in (root, root / "train")]


def sources(decided: list[Decided], root: Path) -> list[Path]:
    """The original of every sample, links resolved. Raises UserError where one is missing or outside the root."""
    inside, found = tops(root), []
    for one in decided:
        if "\0" in one.sample.file:
            raise UserError(f"{one.sample.file!r} names no file", "export what the experiment wrote itself")
        path = Path(os.path.realpath(root / one.sample.file))
        if not any(top in path.parents for top in inside):
            raise UserError(f"{one.sample.file} lies outside {root}", "export what the experiment wrote itself")
        if not os.path.isfile(path):
            raise UserError(f"there is no {root / one.sample.file}", "bring it back, or say --train_root FOLDER")
        found.append(path)
    return found


def write_folder(decided: list[Decided], root: Path, destination: Path, copy: bool) -> int:
    """destination/<class>/<file> of what was not removed; how many are hard links, the others are copies.

    Hard links where the file system allows them, unless `copy`. Made beside the destination and renamed at the end, so
    that it appears whole or not at all. A name that its class has already gets a number.
    """
    kept = [one for one in decided if one.label is not None]
    originals = sources(kept, root)
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        linked = 0
        for original, name in zip(originals, names_of(kept), strict=True):
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            linked += _place(original, target, copy)
        if hasattr(os, "sync"):  # not on Windows; a single call for thousands of files
            os.sync()
        with contextlib.suppress(FileNotFoundError):
            destination.rmdir()  # an empty one, which Windows does not replace
        rename(temporary, destination)
    except OSError as error:
        raise UserError(
            f"cannot write {destination} ({error.strerror or error})", "free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return linked


def _place(original: Path, target: Path, copy: bool) -> bool:
    """Whether it became a hard link; another disk, or a file system without them, gets a copy."""
    if not copy:
        with contextlib.suppress(OSError):
            os.link(original, target)
            return True
    shutil.copy2(original, target)
    return False


def names_of(kept: list[Decided]) -> list[str]:
    """<class>/<path below the old class folder> of every sample, all different, also where case does not count.

    Who keeps its class keeps its name.
    """
    files = [PurePosixPath(one.sample.file) for one in kept]
    split = all(file.parts[0] == "train" and len(file.parts) > 2 for file in files)  # ROOT/train/<class>/...
    names, taken = [""] * len(kept), set()
    for k in sorted(range(len(kept)), key=lambda k: kept[k].relabelled):
        inside = PurePosixPath(kept[k].label, *files[k].parts[2 if split else 1 :])
        if inside.is_absolute() or ".." in inside.parts:
            raise UserError(f"{inside} would lie outside the folder", "export what the experiment wrote itself")
        name, number = inside, 1
        while str(name).casefold() in taken:
            number += 1
            name = inside.with_name(f"{inside.stem}_{number}{inside.suffix}")
        taken.add(str(name).casefold())
        names[k] = str(name)
    return names


# -- a file of labels ----------------------------------------------------------------------------------------------


def require_new(file: Path) -> None:
    """Raises UserError where a file is there already, which may be anything, or where its folder is not."""
    if os.path.lexists(file):
        raise UserError(f"{file} exists already", "choose another name or remove it")
    if not os.path.isdir(file.parent):
        raise UserError(f"there is no folder {file.parent}", "make it first")


def write_labels(decided: list[Decided], unlabelled: list[str], file: Path) -> None:
    """A csv as --labels takes it: file and label, which is empty where the image was removed, or was `unlabelled`.

    sample_id in place of file where the images are no files.
    """
    column = "file" if all(one.sample.file for one in decided) else "sample_id"
    rows = [{column: getattr(one.sample, column), "label": one.label or ""} for one in decided]
    rows += [{column: name, "label": ""} for name in unlabelled]
    write_csv(file, rows, (column, "label"))


def write_label_studio(
    decided: list[Decided], class_names: list[str], root: Path, file: Path, model_version: str
) -> list[str]:
    """The tasks that Label Studio imports, the worst first, each with its label as a prediction; what it needs, to say.

    Label Studio takes no folder as local storage that is itself the one whose files it serves, so images are named
    from the folder that holds `root` on. Raises UserError where one is missing or outside the root.
    """
    root, kept = Path(os.path.abspath(root)), [one for one in decided if one.label is not None]
    sources(kept, root)
    tasks = [_task(one, root.name, model_version) for one in kept]
    text = json.dumps(tasks, indent=1) + "\n"
    write_atomically(file, lambda handle: handle.write(text.encode()))
    choices = "".join(f"<Choice value={quoteattr(printable(name))}/>" for name in class_names)
    return [
        "Label Studio has to be started with",
        "  LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true",
        f"  LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={shlex.quote(str(root.parent))}",
        "and the project needs, as local storage and as labelling interface,",
        f"  {root}",
        f'  <View><Image name="image" value="$image"/><Choices name="label" toName="image">{choices}</Choices></View>',
    ]


def _task(one: Decided, folder_name: str, model_version: str) -> dict[str, Any]:
    sample = one.sample
    choice = {"from_name": "label", "to_name": "image", "type": "choices"}
    return {
        "data": {
            "image": LOCAL_FILES + quote(os.fsencode(f"{folder_name}/{sample.file}")),
            "file": printable(sample.file),
            "label_given": printable(sample.label),
            "p_noisy": sample.p_noisy,
        },
        "predictions": [
            {
                "model_version": model_version,
                "score": round(one.score, 4),
                "result": [choice | {"value": {"choices": [printable(one.label)]}}],
            }
        ],
    }

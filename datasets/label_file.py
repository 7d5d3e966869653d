"""Labels from a file, in place of those that came with the training images.

FILE.csv       a header `file,label` and a row for each image of a folder (file as in suspects.csv: below the root, with
               forward slashes); for the other sets `sample_id,label` (position in the training split, from 0). Labels
               are names of classes; an empty one leaves the image out.
FILE.npy       whole numbers (N,), 0..C-1, the classes in their order, one for each image in the set's order
FILE.npz:KEY   such an array among others

The truth beside them is what the set itself says, where its own labels are trusted; a csv may bring another in a third
column `true_label`, where an empty one means that the image belongs to no class (-1).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.image_set import NO_CLASS, ImageSet
from utils.errors import UserError

SHOWN = 20  # class names and keys in a message
UNLABELLED = "has no label in"  # and the file: why an image is left out


def with_labels(image_set: ImageSet, source: str, trusted: bool, partial: bool = False) -> ImageSet:
    """`image_set` with the labels that `source` names; `trusted`: its own are the truth. Raises UserError.

    What the file leaves out is left out of the images; what was left out of the images may stand in the file.
    `partial`: some of its classes alone are wanted, and a csv need not name the images of others.
    """
    file, key = source, ""
    if ".npz:" in source:
        file, _, key = source.partition(".npz:")
        file += ".npz"
    suffix = Path(file).suffix.lower()
    if suffix not in (".csv", ".npy", ".npz"):
        raise UserError(f"the labels file {file} is no .csv, .npy or .npz", "name one of these")
    content = _content(file)
    own = image_set.labels if trusted else None
    if suffix == ".csv":
        labels, truth = _Table(file, image_set).read(content, partial)
        truth = own if truth is None else truth
    else:
        labels, truth = _array(file, key, content, len(image_set), image_set.num_classes), own
    image_set = replace(
        image_set,
        labels=labels,
        clean_labels=truth,
        labels_digest=hashlib.sha256(content + key.encode(errors="surrogateescape")).hexdigest()[:16],
    )
    kept = np.flatnonzero(labels != NO_CLASS)
    unlabelled = [_names(image_set)[i] for i in np.flatnonzero(labels == NO_CLASS)]
    left_out = dict(image_set.left_out) | dict.fromkeys(unlabelled, f"{UNLABELLED} {source}")
    return replace(image_set.take(kept), left_out=left_out)


def _content(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no labels file {file}", "check its name") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} ({error})", "make it a readable file") from error


def _names(image_set: ImageSet) -> Sequence[str]:
    """What a csv calls the images: by file, or by sample id."""
    return image_set.file_names or [str(i) for i in image_set.sample_ids.tolist()]


# -- arrays ----------------------------------------------------------------------------------------------------------


def _array(file: str, key: str, content: bytes, samples: int, classes: int) -> np.ndarray:
    """int64 (N,) from a .npy, or from the array `key` of a .npz."""
    found = _load(file, key, content)
    if found.dtype.kind not in "iu":
        raise UserError(f"{file} holds {found.dtype}, not whole numbers", "save class numbers, 0 for the first class")
    if found.shape != (samples,):
        shape = f"{len(found)} labels" if found.ndim == 1 else f"an array of shape {found.shape}"
        raise UserError(f"{file} holds {shape} for {samples} images", "give one label for each, in the set's order")
    wrong = np.flatnonzero((found < 0) | (found >= classes))
    if len(wrong):
        first = wrong[0]
        raise UserError(
            f"{file} holds {len(wrong)} labels outside 0 to {classes - 1}, the first {found[first]} of image {first}",
            f"give each image one of the {classes} classes",
        )
    return found.astype(np.int64)


def _load(file: str, key: str, content: bytes) -> np.ndarray:
    """Never unpickled."""
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        if key in loaded.files:
            return loaded[key]
        keys = loaded.files
    except Exception as error:  # numpy's readers raise many kinds
        pickled = "Object arrays" in str(error) or "pickle" in str(error)
        remedy = "save numbers, no Python objects" if pickled else "save it with np.save or np.savez"
        raise UserError(f"{file} is not a readable array ({error})", remedy) from error
    listed = ", ".join(keys[:SHOWN])
    if key:
        raise UserError(f"{file} holds no {key!r}", f"name one of its arrays: {listed}")
    raise UserError(f"{file} holds several arrays", f"name one as {file}:KEY, of {listed}")


# -- tables ----------------------------------------------------------------------------------------------------------


class _Table:
    """A csv of labels for the images of a set."""

    def __init__(self, file: str, image_set: ImageSet) -> None:
        self.file = file
        self.by = "sample_id" if image_set.file_names is None else "file"
        self.names = _names(image_set)
        self.position = {name: i for i, name in enumerate(self.names)}
        self.left_out = image_set.left_out
        self.class_names = image_set.class_names
        self.number = {name: c for c, name in enumerate(image_set.class_names)} | {"": NO_CLASS}

    def read(self, content: bytes, partial: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels and, where there is a column `true_label`, the truth: int64 (N,), -1 where empty.

        Unless it is `partial`, each image needs a row.
        """
        text = content.decode("utf-8-sig", errors="surrogateescape")  # file names may be no UTF-8
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        found = np.full((len(self.names), 2), NO_CLASS, dtype=np.int64)
        line_of: dict[str, int] = {}
        try:
            header = [column.strip() for column in next(rows, [])]
            columns = self._columns(header)
            for row in rows:
                if row:
                    self._take(row, rows.line_num, columns, line_of, found)
        except csv.Error as error:
            raise UserError(f"{self.file}, line {rows.line_num}: {error}", "mend the csv") from error
        missing = [name for name in self.names if name not in line_of]
        if missing and not partial:
            raise UserError(
                f"{self.file} lacks {len(missing)} of {len(self.names)} images, the first {missing[0]!r}",
                "give each a row; an empty label leaves the image out",
            )
        return found[:, 0].copy(), found[:, 1].copy() if len(columns) == 3 else None

    def _columns(self, header: list[str]) -> list[int]:
        """Where image, label and perhaps truth stand in a row."""
        wanted = [self.by, "label", "true_label"]
        if set(header) not in ({*wanted[:2]}, {*wanted}) or len(set(header)) < len(header):
            raise UserError(
                f"{self.file} begins with {','.join(header)!r}, not with a header",
                f"make the first line {self.by},label, or {self.by},label,true_label where the truth is known",
            )
        return [header.index(column) for column in wanted if column in header]

    def _take(self, row: list[str], line: int, columns: list[int], line_of: dict[str, int], found: np.ndarray) -> None:
        """Put the labels of one row into `found` (N, 2)."""
        where = f"{self.file}, line {line}"
        if len(row) != len(columns):
            raise UserError(f"{where}: {len(row)} fields, not {len(columns)}", "quote names that hold a comma")
        name, *labels = (row[column] for column in columns)
        if name in line_of:
            raise UserError(f"{where}: {name!r} again, after line {line_of[name]}", "keep one row for each image")
        line_of[name] = line
        for label in labels:
            if label not in self.number:
                known = ", ".join(self.class_names[:SHOWN]) + (" ..." if len(self.class_names) > SHOWN else "")
                raise UserError(f"{where}: there is no class {label!r}", f"choose from {known}")
        if name in self.position:
            found[self.position[name], : len(labels)] = [self.number[label] for label in labels]
        elif name not in self.left_out:
            raise UserError(f"{where}: there is no image {name!r}", f"name them like {self.names[0]!r}, or remove it")

"""Files that appear whole or not at all, room for them, and maps of them."""

import contextlib
import csv
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from utils import ranks
from utils.errors import UserError


def write_atomically(
    path: str | os.PathLike,
    write: Callable[[BinaryIO], object],
    *,
    held: Callable[[Path], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> None:
    """Let `write(handle)` fill a temporary file beside `path`, flush it to disk, then rename it into place.

    A reader sees the old file or the new one, never a part, also after a power cut; once this returns, the new one.
    `held(temporary)` is entered before the temporary file is made, and left once that has its name.
    Nothing is done in a process that follows another one (utils/ranks.py).
    Raises UserError where the disk refuses (full, read-only).
    """
    if not ranks.current().leads:
        return
    path = Path(path)
    if not path.name:
        raise UserError(f"{str(path)!r} names no file", "name one")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with held(temporary):
            with open(temporary, "wb") as handle:
                write(handle)
                handle.flush()
                os.fsync(handle.fileno())
            rename(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error})", "free some space or choose a writable folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder that refused the file may refuse this too
            temporary.unlink()


def copy_atomically(source: Path, target: Path) -> None:
    """A copy of the bytes alone, as `write_atomically` writes."""
    write_atomically(target, lambda handle: handle.write(source.read_bytes()))


def rename(source: Path, target: Path) -> None:
    """Give a file or folder its name, in place of what has that; once this returns, a power cut does not undo it."""
    os.replace(source, target)
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: files made, renamed and removed there.

    The bytes of a file are not enough: its name belongs to the folder, which the system writes when it likes.
    """
    with contextlib.suppress(OSError):  # Windows opens no folders, some file systems flush none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_csv(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str] | None = None) -> None:
    """A table with those `columns`, or of all rows' in the order in which they come; blank where there is none.

    With columns the rows are written as they come: a table of a million samples is never in memory.
    """
    if columns is None:
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))

    def write(handle: BinaryIO) -> None:
        text = io.TextIOWrapper(handle, "utf-8", "surrogateescape", newline="")  # file names may be no UTF-8
        text.write(csv_line(columns))
        for row in rows:
            text.write(csv_line([row.get(column, "") for column in columns]))
        text.detach()

    write_atomically(path, write)


def csv_line(fields: Sequence[Any]) -> str:
    """Ends with a line feed. Fields with a line feed or a carriage return are quoted, as readers need both to be."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(fields)  # it quotes what holds a character of the line's end
    return text.getvalue().removesuffix("\r\n") + "\n"


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raises UserError where the disk has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what}: {needed / 1e9:.1f} GB are needed and {folder} has {free / 1e9:.1f} GB free",
            "free some space or take another --experiments_root",
        )


def let_go(array: np.ndarray) -> None:
    """Take the pages of a memory map out of this process; of any other array nothing.

    They stay in the system's cache, which gives them up when memory is short. Without this a process that has gone
    through a map counts as holding all of it.
    """
    pages = getattr(array, "_mmap", None)  # of views too
    if hasattr(pages, "madvise"):  # not on Windows
        import mmap

        pages.madvise(mmap.MADV_DONTNEED)

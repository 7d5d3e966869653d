"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError


def write_atomically(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Let `write(handle)` fill a temporary file beside `path`, flush it to disk, then rename it into place.

    A reader sees the old file or the new one, never a part. Raises UserError where the disk refuses (full, read-only).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error})", "free some space or choose a writable folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder that refused the file may refuse this too
            temporary.unlink()

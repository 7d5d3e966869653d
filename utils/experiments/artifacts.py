"""Arrays and weights on disk: written whole, never unpickled, and known again by their digests."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.experiments.format import FORMAT, KEY, require_format
from utils.files import let_go, write_atomically


def save_array(path: Path, array: np.ndarray) -> None:
    """A .npy file, readable with np.load(..., allow_pickle=False)."""
    write_atomically(path, lambda handle: np.save(handle, array, allow_pickle=False))


def load_array(path: Path, mapped: bool = False) -> np.ndarray:
    """A .npy file, never unpickled; `mapped`: it stays on the disk. Raises UserError where it is missing or damaged."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of several arrays")
        return array
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "check the name, or run the script that writes it again") from None
    except Exception as error:  # numpy's reader of damaged headers raises many kinds
        raise UserError(
            f"{path} is not a readable .npy file ({error})", "run the script that writes it again"
        ) from error


def require_kinds(entries: dict[str, Any], kinds: Mapping[str, type]) -> None:
    """Raises ValueError where `entries` lack one of `kinds` or hold something else there."""
    if missing := kinds.keys() - entries.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    for key, kind in kinds.items():
        if not isinstance(entries[key], kind):
            raise ValueError(f"its {key} is a {type(entries[key]).__name__}")


def digest(array: np.ndarray) -> str:
    """Of type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    if isinstance(array, np.memmap):  # a track, which may be larger than the memory, row by row
        for row in array:
            digest.update(row.data)
            let_go(array)
        return digest.hexdigest()[:16]
    array = np.ascontiguousarray(array)
    digest.update(array.data if array.dtype.kind in "biufc" else array.tobytes())  # dates and records have no buffer
    return digest.hexdigest()[:16]


def save_torch(path: Path, state: dict) -> None:
    """What torch.save writes, tensors, numbers and strings, with the number of its format."""
    import torch

    buffer = io.BytesIO()  # not straight into the file: torch.save hides a full disk behind a RuntimeError
    torch.save(state | {KEY: FORMAT}, buffer)
    write_atomically(path, lambda handle: handle.write(buffer.getbuffer()))


def load_torch(file: Path, kinds: Mapping[str, type], remedy: str, oldest: int = 0) -> dict[str, Any]:
    """What save_torch wrote, never unpickled, in a format from `oldest` on.

    Raises UserError where `file` is of another format, is damaged, or lacks an entry of `kinds`.
    """
    import torch

    try:
        with zipfile.ZipFile(file) as archive:  # torch.load does not look at the checksums
            if broken := archive.testzip():
                raise ValueError(f"checksum of {broken}")
        state = torch.load(file, map_location="cpu", weights_only=True)
        if isinstance(state, dict):  # else it is damaged
            require_format(state.get(KEY, 0), file, remedy, oldest)
        require_kinds(state, kinds)
        return state
    except (FileNotFoundError, UserError):
        raise
    except Exception as error:  # unpicklers and zip readers raise a dozen kinds
        raise UserError(f"{file} is damaged ({error})", remedy) from error

"""Arrays and weights on disk: written whole, never unpickled, and known again by their digests."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import let_go, write_atomically


def save_array(path: Path, array: np.ndarray) -> None:
    """A .npy file, readable with np.load(..., allow_pickle=False)."""
    write_atomically(path, lambda handle: np.save(handle, array, allow_pickle=False))


def load_array(path: Path, mapped: bool = False) -> np.ndarray:
    """A .npy file, never unpickled; `mapped`: it stays on the disk. Raises UserError where it is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "check the name, or run the script that writes it again") from None
    except Exception as error:  # numpy's reader of damaged headers raises many kinds
        raise UserError(
            f"{path} is not a readable .npy file ({error})", "run the script that writes it again"
        ) from error


def digest(array: np.ndarray) -> str:
    """Of type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    if isinstance(array, np.memmap):  # a track, which may be larger than the memory, row by row
        for row in array:
            digest.update(row.data)
            let_go(array)
    else:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def save_torch(path: Path, state: dict) -> None:
    """What torch.save writes: tensors, numbers and strings."""
    import torch

    buffer = io.BytesIO()  # not straight into the file: torch.save hides a full disk behind a RuntimeError
    torch.save(state, buffer)
    write_atomically(path, lambda handle: handle.write(buffer.getbuffer()))


def load_torch(file: Path, keys: set[str], remedy: str) -> dict[str, Any]:
    """What torch.save wrote, never unpickled. Raises UserError where `file` is damaged or lacks one of `keys`."""
    import torch

    try:
        with zipfile.ZipFile(file) as archive:  # torch.load does not look at the checksums
            if broken := archive.testzip():
                raise ValueError(f"checksum of {broken}")
        state = torch.load(file, map_location="cpu", weights_only=True)
        if missing := keys - state.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return state
    except FileNotFoundError:
        raise
    except Exception as error:  # unpicklers and zip readers raise a dozen kinds
        raise UserError(f"{file} is damaged ({error})", remedy) from error

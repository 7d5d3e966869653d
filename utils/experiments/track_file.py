"""Tracks on disk: one row per moment of training, one column per sample."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.experiments.artifacts import save_array
from utils.files import let_go, require_space


class TrackFile:
    """A (T, N) float32 array written row by row into a memory map beside its final name, and renamed when complete."""

    def __init__(self, path: Path, max_rows: int, samples: int) -> None:
        self.path, self.part = path, path.with_name(path.name + ".part")
        self.shape = (max_rows, samples)
        self.rows = 0
        self._map: np.memmap | None = None

    def require_space(self) -> None:
        already = self.part.stat().st_blocks * 512 if self.part.exists() else 0
        require_space(self.path.parent, 4 * self.shape[0] * self.shape[1] - already, self.path.name)

    def _create(self) -> np.memmap:
        """The map with all its blocks on the disk: a sparse one would die of SIGBUS once the disk is full."""
        track = np.lib.format.open_memmap(self.part, "w+", np.float32, self.shape)
        try:
            with open(self.part, "r+b") as handle:
                if hasattr(os, "posix_fallocate"):  # Linux
                    os.posix_fallocate(handle.fileno(), 0, self.part.stat().st_size)
        except OSError as error:
            self.part.unlink()
            raise UserError(f"cannot write {self.part} ({error.strerror})", "free some space") from error
        return track

    def append(self, row: np.ndarray) -> None:
        self.extend(row[None])

    def extend(self, rows: np.ndarray) -> None:
        """Several rows (R, N) at once."""
        if self._map is None:
            self.path.unlink(missing_ok=True)  # a stray one, which a resumed run would take for its own
            self._map = self._create()
        self._map[self.rows : self.rows + len(rows)] = rows
        self.rows += len(rows)

    def resume(self, rows: int) -> None:
        """Go on after `rows` rows that an interrupted run left."""
        if rows == 0:
            return
        try:
            if self.path.exists():  # interrupted after it was closed: take it back
                complete = np.load(self.path, allow_pickle=False, mmap_mode="r")
                self._create()[: len(complete)] = complete
                self.path.unlink()
            np.lib.format.open_memmap(self.part, "r")  # "r+" would lengthen a file that was cut
            self._map = np.lib.format.open_memmap(self.part, "r+")
            if self._map.shape != self.shape:
                raise ValueError(f"shape {self._map.shape} instead of {self.shape}")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.part} is damaged ({error})", "use --overwrite to start anew") from error
        self.rows = rows

    def read(self) -> np.ndarray:
        """The rows written so far, (T, N)."""
        return self._map[: self.rows]

    def flush(self) -> None:
        if self._map is not None:
            self._map.flush()
            let_go(self._map)

    def close(self) -> bool:
        """Give the complete track its name, cut to the rows that were written; False where there is none."""
        if self._map is None:
            return False
        self.flush()
        if self.rows == self.shape[0]:
            os.replace(self.part, self.path)
        else:
            save_array(self.path, self._map[: self.rows])
            self.part.unlink()
        self._map = None
        return True

"""Tracks on disk: one row per moment of training, one column per sample."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.experiments.artifacts import digest, load_array, save_array
from utils.experiments.record import Record
from utils.files import flush_folder, let_go, rename, require_space
from utils.ranks import Ranks


class LastRow:
    """What a process that follows another one (utils/ranks.py) keeps of a track in its place: the newest row."""

    def __init__(self) -> None:
        self.rows = 0
        self._last: np.ndarray | None = None

    def append(self, row: np.ndarray) -> None:
        self.extend(row[None])

    def extend(self, rows: np.ndarray) -> None:
        self.rows, self._last = self.rows + len(rows), np.array(rows[-1:])

    def resume(self, rows: int, last: np.ndarray | None) -> None:
        """Go on after `rows` rows, the last of them (1, N)."""
        self.rows, self._last = rows, last

    def read(self) -> np.ndarray:
        """The newest row, (1, N)."""
        return self._last

    def flush(self) -> None:
        """Nothing is on the disk."""

    def close(self) -> bool:
        """There is no file."""
        return False


class TrackFile:
    """A (T, N) float32 array written row by row into a memory map beside its final name, and renamed when complete."""

    def __init__(self, path: Path, max_rows: int, samples: int) -> None:
        self.path, self.part = path, path.with_name(path.name + ".part")
        self.shape = (max_rows, samples)
        self.rows = 0
        self._map: np.memmap | None = None

    def require_space(self) -> None:
        already = 0
        if self.part.exists():
            status = self.part.stat()
            already = 512 * status.st_blocks if hasattr(status, "st_blocks") else status.st_size  # not on Windows
        require_space(self.path.parent, 4 * self.shape[0] * self.shape[1] - already, self.path.name)

    def _create(self) -> np.memmap:
        """The map with all its blocks on the disk: a sparse one would die of SIGBUS once the disk is full."""
        track = np.lib.format.open_memmap(self.part, "w+", np.float32, self.shape)
        try:
            with open(self.part, "r+b") as handle:
                if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
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
                part = self._create()
                part[: len(complete)] = complete
                part.flush()
                flush_folder(self.part.parent)  # only what is on the disk under its own name may be removed elsewhere
                del complete, part  # Windows removes and renames no file that is mapped
                self.path.unlink()
            np.lib.format.open_memmap(self.part, "r")  # "r+" would lengthen a file that was cut
            self._map = np.lib.format.open_memmap(self.part, "r+")
            if self._map.shape != self.shape:
                raise ValueError(f"shape {self._map.shape} instead of {self.shape}")
            if rows > len(self._map):
                raise ValueError(f"{len(self._map)} rows, where the checkpoint counts {rows}")
        except Exception as error:  # numpy's reader of damaged headers raises many kinds
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
        complete = self.rows == self.shape[0]
        if not complete:
            save_array(self.path, self._map[: self.rows])
        self._map = None  # before the file gets another name or goes: see resume
        try:
            self._leave(complete)
        except PermissionError:  # of Windows: figures that were drawn of it are cycles, and still map it
            gc.collect()  # not always: going through all objects takes longer than a small training
            self._leave(complete)
        return True

    def _leave(self, complete: bool) -> None:
        if complete:
            rename(self.part, self.path)
        else:
            self.part.unlink()


class Tracks(dict[str, TrackFile | LastRow]):
    """Those of a run, by name; of several processes the first has the files, the others the newest rows."""

    def __init__(self, record: Record, ranks: Ranks) -> None:
        super().__init__()
        self._record, self._ranks = record, ranks

    def new(self, name: str, rows: int, samples: int) -> TrackFile | LastRow:
        """A (rows, samples) float32 track on disk; refused before the work starts where the disk has no room for it.

        Anything else that grows by rows fits too, as the features of one sample after the other.
        """
        path = self._record.own(f"{name}.npy")
        if self._ranks.leads:
            track = TrackFile(path, rows, samples)
            track.require_space()
        else:
            track = LastRow()
        self[name] = track
        return track

    def close(self, name: str) -> None:
        """Give a complete track its final name and its digest."""
        if self[name].close():
            self._record["digests"][name] = digest(load_array(self[name].path, mapped=True))

    def resume(self, rows: Mapping[str, int]) -> None:
        """Go on after as many rows as are named of each; others than those there are do not matter."""
        for name, track in self.items():
            if name not in rows:
                continue
            if self._ranks.leads:
                track.resume(rows[name])
            last = self._ranks.from_first(lambda file=track, n=rows[name]: np.array(file.read()[-1:]) if n else None)
            if not self._ranks.leads:
                track.resume(rows[name], last)

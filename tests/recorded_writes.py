"""Run a script and keep, moment by moment, what lies below a folder and what of it was flushed to the disk.

python3 tests/recorded_writes.py ROOT TRACE KILL_AT SCRIPT [FLAG ...]    it is killed when a file KILL_AT appears

A moment is taken before every file that is opened for writing, made, renamed or removed, and after every flush. Works
on any system: it listens to Python's own audit events and wraps the calls that flush. Imports nothing of ours.

TRACE/moments.jsonl has a line for each: "names" {id of a folder: {name: id}}, "bytes" {id of a file: digest}, "flushed"
(an id, "all", or null). Ids stay with files and folders when these are renamed; the root's is 0. TRACE/DIGEST holds the
bytes.
"""

import contextlib
import hashlib
import json
import os
import runpy
import signal
import stat
import sys
import threading
from pathlib import Path

import numpy as np

CHANGING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


class Recorder:
    def __init__(self, root: Path, trace: Path, kill_at: str) -> None:
        self.root, self.trace, self.kill_at = os.path.realpath(root), trace, kill_at
        self.lines = open(trace / "moments.jsonl", "w")  # noqa: SIM115 (held until the script ends)
        self.ids: dict[int, int] = {os.stat(root).st_ino: 0}  # of the inodes there were at the last moment
        self.count = 0
        self.known: dict[int, tuple[tuple, str]] = {}  # by inode: time and size, digest
        self.last: dict | None = None
        self.working = threading.RLock()
        self.within = False

    def hear(self, event: str, args: tuple) -> None:
        """An audit hook: what is about to happen."""
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self.concerns(path):
                self.moment()
        elif event in CHANGING and self.concerns(args[0]):
            self.moment()

    def concerns(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(self.root)

    def flushed(self, inode: int) -> None:
        with self.working:
            self.moment()  # where something appeared just now
            if inode in self.ids:
                self.moment(self.ids[inode])

    def moment(self, flushed: int | str | None = None) -> None:
        with self.working:
            if self.within:  # by what this opens itself
                return
            self.within = True
            try:
                now = self.look()
                if now != self.last or flushed is not None:
                    self.lines.write(json.dumps(now | {"flushed": flushed}) + "\n")
                    self.lines.flush()
                    self.last = now
                if any(self.kill_at in names for names in now["names"].values()):
                    os.kill(os.getpid(), signal.SIGKILL)
            finally:
                self.within = False

    def look(self) -> dict:
        """Names and bytes below the root; an inode that was free a moment ago is a new file."""
        ids, names, found = {os.stat(self.root).st_ino: 0}, {}, {}
        folders = [(self.root, 0)]
        while folders:
            folder, of_folder = folders.pop()
            names[of_folder] = {}
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                with contextlib.suppress(FileNotFoundError):  # another thread's
                    status = os.stat(entry.path, follow_symlinks=False)
                    if status.st_ino not in ids:
                        if status.st_ino not in self.ids:
                            self.count += 1
                            self.known.pop(status.st_ino, None)
                        ids[status.st_ino] = self.ids.get(status.st_ino, self.count)
                    one = names[of_folder][entry.name] = ids[status.st_ino]
                    if stat.S_ISDIR(status.st_mode):
                        folders.append((entry.path, one))
                    else:
                        found[one] = self.digest(entry.path, status)
        self.ids = ids
        return {"names": names, "bytes": found}

    def digest(self, path: str, status: os.stat_result) -> str:
        """Of the bytes, which are kept."""
        mark = (status.st_mtime_ns, status.st_size)
        if not path.endswith(".part") and self.known.get(status.st_ino, (None,))[0] == mark:  # maps change unseen
            return self.known[status.st_ino][1]
        content = Path(path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:24]
        if not (self.trace / digest).exists():
            (self.trace / digest).write_bytes(content)
        self.known[status.st_ino] = mark, digest
        return digest


def listen(recorder: Recorder) -> None:
    fsync, sync, flush = os.fsync, getattr(os, "sync", None), np.memmap.flush

    def fsync_heard(file: int) -> None:
        fsync(file)
        recorder.flushed(os.fstat(file).st_ino)

    def sync_heard() -> None:
        sync()
        recorder.moment()
        recorder.moment("all")

    def flush_heard(array: np.memmap) -> None:
        flush(array)
        if array.filename is not None:
            recorder.flushed(os.stat(array.filename).st_ino)

    os.fsync, np.memmap.flush = fsync_heard, flush_heard
    if sync is not None:
        os.sync = sync_heard
    sys.addaudithook(recorder.hear)


def main() -> None:
    root, trace, kill_at, *sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    recorder = Recorder(Path(root), Path(trace), kill_at or "/")
    recorder.moment()
    listen(recorder)
    try:
        if sys.argv[0].endswith(".py"):
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:  # python3 -m
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        recorder.moment()


if __name__ == "__main__":
    main()

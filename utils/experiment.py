"""The experiment folder: settings, scores, tracks, history, checkpoints, log; whole files, one owner, resumable.

experiments/<name>/run.json  what ran, on what, how long, and its final figures ("status" is "finished" last of all)
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shlex
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from utils.errors import Stopped, UserError
from utils.files import write_atomically

if TYPE_CHECKING:
    from utils.training import Progress

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
OWN_FILES = (  # run.json first: it vouches for the rest
    "run.json",
    "*.npy",
    "*.npy.part",
    "*.pt",
    "*.png",
    "*.csv",
    "log.txt",
)
CHECKPOINTS = ("checkpoint.pt", "checkpoint_previous.pt")  # newest first
OF_NO_RUN = ("checkpoint*.pt", "*.npy.part", "input_*.npy")  # what no fresh start may mistake for its own
CHECKPOINT_KEYS = {"phase", "seconds", "seconds_of_phases", "parts", "history", "track_rows"}
RECORD_KEYS = {"script", "method", "command", "status", "settings", "data", "seconds", "figures"}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib")
NOT_COMPARED = {"overwrite", "compare", "cuda_dev", "checkpoint_every", "experiment_name", "experiments_root"}


class Experiment:
    """One named folder under `root`; use as a context manager, which holds the lock and catches stop signals."""

    def __init__(self, root: str | os.PathLike, name: str) -> None:
        if not NAME_PATTERN.fullmatch(name):
            raise UserError(
                f"experiment name {name!r} is not usable",
                "take letters, digits, '.', '_' and '-', not starting with a dot",
            )
        self.path = Path(root) / name
        self.name = name
        self.record: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.tracks: dict[str, Track] = {}
        self._signum: int | None = None
        self._checkpoint: dict[str, Any] | None = None

    # -- opening and closing ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, script: str, method: str, settings: dict[str, Any], overwrite: bool = False) -> Iterator[Experiment]:
        """Own the folder: lock it, compare settings with what is there, resume or start, catch Ctrl-C and SIGTERM.

        Raises UserError where another process holds the folder or other settings were used under this name.
        """
        settings = json.loads(json.dumps(settings, default=str, sort_keys=True))
        self._overwrite = overwrite
        with self._locked():
            self._before = set(self.path.iterdir())
            if (self.path / "run.json").exists() and not overwrite:
                self.record = read_record(self.path)
                self._require_same(script, settings)
                if self.finished:  # killed before it tidied up
                    with contextlib.suppress(OSError):
                        self._remove_checkpoints()
                elif self.record["data"] is not None:
                    self._load_checkpoint()
            else:
                words = [script, *(word for word in sys.argv[1:] if word != "--overwrite")]
                self.record = {
                    "script": script,
                    "method": method,
                    "command": shlex.join(words),
                    "status": "running",
                    "settings": settings,
                    "data": None,
                    "seconds": {},
                    "figures": {},
                    "digests": {},
                    "versions": versions(),
                    "started": now(),
                }
            for leftover in self.path.glob(".*.[0-9]*.tmp"):  # of a process that was killed while it wrote
                with contextlib.suppress(OSError):
                    leftover.unlink()
            try:
                with self._stop_signals():
                    yield self
            except Exception:
                self._forget_failed_start()
                raise

    def begin(self, data: dict[str, Any], **entries: Any) -> None:
        """Call once the inputs have been read and found good: only now is a used folder cleared and run.json written.

        Raises UserError where a run that is to be resumed began with other data or entries.
        """
        used = {key: self.record.get(key) for key in ("data", *entries)}
        if used["data"] is None:
            record = self.path / "run.json"
            if record.exists():  # of a run to be overwritten, or of one killed at this point
                self._write_record()  # without data: it no longer vouches for the files
                self._remove(OWN_FILES, keep={record})
            else:
                self._remove(OF_NO_RUN)
            self._before = set(self.path.iterdir()) - {record}
            self.update(data=data, **entries)
        elif differing := differences(json.loads(json.dumps({"data": data, **entries})), used):
            raise UserError(
                f"what the unfinished run in {self.path} worked on has changed: {differing}",
                "bring it back, or use --overwrite to start anew",
            )

    def _forget_failed_start(self) -> None:
        """A run that failed before it trained anything leaves nothing that a corrected command would trip over."""
        if not (self.history or self.record["seconds"] or self.finished or self._checkpoints()):
            self._remove(OWN_FILES, keep=self._before)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = open(self.path / ".lock", "w")  # noqa: SIM115 (held until the run ends)
        except OSError as error:
            if self._only_to_be_read():
                yield
                return
            raise UserError(
                f"cannot write {self.path} ({error.strerror})", "choose a writable --experiments_root"
            ) from error
        with handle:
            try:
                # The system drops this lock with the process, however that ends.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"another process is working in {self.path}", "wait for it or take another --experiment_name"
                ) from None
            yield

    def _only_to_be_read(self) -> bool:
        """Whether a finished run lies here that is not to be overwritten: its figures are shown without a lock."""
        with contextlib.suppress(UserError):
            return not self._overwrite and read_record(self.path)["status"] == "finished"
        return False

    def _remove(self, patterns: tuple[str, ...], keep: set[Path] = frozenset()) -> None:
        for pattern in patterns:
            for file in set(self.path.glob(pattern)) - keep:
                try:
                    file.unlink()
                except OSError as error:
                    raise UserError(f"cannot remove {file} ({error.strerror})", "make the folder writable") from error

    def _require_same(self, script: str, settings: dict[str, Any]) -> None:
        if self.record["script"] != script:
            raise UserError(f"{self.path} was made by {self.record['script']}", "take another --experiment_name")
        now, used = ({key: value for key, value in flags.items() if key not in NOT_COMPARED}
                     for flags in (settings, self.record["settings"]))  # fmt: skip
        if differing := differences(now, used):
            raise UserError(
                f"{self.path} holds a run with other settings: {differing}",
                "take another --experiment_name, or --overwrite to start anew",
            )

    @contextlib.contextmanager
    def _stop_signals(self) -> Iterator[None]:
        def request(signum: int, _frame: object) -> None:
            if self._signum is not None:  # asked twice: do not wait for the step
                raise Stopped(signum, self.record["command"])
            self._signum = signum
            print("\nstopping after this step (again: at once)", file=sys.stderr, flush=True)

        previous = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def load_own(self, name: str) -> np.ndarray:
        """`name`.npy that this run saved. Raises UserError where it is no longer what was saved."""
        return load_recorded(self.record | {"path": self.path}, name)

    @property
    def finished(self) -> bool:
        return self.record.get("status") == "finished"

    def finish(self, figures: dict[str, Any]) -> None:
        """The last write of a run: its figures, then the status that readers wait for."""
        for track in self.tracks.values():
            track.close()
        for file in self.path.glob("*_track.npy"):
            self.record.setdefault("digests", {})[file.stem] = digest(np.load(file, allow_pickle=False, mmap_mode="r"))
        self.write_csv("history.csv", self.history)
        self.record["figures"] = {key: value for key, value in figures.items() if value is not None}
        others = [r for r in records(self.path.parent) if r["status"] == "finished"]
        # Newest = the highest number, whatever the clock says.
        self.record["finish_number"] = 1 + max((r.get("finish_number", 0) for r in others), default=0)
        self.record |= {"status": "finished", "finished": now()}
        self._write_record()
        self._remove_checkpoints()

    # -- files --------------------------------------------------------------------------------------------------

    def update(self, **entries: Any) -> None:
        """Set entries of run.json."""
        self.record |= entries
        self._write_record()

    def _write_record(self) -> None:
        text = json.dumps(self.record, indent=1, default=float) + "\n"
        write_atomically(self.path / "run.json", lambda handle: handle.write(text.encode()))

    def save_array(self, name: str, array: np.ndarray) -> None:
        """`name`.npy, readable with np.load(..., allow_pickle=False); its digest goes into run.json."""
        self.record.setdefault("digests", {})[name] = digest(array)
        write_atomically(self.path / f"{name}.npy", lambda handle: np.save(handle, array, allow_pickle=False))

    def save_torch(self, name: str, state: dict) -> None:
        import torch

        buffer = io.BytesIO()  # not straight into the file: torch.save hides a full disk behind a RuntimeError
        torch.save(state, buffer)
        write_atomically(self.path / name, lambda handle: handle.write(buffer.getbuffer()))

    def add_history(self, **row: Any) -> None:
        """A row for history.csv; written with the next checkpoint."""
        self.history.append({key: (round(v, 6) if isinstance(v, float) else v) for key, v in row.items()})

    def write_csv(self, name: str, rows: list[dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(
            self.path / name, lambda handle: handle.write(text.getvalue().encode(errors="surrogateescape"))
        )

    def latest(self) -> str:
        """The figures of the newest history row, for a bar or a log line."""
        row = self.history[-1]
        return ", ".join(f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float))

    def show(self, bar: tqdm, done: int) -> None:
        """Move a bar to `done` and put the newest loss and AUC beside it."""
        row = self.history[-1]
        shown = {key: row[key] for key in row if key in ("train_loss", "mean_loss") or key.startswith("auc_")}
        bar.set_postfix({key: f"{value:.3f}" for key, value in shown.items() if value is not None}, refresh=False)
        bar.update(done - bar.n)

    def log(self, line: str) -> None:
        """A line in log.txt and on the terminal, above any progress bar."""
        self.log_quietly(line)
        tqdm.write(line)

    def log_quietly(self, line: str) -> None:
        try:
            with open(self.path / "log.txt", "a") as handle:
                handle.write(f"{now()} {line}\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path / 'log.txt'} ({error.strerror})", "free some space") from error

    def require_space_for_tracks(self, rows: int, samples: int) -> None:
        """Call before the work. Raises UserError where the disk has no room for that many rows of tracks in all."""
        if not self.history:  # of a resumed run a part is there already
            require_space(self.path, 4 * rows * samples, "the tracks")

    def new_track(self, name: str, rows: int, samples: int) -> Track:
        """A (rows, samples) float32 track on disk; refused before the work starts where the disk has no room for it."""
        track = Track(self.path / f"{name}.npy", rows, samples)
        track.require_space()
        self.tracks[name] = track
        return track

    # -- checkpoints --------------------------------------------------------------------------------------------

    def save_checkpoint(self, phase: str, parts: dict[str, Any], seconds: float) -> None:
        """Everything that `restore` needs to go on from here; `parts` are objects with a state_dict().

        The checkpoint before it is kept until the next one.
        """
        for track in self.tracks.values():
            track.flush()
        self.write_csv("history.csv", self.history)
        newest, previous = (self.path / name for name in CHECKPOINTS)
        self.save_torch(
            "checkpoint_new.pt",
            {
                "phase": phase,
                "seconds": seconds,
                "seconds_of_phases": self.record["seconds"],
                "parts": {name: part.state_dict() for name, part in parts.items()},
                "history": self.history,
                "track_rows": {name: track.rows for name, track in self.tracks.items()},
            },
        )
        if newest.exists():
            os.replace(newest, previous)
        os.replace(self.path / "checkpoint_new.pt", newest)

    def _checkpoints(self) -> list[Path]:
        return [self.path / name for name in CHECKPOINTS if (self.path / name).exists()]

    def _remove_checkpoints(self) -> None:
        for file in self.path.glob("checkpoint*.pt"):
            file.unlink()

    def _load_checkpoint(self) -> None:
        """The newest checkpoint, or where that is damaged the one before it, which then becomes the newest."""
        damaged = []
        for file in self._checkpoints():
            try:
                self._checkpoint = load_torch(file, CHECKPOINT_KEYS, "use --overwrite to start anew")
            except UserError as error:
                damaged.append(error)
                continue
            self.history = self._checkpoint["history"]
            if damaged:
                os.replace(file, self.path / CHECKPOINTS[0])
                self.record["seconds"] = self._checkpoint["seconds_of_phases"]  # what was done since is done again
                self.log(f"{damaged[0].what}; going back to the checkpoint before it")
            return
        if damaged:
            raise damaged[0]

    def restore(self, phase: str, parts: dict[str, Any]) -> float | None:
        """Load the checkpoint of `phase` into `parts`, tracks and history; the seconds spent, or None without one."""
        if self._checkpoint is None or self._checkpoint["phase"] != phase:
            return None
        for name, part in parts.items():
            part.load_state_dict(self._checkpoint["parts"][name])
        for name, rows in self._checkpoint["track_rows"].items():
            if name in self.tracks:
                self.tracks[name].resume(rows)
        seconds = self._checkpoint["seconds"]
        self._checkpoint = None
        return seconds

    @contextlib.contextmanager
    def phase(self, name: str, parts: dict[str, Any]) -> Iterator[Phase]:
        """A resumable piece of work: restores `parts` on entry, records its seconds in run.json on a clean exit."""
        spent = self.restore(name, parts)
        if spent is not None:
            self.log(f"{name}: going on from the checkpoint")
        phase = Phase(self, name, parts, spent or 0.0)
        yield phase
        self.record["seconds"][name] = round(phase.seconds, 2)
        self._write_record()

    def skip_phase(self, name: str) -> None:
        """Count a phase as done whose results came from elsewhere."""
        self.record["seconds"][name] = 0.0
        self.save_checkpoint(name, {}, 0.0)
        self._write_record()

    def done(self, phase: str) -> bool:
        return phase in self.record["seconds"]


class Phase:
    """A phase's epoch loop with its bar, its checkpoints, and its stop between two steps when a signal came."""

    def __init__(self, experiment: Experiment, name: str, parts: dict[str, Any], spent: float) -> None:
        self._experiment, self._name, self._parts = experiment, name, parts
        self._start = time.monotonic() - spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def epochs(self, total: int, *progresses: Progress) -> Iterator[int]:
        """The epochs (from 0) left of `total`; after each the progresses move on and a checkpoint is saved."""
        with tqdm(total=total, initial=progresses[0].epoch, desc=self._name, unit="epoch", disable=None) as self._bar:
            while progresses[0].epoch < total:
                yield progresses[0].epoch
                for progress in progresses:
                    progress.next_epoch()
                self.checkpoint()

    def add_epoch(self, **row: Any) -> None:
        """A history row at the end of an epoch, with its line in log.txt and on the bar."""
        self._experiment.add_history(**row)
        self._experiment.show(self._bar, row["epoch"])
        self._experiment.log_quietly(f"{self._name}: epoch {row['epoch']}, {self._experiment.latest()}")

    def checkpoint(self) -> None:
        self._experiment.save_checkpoint(self._name, self._parts, self.seconds)
        self.stop_if_asked(checkpointed=True)

    def stop_if_asked(self, checkpointed: bool = False) -> None:
        """Call between two steps. Raises Stopped after saving a checkpoint where a stop signal came."""
        signum = self._experiment._signum
        if signum is not None:
            if not checkpointed:
                self._experiment.save_checkpoint(self._name, self._parts, self.seconds)
            raise Stopped(signum, self._experiment.record["command"])


class Track:
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
        if self._map is None:
            self._map = self._create()
        self._map[self.rows] = row
        self.rows += 1

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

    def close(self) -> None:
        """Give the complete track its name, cut to the rows that were written."""
        if self._map is None:
            return
        self.flush()
        if self.rows == self.shape[0]:
            os.replace(self.part, self.path)
        else:
            write_atomically(self.path, lambda handle: np.save(handle, self._map[: self.rows], allow_pickle=False))
            self.part.unlink()
        self._map = None


def require_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what}: {needed / 1e9:.1f} GB are needed and {folder} has {free / 1e9:.1f} GB free",
            "free some space or take another --experiments_root",
        )


# -- reading what other runs left ------------------------------------------------------------------------------------


def read_record(path: Path) -> dict[str, Any]:
    """run.json of an experiment folder. Raises UserError where it is missing or damaged."""
    try:
        record = json.loads((path / "run.json").read_text())
        if missing := RECORD_KEYS - record.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return record
    except FileNotFoundError:
        raise UserError(
            f"{path} is no experiment folder (no run.json)", "check the name and --experiments_root"
        ) from None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path / 'run.json'} is damaged ({error})", "remove the folder or run with --overwrite"
        ) from error


def records(root: Path) -> list[dict[str, Any]]:
    """The readable records under `root`, each with its "path"; damaged folders are passed over."""
    found = []
    for file in sorted(Path(root).glob("*/run.json")):
        with contextlib.suppress(UserError):
            found.append(read_record(file.parent) | {"path": file.parent})
    return found


def read_finished(root: str | os.PathLike, name: str) -> dict[str, Any]:
    """The record of a finished experiment, with its "path". Raises UserError for any other."""
    path = Experiment(root, name).path
    record = read_record(path)
    if record["status"] != "finished":
        raise UserError(f"{path} is not finished", f"finish it first: python3 {record['command']}")
    return record | {"path": path}


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


def load_recorded(record: dict[str, Any], name: str) -> np.ndarray:
    """`name`.npy of the run with this record and "path". Raises UserError where it is not what the run wrote."""
    file = record["path"] / f"{name}.npy"
    array = load_array(file)
    if record.get("digests", {}).get(name) not in (None, digest(array)):
        raise UserError(
            f"{file} is not what {record['script']} wrote there: it is damaged or was changed",
            "run that experiment again with --overwrite, or give ssl.py your own scores with --scores FILE",
        )
    return array


def digest(array: np.ndarray) -> str:
    """Of type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def load_array(path: Path) -> np.ndarray:
    """A .npy file, never unpickled. Raises UserError where it is missing or damaged."""
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "check the name, or run the script that writes it again") from None
    except Exception as error:  # numpy's reader of damaged headers raises many kinds
        raise UserError(
            f"{path} is not a readable .npy file ({error})", "run the script that writes it again"
        ) from error


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What differs between two sets of entries, "" for nothing; entries of entries are compared one by one."""
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(key), theirs.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            found += [differences(here, there)] if here != there else []
        elif here != there:
            found.append(f"{key} {there!r} there, {here!r} here")
    return "; ".join(found)


def versions(*more: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""The experiment folder: one owner, whole files, resumable.

experiments/<name>/run.json  what ran, on what, how long, and its final figures ("status" is "finished" last of all)
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from utils import ranks
from utils.errors import Diverged, Stopped, UserError
from utils.experiments.artifacts import save_torch
from utils.experiments.log import Log
from utils.experiments.phase import Phase
from utils.experiments.record import Record, differences, experiment_path, next_finish_number, now, require_same_data
from utils.experiments.run_state import RunState
from utils.experiments.stop_request import StopRequest
from utils.files import flush_folder, require_space, write_csv

NOT_COMPARED = {
    "overwrite", "estimate", "compare", "compare_to_forgetting", "cuda_dev", "images_on", "checkpoint_every",
    "experiment_name", "experiments_root",
}  # fmt: skip
ROUNDING = {"eval_batch_size", "nn_memory_gb", "threads"}  # by what the machine has; they change bytes, no result
PATHS = {"train_root", "second_stage_root", "ood_root", "labels", "weights", "scores"}
# What None means of a flag, so that whoever says it now goes on with a run of then.
UNSAID = {"track_from": "passes"}
COMPARED_IF_GIVEN = {"epoch_2nd"}  # by default once 10, where as a rule --steps_total came first, and later no bound


class Experiment:
    """One named folder under `root`; use as a context manager, which holds the lock and catches stop signals.

    Of several processes (utils/ranks.py) the first one owns it; the others read what that has read, and write nothing.
    `compared_with`: the record of an experiment that this one is to be compared with; other data are refused early.
    """

    def __init__(self, root: str | os.PathLike, name: str, compared_with: Record | None = None) -> None:
        self.path, self.name = experiment_path(root, name), name
        self.record = Record(self.path, {})
        self.ranks = ranks.current()
        self.state = RunState(self.record, self.ranks)
        self.history, self.tracks = self.state.history, self.state.tracks
        self.stop = StopRequest("")
        self._compared_with = compared_with
        self._rounding = ""  # what differs from the run that is gone on with, and changes its bytes alone
        self._before: set[Path] = set()  # what lay here before this process wrote anything

    # -- opening and closing ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(
        self,
        script: str,
        method: str,
        settings: dict[str, Any],
        overwrite: bool = False,
        given: dict[str, Any] | None = None,
    ) -> Iterator[Experiment]:
        """Own the folder: lock it, compare settings with what is there, resume or start, catch Ctrl-C and SIGTERM.

        `given`: the settings that were asked for (None = all). The others are what a run had that was begun before
        there were such.
        Raises UserError where another process holds the folder or other settings were used under this name.
        """
        settings = json.loads(json.dumps(settings, default=str, sort_keys=True))
        given = settings if given is None else json.loads(json.dumps(given, default=str))
        if not self.ranks.leads:
            with self._following():
                yield self
            return
        with locked(self.path, may_only_read=not overwrite):
            for folder in self.path.parents:  # some of which may be new
                flush_folder(folder)
            self._before = set(self.path.iterdir())
            if (self.path / "run.json").exists() and not overwrite:
                self._take_up(script, settings, given)
            else:
                self.record.entries = Record.new(self.path, script, method, settings, given).entries
                with contextlib.suppress(UserError):  # none, or a damaged one, which vouches for nothing
                    self.record.entries["files"] = [file.name for file in Record.read(self.path).own_files()]
            for leftover in self.path.glob(".*.[0-9]*.tmp"):  # of a process that was killed while it wrote
                with contextlib.suppress(OSError):
                    leftover.unlink()
            self.stop = StopRequest(self.record["command"])
            self.state.tell()
            try:
                with self.stop:
                    yield self
            except (Exception, Stopped) as error:
                if not self._has_work:
                    self._forget_failed_start()
                elif isinstance(error, Stopped | Diverged) and not self.finished:
                    with contextlib.suppress(UserError):  # where the disk is full
                        self.log.quietly(str(error))  # a mere refusal writes nothing
                raise

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """Take over what the process that owns the folder found there."""
        self.state.tell()
        self.stop = StopRequest(self.record["command"])
        with self.stop:
            yield

    def _take_up(self, script: str, settings: dict[str, Any], given: dict[str, Any]) -> None:
        """Read what an earlier process left of this run."""
        self.record.entries = Record.read(self.path).entries
        self.record.entries.setdefault("files", [file.name for file in self.record.own_files()])
        require_same_settings(self.record, script, settings, given)
        if self.finished:  # killed before it tidied up
            with contextlib.suppress(OSError):
                self.state.checkpoints.remove()
        elif self.record["data"] is not None and (damaged := self.state.load()) is not None:
            self.log(f"{damaged}; going back to the checkpoint before it")
        known = ROUNDING & settings.keys() & self.record["settings"].keys()
        rounding = ({key: flags[key] for key in known} for flags in (settings, self.record["settings"]))
        self._rounding = differences(*rounding)

    def begin(self, data: dict[str, Any], **entries: Any) -> None:
        """Call once the inputs have been read and found good: only now is a used folder cleared and run.json written.

        Raises UserError where a run that is to be resumed began with other data or entries.
        """
        if self._compared_with is not None:
            require_same_data(data, self._compared_with["data"], self._compared_with.path.name)
        used = {key: self.record.get(key) for key in ("data", *entries)}
        if used["data"] is None:
            if self.ranks.leads:
                self._clear()
            self.record.update(data=data, files=[], **entries)
        elif differing := differences(json.loads(json.dumps({"data": data, **entries})), used):
            raise UserError(
                f"what the unfinished run in {self.path} worked on has changed: {differing}",
                "bring it back, or use --overwrite to start anew",
            )
        elif self._rounding:  # said here: a refusal writes nothing
            self.log(f"begun with other settings: {self._rounding}: the bytes will differ")

    def _clear(self) -> None:
        """Remove what an earlier run left."""
        if (self.path / "run.json").exists():  # of a run to be overwritten, or of one killed at this point
            self.record.write()  # without data: it no longer vouches for the files
            remove(self.record.own_files())
        self.state.checkpoints.remove()  # no fresh start takes a stray one for its own
        self._before = set(self.path.iterdir()) - {self.path / "run.json"}

    @property
    def bytes_to_remove(self) -> int:
        """Of the files of an earlier run, which `begin` will remove."""
        return 0 if self.resuming else sum(file.stat().st_size for file in self.record.own_files())

    def _forget_failed_start(self) -> None:
        """A run that failed before it trained anything leaves nothing that a corrected command would trip over."""
        made = [self.path / "run.json", *self.record.own_files()]  # run.json first: it vouches for the rest
        remove([file for file in made if file.exists() and file not in self._before])

    @property
    def _has_work(self) -> bool:
        """Whether anything was trained, by whatever process."""
        return bool(self.history.rows or self.record["seconds"] or self.finished or self.state.checkpoints)

    @property
    def finished(self) -> bool:
        return self.record.finished

    @property
    def resuming(self) -> bool:
        """Whether an earlier process had read the inputs and begun."""
        return self.record["data"] is not None

    @property
    def log(self) -> Log:
        return Log(self.record)

    def finish(self, figures: dict[str, Any]) -> None:
        """The last write of a run: its figures, then the status that readers wait for."""
        for name in self.tracks:
            self.tracks.close(name)
        self.history.write(self.record.own("history.csv"))
        self.record.update(
            figures={key: value for key, value in figures.items() if value is not None},
            finish_number=next_finish_number(self.path.parent),  # whatever the clock says
            status="finished",
            finished=now(),
        )
        self.state.checkpoints.remove()

    # -- files --------------------------------------------------------------------------------------------------

    def save_array(self, name: str, array: np.ndarray) -> None:
        """`name`.npy, readable with np.load(..., allow_pickle=False); its digest goes into run.json."""
        self.record.save_array(name, array)

    def save_torch(self, name: str, state: dict) -> None:
        save_torch(self.record.own(name), state)

    def write_csv(self, name: str, rows: Iterable[dict[str, Any]], columns: Sequence[str] | None = None) -> None:
        write_csv(self.record.own(name), rows, columns)

    def require_space_for_tracks(self, rows: int, samples: int) -> None:
        """Call before the work. Raises UserError where the disk has no room for that many rows of tracks in all."""
        if not self.history.rows:  # of a resumed run a part is there already
            require_space(self.path, 4 * rows * samples - self.bytes_to_remove, "the tracks")

    # -- phases -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def phase(self, name: str, parts: dict[str, Any]) -> Iterator[Phase]:
        """A resumable piece of work: restores `parts` on entry, records its seconds in run.json on a clean exit."""
        spent = self.state.restore(name, parts)
        if spent is not None:
            self.log(f"{name}: going on from the checkpoint")
        phase = Phase(self, name, parts, spent or 0.0)
        yield phase
        self.record["seconds"][name] = round(phase.seconds, 2)
        self.record.write()
        self.ranks.wait()  # from here on all may read what the phase wrote

    def skip_phase(self, name: str) -> None:
        """Count a phase as done whose results came from elsewhere."""
        self.record["seconds"][name] = 0.0
        self.state.save(name, {}, 0.0)
        self.record.write()
        self.ranks.wait()

    def done(self, phase: str) -> bool:
        """Of a phase that another one follows: the last one is always entered, and takes up what is not yet closed."""
        return phase in self.record["seconds"]


def require_same_settings(record: Record, script: str, settings: dict[str, Any], given: dict[str, Any]) -> None:
    """Raises UserError where the run of `record` is another script's or had other settings.

    One that its record lacks, since it was begun before there was that flag, had the default.
    """
    if record["script"] != script:
        raise UserError(f"{record.path} was made by {record['script']}", "take another --experiment_name")
    given_there = record["settings"] if record.get("given") is None else record["given"]  # an early record
    not_compared = NOT_COMPARED | ROUNDING | (settings.keys() - given.keys() - record["settings"].keys())
    not_compared |= COMPARED_IF_GIVEN - given.keys() - given_there.keys()
    here, there = (
        {key: value for key, value in spelt_out(flags).items() if key not in not_compared}
        for flags in (settings, record["settings"])
    )
    if differing := differences(here, there):
        remedy = "take another --experiment_name, or --overwrite to start anew"
        if record.finished and differences(here | {"report": None}, there | {"report": None}) == "":
            remedy = f"python3 -m utils.page {record.path} --report N makes the page anew"
        raise UserError(f"{record.path} holds a run with other settings: {differing}", remedy)


def spelt_out(settings: dict[str, Any]) -> dict[str, Any]:
    """Paths in one spelling; in the place of None what it means, where that is a value that can be given."""

    def spelt(key: str, value: Any) -> Any:
        if value is None:
            return UNSAID.get(key)
        return os.path.normpath(value) if key in PATHS and isinstance(value, str) else value

    return {key: spelt(key, value) for key, value in settings.items()}


def remove(files: list[Path]) -> None:
    for file in files:
        try:
            file.unlink()
        except OSError as error:
            raise UserError(f"cannot remove {file} ({error.strerror})", "make the folder writable") from error


def is_finished(path: Path) -> bool:
    """Whether a finished run lies in a folder."""
    with contextlib.suppress(UserError):
        return Record.read(path).finished
    return False


@contextlib.contextmanager
def locked(path: Path, may_only_read: bool) -> Iterator[None]:
    """Make the folder and hold it against other processes; `may_only_read`: a finished run needs no lock.

    Raises UserError where another process holds it or it cannot be written.
    """
    lock = FileLock(path / ".lock")  # which the system drops with the process, however that ends
    try:
        made = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"another process is working in {path}", "wait until it has ended, or take another experiment"
        ) from None
    except OSError as error:
        if not (may_only_read and is_finished(path)):  # else its figures are shown all the same
            remedy = "choose a writable --experiments_root"
            raise UserError(f"cannot write {path} ({error.strerror})", remedy) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            if made and [file.name for file in path.iterdir()] == [".lock"]:  # by a command that was refused
                (path / ".lock").unlink()
                path.rmdir()
        lock.release()  # nothing where it was not got

"""Where a run is: the rows of its history and its tracks, and the parts of its phase in checkpoints."""

from __future__ import annotations

from typing import Any

from utils.experiments.checkpoints import Checkpoints
from utils.experiments.history import History
from utils.experiments.record import Record
from utils.experiments.track_file import Tracks
from utils.ranks import Ranks


class RunState:
    """That of the run with this record; of several processes the first one writes it and the others are told."""

    def __init__(self, record: Record, ranks: Ranks) -> None:
        self.history, self.tracks = History(), Tracks(record, ranks)
        self.checkpoints = Checkpoints(record.path)
        self._record, self._ranks = record, ranks
        self._restorable: dict[str, Any] | None = None  # the checkpoint that a phase will go on from

    def load(self) -> str | None:
        """Read the newest checkpoint, or where that is damaged the one before it: then what was damaged.

        What was done since the one before is done again.
        """
        self._restorable, damaged = self.checkpoints.load()
        if self._restorable is None:
            return None
        self.history.rows = self._restorable["history"]
        if damaged is not None:
            self._record.entries["seconds"] = self._restorable["seconds_of_phases"]
        return damaged

    def tell(self) -> None:
        """All processes go on from what the first one has read."""
        told = (self._record.entries, self.history.rows, self._restorable)
        self._record.entries, self.history.rows, self._restorable = self._ranks.told(told, 0)

    def save(self, phase: str, parts: dict[str, Any], seconds: float) -> None:
        """Everything that `restore` needs to go on from here; `parts` are objects with a state_dict()."""
        if not self._ranks.leads:
            return
        for track in self.tracks.values():
            track.flush()
        self.history.write(self._record.own("history.csv"))
        self.checkpoints.save({
            "phase": phase,
            "seconds": seconds,
            "seconds_of_phases": self._record["seconds"],
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "history": self.history.rows,
            "track_rows": {name: track.rows for name, track in self.tracks.items()},
        })  # fmt: skip

    def restore(self, phase: str, parts: dict[str, Any]) -> float | None:
        """Load the checkpoint of `phase` into `parts` and tracks; the seconds spent, or None where there is none."""
        state = self._restorable
        if state is None or not (state["phase"] == phase or state["phase"] in self._record["seconds"]):
            return None
        self.tracks.resume(state["track_rows"])  # also of a phase before, whose tracks this one goes on with
        self._restorable = None
        if state["phase"] != phase:
            return None
        self.checkpoints.load_parts(state, parts)
        return state["seconds"]

    def go_back(self, phase: str, parts: dict[str, Any]) -> bool:
        """Put `parts` where the last whole epoch of `phase` left them; False where no checkpoint tells."""
        found = self.checkpoints.load_last_epoch(phase, parts)
        self._ranks.wait()  # before rank 0 writes the next one
        return found

"""Checkpoints of a run: the newest, and the one before it until the newest is known to be whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.experiments.artifacts import load_torch, save_torch
from utils.experiments.format import FORMAT, other_version
from utils.files import flush_folder, rename

NEWEST, PREVIOUS, UNFINISHED = "checkpoint.pt", "checkpoint_previous.pt", "checkpoint_new.pt"
KINDS = {
    "phase": str, "seconds": float, "seconds_of_phases": dict, "parts": dict, "history": list, "track_rows": dict
}  # fmt: skip
ANEW = "use --overwrite to start anew"


class Checkpoints:
    """The checkpoint files of one experiment folder; each holds tensors, numbers and strings only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest, self._previous, self._unfinished = (folder / name for name in (NEWEST, PREVIOUS, UNFINISHED))
        self._newest_at = self._previous_at = ("", ())  # see _moment

    def __bool__(self) -> bool:
        return bool(self._present())

    def _present(self) -> list[Path]:
        return [file for file in (self._newest, self._previous) if file.exists()]

    def save(self, state: dict[str, Any]) -> None:
        """Make `state` the newest; the one before it is kept until the next call.

        One between two epochs is kept until the next epoch is over: where that diverges the training goes back there.
        """
        save_torch(self._unfinished, state)
        phase, within = at = _moment(state)
        stays = within and at == self._newest_at and self._previous_at == (phase, ())
        if self._newest.exists() and not stays:
            os.replace(self._newest, self._previous)
            self._previous_at = self._newest_at
        rename(self._unfinished, self._newest)
        self._newest_at = at

    def load(self) -> tuple[dict[str, Any] | None, str | None]:
        """(the newest whole state or None, what was damaged or None); going back makes the older one the newest.

        Raises UserError where there are checkpoints but none is whole and of this version's format.
        """
        damaged: list[UserError] = []
        for file in self._present():
            try:
                state = read(file)
            except UserError as error:
                damaged.append(error)
                continue
            if damaged:
                rename(file, self._newest)
            self._newest_at = _moment(state)
            if self._newest_at[1] and self._previous.exists():
                with contextlib.suppress(UserError):
                    self._previous_at = _moment(read(self._previous))
            return state, damaged[0].what if damaged else None
        if damaged:
            raise damaged[0]
        return None, None

    def load_last_epoch(self, phase: str, parts: dict[str, Any]) -> bool:
        """Put `parts` where the last whole epoch of `phase` left them; False where no readable state tells."""
        for file in self._present():
            with contextlib.suppress(UserError):
                state = read(file)
                if _moment(state) == (phase, ()):  # within an epoch its weights may be broken already
                    self.load_parts(state, parts)
                    return True
        return False

    def load_parts(self, state: dict[str, Any], parts: dict[str, Any]) -> None:
        """Put `parts` where `state` found them. Raises UserError where it lacks something that they need."""
        try:
            for name, part in parts.items():
                part.load_state_dict(state["parts"][name])
        except Exception as error:  # networks, optimisers and trackers raise half a dozen kinds
            lack = f"lacks {error}" if isinstance(error, KeyError) else f"does not fit ({error})"
            raise other_version(f"{self._newest} {lack}", ANEW) from error  # its format should have been raised

    def remove(self) -> None:
        """For good: one that came back after a power cut would be taken for the next run's."""
        for file in (*self._present(), self._unfinished):
            file.unlink(missing_ok=True)
        flush_folder(self._folder)


def read(file: Path) -> dict[str, Any]:
    """What `save` wrote. Raises UserError where it is damaged."""
    state = load_torch(file, KINDS, ANEW, FORMAT)
    if not all(isinstance(row, dict) for row in state["history"]):
        raise UserError(f"{file} is damaged (its history has no columns)", ANEW)
    if not all(type(rows) is int and rows >= 0 for rows in state["track_rows"].values()):
        raise UserError(f"{file} is damaged (the rows of its tracks are no numbers)", ANEW)
    return state


def _moment(state: dict[str, Any]) -> tuple[str, tuple]:
    """The phase of a state, and the epoch, of each progress, that it is within: () between two epochs."""
    parts = state["parts"].items()
    progresses = [part for name, part in parts if str(name).startswith("progress") and isinstance(part, dict)]
    within = any(part.get("step") for part in progresses)
    return state["phase"], tuple(part.get("epoch") for part in progresses) if within else ()

"""A phase: a resumable piece of a run, with its bar, its checkpoints, and its stop between two steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from utils.errors import Diverged

if TYPE_CHECKING:
    from utils.experiments.experiment import Experiment


class Progress(Protocol):
    """Where a training is, as far as a phase moves it on."""

    epoch: int

    def next_epoch(self) -> None: ...


class Phase:
    """`parts`: {name: object with state_dict() and load_state_dict()}, all that a checkpoint keeps of the work."""

    def __init__(self, experiment: Experiment, name: str, parts: dict[str, Any], spent: float) -> None:
        self._experiment, self._name, self._parts = experiment, name, parts
        self._start = time.monotonic() - spent
        self._bar: tqdm | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def epochs(
        self, total: int, *progresses: Progress, before: int = 0, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[int]:
        """The epochs (from 0) left of `total`; after each the progresses move on and a checkpoint is saved.

        `before`: epochs of earlier phases, which the history counts on from. `enough`: whether to end sooner, asked
        before each epoch.
        """
        with self.bar(before + total, before + progresses[0].epoch, "epoch"):
            while progresses[0].epoch < total and not enough():
                yield progresses[0].epoch
                for progress in progresses:
                    progress.next_epoch()
                self.checkpoint()

    def bar(self, total: int, done: int, unit: str) -> tqdm:
        """A progress bar on a terminal, for `show` to move; use as a context manager."""
        self._bar = tqdm(total=total, initial=done, desc=self._name, unit=unit, disable=None)
        return self._bar

    def show(self, done: int) -> None:
        """Move the bar to `done`, with the newest loss and AUCs beside it."""
        self._bar.set_postfix(self._experiment.history.highlights(), refresh=False)
        self._bar.update(done - self._bar.n)

    def add_epoch(self, **row: Any) -> None:
        """A history row at the end of an epoch, with its line in log.txt and on the bar."""
        history = self._experiment.history
        history.add(**row)
        self.show(row["epoch"])
        self._experiment.log.quietly(f"{self._name}: epoch {row['epoch']}, {history.latest()}")

    def checkpoint(self) -> None:
        """Save where the phase is; then stop where a signal came."""
        self._experiment.state.save(self._name, self._parts, self.seconds)
        self._experiment.stop.raise_if_asked()

    @contextlib.contextmanager
    def until_divergence(self) -> Iterator[None]:
        """Around the epochs: where the network diverges after a whole one, they end with it and the run goes on."""
        try:
            yield
        except Diverged as error:
            if not self._experiment.state.go_back(self._name, self._parts):
                raise
            self._experiment.log(f"{self._name}: {error.what}: going on with what was found until the epoch before")

    def stop_if_asked(self, before: Callable[[], None] = lambda: None) -> None:
        """Call between two steps. Raises Stopped after `before` and a checkpoint where a stop signal came."""
        if self._experiment.stop.asked():
            before()
            self.checkpoint()

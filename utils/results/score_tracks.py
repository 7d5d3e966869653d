"""A set of scores followed over time: a track on the disk for each, a row per pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.experiments.history import history_columns
from utils.results.track_figures import track_figure
from utils.scoring.metrics import auc


@dataclass(frozen=True)
class TrackedScore:
    """A score of every sample at each tracked moment."""

    name: str  # of the score; auc_NAME in the history
    track: str  # TRACK.npy
    label: str | None  # of its panel in a figure; None = not drawn


class ScoreTracks:
    """`scores` in the order of their history columns; `max_rows` moments at most; `is_noisy` bool (N,) or None."""

    def __init__(
        self,
        experiment: Experiment,
        scores: Sequence[TrackedScore],
        max_rows: int,
        samples: int,
        is_noisy: np.ndarray | None,
    ) -> None:
        self.scores, self._experiment, self._is_noisy = scores, experiment, is_noisy
        self._tracks = {score.name: experiment.tracks.new(score.track, max_rows, samples) for score in scores}

    @property
    def rows(self) -> int:
        return next(iter(self._tracks.values())).rows

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        """A row of every score, (N,) by name; what is not followed is passed over."""
        for name, track in self._tracks.items():
            track.append(values[name])

    def last(self, rows: int | None = None) -> dict[str, np.ndarray]:
        """{name: float32 (N,)} of the newest row, or of the newest of the first `rows`."""
        return {name: np.array(track.read()[:rows][-1]) for name, track in self._tracks.items()}

    def aucs(self) -> dict[str, float | None]:
        """{auc_NAME: of the newest row}; None where the truth is unknown."""
        return {f"auc_{name}": auc(track.read()[-1], self._is_noisy) for name, track in self._tracks.items()}

    def read(self) -> dict[str, np.ndarray]:
        """{name: float32 (T, N)} of the rows so far."""
        return {name: track.read() for name, track in self._tracks.items()}

    def close(self) -> None:
        for score in self.scores:
            self._experiment.tracks.close(score.track)


def draw_tracks(
    experiment: Experiment,
    data: NoisyData,
    name: str,
    title: str,
    scores: Sequence[TrackedScore],
    tracks: Mapping[str, np.ndarray],
    rows: list[dict],
    x: str = "epoch",
    xlabel: str = "epoch",
    means: Mapping[str, str] | None = None,
    marks: Mapping[str, float] | None = None,
) -> None:
    """The figure `name`: medians, quartiles and AUCs over time, a panel per score.

    tracks: {name: (T, N)}; rows: T rows of the history, whose column `x` holds the points in time; `means`: {name:
    column of its mean}.
    """
    drawn = {score.label: score.name for score in scores if score.label is not None}
    track_figure(
        experiment.record.own(name),
        {label: tracks[name] for label, name in drawn.items()},
        data.is_noisy,
        [int(row[x]) for row in rows],
        xlabel,
        title,
        data.choice.in_words(),
        aucs=history_columns(rows, {label: f"auc_{name}" for label, name in drawn.items()}),
        means=history_columns(rows, {label: means[name] for label, name in drawn.items() if name in (means or {})}),
        marks=marks,
    )

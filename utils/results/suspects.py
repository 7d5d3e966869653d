"""The list of suspects: every sample, the most likely mislabelled first, with the label that it may have instead.

One table, on plain arrays, from which both suspects.csv and suspects.html are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.image_set import NO_CLASS

SUSPECT_FROM = 0.5  # p_noisy from which a label is called wrong
LEAST_SHOWN, MOST_SHOWN = 1000, 20_000  # rows of a page whose length nobody asked for


@dataclass(frozen=True)
class Suspects:
    """N rows, the worst first; row k is the sample at position `positions[k]` of the data set.

    `suggested` is the most probable class under the posterior of the true class, for a suspect the most probable one
    beside its label; `confidence` is its posterior probability. So of a row that is no suspect the suggestion is, as a
    rule, the label itself, and the column as a whole may be taken for better labels. `other` and `other_confidence` are
    of the most probable class beside the label, for every row.
    """

    class_names: tuple[str, ...]  # C names
    positions: np.ndarray  # int64 (N,)
    sample_ids: np.ndarray  # int64 (N,)
    files: tuple[str, ...] | None  # N paths below the data's root, with forward slashes; None where images are no files
    labels: np.ndarray  # int64 (N,), the label given, 0..C-1
    suggested: np.ndarray  # int64 (N,), 0..C-1
    confidence: np.ndarray  # float32 (N,) in [0, 1]
    other: np.ndarray  # int64 (N,), 0..C-1
    other_confidence: np.ndarray  # float32 (N,) in [0, 1]
    p_noisy: np.ndarray  # float32 (N,) in [0, 1]
    twin_names: tuple[str, ...]  # N files or sample ids: what shows the same under another label; "" = nothing
    true_labels: np.ndarray | None  # int64 (N,), -1 = belongs to no class; None where the truth is unknown
    scores: dict[str, np.ndarray]  # each (N,), higher = more likely mislabelled

    @classmethod
    def ranked(
        cls,
        *,
        class_names: Sequence[str],
        sample_ids: np.ndarray,
        files: Sequence[str] | None,
        labels: np.ndarray,
        true_labels: np.ndarray | None,
        scores: Mapping[str, np.ndarray],
        p_noisy: np.ndarray,
        posterior: np.ndarray,
        twin_of: np.ndarray,
    ) -> Suspects:
        """Ranked by the first of the scores; all arrays in the data set's order.

        `posterior` (N, C): of the true class, given label and predictions. `twin_of` int64 (N,): of the picture
        that shows the same under another label the position, -1 = none. Equal scores keep the data set's order.
        """
        order = np.argsort(-next(iter(scores.values())), kind="stable")
        other = likeliest_other(labels, posterior)
        suggested = np.where(p_noisy >= SUSPECT_FROM, other, posterior.argmax(axis=1))
        row = np.arange(len(labels))
        names = sample_ids if files is None else files
        return cls(
            class_names=tuple(class_names),
            positions=order,
            sample_ids=sample_ids[order],
            files=None if files is None else tuple(files[i] for i in order),
            labels=labels[order],
            suggested=suggested[order],
            confidence=posterior[row, suggested][order].astype(np.float32),
            other=other[order],
            other_confidence=posterior[row, other][order].astype(np.float32),
            p_noisy=p_noisy[order],
            twin_names=tuple("" if twin_of[i] < 0 else str(names[twin_of[i]]) for i in order),
            true_labels=None if true_labels is None else true_labels[order],
            scores={name: values[order] for name, values in scores.items()},
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_suspect(self) -> np.ndarray:
        """bool (N,): whether the label is more likely wrong than right."""
        return self.p_noisy >= SUSPECT_FROM

    def true_name(self, k: int) -> str:
        """The true class of row k, "" where it belongs to none; only where the truth is known."""
        return "" if self.true_labels[k] == NO_CLASS else self.class_names[self.true_labels[k]]

    def shown(self, report: int | None) -> np.ndarray:
        """int64 (K,), ascending: the rows that a page shows.

        `report` many, the first ones; None = all suspects, filled up with the first others to LEAST_SHOWN, at most
        MOST_SHOWN.
        """
        if report is not None:
            return np.arange(min(report, len(self)))
        suspects, others = np.flatnonzero(self.is_suspect), np.flatnonzero(~self.is_suspect)
        return np.sort(np.concatenate([suspects[:MOST_SHOWN], others[: max(0, LEAST_SHOWN - len(suspects))]]))

    def rows_of(self, positions: np.ndarray) -> np.ndarray:
        """The rows, int64, of the samples at those positions of the data set, an array of any shape."""
        row = np.empty(len(self), dtype=np.int64)
        row[self.positions] = np.arange(len(self))
        return row[positions]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Of suspects.csv, one after the other."""
        return (self._row(k) for k in range(len(self)))

    @property
    def columns(self) -> list[str]:
        return list(self._row(0))

    def _row(self, k: int) -> dict[str, Any]:
        row: dict[str, Any] = {"sample_id": self.sample_ids[k]}
        if self.files is not None:
            row["file"] = self.files[k]
        row["label"] = self.class_names[self.labels[k]]
        row |= {name: f"{values[k]:.6g}" for name, values in self.scores.items()}
        row["p_noisy"] = f"{self.p_noisy[k]:.4f}"
        row["is_suspect"] = int(self.p_noisy[k] >= SUSPECT_FROM)
        row["suggested_label"] = self.class_names[self.suggested[k]]
        row["confidence"] = f"{self.confidence[k]:.4f}"
        row["twin"] = self.twin_names[k]
        if self.true_labels is not None:
            row["true_label"] = self.true_name(k)
        return row


def likeliest_other(labels: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """int64 (N,): the most probable class but the label, of `posterior` (N, C)."""
    others = posterior.copy()
    others[np.arange(len(labels)), labels] = -1  # below every probability
    return others.argmax(axis=1)


def printable(name: str) -> str:
    """A file name as a page can hold it: bytes that are no UTF-8 become U+FFFD, one each."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)

"""Choosing among scores, and among the moments of a training, without the truth: by errors planted among the labels.

A small share of the labels is changed on purpose before the training (--plant; trained_labels.npy). Which of them
are wrong is known, so how well a score tells them from the rest estimates how well it tells the wrong labels that
nobody knows. A planted sample is never reported for its planted label: its own one is scored by the predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata

from utils.scoring.metrics import auc
from utils.scoring.planted import MIN_PLANTED, planted_auc

STANDARD_ERRORS = 3.0  # by which a change must show: of hundreds of candidates the best is mostly luck


@dataclass(frozen=True)
class Candidate:
    """A score at one moment, by the observed labels and by those that the network was trained on.

    The two differ at planted samples only. float32 (N,), higher = more likely mislabelled.
    """

    observed: np.ndarray
    trained: np.ndarray

    def with_rank_of(self, other: Candidate) -> Candidate:
        """The mean rank of both, in (0, 1]."""
        return Candidate(mean_rank(self.observed, other.observed), mean_rank(self.trained, other.trained))


def mean_rank(*scores: np.ndarray) -> np.ndarray:
    """float32 (N,): mean over scores (N,) of the rank divided by N; ties share their mean rank."""
    return (np.mean([rankdata(values) for values in scores], axis=0) / len(scores[0])).astype(np.float32)


class ScoreChoice:
    """Keeps the best candidate so far.

    `how`: proxy  the newest of the first-named candidate, until another one, or an earlier moment, tells the planted
                  errors from all others better by more than `STANDARD_ERRORS` of the difference
           last   the newest of the first-named candidate
           oracle the best by the true labels: a bound for evaluation, never a result
    `planted_ids` int64 (P,), None where nothing was planted: then, and where they are too few, proxy keeps the default.
    So it does once `unlike` is set: wrong labels are drawn otherwise than the planted ones, which speak for none of
    them. `is_noisy` bool (N,) is for the oracle alone.
    """

    def __init__(self, how: str, planted_ids: np.ndarray | None, is_noisy: np.ndarray | None) -> None:
        few = planted_ids is None or len(planted_ids) < MIN_PLANTED
        self.how = "default" if how == "proxy" and few else how
        self._planted, self._is_noisy, self.unlike = planted_ids, is_noisy, False
        self.name, self.moment, self.criterion = "", "", -1.0
        self.best: Candidate | None = None

    def consider(self, moment: str, candidates: Mapping[str, Candidate], *, default: bool = True) -> dict[str, float]:
        """Look at the candidates {name: scores} of a moment; {planted_auc_NAME: criterion} for the history.

        `default`: the first-named one stands unless another is clearly better; else all must be clearly better.
        """
        criteria = {name: self._criterion(candidate) for name, candidate in candidates.items()}
        for place, (name, candidate) in enumerate(candidates.items()):
            if self._replaces(candidate, criteria[name], first=place == 0, default=default):
                self.take(name, moment, candidate)
        return {f"planted_auc_{name}": value for name, value in criteria.items()} if self.how == "proxy" else {}

    def take(self, name: str, moment: str, candidate: Candidate) -> None:
        """This one, whatever was best."""
        self.name, self.moment, self.criterion, self.best = name, moment, self._criterion(candidate), candidate

    def _replaces(self, candidate: Candidate, criterion: float, first: bool, default: bool) -> bool:
        if self.how in ("last", "default") or (self.how == "proxy" and self.unlike):
            return first and (default or self.how == "last")
        if self.best is None or self.how == "oracle":
            return criterion > self.criterion
        gain = self._placements(candidate) - self._placements(self.best)  # (P,)
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
        if first and default:
            return gain.mean() >= -STANDARD_ERRORS * error
        return gain.mean() > STANDARD_ERRORS * error

    def _placements(self, candidate: Candidate) -> np.ndarray:
        """float64 (P,): the share of all others that each planted error scores above, ties half."""
        rest, planted = self.split(candidate)
        rest = np.sort(rest)
        return (np.searchsorted(rest, planted, "left") + np.searchsorted(rest, planted, "right")) / (2 * len(rest))

    def _criterion(self, candidate: Candidate) -> float:
        if self.how == "oracle":
            return auc(candidate.observed, self._is_noisy) or 0.0
        return 0.0 if self.how in ("last", "default") else planted_auc(*self.split(candidate))

    def _doubt(self) -> str:
        """Words where the best, by `STANDARD_ERRORS`, may be no better than a coin."""
        if self.how != "proxy":
            return ""
        found = self._placements(self.best)
        low = found.mean() - STANDARD_ERRORS * found.std(ddof=1) / np.sqrt(len(found))
        return "; perhaps no better than chance: expect nothing of it" if low <= 0.5 else ""

    def split(self, candidate: Candidate) -> tuple[np.ndarray, np.ndarray]:
        """(scores of all others (N − P,), scores of the planted errors (P,))."""
        rest = np.ones(len(candidate.trained), dtype=bool)
        rest[self._planted] = False
        return candidate.trained[rest], candidate.trained[self._planted]

    def __str__(self) -> str:
        found = f"planted errors found among all others with AUC {self.criterion:.4f}{self._doubt()}"
        by = {
            "proxy": "the default: wrong labels are not drawn like the planted ones" if self.unlike else found,
            "last": "the newest",
            "default": "the default: too few errors were planted, or none",
            "oracle": f"ORACLE: true labels found with AUC {self.criterion:.4f}",
        }[self.how]
        return f"{self.name} at {self.moment} ({by})"

    def state_dict(self) -> dict:
        best = None if self.best is None else [torch.from_numpy(a) for a in (self.best.observed, self.best.trained)]
        known = {"name": self.name, "moment": self.moment, "criterion": self.criterion, "unlike": self.unlike}
        return known | {"best": best}

    def load_state_dict(self, state: dict) -> None:
        self.name, self.moment, self.criterion = state["name"], state["moment"], state["criterion"]
        self.unlike = state.get("unlike", False)  # of an older run
        self.best = None if state["best"] is None else Candidate(*(tensor.numpy() for tensor in state["best"]))

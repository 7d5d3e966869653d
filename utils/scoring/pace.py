"""Which steps are tracked where that follows the scores: every one while they move, few while they do not."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from utils.scoring.tracking import LONGEST, STILL


class Pace:
    """The next step to track.

    Where the scores' ranks over N differ from those of the tracked step before by less than `STILL` in the mean, the
    distance to the next one doubles, up to `LONGEST`; else it is 1 again.
    """

    def __init__(self) -> None:
        self.distance, self.next = 1, 0

    def dense(self, step: int) -> None:
        """After this tracked step comes the very next one."""
        self.distance, self.next = 1, step + 1

    def follow(self, step: int, before: np.ndarray, now: np.ndarray) -> None:
        """Scores (N,) of the tracked step before this one, and of this one."""
        still = rank_change(before, now) < STILL
        self.distance = min(2 * self.distance, LONGEST) if still else 1
        self.next = step + self.distance

    def state_dict(self) -> dict[str, int]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, int]) -> None:
        vars(self).update(state)


def rank_change(before: np.ndarray, now: np.ndarray) -> float:
    """Mean absolute difference of the ranks over N of two scores (N,): 0 = the same order, 1/3 = unrelated ones."""
    return float(np.abs(rankdata(now) - rankdata(before)).mean() / len(now))

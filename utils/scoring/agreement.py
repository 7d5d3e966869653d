"""Two scores of the same samples: do they rank alike, and do they trust the same ones?"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from utils.scoring.mixture import BetaMixture
from utils.scoring.selection import lowest


@dataclass(frozen=True)
class Comparison:
    """Two scores side by side. Fractions in [0, 1], plain Python types."""

    rank_correlation: float  # Spearman's, in [-1, 1], ties at their mean rank; NaN where a score is constant
    note_a: str  # how the clean set of each score was chosen where its mixture does not fit, and why; else ""
    note_b: str
    clean_a: int  # samples in each clean set
    clean_b: int
    clean_both: int
    overlap: float  # intersection over union of the clean sets; NaN where both are empty
    # Rightly labelled share of each clean set; None where the truth is unknown or the set is empty.
    purity_a: float | None
    purity_b: float | None
    purity_both: float | None


@dataclass(frozen=True)
class End:
    """One end of two rankings: the same share of the samples at it. Fractions in [0, 1]."""

    overlap: float  # intersection over union; NaN where the share rounds to no sample
    purity_a: float | None  # rightly labelled share of it; None where the truth is unknown or it is empty
    purity_b: float | None


def compare_ends(
    scores_a: np.ndarray, scores_b: np.ndarray, share: float, is_noisy: np.ndarray | None = None
) -> tuple[End, End]:
    """The `share` of the samples with the lowest and with the highest scores (N,). Ties go by position."""

    def end(a: np.ndarray, b: np.ndarray) -> End:
        return End(_overlap(a, b), _purity(a, is_noisy), _purity(b, is_noisy))

    low, high = ([lowest(sign * scores, share) for scores in (scores_a, scores_b)] for sign in (1, -1))
    return end(*low), end(*high)


def overlap_curve(scores_a: np.ndarray, scores_b: np.ndarray) -> np.ndarray:
    """float64 (N,): intersection over union of the k lowest of both scores (N,), for k = 1 ... N.

    Ties go by position. Of the k highest: give both with the other sign.
    """
    places = np.empty((2, len(scores_a)), dtype=np.int64)
    for row, scores in zip(places, (scores_a, scores_b), strict=True):
        row[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    # A sample is among the k lowest of both once k has passed its later place.
    both = np.cumsum(np.bincount(places.max(0), minlength=len(scores_a)))
    return both / (2 * np.arange(1, len(scores_a) + 1) - both)


def compare_scores(scores_a: np.ndarray, scores_b: np.ndarray, is_noisy: np.ndarray | None = None) -> Comparison:
    """Compare finite scores (N,), higher = more likely mislabelled, of the same samples in the same order.

    What a score calls clean is p_noisy < 0.5 under its own beta mixture: more likely clean than noisy, with no setting
    to choose. Where no mixture fits, the lowest half. `is_noisy` bool (N,), None where the truth is unknown.
    """
    if len(scores_a) != len(scores_b):
        raise ValueError(f"{len(scores_a)} scores cannot be compared with {len(scores_b)}")
    (clean_a, note_a), (clean_b, note_b) = _clean_set(scores_a), _clean_set(scores_b)
    both = clean_a & clean_b
    return Comparison(
        rank_correlation=_spearman(scores_a, scores_b),
        note_a=note_a,
        note_b=note_b,
        clean_a=int(clean_a.sum()),
        clean_b=int(clean_b.sum()),
        clean_both=int(both.sum()),
        overlap=_overlap(clean_a, clean_b),
        purity_a=_purity(clean_a, is_noisy),
        purity_b=_purity(clean_b, is_noisy),
        purity_both=_purity(both, is_noisy),
    )


def _clean_set(scores: np.ndarray) -> tuple[np.ndarray, str]:
    """What one score calls clean, bool (N,), and, where that is not by the mixture, by which rule and why."""
    mixture = BetaMixture().fit(scores)
    if mixture.usable_:
        return mixture.p_noisy(scores) < 0.5, ""
    return lowest(scores, 0.5), f"lowest half ({mixture.reason_})"


def _spearman(scores_a: np.ndarray, scores_b: np.ndarray) -> float:
    if np.ptp(scores_a) == 0 or np.ptp(scores_b) == 0:  # scipy gives NaN too, with a warning
        return math.nan
    return float(spearmanr(scores_a, scores_b).statistic)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two sets, each bool (N,); NaN where both are empty."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else math.nan


def _purity(clean: np.ndarray, is_noisy: np.ndarray | None) -> float | None:
    if is_noisy is None or not clean.any():
        return None
    return float(1 - is_noisy[clean].mean())

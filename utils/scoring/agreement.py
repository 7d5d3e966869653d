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
    rule_a: str  # how the clean set of each score was chosen
    rule_b: str
    clean_a: int  # samples in each clean set
    clean_b: int
    clean_both: int
    overlap: float  # intersection over union of the clean sets; NaN where both are empty
    # Rightly labelled share of each clean set; None where the truth is unknown or the set is empty.
    purity_a: float | None
    purity_b: float | None
    purity_both: float | None


def compare_scores(scores_a: np.ndarray, scores_b: np.ndarray, is_noisy: np.ndarray | None = None) -> Comparison:
    """Compare finite scores (N,), higher = more likely mislabelled, of the same samples in the same order.

    What a score calls clean is p_noisy < 0.5 under its own beta mixture: more likely clean than noisy, with no setting
    to choose. Where no mixture fits, the lowest half. `is_noisy` bool (N,), None where the truth is unknown.
    """
    if len(scores_a) != len(scores_b):
        raise ValueError(f"{len(scores_a)} scores cannot be compared with {len(scores_b)}")
    (clean_a, rule_a), (clean_b, rule_b) = _clean_set(scores_a), _clean_set(scores_b)
    both, either = clean_a & clean_b, clean_a | clean_b
    return Comparison(
        rank_correlation=_spearman(scores_a, scores_b),
        rule_a=rule_a,
        rule_b=rule_b,
        clean_a=int(clean_a.sum()),
        clean_b=int(clean_b.sum()),
        clean_both=int(both.sum()),
        overlap=float(both.sum() / either.sum()) if either.any() else math.nan,
        purity_a=_purity(clean_a, is_noisy),
        purity_b=_purity(clean_b, is_noisy),
        purity_both=_purity(both, is_noisy),
    )


def _clean_set(scores: np.ndarray) -> tuple[np.ndarray, str]:
    """What one score calls clean, bool (N,), and by which rule."""
    mixture = BetaMixture().fit(scores)
    if mixture.usable_:
        return mixture.p_noisy(scores) < 0.5, "beta mixture, p_noisy < 0.5"
    return lowest(scores, 0.5), f"lowest half ({mixture.reason_})"


def _spearman(scores_a: np.ndarray, scores_b: np.ndarray) -> float:
    if np.ptp(scores_a) == 0 or np.ptp(scores_b) == 0:  # scipy gives NaN too, with a warning
        return math.nan
    return float(spearmanr(scores_a, scores_b).statistic)


def _purity(clean: np.ndarray, is_noisy: np.ndarray | None) -> float | None:
    if is_noisy is None or not clean.any():
        return None
    return float(1 - is_noisy[clean].mean())

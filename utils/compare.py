"""Comparison of two score vectors over the same samples: do they rank alike, and do they trust the same ones?"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from utils.selection import select_clean


@dataclass(frozen=True)
class Comparison:
    """Two scores side by side; fractions in [0, 1], plain Python types (`dataclasses.asdict` gives JSON)."""

    spearman: float | None  # rank correlation in [-1, 1], ties at their mean rank; None where a score is constant
    rule_a: str  # how the clean set of each score was chosen
    rule_b: str
    clean_a: int  # samples in each clean set
    clean_b: int
    clean_both: int
    overlap: float | None  # intersection over union of the clean sets; None where both are empty
    purity_a: (
        float | None
    )  # rightly labelled share of each clean set; None where the truth is unknown or a set is empty
    purity_b: float | None
    purity_both: float | None


def compare_scores(
    scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray, is_noisy: np.ndarray | None = None
) -> Comparison:
    """Compare finite scores (N,), higher = more likely mislabelled, of the same samples in the same order.

    What a score calls clean is p_noisy < 0.5 under its own beta mixture: more likely clean than noisy, with no setting
    to choose. Where no mixture fits, the lowest half. `labels` int64 (N,) are the observed labels, `is_noisy` bool (N,)
    the truth about them where it is known.
    """
    if not len(scores_a) == len(scores_b) == len(labels):
        raise ValueError(f"{len(scores_a)} and {len(scores_b)} scores for {len(labels)} samples")
    a, b = (
        select_clean(scores, labels, num_classes=0, use_bmm=True, bmm_th=0.5, threshold=0.5, balanced=False)
        for scores in (scores_a, scores_b)
    )
    both, either = a.clean & b.clean, a.clean | b.clean
    return Comparison(
        spearman=_spearman(scores_a, scores_b),
        rule_a=a.rule,
        rule_b=b.rule,
        clean_a=int(a.clean.sum()),
        clean_b=int(b.clean.sum()),
        clean_both=int(both.sum()),
        overlap=float(both.sum() / either.sum()) if either.any() else None,
        purity_a=_purity(a.clean, is_noisy),
        purity_b=_purity(b.clean, is_noisy),
        purity_both=_purity(both, is_noisy),
    )


def _spearman(scores_a: np.ndarray, scores_b: np.ndarray) -> float | None:
    """Pearson correlation of the ranks."""
    if np.ptp(scores_a) == 0 or np.ptp(scores_b) == 0:
        return None
    return float(np.corrcoef(rankdata(scores_a), rankdata(scores_b))[0, 1])


def _purity(clean: np.ndarray, is_noisy: np.ndarray | None) -> float | None:
    if is_noisy is None or not clean.any():
        return None
    return float(1 - is_noisy[clean].mean())

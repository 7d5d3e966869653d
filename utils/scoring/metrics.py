"""How well scores find wrong labels. Everything here needs the truth and is for evaluation only."""

from __future__ import annotations

import numpy as np


def auc(scores: np.ndarray, is_noisy: np.ndarray | None) -> float | None:
    """Area under the ROC curve of `scores` (N,), higher = more likely mislabelled, in [0, 1]; 0.5 = chance.

    None where the truth is unknown or all samples are of one kind.
    """
    if is_noisy is None or is_noisy.all() or not is_noisy.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_noisy, scores))

"""How well scores find wrong labels. Everything here needs the truth and is for evaluation only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10  # of p_noisy


@dataclass(frozen=True)
class Reliability:
    """What became of the samples with about one p_noisy, bin by bin; 0 and NaN where a bin holds none."""

    counts: np.ndarray  # int64 (BINS,), samples
    claimed: np.ndarray  # float64 (BINS,), their mean p_noisy
    wrong: np.ndarray  # float64 (BINS,), the share of them whose label is wrong

    @property
    def error(self) -> float:
        """The expected calibration error: how far claimed and wrong are apart, in [0, 1], in the mean over samples."""
        filled = self.counts > 0
        apart = np.abs(self.claimed[filled] - self.wrong[filled])
        return float(np.average(apart, weights=self.counts[filled]))


def reliability(p_noisy: np.ndarray, is_noisy: np.ndarray) -> Reliability:
    """Of `p_noisy` (N,) in [0, 1] in bins of equal width; one on the border of two belongs to the upper one."""
    p_noisy = p_noisy.astype(np.float64)
    bins = np.minimum((p_noisy * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, values, minlength=BINS) for values in (p_noisy, is_noisy))
    with np.errstate(invalid="ignore"):
        return Reliability(counts, *(one / counts for one in sums))


def vetoed(clean: np.ndarray, scores: np.ndarray, is_noisy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 (N + 1,) each: how many (wrong, right) labels of a clean set a veto of the k highest scores takes out.

    k = 0 ... N, of all samples, those outside the set too. `clean`, `is_noisy` bool (N,). Ties go by position.
    """
    order = np.argsort(-scores, kind="stable")
    taken = np.stack([clean & is_noisy, clean & ~is_noisy])[:, order]
    wrong, right = np.cumsum(np.pad(taken.astype(np.int64), ((0, 0), (1, 0))), axis=1)
    return wrong, right


def class_accuracy(probs: np.ndarray, clean_labels: np.ndarray | None) -> float | None:
    """Share of samples whose likeliest class of `probs` (N, C) is the true one, in [0, 1]; None without the truth.

    Of samples that belong to a class: for those whose true class is -1 none is right.
    """
    if clean_labels is None:
        return None
    known = clean_labels >= 0
    return float(np.mean(probs.argmax(1)[known] == clean_labels[known])) if known.any() else None


def auc(scores: np.ndarray, is_noisy: np.ndarray | None) -> float | None:
    """Area under the ROC curve of `scores` (N,), higher = more likely mislabelled, in [0, 1]; 0.5 = chance.

    None where the truth is unknown or all samples are of one kind.
    """
    if is_noisy is None or is_noisy.all() or not is_noisy.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_noisy, scores))


def aucs(name: str, scores: np.ndarray, labels: np.ndarray, clean_labels: np.ndarray | None) -> dict[str, float | None]:
    """{"auc_NAME": AUC of `scores` (N,) for finding wrong labels}, for the final figures; None as in `auc`.

    Where images belong to no class (clean label -1), also "auc_NAME_ood", of these alone, and "auc_NAME_label_noise",
    of the other wrong labels alone, both against the right labels. labels, clean_labels: int64 (N,).
    """
    if clean_labels is None:
        return {f"auc_{name}": None}
    is_noisy, is_ood = clean_labels != labels, clean_labels == -1
    found = {f"auc_{name}": auc(scores, is_noisy)}
    if is_ood.any():
        for kind, other in (("ood", is_noisy & ~is_ood), ("label_noise", is_ood)):
            found[f"auc_{name}_{kind}"] = auc(scores[~other], is_noisy[~other])
    return found

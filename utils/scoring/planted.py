"""Planted errors: a few labels are made wrong on purpose, and their scores show what wrong labels score.

A planted error is drawn like a symmetric wrong label (any sample, any other class), the network is trained on it like
on any other label, and its score is taken in the same way. So the scores of planted errors are a sample of what wrong
labels score, and no truth is touched. With f1 their density, f that of all other samples and r the share of wrong
labels among those: f = r f1 + (1 - r) f0, where only f0, that of the right labels, is unknown. It follows that
  - a score which ranks planted errors above the rest ranks wrong labels above right ones: P(planted > rest) is
    r / 2 + (1 - r) AUC, the same increasing function of the true AUC for every score (`planted_auc`);
  - r f1 <= f everywhere, so that every tail of f bounds r from above (Elkan and Noto 2008, "Learning Classifiers from
    Only Positive and Unlabeled Data", https://doi.org/10.1145/1401890.1401920; Blanchard et al. 2010,
    "Semi-Supervised Novelty Detection", https://jmlr.org/papers/v11/blanchard10a.html: the bound is met where a tail
    holds no right labels);
  - P(wrong | score) = r f1 / f.

Where it fails: wrong labels that look right. Class-dependent ones score lower than uniformly planted ones, so they
are missed: on digits under `real_in_noise` a rate of 0.19 was estimated as 0.00. Of errors planted among C classes with
a share r already wrong r / (C - 1) become right by accident, which makes the estimated rate too high by about that part
of itself. And P planted errors leave the rate a relative standard error near 1 / sqrt(P), 0.12 for 72.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

MIN_PLANTED = 10  # below it the quantiles of the planted scores mean nothing; 100 and more are wanted
QUANTILES = (0.4, 0.5, 0.6, 0.7)  # of the planted: lower ones let right labels in, higher ones leave few to count
MAX_RATE = 0.9
RIDGE = 1e-6  # on the weights of the logistic curve
STANDARD_ERRORS = 2.0  # by which the planted errors must rank above the rest


def planted_auc(rest: np.ndarray, planted: np.ndarray) -> float:
    """P(score of a planted error > score of another sample), ties half, in [0, 1]; 0.5 = chance, higher is better.

    `rest` (M,) and `planted` (P,) are scores; nan where either is empty. It ranks scores; it is not the true AUC, from
    which wrong labels among the rest pull it towards 0.5.
    """
    if len(rest) == 0 or len(planted) == 0:
        return float("nan")
    ranks = rankdata(np.concatenate([rest, planted]))[len(rest) :]
    return float((ranks.mean() - (len(planted) + 1) / 2) / len(rest))


class PlantedCalibration:
    """How probable a wrong label is at a score, from the scores of planted errors; in scikit-learn's shape.

    The rate is the lowest bound that the tails above `QUANTILES` of the planted scores give. p_noisy is the mean of two
    estimates of rate * f1 / f that err in different ways: isotonic regression of "is planted" on the score (any
    monotone shape, but in steps), and a logistic curve of the logit of the rank and its square (smooth, but of one
    shape). The curve is that of P(wrong), not of P(planted): the latter has a ceiling, where all are wrong, that no
    parabola of log-odds follows, and a fit of it left the best-separated scores too unsure.

    Learnt by `fit`:
      usable_      whether it may be used; if not, nothing but `reason_` is certain to be there
      reason_      None, or why it may not be used
      noise_rate_  share of wrong labels among the rest, in [0, MAX_RATE]
      auc_         `planted_auc`
    """

    def fit(self, rest: np.ndarray, planted: np.ndarray) -> "PlantedCalibration":
        """Fit to scores, higher = more likely mislabelled, of the planted errors (P,) and of all others (M,).

        Where they do not support a calibration `usable_` is False and `reason_` says why.
        """
        rest, planted = np.asarray(rest, dtype=np.float64), np.asarray(planted, dtype=np.float64)
        if rest.ndim != 1 or planted.ndim != 1:
            raise ValueError(f"scores must be vectors, not arrays of shapes {rest.shape} and {planted.shape}")
        self.usable_, self.reason_ = False, None
        if min(len(rest), len(planted)) < MIN_PLANTED:
            return self._give_up(f"{len(planted)} planted errors beside {len(rest)} samples are too few")
        scores = np.concatenate([rest, planted])
        if not np.isfinite(scores).all():
            return self._give_up(f"{np.count_nonzero(~np.isfinite(scores))} of {scores.size} scores are not finite")
        # Below float32's own rounding a spread means nothing.
        if scores.max() - scores.min() <= 1e-6 * np.abs(scores).max():
            return self._give_up("all scores are the same")
        self.auc_ = planted_auc(rest, planted)
        # Otherwise every tail allows a rate of 1, and everything would be called wrong.
        chance = np.sqrt((len(scores) + 1) / (12 * len(rest) * len(planted)))  # standard error of Mann-Whitney's U
        if self.auc_ < 0.5 + STANDARD_ERRORS * chance:
            return self._give_up("the planted errors do not score higher than the rest")
        self.noise_rate_ = _rate(rest, planted)
        self._learn(scores, np.arange(len(scores)) >= len(rest))
        self.usable_ = True
        return self

    def p_noisy(self, scores: np.ndarray) -> np.ndarray:
        """Probability of a wrong label, float64 (N,) in [0, 1], that never falls as the score rises.

        For samples that are not planted; linear between the scores of the fit, and constant beyond them.
        """
        if not hasattr(self, "usable_"):
            raise RuntimeError("this PlantedCalibration is not fitted; call fit first")
        if not self.usable_:
            raise RuntimeError(f"this PlantedCalibration is not usable: {self.reason_}")
        return np.interp(np.asarray(scores, dtype=np.float64), self._scores, self._p_noisy)

    def _learn(self, scores: np.ndarray, is_planted: np.ndarray) -> None:
        """p_noisy at every distinct score."""
        from sklearn.isotonic import IsotonicRegression  # here, because scikit-learn takes a second to import

        self._scores, first = np.unique(scores, return_index=True)
        if self.noise_rate_ == 0:
            self._p_noisy = np.zeros(len(self._scores))
            return
        # Ranks, so that no monotone change of the score changes a probability.
        rank = (rankdata(scores) - 0.5) / len(scores)
        isotonic = IsotonicRegression(out_of_bounds="clip").fit(rank, is_planted).predict(rank[first])
        # The share turns P(planted | score) into f1 over the density of all, the planted included. Over that of the
        # rest alone p would be higher, most of all where it is high: more samples called wrong, fewer of them rightly.
        steps = np.clip(self.noise_rate_ * isotonic / is_planted.mean(), 0, 1)
        smooth = _logistic(np.log(rank) - np.log1p(-rank), is_planted, self.noise_rate_)[first]
        self._p_noisy = np.maximum.accumulate((steps + smooth) / 2)  # the last digit may still fall

    def _give_up(self, reason: str) -> "PlantedCalibration":
        self.reason_ = reason
        return self


def _rate(rest: np.ndarray, planted: np.ndarray) -> float:
    """Lowest, over the quantiles, of the share of the rest that scores as high over that of the planted errors."""
    cuts = np.quantile(planted, QUANTILES)
    # The planted share is counted rather than taken as 1 - q, because scores may tie at the quantile.
    bounds = [np.mean(rest >= cut) / np.mean(planted >= cut) for cut in cuts]
    return float(min(*bounds, MAX_RATE))


def _logistic(x: np.ndarray, is_planted: np.ndarray, rate: float) -> np.ndarray:
    """P(wrong | x) = 1 / (1 + exp(-(a + b x + c x²))) of most likely flags, (n,), that never falls as x rises.

    A sample is planted with odds k P(wrong | x), k = planted / (rate * rest): the density ratio times their numbers.
    """
    scale = np.abs(x).max()
    features = np.stack([np.ones_like(x), x / scale, (x / scale) ** 2], axis=1)
    odds = is_planted.sum() / (rate * np.count_nonzero(~is_planted))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = features @ weights
        p = expit(z)
        value = np.logaddexp(0, -z[is_planted]).sum() + np.log1p(odds * p).sum()
        slope = (odds * p / (1 + odds * p) - is_planted) * (1 - p)
        # The ridge bounds the weights where no right label scores as high as a wrong one.
        return value + RIDGE / 2 * weights @ weights, features.T @ slope + RIDGE * weights

    start = np.array([np.log(rate / (1 - rate)), 1.0, 0.0])
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-6}
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    # Held at its peak, or before its valley, as in BetaMixture: a parabola has one of them.
    _, rise, bend = weights / [1, scale, scale**2]
    if bend:
        turn = -rise / (2 * bend)
        x = np.minimum(x, turn) if bend < 0 else np.maximum(x, turn)
    return expit(weights[0] + rise * x + bend * x * x)

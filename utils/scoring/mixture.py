"""Two-component beta mixture over per-sample scores, in scikit-learn's shape.

The model and its ten EM iterations with weighted moments are those of Arazo et al. 2019, "Unsupervised Label Noise
Modeling and Loss Correction" (https://arxiv.org/abs/1904.11238), section 3.1. The held posterior and the checks for
scores that no mixture can tell apart are this suite's.
"""

import numpy as np
from scipy.special import betaln, logsumexp, softmax

MIN_SAMPLES = 2.0  # a component that holds fewer samples than this (summed posteriors) has no variance to speak of
MIN_SEPARATION = 1.45  # EM splits a flat histogram into Beta(1, 2) and Beta(2, 1), whose separation is sqrt(2)
MAX_VALLEY = 0.9  # a valley at least a tenth lower than the lower of the peaks beside it


class BetaMixture:
    """Mixture of two beta distributions: clean samples (lower mean, column 0) and noisy ones (higher mean, column 1).

    Scores are floats (N,), higher = more likely mislabelled. They are scaled so that the `percentiles` become 0 and 1,
    and clipped to [clip, 1 - clip]; scores outside the percentiles do not take part in the fit.

    Parameters: `max_iter`, EM iterations at most (10, the published budget); `tol`, the fit ends sooner, and is
    `converged_`, once an iteration moves no sample's posterior by more than this; `percentiles`, in [0, 100]; `clip`.

    Learnt by `fit`, in units of the scaled scores:
      usable_        whether the mixture may be used; if not, nothing but `reason_` is certain to be there
      reason_        None, or why it may not be used
      low_, high_    the scores that scale to 0 and 1
      weights_, alphas_, betas_   float64 (2,), columns ordered by the components' means; the weights sum to 1
      lower_bounds_  mean log-likelihood of the fitted samples after each iteration, a list of n_iter_ numbers; moments
                     do not maximise it, so unlike in maximum-likelihood EM an iteration may lower it
      n_iter_, converged_
    """

    def __init__(
        self,
        max_iter: int = 10,
        tol: float = 1e-6,
        percentiles: tuple[float, float] = (5.0, 95.0),
        clip: float = 1e-3,
    ) -> None:
        self.max_iter = max_iter
        self.tol = tol
        self.percentiles = percentiles
        self.clip = clip

    def fit(self, scores: np.ndarray) -> "BetaMixture":
        """Fit to scores (N,). Where they do not support a mixture `usable_` is False and `reason_` says why.

        No second mode means both of these. (1) The fitted components lie closer than `MIN_SEPARATION`, the distance of
        their means over their root mean square deviation (Ashman's D): no further apart than the halves of a flat
        histogram. (2) The fitted density has no valley deeper than a tenth. One lump, whatever its skew, meets both;
        two lumps with a dip between them, or well apart, do not. A few hundred samples may show a dip by chance.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 1 or scores.size == 0:
            raise ValueError(f"scores must be a non-empty vector, not an array of shape {scores.shape}")
        self.usable_, self.reason_ = False, None
        if not np.isfinite(scores).all():
            count = np.count_nonzero(~np.isfinite(scores))
            return self._give_up(f"{count} of {scores.size} scores are not finite")
        self.low_, self.high_ = np.percentile(scores, self.percentiles)
        # Below float32's own rounding a spread means nothing.
        if self.high_ - self.low_ <= 1e-6 * max(abs(self.low_), abs(self.high_)):
            low, high = self.percentiles
            return self._give_up(f"the {low:g}th and the {high:g}th percentile of the scores are the same")
        fitted = scores[(scores >= self.low_) & (scores <= self.high_)]
        if len(fitted) < 2 * MIN_SAMPLES or not self._expectation_maximisation(self._scale(fitted)):
            return self._give_up("a component of the mixture is left without samples")
        if self._separation() < MIN_SEPARATION and self.valley() > MAX_VALLEY:
            return self._give_up("the scores have no second mode")
        self.usable_ = True
        return self

    def p_noisy(self, scores: np.ndarray) -> np.ndarray:
        """Posterior of the noisy component, float64 (N,) in [0, 1], that never falls as the score rises.

        The log-odds of two beta densities have the slope da / x - db / (1 - x), with da and db the differences of alpha
        and of beta: at most one turning point, x* = da / (da + db). Both positive: a peak, beyond which the posterior
        is held at its maximum. Both negative (the wider noisy component takes over again at the lowest scores): a
        valley, before which the posterior is held at its minimum. Otherwise it rises throughout, because the noisy
        component has the higher mean.
        """
        self._check_usable()
        x = self._scale(scores)
        d_alpha, d_beta = np.diff(self.alphas_)[0], np.diff(self.betas_)[0]
        if d_alpha > 0 and d_beta > 0:
            x = np.minimum(x, d_alpha / (d_alpha + d_beta))
        elif d_alpha < 0 and d_beta < 0:
            x = np.maximum(x, d_alpha / (d_alpha + d_beta))
        p_noisy = self._posterior(x)[:, 1]
        order = np.argsort(x)  # in floating point the last digit may still fall
        p_noisy[order] = np.maximum.accumulate(p_noisy[order])
        return p_noisy

    def component_densities(self, scores: np.ndarray) -> np.ndarray:
        """Weighted densities of the components, float64 (N, 2), per unit of score, 0 outside [low_, high_].

        For drawing over a histogram of the scores that took part in the fit: the two columns together integrate to 1.
        """
        self._check_usable()
        scores = np.asarray(scores, dtype=np.float64)
        inside = (scores >= self.low_) & (scores <= self.high_)
        return np.exp(self._log_joint(self._scale(scores))) / (self.high_ - self.low_) * inside[:, None]

    def valley(self) -> float:
        """In [0, 1], 1 = none: lowest ratio of the fitted density to the lower of the highest peaks on either side.

        Looked for on [0.02, 0.98], because at the very ends a beta density may be infinite.
        """
        density = np.exp(self._log_joint(np.linspace(0.02, 0.98, 193))).sum(axis=1)
        left = np.maximum.accumulate(density)
        right = np.maximum.accumulate(density[::-1])[::-1]
        return float((density / np.minimum(left, right)).min())

    # The EM algorithm, on scaled scores x (n,).

    def _expectation_maximisation(self, x: np.ndarray) -> bool:
        """Learn the parameters; False as soon as a component has died."""
        self.weights_ = np.array([0.5, 0.5])
        self.alphas_, self.betas_ = np.array([1.0, 2.0]), np.array([2.0, 1.0])
        self.lower_bounds_, self.n_iter_, self.converged_ = [], 0, False
        _, resp = self._e_step(x)
        while self.n_iter_ < self.max_iter and not self.converged_:
            if resp.sum(axis=0).min() < MIN_SAMPLES:
                return False
            self._m_step(x, resp)
            before = resp
            lower_bound, resp = self._e_step(x)
            self.lower_bounds_.append(lower_bound)
            self.n_iter_ += 1
            self.converged_ = bool(np.abs(resp - before).max() < self.tol)
        order = np.argsort(self._means(), kind="stable")
        self.weights_, self.alphas_, self.betas_ = self.weights_[order], self.alphas_[order], self.betas_[order]
        return resp.sum(axis=0).min() >= MIN_SAMPLES

    def _e_step(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean log-likelihood, and the posteriors (n, 2)."""
        log_joint = self._log_joint(x)
        log_norm = logsumexp(log_joint, axis=1)
        return float(log_norm.mean()), np.exp(log_joint - log_norm[:, None])

    def _m_step(self, x: np.ndarray, resp: np.ndarray) -> None:
        """Beta parameters with each component's weighted mean and variance (method of moments)."""
        nk = resp.sum(axis=0)  # (2,)
        mean = resp.T @ x / nk
        variance = (resp * (x[:, None] - mean) ** 2).sum(axis=0) / nk
        # Confident networks give thousands of clean samples the same loss: a point, which is no beta. So a component
        # is never narrower than the clipping, and as clip**2 < mean * (1 - mean), alpha and beta stay positive.
        variance = np.maximum(variance, self.clip**2)
        total = mean * (1 - mean) / variance - 1  # alpha + beta
        self.weights_ = nk / nk.sum()
        self.alphas_, self.betas_ = mean * total, (1 - mean) * total

    def _log_joint(self, x: np.ndarray) -> np.ndarray:
        """log(weight * density) of each component at x, (n, 2)."""
        log_x, log_1_x = np.log(x)[:, None], np.log1p(-x)[:, None]
        log_density = (self.alphas_ - 1) * log_x + (self.betas_ - 1) * log_1_x - betaln(self.alphas_, self.betas_)
        return np.log(self.weights_) + log_density

    def _posterior(self, x: np.ndarray) -> np.ndarray:
        return softmax(self._log_joint(x), axis=1)

    # Scaling, shape and state.

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        x = (np.asarray(scores, dtype=np.float64) - self.low_) / (self.high_ - self.low_)
        return np.clip(x, self.clip, 1 - self.clip)

    def _means(self) -> np.ndarray:
        return self.alphas_ / (self.alphas_ + self.betas_)

    def _separation(self) -> float:
        """Ashman's D: distance of the means over the root mean square of the two standard deviations."""
        means = self._means()
        variances = means * (1 - means) / (self.alphas_ + self.betas_ + 1)
        return float((means[1] - means[0]) / np.sqrt(variances.mean()))

    def _give_up(self, reason: str) -> "BetaMixture":
        self.reason_ = reason
        return self

    def _check_usable(self) -> None:
        if not hasattr(self, "usable_"):
            raise RuntimeError("this BetaMixture is not fitted; call fit first")
        if not self.usable_:
            raise RuntimeError(f"this BetaMixture is not usable: {self.reason_}")

"""What is the true class of a sample, given what a network predicts for it and the label it carries?

Bayes' rule with a noise matrix M[c, y] = P(observed label y | true class c), which EM finds as Dawid and Skene 1979,
"Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm" (https://doi.org/10.2307/2346806), find
an observer's errors: here the labels are the one observer, and the network's predictions are the prior of each sample.
Bringing predictions to known class frequencies is iterative proportional fitting, as in Saerens et al. 2002, "Adjusting
the Outputs of a Classifier to New a Priori Probabilities" (https://doi.org/10.1162/089976602753284446). Unfolding the
frequencies of the labels to those of the true classes is that of Richardson 1972, "Bayesian-Based Iterative Method of
Image Restoration" (https://doi.org/10.1364/JOSA.62.000055). Anchors, the surest samples of a class, show its noise in
Patrini et al. 2017, "Making Deep Neural Networks Robust to Label Noise" (https://arxiv.org/abs/1609.03683). The
sharpening, and that the matrix is shrunk towards another one, are this suite's.
"""

import numpy as np

MAX_FACTOR = 1e3  # a class predicted a thousand times too rarely is not brought back by multiplication
MIN_RATE = 0.005  # of the symmetric matrix: no label is beyond doubt
MAX_RATE = 0.8
FIRST_RATE = 0.3  # where EM starts; it ends in the same place from 0.1 or 0.5
SYMMETRIC, ANCHORS = "symmetric", "anchors"  # what a noise matrix is shrunk towards
PSEUDO_COUNT = 0.02  # of an average class: so that no label is impossible where none was counted
EM_SAMPLES = 50_000  # find a noise matrix as well as a million do


def align(probs: np.ndarray, prior: np.ndarray, rounds: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (N, C) with the class frequencies `prior` (C,): (aligned float32 (N, C), factors float64 (C,)).

    A network that resists wrong labels favours some classes. Each round multiplies every class by prior / mean
    prediction and makes the rows sum to 1 again. The factors are the product over the rounds, with mean log 0:
    aligned = softmax(log probs + log factors), so that log factors added to a classifier's logits align it the same
    way. They are positive and finite: a class without a prior is made rare, one that is never predicted stays so.
    """
    probs, prior = _checked(probs), np.asarray(prior, dtype=np.float64)
    if prior.shape != probs.shape[1:] or not np.isfinite(prior).all() or prior.min() < 0 or prior.sum() == 0:
        raise ValueError(f"prior must be {probs.shape[1]} numbers from 0 that do not all vanish, not {prior}")
    aligned, factors = _align(probs, prior / prior.sum(), rounds)
    return aligned.astype(np.float32), factors


class LabelPosterior:
    """Posterior of the true class c of sample x with label y: p(c | x, y) ~ s_c(x) M[c, y], in scikit-learn's shape.

    s are the mean predicted probabilities, aligned to the frequencies of the observed labels, sharpened
    (s^(1/temperature)) and aligned to those of the true classes: averages over epochs, and networks trained with mixup,
    are less sure than they are right. The temperature decides how many labels are called wrong; held-out labels find it
    (planted.py). How frequent the true classes are follows from the labels and M: class-dependent noise gives some
    labels more often than their class is there.

    Each iteration takes the counts of (true class, label) under the posterior, to which another matrix adds `shrink` of
    an average class: C² numbers alone would follow the network's own confusions, above all where the noise is
    symmetric. That other one is `towards` it: "symmetric", at the current noise rate, or "anchors", which counts labels
    among the surer half of the samples that are predicted as a class. Predictions that are half one class and half
    another may be of images that look like both, or of one class whose labels were changed: anchors tell them apart.
    Of each class no wrong label is taken to be given more often than the right one. Of many samples EM sees every so
    many of each label, EM_SAMPLES at least.

    Parameters: `temperature`, > 0, below 1 sharpens; `shrink`, 0 = the counts alone, infinite = the other matrix;
    `unfold`, False = take the true classes to be as frequent as the labels, whatever M says; `iterations` of EM, each
    with a round of alignment where it unfolds; `rounds` of alignment before and after. Raises ValueError for another
    word in `towards`.

    Learnt by `fit`:
      posterior_    float32 (N, C), rows sum to 1
      likely_       float64 (N, C), s
      noise_rate_   mean probability that the observed label is wrong, in [0, 1]
      transition_   float64 (C, C), M: rows = true class, columns = observed label, rows sum to 1
      prior_        float64 (C,), of the true classes, sum 1
      factors_      float64 (C,), of `align` before the sharpening; their log is what a classifier's logits lack
    """

    def __init__(
        self,
        temperature: float = 0.5,
        *,
        shrink: float = 0.3,
        towards: str = SYMMETRIC,
        unfold: bool = True,
        iterations: int = 30,
        rounds: int = 10,
    ) -> None:
        if towards not in (SYMMETRIC, ANCHORS):
            raise ValueError(f"towards must be {SYMMETRIC!r} or {ANCHORS!r}, not {towards!r}")
        self.temperature = temperature
        self.shrink = shrink
        self.towards = towards
        self.unfold = unfold
        self.iterations = iterations
        self.rounds = rounds

    def fit(self, probs: np.ndarray, labels: np.ndarray) -> "LabelPosterior":
        """Fit to mean predicted probabilities (N, C) and observed labels int (N,) in 0..C-1."""
        probs, labels = _checked(probs), np.asarray(labels)
        n, c = probs.shape
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= c:
            raise ValueError(f"labels must be {n} classes below {c}")
        frequencies = np.bincount(labels, minlength=c) / n
        aligned, self.factors_ = _align(probs, frequencies, self.rounds)
        sharp = _sharpen(aligned, self.temperature)

        anchors = _of_anchors(aligned, labels) if self.towards == ANCHORS else None
        self.transition_ = self._transition(sharp, labels, frequencies, anchors)
        self.prior_ = self._prior(frequencies, self.transition_)
        self.likely_, _ = _align(sharp, self.prior_, self.rounds)
        self.posterior_ = _posterior(self.likely_, self.transition_, labels).astype(np.float32)
        self.noise_rate_ = float(np.mean(self.p_noisy(labels), dtype=np.float64))
        return self

    def _transition(
        self, sharp: np.ndarray, labels: np.ndarray, frequencies: np.ndarray, anchors: np.ndarray | None
    ) -> np.ndarray:
        """By EM, from sharpened predictions (N, C), labels and their frequencies (C,), and the matrix of anchors."""
        order = np.argsort(labels, kind="stable")[:: max(len(labels) // EM_SAMPLES, 1)]
        sharp, labels = sharp[order], labels[order]
        n, c = sharp.shape
        of_label = np.split(sharp, np.bincount(labels, minlength=c).cumsum()[:-1])
        matrix, factors = _symmetric(FIRST_RATE, c), np.ones(c)
        prior = self._prior(frequencies, matrix)
        for _ in range(self.rounds):
            factors = _aligning(sharp, factors, prior)
        for _ in range(self.iterations):
            columns = [
                column * ((1 / (likely @ column)) @ likely)  # a row's sum cancels out
                for likely, column in zip(of_label, (factors[:, None] * matrix).T, strict=True)
            ]
            counts = np.stack(columns, axis=1)  # (true class, label), sums of the posterior
            towards = _symmetric(1 - np.trace(counts) / n, c) if anchors is None else anchors
            matrix = _shrunk(counts, self.shrink, towards)
            if self.unfold:
                factors = _aligning(sharp, factors, _unfolded(frequencies, matrix))
        return matrix

    def _prior(self, frequencies: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return _unfolded(frequencies, matrix) if self.unfold else frequencies

    def p_noisy(self, labels: np.ndarray) -> np.ndarray:
        """Probability that each of the fitted `labels` (N,) is wrong, float32 (N,) in [0, 1]."""
        self._require_fit()
        return wrong(self.posterior_, labels)

    def of(self, labels: np.ndarray) -> np.ndarray:
        """The posterior of samples that carry other `labels` (N,), float32 (N, C)."""
        self._require_fit()
        return _posterior(self.likely_, self.transition_, labels).astype(np.float32)

    def label_probs(self) -> np.ndarray:
        """How probably each sample is given each label, float64 (N, C)."""
        self._require_fit()
        return self.likely_ @ self.transition_

    def _require_fit(self) -> None:
        if not hasattr(self, "posterior_"):
            raise RuntimeError("this LabelPosterior is not fitted; call fit first")


def surest(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids int64 (S,) of the surer half of the samples that are predicted as each class; these classes int64 (S,)).

    By predictions (N, C). With all that are as sure as the last of them: samples may lie in any order.
    """
    predicted, sureness = probs.argmax(axis=1), probs.max(axis=1)
    least = np.zeros(probs.shape[1])
    for cls in np.unique(predicted):
        least[cls] = np.median(sureness[predicted == cls])
    ids = np.flatnonzero(sureness >= least[predicted])
    return ids, predicted[ids]


def wrong(posterior: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability that each of `labels` (N,) is wrong under a posterior (N, C), float32 (N,) in [0, 1]."""
    # As the sum of the others: 1 - p would put the surest labels, of which there are many, into one tie at 0.
    others = posterior.copy()
    others[np.arange(len(others)), labels] = 0
    return np.minimum(others.sum(axis=1), np.float32(1))


def relabelled(posterior: np.ndarray, transition: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The posterior float32 (N, C) of samples with `labels` (N,), had they been given the labels `others` (N,).

    Exact for the posterior and the matrix of one fit; for means over fits as near as their matrices are to each other.
    """
    changed = posterior * np.divide(transition.T[others], np.maximum(transition.T[labels], 1e-12))
    return (changed / changed.sum(axis=1, keepdims=True)).astype(np.float32)


def _checked(probs: np.ndarray) -> np.ndarray:
    """Float64 (N, C), rows sum to 1; a copy."""
    probs = np.array(probs, dtype=np.float64)
    if probs.ndim != 2 or probs.size == 0:
        raise ValueError(f"probs must be a non-empty matrix, not an array of shape {probs.shape}")
    sums = probs.sum(axis=1, keepdims=True)
    if not np.isfinite(sums).all() or probs.min() < 0 or sums.min() == 0:
        raise ValueError("probs must be finite numbers from 0, with a positive one in every row")
    probs /= sums
    return probs


def _align(probs: np.ndarray, prior: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """`align` in float64."""
    factors = np.ones(len(prior))
    for _ in range(rounds):
        factors = _aligning(probs, factors, prior)
    aligned = probs * factors
    aligned /= aligned.sum(axis=1, keepdims=True)
    return aligned, factors / np.exp(np.log(factors).mean())


def _aligning(probs: np.ndarray, factors: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The factors (C,) after one more round."""
    mean = factors * ((1 / (probs @ factors)) @ probs) / len(probs)  # of the predictions aligned so far
    step = np.divide(prior, mean, out=np.ones_like(prior), where=mean > 0)
    return np.clip(factors * step, 1 / MAX_FACTOR, MAX_FACTOR)


def _sharpen(probs: np.ndarray, temperature: float) -> np.ndarray:
    # Relative to the row's largest, so that no temperature lets a whole row vanish.
    sharp = (probs / probs.max(axis=1, keepdims=True)) ** (1 / temperature)
    return sharp / sharp.sum(axis=1, keepdims=True)


def _symmetric(rate: float, num_classes: int) -> np.ndarray:
    """Noise matrix that keeps a label with 1 - rate and otherwise takes any other class alike.

    Held below the rate at which the label says nothing, 1 - 1/C: beyond it a label would speak against its own class.
    """
    rate = min(max(rate, MIN_RATE), MAX_RATE, 1 - 1 / num_classes)
    matrix = np.full((num_classes, num_classes), rate / max(num_classes - 1, 1))
    np.fill_diagonal(matrix, 1 - rate)
    return matrix


def _shrunk(counts: np.ndarray, shrink: float, towards: np.ndarray) -> np.ndarray:
    """Counts (C, C) of (true class, label), with `shrink` of an average class added as `towards` has it, rows sum 1."""
    if np.isinf(shrink):
        return towards
    matrix = counts + shrink * counts.sum() / len(counts) * towards
    matrix = np.minimum(matrix, np.diag(matrix)[:, None])  # else two classes may change places
    # Without shrinkage a class that nobody belongs to has no row; it may as well be the symmetric one.
    empty = matrix.sum(axis=1) == 0
    matrix[empty] = _symmetric(FIRST_RATE, len(matrix))[empty]
    return matrix / matrix.sum(axis=1, keepdims=True)


def _of_anchors(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Noise matrix (C, C) of the labels (N,) among the surer half of those predicted as each class, by probs (N, C)."""
    (ids, predicted), num_classes = surest(probs), probs.shape[1]
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (predicted, labels[ids]), 1)
    symmetric = _symmetric(1 - np.trace(counts) / counts.sum(), num_classes)
    return _shrunk(counts, PSEUDO_COUNT, symmetric)


def _unfolded(frequencies: np.ndarray, matrix: np.ndarray, rounds: int = 30) -> np.ndarray:
    """How frequent the true classes are, float64 (C,), by the frequencies (C,) of the labels and M (C, C).

    EM from the labels' own frequencies towards prior @ M = frequencies. It stops short of that where most labels are
    wrong: there the prior would have to make up for every chance in the labels.
    """
    prior, given = frequencies, frequencies > 0  # a label that nobody carries says nothing, and may be impossible
    of_given, matrix = frequencies[given], matrix[:, given]
    for _ in range(rounds):
        prior = prior * (matrix @ (of_given / (prior @ matrix)))
    return prior / prior.sum()


def _posterior(likely: np.ndarray, matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    joint = likely * matrix.T[labels]
    return joint / joint.sum(axis=1, keepdims=True)

"""Planted errors: a few labels are made wrong on purpose, and tell what training on a label does to its prediction.

A planted error is drawn like a symmetric wrong label (any sample, any other class), and the network is trained on it
like on any other label. That shows four things which nobody knows of the labels as they came:
  - a score which ranks planted errors above the rest ranks wrong labels above right ones (`planted_auc`);
  - how much more probable the network calls a class because it was given as the label. The planted class has no other
    reason to be predicted than the classes beside it (`memorisation`);
  - the planted samples' own labels were never trained on. They are held-out labels, and their likelihood weighs what
    the predictions may mean (how sharp they ought to be, how the labels were changed, which epochs say it best), which
    the likelihood of trained labels does not;
  - where wrong labels are drawn like planted ones, the planted errors' losses are a sample of theirs: how many labels
    in all have losses so large tells how many are wrong (`share_like`).
So the posterior of the true class can be calibrated without the truth (`CalibratedPosterior`). What is measured depends
on the network and its training more than on which labels are wrong: class-dependent noise, whose errors look more like
right labels than planted ones do, is left to the posterior's matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from utils.scoring.label_posterior import ANCHORS, SYMMETRIC, LabelPosterior, surest, wrong

MIN_PLANTED = 10  # below it their means say nothing; 40 and more are wanted
TAIL = 0.4  # of the planted errors, at least: fewer bound no share
ALIKE = 0.5  # of their number, which counts once they are weighted like the wrong labels: below it they are others
SMALLEST_SD = 0.01  # of an estimated share
SMALLEST_CHANGE = 0.02  # of a mean probability: fits that are right show as much
TEMPERATURES = np.geomspace(0.1, 0.8, 7)
# Where nothing calibrates them. Of training batches, whose images are augmented and mixed, predictions are less sure:
# calibrated temperatures were 0.65-0.93 of those of passes (tests/benchmarks/results/notebook_photographs.txt, part 6).
OF_PASSES, OF_BATCHES = 0.5, 0.4
NOISES = {SYMMETRIC: np.inf, ANCHORS: 0.3}  # what a noise matrix is shrunk towards, and how much
MIN_PER_CLASS = 100  # samples, on average: of fewer the surest are the network's errors as often as wrong labels
SMALLEST = 1e-12  # probability


def planted_auc(rest: np.ndarray, planted: np.ndarray) -> float:
    """P(score of a planted error > score of another sample), ties half, in [0, 1]; 0.5 = chance, higher is better.

    `rest` (M,) and `planted` (P,) are scores; nan where either is empty. It ranks scores; it is not the true AUC: with
    a share r of the rest wrong it is r / 2 + (1 - r) AUC, but for planted labels that happen to be right.
    """
    if len(rest) == 0 or len(planted) == 0:
        return float("nan")
    ranks = rankdata(np.concatenate([rest, planted]))[len(rest) :]
    return float((ranks.mean() - (len(planted) + 1) / 2) / len(rest))


@dataclass(frozen=True)
class Memorisation:
    """What training on a label adds to the probability with which the network calls it, on average."""

    factor: float  # times as probable, from 1 (nothing) up
    gain: float  # more probable, of what there is left to gain (of two classes: in all), in [0, 1)

    def without(self, probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Predictions (N, C) as if they owed nothing to the labels (N,), float64 (N, C), rows sum to 1.

        A label of small probability owes all but one in `factor` to having been trained on; one that the image
        explains, being right or near it, has no more than about twice the average gain.
        """
        rows, probs = np.arange(len(probs)), probs.astype(np.float64)
        called = probs[rows, labels]
        probs[rows, labels] = np.maximum(called - 2 * self.gain, called / self.factor)
        return probs / probs.sum(axis=1, keepdims=True)


def memorisation(probs: np.ndarray, trained: np.ndarray, own: np.ndarray, planted: np.ndarray) -> Memorisation:
    """From mean predictions (N, C) of a network that was trained on the labels `trained` (N,).

    `own` (N,): the labels before errors were planted at the sample ids `planted` (P,). The planted class is compared
    with the classes beside it, those which are neither planted nor the sample's own. Of two classes there is none: then
    own labels that were trained on are compared with those that were not.
    """
    rows, many = np.arange(len(planted)), probs.shape[1] - 2
    if many:
        beside = probs[planted].astype(np.float64)
        called = beside[rows, trained[planted]].mean()
        beside[rows, trained[planted]] = 0
        beside[rows, own[planted]] = 0
        base = max(beside.sum() / (len(planted) * many), SMALLEST)
        return Memorisation(max(called / base, 1.0), max((called - base) / (1 - base), 0.0))
    called = np.clip(probs[np.arange(len(probs)), own].astype(np.float64), SMALLEST, 1 - SMALLEST)
    odds, held_out = np.log(called) - np.log1p(-called), np.isin(np.arange(len(probs)), planted)
    factor = np.exp((np.median(odds[~held_out]) - np.median(odds[held_out])) / 2)
    return Memorisation(max(float(factor), 1.0), max(called[~held_out].mean() - called[held_out].mean(), 0.0))


class CalibratedPosterior:
    """Posterior of the true class given label and predictions, calibrated by planted errors; in scikit-learn's shape.

    The predictions of a network that was trained on the labels owe something to them. That is taken out; then
    `LabelPosterior` is fitted at TEMPERATURES, once for symmetric noise and, from MIN_PER_CLASS samples a class on
    average, once for errors that each class has of its own (NOISES), to the predictions of several windows of epochs,
    which err in opposite directions. All of these fits are averaged, weighted by the likelihood of the planted
    samples' own labels, which were never trained on: a hundred of them leave the best one open. (Of two classes the
    planted one gives the own one away; then the mean likelihood of the trained labels takes its place.) A fit by
    which wrong labels are drawn like planted ones also counts by how near its share of them is to `share_like`; to
    another one that says nothing. And a fit by which the labels contradict the surest predictions counts less
    (`contradiction`): else errors that all go to one other class pass for a network that is unsure. Without enough
    planted errors nothing is taken out, and the first window is fitted at the `temperature`, drawn towards symmetric
    noise, in 50 iterations that do not unfold the class frequencies.

    Learnt by `fit`:
      calibrated_     whether enough errors were planted
      window_         of which predictions the likeliest fits are, an index
      memorisation_   what was taken out of these
      temperature_    of the predictions, the mean
      noises_         the kinds of noise that were fitted
      symmetric_      how probable symmetric noise is, in [0, 1], 1 where no other was fitted; nan where not calibrated
      alike_          how probable it is that wrong labels are drawn like planted ones, in [0, 1]; nan likewise
      posterior_      float32 (N, C): of the samples with their own labels, rows sum to 1
      trained_        float32 (N, C): of the samples with the labels that the network was trained on
      p_noisy_        float32 (N,): how probably each own label is wrong
      transition_     float64 (C, C): rows = true class, columns = label trained on, rows sum to 1
      own_transition_ float64 (C, C): the same of the own labels, without what was planted
      noise_rate_     mean of p_noisy_
    """

    def __init__(self, temperature: float = OF_PASSES) -> None:
        self.temperature = temperature

    @property
    def assumes_symmetric_(self) -> bool:
        """Whether errors of every class and into every class were taken to be as frequent: nothing else was fitted."""
        return self.calibrated_ and ANCHORS not in self.noises_

    def fit(
        self, windows: Sequence[np.ndarray], trained: np.ndarray, own: np.ndarray, planted: np.ndarray | None
    ) -> "CalibratedPosterior":
        """Fit to mean predictions (N, C) of one window of epochs or more.

        `trained` and `own`: the labels int (N,) that were trained on, and those before errors were planted at the
        sample ids `planted` (P,). Raises ValueError for windows of different shapes, or none.
        """
        if not windows or any(probs.ndim != 2 or probs.shape != windows[0].shape for probs in windows):
            raise ValueError("windows must be one (N, C) array or more, of one shape")
        self.calibrated_ = planted is not None and len(planted) >= MIN_PLANTED
        if self.calibrated_:
            self._average(windows, trained, own, planted)
        else:
            # With nothing to calibrate a matrix by, its errors are not to move whole classes.
            plain = LabelPosterior(self.temperature, unfold=False, iterations=50).fit(windows[0], trained)
            self.trained_, self.posterior_, self.transition_ = plain.posterior_, plain.of(own), plain.transition_
            self.window_, self.memorisation_, self.temperature_ = 0, Memorisation(1.0, 0.0), plain.temperature
            self.noises_ = (plain.towards,)
            self.symmetric_ = self.alike_ = np.nan
        self.own_transition_ = without_planted(self.transition_, 0 if planted is None else len(planted) / len(own))
        self.p_noisy_ = wrong(self.posterior_, own)
        self.noise_rate_ = float(self.p_noisy_.mean(dtype=np.float64))
        return self

    def _average(
        self, windows: Sequence[np.ndarray], trained: np.ndarray, own: np.ndarray, planted: np.ndarray
    ) -> None:
        mean, logs, alike, memorised = LogWeightedMean(), [], [], []
        self.noises_ = tuple(NOISES) if len(own) >= MIN_PER_CLASS * windows[0].shape[1] else (SYMMETRIC,)
        for probs in windows:
            losses = -np.log(np.maximum(probs[np.arange(len(probs)), trained], SMALLEST))
            memorised.append(memorisation(probs, trained, own, planted))
            probs = memorised[-1].without(probs, trained)
            sure = surest(probs)
            for temperature, noise in product(TEMPERATURES, self.noises_):
                fit = LabelPosterior(temperature, towards=noise, shrink=NOISES[noise]).fit(probs, trained)
                posterior = fit.of(own)
                log, drawn_alike = log_weight(fit, posterior, losses, trained, own, planted)
                log -= contradiction(fit, *sure)
                logs.append(log)
                alike.append(drawn_alike)
                mean.add(log, posterior, fit.posterior_[planted], fit.transition_)
        posterior, of_planted, self.transition_ = mean.means()
        self.posterior_ = posterior.astype(np.float32)
        self.trained_ = self.posterior_.copy()  # the labels differ where errors were planted alone
        self.trained_[planted] = of_planted
        weights = softmax(logs).reshape(len(windows), len(TEMPERATURES), len(self.noises_))
        self.window_ = int(weights.sum(axis=(1, 2)).argmax())
        self.memorisation_ = memorised[self.window_]
        self.temperature_ = float(weights.sum(axis=(0, 2)) @ TEMPERATURES)
        self.symmetric_ = float(weights.sum(axis=(0, 1)) @ [noise == SYMMETRIC for noise in self.noises_])
        self.alike_ = float(weights.ravel() @ alike)


class LogWeightedMean:
    """Means of arrays, with weights given as logarithms, one after the other: together they would fill the memory."""

    def __init__(self) -> None:
        self._largest, self._total = -np.inf, 0.0
        self._sums: list[np.ndarray] = []

    def add(self, log: float, *arrays: np.ndarray) -> None:
        """`log`: of their weight, finite; `arrays`: of the same shapes every time."""
        if log > self._largest:  # what came before is counted relative to it from now on
            scale = np.exp(self._largest - log)
            self._largest, self._total = log, scale * self._total
            self._sums = [scale * total for total in self._sums]
        weight = np.exp(log - self._largest)
        self._total += weight
        sums = self._sums or [0] * len(arrays)
        self._sums = [total + weight * array for total, array in zip(sums, arrays, strict=True)]

    def means(self) -> list[np.ndarray]:
        """In the order in which `add` takes them; none before it."""
        return [total / self._total for total in self._sums]


def log_weight(
    fit: LabelPosterior,
    posterior: np.ndarray,
    losses: np.ndarray,
    trained: np.ndarray,
    own: np.ndarray,
    planted: np.ndarray,
) -> tuple[float, bool]:
    """How probable planted errors (P,) make a fit, a logarithm up to a constant; whether it was asked for its share.

    By the likelihood of the held-out labels and, if wrong labels are drawn like planted ones by its `posterior` (N, C)
    of the own labels, by how near its share of wrong labels is to the one that the `losses` (N,) of the labels trained
    on tell, within the standard deviation of that.
    """
    log = len(planted) * held_out_likelihood(fit.label_probs(), trained, own, planted)
    odds = odds_of_drawing(fit.transition_, posterior[planted], trained[planted])
    count = odds.sum() ** 2 / max((odds**2).sum(), SMALLEST)  # Kish's effective number
    alike = bool(count >= ALIKE * len(planted))
    if alike:
        share = share_like(losses, planted, odds)
        deviation = max(share / np.sqrt(count), SMALLEST_SD)
        log -= ((wrong(posterior, own).mean() - share) / deviation) ** 2 / 2
    return float(log), alike


def contradiction(fit: LabelPosterior, ids: np.ndarray, predicted: np.ndarray) -> float:
    """How far labels speak against what a fit makes of predictions: half the squared number of standard deviations.

    Of samples that were chosen by their predictions alone a label changes what is thought of each, but, if the fit is
    right, not of all on average (law of total expectation). Asked for the `predicted` classes int (S,) of the surest
    samples `ids` (S,), as they are without what was memorised and before anything is aligned: where these carry another
    label too often, not the network was unsure, but the labels are wrong.
    """
    change = fit.posterior_[ids, predicted] - fit.likely_[ids, predicted]
    deviation = max(float(change.std()) / np.sqrt(len(ids)), SMALLEST_CHANGE)
    return float(change.mean() / deviation) ** 2 / 2


def held_out_likelihood(label_probs: np.ndarray, trained: np.ndarray, own: np.ndarray, planted: np.ndarray) -> float:
    """Mean log likelihood of the planted samples' own labels, which differ from the planted ones, under (N, C).

    Of two classes, where that says nothing: of the labels of all others.
    """
    rows = np.arange(len(label_probs))
    if label_probs.shape[1] > 2:
        p_own, p_planted = (label_probs[planted, labels[planted]] for labels in (own, trained))
        return float(np.mean(np.log(np.maximum(p_own, SMALLEST)) - np.log(np.maximum(1 - p_planted, SMALLEST))))
    rest = np.ones(len(label_probs), dtype=bool)
    rest[planted] = False
    return float(np.mean(np.log(np.maximum(label_probs[rows, own][rest], SMALLEST))))


def odds_of_drawing(transition: np.ndarray, posterior: np.ndarray, given: np.ndarray) -> np.ndarray:
    """How many times as probable the noise draws each planted class as planting does, float64 (P,).

    Near 1 for symmetric noise. By a noise matrix (C, C), and of the planted samples the posterior (P, C) and the
    classes int (P,) planted there.
    """
    num_classes = len(transition)
    drawn = transition * (1 - np.eye(num_classes))
    drawn /= np.maximum(drawn.sum(axis=1, keepdims=True), SMALLEST)
    return (num_classes - 1) * np.einsum("pc,cp->p", posterior, drawn[:, given])


def without_planted(transition: np.ndarray, share: float) -> np.ndarray:
    """The noise matrix of labels (C, C), rows sum to 1, before a share of them was replaced by any other class.

    Of the matrix of what came of that. Planting turns M into (1 - share C / (C-1)) M + share / (C-1).
    """
    num_classes = len(transition)
    others = share / (num_classes - 1)
    if (kept := 1 - share - others) <= SMALLEST:  # nothing of it is left
        return np.full_like(transition, 1 / num_classes)
    own = np.maximum((transition - others) / kept, 0)
    return own / own.sum(axis=1, keepdims=True)


def share_like(losses: np.ndarray, planted: np.ndarray, weights: np.ndarray) -> float:
    """The share of the samples whose losses (N,) are distributed like those of the planted ones, in [0, 1].

    Mixture proportion estimation (Blanchard et al. 2010, "Semi-Supervised Novelty Detection",
    https://jmlr.org/papers/v11/blanchard10a.html): the largest share such that no threshold has fewer samples
    above it than that share of the planted ones (P,) has, counted with `weights` (P,) > 0. Thresholds with at least
    TAIL of these above them. It is too large where no threshold has wrong labels alone above it.
    """
    order = np.argsort(-losses[planted])
    thresholds, above = losses[planted][order], np.cumsum(weights[order]) / weights.sum()
    rest = np.sort(np.delete(losses, planted))
    share = 1 - np.searchsorted(rest, thresholds) / len(rest)  # at or above each threshold
    return float(min(1.0, np.min((share / above)[above >= TAIL])))


def in_the_order_of(score: np.ndarray, p_noisy: np.ndarray) -> np.ndarray:
    """The same probabilities (N,), given out in the order of another score (N,): the highest to the highest.

    Samples of the same score share theirs: each gets the mean of them.
    """
    _, group = np.unique(score, return_inverse=True)
    order = np.argsort(group, kind="stable")
    sums = np.bincount(group[order], np.sort(p_noisy))
    return (sums / np.bincount(group))[group].astype(p_noisy.dtype)

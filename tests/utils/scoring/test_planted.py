"""Planted errors: how scores rank them, what they show of a network, and the posterior that they calibrate."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from tests.utils.scoring.drawn_labels import pick, symmetric
from utils.scoring import planted
from utils.scoring.label_posterior import LabelPosterior
from utils.scoring.planted import (
    CalibratedPosterior,
    LogWeightedMean,
    Memorisation,
    contradiction,
    held_out_likelihood,
    in_the_order_of,
    log_weight,
    memorisation,
    planted_auc,
    share_like,
    without_planted,
)

C = 10


class Draw:
    """A network that sees the classes of images as normal scores, is less sure than it could be, and memorised labels.

    Scores are N(SURE, 1) for the class and N(0, 1) for the others, so that softmax(SURE * scores) is the probability of
    a class; the network says it at TEMPERATURE. `factor`: by which being the label multiplies a class's odds.
    """

    SURE, TEMPERATURE = 3.0, 1 / 3

    def __init__(self, rate, factor=3.0, size=20_000, planted=600, num_classes=C, transition=None, seed=0):
        generator = np.random.default_rng(seed)
        self.clean = generator.integers(0, num_classes, size)
        if transition is None:
            transition = symmetric(rate, num_classes)
        self.own = pick(transition[self.clean], generator)
        self.trained = self.own.copy()
        self.ids = np.sort(generator.permutation(size)[:planted])
        self.trained[self.ids] += generator.integers(1, num_classes, planted)
        self.trained %= num_classes
        logits = generator.normal(size=(size, num_classes))
        logits[np.arange(size), self.clean] += self.SURE
        logits *= self.SURE * self.TEMPERATURE
        logits[np.arange(size), self.trained] += np.log(factor)
        self.predicted = softmax(logits, axis=1)

    @property
    def is_noisy(self):
        return self.own != self.clean

    def fit(self, planted=True):
        """Fitted without a warning, numpy's included."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ids = self.ids if planted else None
            return CalibratedPosterior().fit([self.predicted], self.trained, self.own, ids)


def pair_flips(rate):
    """Three of ten classes are given the label of another one."""
    matrix = np.eye(C)
    matrix[[3, 5, 7], [3, 5, 7]] = 1 - rate
    matrix[[3, 5, 7], [8, 6, 1]] = rate
    return matrix


# The AUC.


def test_auc_by_hand():
    # 3 beats 1, 2 and ties 3: 2.5 of 4. 5 beats all four. 6.5 of 8.
    assert planted_auc(np.array([1, 2, 3, 4]), np.array([3, 5])) == 6.5 / 8
    assert planted_auc(np.array([1, 2]), np.array([3])) == 1
    assert planted_auc(np.array([3.0]), np.array([1.0, 2.0])) == 0
    assert planted_auc(np.zeros(7), np.zeros(3)) == 0.5
    assert type(planted_auc(np.float32([1, 2]), np.float32([3]))) is float


def test_auc_of_nothing():
    assert np.isnan(planted_auc(np.zeros(0), np.ones(3))) and np.isnan(planted_auc(np.ones(3), np.zeros(0)))


def test_auc_agrees_with_all_pairs():
    generator = np.random.default_rng(0)
    rest, planted = generator.integers(0, 20, 300), generator.integers(5, 25, 40)
    pairs = (planted[:, None] > rest) + 0.5 * (planted[:, None] == rest)
    assert planted_auc(rest, planted) == pytest.approx(pairs.mean(), abs=1e-12)
    assert planted_auc(planted, rest) == pytest.approx(1 - pairs.mean(), abs=1e-12)


# What was memorised.


def test_memorisation_by_hand():
    # Planted at 0 and 1, as class 2 where 0 was given: called 0.3 and 0.5, the third and fourth class 0.1 on average.
    probs = np.array([[0.5, 0.1, 0.3, 0.1], [0.3, 0.1, 0.5, 0.1], [1, 0, 0, 0]])
    found = memorisation(probs, np.array([2, 2, 0]), np.array([0, 0, 0]), np.array([0, 1]))
    assert found.factor == pytest.approx(0.4 / 0.1)
    assert found.gain == pytest.approx((0.4 - 0.1) / (1 - 0.1))


def test_nothing_memorised_is_a_factor_of_1():
    probs = np.array([[0.5, 0.3, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1]])
    found = memorisation(probs, np.array([2, 3]), np.array([0, 0]), np.array([0, 1]))
    assert found == Memorisation(1.0, 0.0)
    np.testing.assert_allclose(found.without(probs, np.array([2, 3])), probs)


def test_what_was_memorised_is_taken_out_by_hand():
    # A factor of 4 and a gain of 0.2: 0.8 loses 0.4, no more; 0.2 is left a quarter, 0.05.
    probs = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    found = Memorisation(4.0, 0.2).without(probs, np.array([0, 0]))
    np.testing.assert_allclose(found, [[4 / 6, 1 / 6, 1 / 6], [5 / 85, 70 / 85, 10 / 85]])
    np.testing.assert_array_equal(probs[0], [0.8, 0.1, 0.1])  # the input is left as it was


@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0])
def test_memorisation_is_found(factor):
    draw = Draw(0.4, factor)
    found = memorisation(draw.predicted, draw.trained, draw.own, draw.ids)
    # Rows are divided by their sum again, which costs the planted class a little more than those beside it. The mean
    # of 600 probabilities near 0.02 to 0.1, with a standard deviation as large as that: a relative error of 0.08.
    assert found.factor == pytest.approx(factor, rel=0.25)


def test_memorisation_of_two_classes():
    for factor in (1.0, 3.0):
        draw = Draw(0.3, factor, num_classes=2, planted=2000)
        found = memorisation(draw.predicted, draw.trained, draw.own, draw.ids)
        # The odds' medians: those of 2,000 have a standard error of 0.1 at most in the logarithm.
        assert found.factor == pytest.approx(factor, rel=0.25)
        assert (found.gain > 0.05) == (factor > 1)


# The posterior.


@pytest.mark.parametrize("factor", [1.0, 3.0])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.4, 0.6])
def test_the_posterior_is_calibrated_whatever_was_memorised(rate, factor):
    draw = Draw(rate, factor)
    found = draw.fit()
    assert found.calibrated_ and found.noise_rate_ == pytest.approx(rate, abs=0.05)
    bins = np.minimum((10 * found.p_noisy_).astype(int), 9)
    members = [bins == k for k in range(10) if np.count_nonzero(bins == k) >= 200]
    gaps = [m.mean() * abs(found.p_noisy_[m].mean() - draw.is_noisy[m].mean()) for m in members]
    assert sum(gaps) < 0.06
    # Without the planted errors a network that memorised hides most of them.
    if factor > 1 and rate >= 0.2:
        assert draw.fit(planted=False).noise_rate_ < found.noise_rate_ - 0.05


def test_class_dependent_noise_is_found_although_errors_are_planted_uniformly():
    draw = Draw(None, 3.0, transition=pair_flips(0.4))
    found = draw.fit()
    assert found.noise_rate_ == pytest.approx(draw.is_noisy.mean(), abs=0.02)
    # The surest of a class owe some of that to their label: its errors look fewer than 0.4.
    assert found.symmetric_ < 0.01 and 0.25 < found.transition_[3, 8] < 0.4
    assert found.transition_[0].max() == found.transition_[0, 0] > 0.9
    assert Draw(0.4).fit().symmetric_ > 0.1  # a matrix of its own can be symmetric too


def test_labels_that_contradict_the_surest_predictions_by_hand():
    ids, predicted = np.array([0, 2, 3]), np.array([0, 1, 1])
    before = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7]])
    after = np.array([[0.5, 0.5], [0.0, 1.0], [0.6, 0.4], [0.7, 0.3]])  # of three 0.4 less; the second does not count
    fit = SimpleNamespace(likely_=before, posterior_=after)
    assert contradiction(fit, ids, predicted) == pytest.approx((0.4 / planted.SMALLEST_CHANGE) ** 2 / 2)
    fit.posterior_ = before
    assert contradiction(fit, ids, predicted) == 0
    changes = np.array([-0.1, -0.3, 0.3])
    fit.posterior_ = before.copy()
    fit.posterior_[ids, predicted] += changes
    deviation = changes.std() / np.sqrt(3)
    assert contradiction(fit, ids, predicted) == pytest.approx((changes.mean() / deviation) ** 2 / 2)


@pytest.mark.parametrize("asked", [True, False])
def test_a_network_that_has_half_learnt_class_dependent_noise_does_not_pass_for_an_unsure_one(monkeypatch, asked):
    class Unsure(Draw):
        SURE, TEMPERATURE = 2.0, 1 / 2

    to_the_next = np.roll(np.eye(C), 1, axis=1)
    draw = Unsure(None, factor=1.2, size=5000, planted=150, transition=0.6 * np.eye(C) + 0.4 * to_the_next)
    draw.predicted = draw.predicted @ (0.65 * np.eye(C) + 0.35 * to_the_next)
    if not asked:
        monkeypatch.setattr(planted, "contradiction", lambda *arguments: 0.0)
    fit = draw.fit()
    if asked:  # 0.11 and 0.37 with this seed
        assert fit.symmetric_ < 0.3 and fit.noise_rate_ == pytest.approx(0.4, abs=0.06)
    else:
        assert fit.symmetric_ > 0.7 and fit.noise_rate_ < 0.1


@pytest.mark.parametrize(("size", "asked"), [(C * planted.MIN_PER_CLASS, True), (C * planted.MIN_PER_CLASS - 1, False)])
def test_of_few_samples_of_a_class_nothing_is_asked_but_symmetric_noise(size, asked):
    found = Draw(0.4, size=size, planted=60).fit()
    assert (found.symmetric_ < 1) == asked
    different = found.transition_[~np.eye(C, dtype=bool)]
    assert (np.ptp(different) > 1e-6) == asked and found.assumes_symmetric_ != asked


def test_planted_samples_are_judged_for_their_own_labels():
    draw = Draw(0.2, 3.0)
    found = draw.fit()
    own = found.p_noisy_[draw.ids]
    is_noisy = draw.is_noisy[draw.ids]
    assert planted_auc(own[~is_noisy], own[is_noisy]) > 0.9
    trained = 1 - found.trained_[draw.ids, draw.trained[draw.ids]]
    assert trained.mean() > 0.8  # for the planted ones they are wrong
    rest = np.setdiff1d(np.arange(len(draw.own)), draw.ids)
    np.testing.assert_allclose(found.trained_[rest], found.posterior_[rest], atol=1e-6)


def test_shapes_and_sums():
    draw = Draw(0.4, size=500, planted=20)
    found = draw.fit()
    assert found.posterior_.shape == found.trained_.shape == (500, C) and found.posterior_.dtype == np.float32
    np.testing.assert_allclose(found.posterior_.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found.p_noisy_, 1 - found.posterior_[np.arange(500), draw.own], atol=1e-5)
    assert found.noise_rate_ == pytest.approx(found.p_noisy_.mean(), abs=1e-6)
    np.testing.assert_allclose(found.transition_.sum(1), 1)


@pytest.mark.parametrize("errors", [0, 9])
def test_too_few_planted_errors_leave_it_uncalibrated(errors):
    draw = Draw(0.4, size=500, planted=errors)
    found = draw.fit()
    assert not found.calibrated_ and found.memorisation_ == Memorisation(1.0, 0.0)
    plain = LabelPosterior(unfold=False, iterations=50).fit(draw.predicted, draw.trained)
    np.testing.assert_allclose(plain.prior_, np.bincount(draw.trained, minlength=C) / 500)
    np.testing.assert_array_equal(found.trained_, plain.posterior_)
    assert found.temperature_ == plain.temperature


def test_two_classes_are_calibrated_too():
    draw = Draw(0.3, 3.0, num_classes=2, planted=1000)
    assert draw.fit().noise_rate_ == pytest.approx(0.3, abs=0.07)
    one_way = Draw(None, 3.0, num_classes=2, planted=1000, transition=np.array([[0.6, 0.4], [0.0, 1.0]]))
    found = one_way.fit()
    assert found.noise_rate_ == pytest.approx(0.2, abs=0.07) and found.transition_[1, 0] < 0.1


@pytest.mark.parametrize("windows", [[], [np.ones(3)], [np.ones((3, 2)), np.ones((4, 2))]])
def test_windows_are_checked(windows):
    with pytest.raises(ValueError, match="windows must be one"):
        CalibratedPosterior().fit(windows, np.zeros(3, dtype=int), np.zeros(3, dtype=int), None)


def test_temperatures_are_averaged_by_the_likelihood_of_the_held_out_labels(monkeypatch):
    monkeypatch.setattr(planted, "ALIKE", 2)  # by nothing else
    monkeypatch.setattr(planted, "contradiction", lambda *arguments: 0.0)
    monkeypatch.setattr(planted, "NOISES", {"symmetric": 0.3})
    draw, rates, likelihoods = Draw(0.4, size=2000, planted=20), {}, {}
    freed = memorisation(draw.predicted, draw.trained, draw.own, draw.ids).without(draw.predicted, draw.trained)
    for temperatures in [(0.2,), (0.5,), (0.2, 0.5)]:
        monkeypatch.setattr(planted, "TEMPERATURES", np.array(temperatures))
        rates[temperatures] = draw.fit().noise_rate_
        alone = LabelPosterior(temperatures[0]).fit(freed, draw.trained)
        likelihoods[temperatures] = held_out_likelihood(alone.label_probs(), draw.trained, draw.own, draw.ids)
    # 20 labels with a mean log likelihood each: as probable as e to the power of their sum.
    odds = np.exp(20 * (likelihoods[0.2,] - likelihoods[0.5,]))
    expected = (odds * rates[0.2,] + rates[0.5,]) / (odds + 1)
    assert 0.001 < odds < 1000 and rates[0.2,] > rates[0.5,] + 0.05  # else it would not show
    assert rates[0.2, 0.5] == pytest.approx(expected, abs=1e-5)


def test_means_weighted_by_logarithms():
    mean = LogWeightedMean()
    assert mean.means() == []
    for log, array in ((np.log(1), [0.0, 4.0]), (np.log(3), [4.0, 0.0]), (-1e9, [9.0, 9.0])):
        mean.add(log, np.array(array), np.array([[log > 0]], dtype=float))
    first, second = mean.means()
    np.testing.assert_allclose(first, [3, 1])
    np.testing.assert_allclose(second, [[0.75]])
    mean = LogWeightedMean()
    for log in (-1e4, 1e4, -1e4):  # whose exponentials are 0 and infinite
        mean.add(log, np.array([log]))
    np.testing.assert_allclose(mean.means(), [[1e4]])


def test_windows_of_epochs_are_averaged_by_the_likelihood_of_the_held_out_labels():
    draw = Draw(0.4, size=2000, planted=20)
    worse = softmax(np.log(draw.predicted) + np.random.default_rng(0).normal(size=(2000, C)) / 2, axis=1)

    def fit(*windows):
        return CalibratedPosterior().fit(windows, draw.trained, draw.own, draw.ids)

    one, other, both = fit(draw.predicted), fit(worse), fit(worse, draw.predicted)
    assert (one.window_, other.window_, both.window_) == (0, 0, 1)
    assert both.memorisation_ == one.memorisation_ != other.memorisation_
    shares = sorted([one.noise_rate_, other.noise_rate_])
    assert shares[0] < both.noise_rate_ < shares[1] and shares[1] - shares[0] > 0.002  # else it would not show
    np.testing.assert_array_equal(fit(draw.predicted, draw.predicted).window_, 0)
    np.testing.assert_allclose(fit(draw.predicted, draw.predicted).posterior_, one.posterior_, atol=1e-6)


def test_the_likelihood_of_held_out_labels_by_hand():
    # One planted sample: its own label 0 has 0.6, the planted one 0.2, so the own one 0.6 / 0.8 among the others.
    label_probs = np.array([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8]])
    trained, own = np.array([1, 2]), np.array([0, 2])
    assert held_out_likelihood(label_probs, trained, own, np.array([0])) == pytest.approx(np.log(0.75))
    two = label_probs[:, :2] / label_probs[:, :2].sum(1, keepdims=True)  # of two classes: of all but the planted
    expected = np.log(0.5)
    assert held_out_likelihood(two, np.array([1, 0]), np.array([0, 0]), np.array([0])) == pytest.approx(expected)


# The share of wrong labels by the losses of planted ones.


def test_the_share_that_losses_allow_by_hand():
    losses = np.array([9.0, 8, 7, 2, 1, 1, 1, 1, 1, 1, 8.5, 7.5, 1.5, 0.5])  # the last four were planted
    ids, ones = np.arange(10, 14), np.ones(4)
    # At or above 7.5 lie 2 of 10 and half of the planted ones: 0.4; above 1.5 4 of 10 and 3/4: 0.53; above 0.5 all.
    assert share_like(losses, ids, ones) == pytest.approx(0.4)
    assert share_like(losses, ids, np.array([1.0, 3, 1, 1])) == pytest.approx(0.2 / (4 / 6))  # 2 of 10 of two thirds
    assert share_like(np.append(np.zeros(10), losses[10:]), ids, ones) == 0  # where no label has such a loss


def test_the_share_that_losses_allow_is_that_of_the_wrong_labels():
    generator = np.random.default_rng(0)
    losses = generator.normal(size=20_000)
    losses[:6000] += 3  # 0.3 of them
    losses[-600:] += 3
    # The least of many ratios, each of 240 planted errors or more: a standard deviation of 0.3 / sqrt(240) = 0.02.
    assert share_like(losses, np.arange(19_400, 20_000), np.ones(600)) == pytest.approx(0.31, abs=0.04)


def test_symmetric_noise_draws_as_planting_does_and_pair_flips_do_not():
    assert Draw(0.4).fit().alike_ > 0.9
    assert Draw(0.4, transition=pair_flips(0.4)).fit().alike_ < 0.5


def test_a_fit_is_asked_for_its_share_if_by_it_wrong_labels_are_drawn_like_planted_ones(monkeypatch):
    draw = Draw(0.4, size=2000, planted=60)
    losses = np.where(draw.is_noisy | np.isin(np.arange(2000), draw.ids), 2.0, 1.0)  # of them 0.4: every planted one's
    arguments = losses, draw.trained, draw.own, draw.ids
    fit = LabelPosterior(0.3).fit(draw.predicted, draw.trained)
    posterior = fit.of(draw.own)
    likelihood = 60 * held_out_likelihood(fit.label_probs(), draw.trained, draw.own, draw.ids)
    log, alike = log_weight(fit, posterior, *arguments)
    odds = planted.odds_of_drawing(fit.transition_, posterior[draw.ids], draw.trained[draw.ids])
    assert alike and share_like(losses, draw.ids, odds) == pytest.approx(0.4, abs=0.03)
    count = odds.sum() ** 2 / (odds**2).sum()
    share = share_like(losses, draw.ids, odds)
    z = (1 - posterior[np.arange(2000), draw.own].mean() - share) / (share / np.sqrt(count))
    assert log == pytest.approx(likelihood - z**2 / 2, abs=1e-3)
    monkeypatch.setattr(planted, "ALIKE", 2)
    assert log_weight(fit, posterior, *arguments) == (pytest.approx(likelihood), False)


def test_losses_make_up_for_few_held_out_labels(monkeypatch):
    """150 planted errors, of which a standard deviation of 0.4 / sqrt(150) = 0.03 can be expected."""
    draws = [Draw(0.4, size=5000, planted=150, seed=seed) for seed in range(5)]
    errors = [abs(draw.fit().noise_rate_ - 0.4) for draw in draws]
    monkeypatch.setattr(planted, "ALIKE", 2)
    assert np.mean(errors) < np.mean([abs(draw.fit().noise_rate_ - 0.4) for draw in draws]) and max(errors) < 0.06


def test_probabilities_in_another_order():
    np.testing.assert_array_equal(
        in_the_order_of(np.array([3.0, 1.0, 2.0]), np.float32([0.1, 0.9, 0.5])), np.float32([0.9, 0.1, 0.5])
    )
    shared = in_the_order_of(np.array([2.0, 1.0, 2.0, 0.0]), np.float32([0.75, 0.25, 0.5, 0.0]))
    np.testing.assert_array_equal(shared, np.float32([0.625, 0.25, 0.625, 0]))  # those of one score: (0.5 + 0.75) / 2


def test_what_was_planted_is_taken_out_of_a_noise_matrix():
    """Of 1,000 right labels 100 replaced by any other of ten classes: the diagonal is 0.9, and was 1."""
    planted = np.full((10, 10), 0.1 / 9)
    np.fill_diagonal(planted, 0.9)
    np.testing.assert_allclose(without_planted(planted, 0.1), np.eye(10), atol=1e-12)
    np.testing.assert_allclose(without_planted(planted, 0), planted, atol=1e-12)
    noise = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
    mixed = noise @ (0.9 * np.eye(3) + 0.05 * (1 - np.eye(3)))  # every label stays, or becomes one of the other two
    np.testing.assert_allclose(without_planted(mixed, 0.1), noise, atol=1e-12)


def test_the_noise_matrix_of_the_own_labels_is_without_what_was_planted():
    draw = Draw(0.4, size=2000, planted=60)
    fit = draw.fit()
    np.testing.assert_allclose(fit.own_transition_, without_planted(fit.transition_, 60 / 2000))
    assert np.trace(fit.own_transition_) > np.trace(fit.transition_)


def test_how_often_the_noise_would_draw_the_classes_that_were_planted():
    """Of three classes planting draws either other one with a half."""
    transition = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]])
    posterior = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0.5]])
    odds = planted.odds_of_drawing(transition, posterior, np.array([1, 2, 0, 0, 1]))
    np.testing.assert_allclose(odds, [2, 0, 0, 1, 1.5])

"""Predictions aligned to known class frequencies, and the posterior of the true class given prediction and label."""

import warnings

import numpy as np
import pytest
from scipy.special import softmax

from tests.utils.scoring.drawn_labels import pick, symmetric
from utils.scoring import label_posterior
from utils.scoring.label_posterior import LabelPosterior, align, relabelled, surest, wrong


def draw(rate, size=20_000, num_classes=5, seed=0, transition=None):
    """Calibrated predictions, the classes drawn from them, and labels of which `rate` are wrong (or `transition`)."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(num_classes, 0.3), size)
    if transition is None:
        transition = symmetric(rate, num_classes)
    return probs, *(clean := pick(probs, generator), pick(transition[clean], generator))


def unsharp(probs):
    """What the default temperature of 0.5 makes `probs` again, but for the alignment."""
    probs = np.sqrt(probs)
    return probs / probs.sum(axis=1, keepdims=True)


def fit(probs, labels, **arguments):
    """Fitted without a warning, numpy's included."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return LabelPosterior(**arguments).fit(probs, labels)


def calibration_error(p_noisy, is_noisy):
    """Largest gap, over ten equal ranges with at least 200 samples, between mean p_noisy and the share of wrong."""
    bins = np.minimum((10 * p_noisy).astype(int), 9)
    members = [bins == k for k in range(10) if np.count_nonzero(bins == k) >= 200]
    return max(abs(p_noisy[m].mean() - is_noisy[m].mean()) for m in members)


# Alignment.


def test_one_round_by_hand():
    # Means 0.6 and 0.4, prior halves: factors 5/6 and 5/4, whose ratio is 1.5, so the odds fall by it.
    aligned, factors = align(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0.5, 0.5]), rounds=1)
    np.testing.assert_allclose(aligned, [[8 / 11, 3 / 11], [4 / 13, 9 / 13]], rtol=1e-6)
    np.testing.assert_allclose(factors, [1.5**-0.5, 1.5**0.5])
    assert aligned.dtype == np.float32 and factors.dtype == np.float64


def test_no_round_changes_nothing():
    probs = draw(0.4, 50)[0]
    aligned, factors = align(probs, np.full(5, 0.2), rounds=0)
    np.testing.assert_allclose(aligned, probs, atol=1e-7)
    np.testing.assert_array_equal(factors, 1)


def test_the_mean_prediction_becomes_the_prior():
    generator = np.random.default_rng(0)
    probs = softmax(generator.normal(size=(2000, 4)) + [1.5, 0, -1, 0.5], axis=1)
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    far = np.abs(probs.mean(axis=0) - prior).max()
    gaps = [np.abs(align(probs, prior, rounds)[0].mean(axis=0) - prior).max() for rounds in (1, 3, 10, 50)]
    # Soft predictions move less than their factor says, by a constant share a round; ten rounds bring most of it.
    assert far > 0.1 and sorted(gaps, reverse=True) == gaps and gaps[2] < 0.02 * far and gaps[3] < 1e-6


def test_factors_fold_into_the_logits():
    generator = np.random.default_rng(1)
    logits = 3 * generator.normal(size=(500, 6)) + generator.normal(size=6)
    probs = softmax(logits, axis=1)
    aligned, factors = align(probs, generator.dirichlet(np.ones(6)))
    assert np.log(factors).mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(aligned, softmax(logits + np.log(factors), axis=1), atol=1e-6)
    # Counts, and rows that do not sum to 1, are taken for what they are up to a factor.
    np.testing.assert_allclose(align(7 * probs, 300 * np.full(6, 1 / 6))[0], align(probs, np.ones(6))[0], atol=1e-7)


def test_aligned_predictions_stay_and_are_idempotent():
    probs = draw(0.4, 3000)[0]
    mean = probs.mean(axis=0)
    np.testing.assert_allclose(align(probs, mean)[1], 1, atol=1e-9)
    once, _ = align(probs, np.full(5, 0.2), rounds=200)
    np.testing.assert_allclose(align(once, np.full(5, 0.2))[1], 1, atol=1e-5)


def test_classes_without_a_prior_or_a_prediction():
    probs = np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    aligned, factors = align(probs, np.array([1.0, 0.0, 0.0]))
    assert np.isfinite(np.log(factors)).all() and np.isfinite(aligned).all()
    assert aligned[:, 0].min() > 0.98  # the second has no prior and becomes rare
    assert not align(probs, np.array([0.2, 0.2, 0.6]))[0][:, 2].any()  # the third is never predicted, and stays so


def test_a_class_hardly_ever_predicted_gets_no_boundless_factor():
    probs = np.array([[1 - 1e-12, 1e-12]] * 3)
    aligned, factors = align(probs, np.array([0.5, 0.5]), rounds=1000)
    assert factors[1] / factors[0] <= 1e6 and aligned[:, 1].max() < 1e-5


# The posterior, by hand.


def test_two_classes_by_hand():
    # One class each, mirror images: aligned as they are. Squared, 0.8 : 0.2 is 16 : 1. Symmetric noise alone, two EM
    # steps from the rate 0.3. Agreeing label: 16 * 0.7 : 0.3 = 112 : 3. Contradicting one: 0.7 : 16 * 0.3 = 7 : 48.
    probs = np.array([[0.8, 0.2], [0.2, 0.8], [0.8, 0.2], [0.2, 0.8]])
    agreeing = np.array([0, 1, 1, 0])
    start = fit(probs, agreeing, shrink=np.inf, iterations=0)
    np.testing.assert_allclose(start.p_noisy(agreeing), [3 / 115, 3 / 115, 48 / 55, 48 / 55], rtol=1e-5)
    rate = (3 / 115 + 48 / 55) / 2
    assert start.noise_rate_ == pytest.approx(rate, rel=1e-5)
    step = fit(probs, agreeing, shrink=np.inf, iterations=1)
    np.testing.assert_allclose(step.transition_, [[1 - rate, rate], [rate, 1 - rate]])
    contradicting = 16 * rate / (16 * rate + 1 - rate)
    assert step.p_noisy(agreeing)[2] == pytest.approx(contradicting, rel=1e-5)
    np.testing.assert_array_equal(step.posterior_.argmax(1), [0, 1, 0, 1])


def test_agrees_with_a_sample_by_sample_loop():
    probs, _, labels = draw(0.3, 60, 3)
    given = np.bincount(labels, minlength=3) / 60
    sharp = align(probs, given)[0].astype(float) ** 2
    sharp /= sharp.sum(axis=1, keepdims=True)
    matrix, factors = symmetric(0.3, 3), np.ones(3)

    def unfolded():
        prior = given
        for _ in range(30):
            folded = [sum(prior[c] * matrix[c, y] for c in range(3)) for y in range(3)]
            prior = np.array([prior[c] * sum(matrix[c, y] * given[y] / folded[y] for y in range(3)) for c in range(3)])
        return prior

    def step():
        aligned = sharp * factors / (sharp * factors).sum(axis=1, keepdims=True)
        return factors * unfolded() / aligned.mean(axis=0)

    for _ in range(10):
        factors = step()
    for iteration in range(8):
        likely = sharp * factors if iteration < 7 else align(sharp, unfolded())[0].astype(float)
        posterior = np.array([[likely[i, c] * matrix[c, labels[i]] for c in range(3)] for i in range(60)])
        posterior /= posterior.sum(axis=1, keepdims=True)
        if iteration == 7:
            break
        rate = np.mean([1 - posterior[i, labels[i]] for i in range(60)])
        counts = 0.3 * 60 / 3 * symmetric(rate, 3)
        for i in range(60):
            counts[:, labels[i]] += posterior[i]
        matrix = counts / counts.sum(axis=1, keepdims=True)
        factors = step()
    model = fit(probs, labels, iterations=7)
    # `align` hands out float32 where the class goes on in float64.
    np.testing.assert_allclose(model.posterior_, posterior, atol=1e-5)
    np.testing.assert_allclose(model.transition_, matrix, atol=1e-5)


def test_the_surest_of_each_class_by_hand():
    probs = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.4, 0.6, 0], [0.4, 0.6, 0]])
    ids, predicted = surest(probs)
    assert ids.tolist() == [0, 2, 3, 4, 5] and predicted.tolist() == [0, 0, 1, 1, 1]  # of equals none is left out


def test_the_matrix_of_anchors_by_hand():
    # Five samples are predicted as class 0; the surest three of them carry 0, 0, 1. One as class 1: it carries 1.
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.65, 0.35], [0.6, 0.4], [0.1, 0.9]])
    model = fit(probs, np.array([0, 1, 0, 1, 1, 1]), shrink=np.inf, towards="anchors", rounds=0)
    # 0.02 of an average class, which is two samples: 0.04 of the symmetric matrix, whose rate is 1 of 4.
    counts = np.array([[2.0, 1.0], [0.0, 1.0]]) + 0.04 * np.array([[0.75, 0.25], [0.25, 0.75]])
    np.testing.assert_allclose(model.transition_, counts / counts.sum(axis=1, keepdims=True))


def test_predictions_between_two_classes_are_explained_by_what_anchors_carry():
    # A third of class 0 is labelled 1, and a network that learnt this predicts (2/3, 1/3) for all of it. So would one
    # to which these images look like both. Which it is the noise matrix decides, and the labels alone do not.
    probs = np.repeat([[2 / 3, 1 / 3], [0.01, 0.99]], 300, axis=0)
    labels = np.append(np.tile([0, 1, 0], 100), np.ones(300, dtype=int))
    found = {towards: fit(probs, labels, towards=towards) for towards in ("symmetric", "anchors")}
    assert found["anchors"].noise_rate_ == pytest.approx(1 / 6, abs=0.05)
    assert found["anchors"].transition_[0, 1] == pytest.approx(1 / 3, abs=0.05)
    np.testing.assert_allclose(found["anchors"].prior_, 0.5, atol=0.05)
    assert found["symmetric"].noise_rate_ < 0.01


def test_towards_what_is_checked():
    with pytest.raises(ValueError, match="'symmetric' or 'anchors', not 'sure'"):
        LabelPosterior(towards="sure")


# What it promises.


@pytest.mark.parametrize("towards", ["symmetric", "anchors"])
@pytest.mark.parametrize("shrink", [0.0, 0.3, np.inf])
def test_shapes_types_and_sums(shrink, towards):
    probs, _, labels = draw(0.4, 500)
    model = fit(probs.astype(np.float32), labels, shrink=shrink, towards=towards)
    assert model.posterior_.shape == (500, 5) and model.posterior_.dtype == np.float32
    np.testing.assert_allclose(model.posterior_.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(model.transition_.sum(axis=1), 1)
    p_noisy = model.p_noisy(labels)
    np.testing.assert_allclose(p_noisy, 1 - model.posterior_[np.arange(500), labels], atol=1e-6)
    assert p_noisy.min() >= 0 and p_noisy.max() <= 1
    assert model.noise_rate_ == pytest.approx(p_noisy.mean(), rel=1e-5)
    np.testing.assert_array_equal(model.factors_, align(probs.astype(np.float32), np.bincount(labels) / 500)[1])


def test_the_input_is_untouched_and_the_fit_repeatable():
    probs, _, labels = draw(0.4, 300)
    probs = 2 * probs
    before = probs.copy(), labels.copy()
    first = fit(probs, labels)
    np.testing.assert_array_equal(fit(probs, labels).posterior_, first.posterior_)
    posterior = first.posterior_.copy()
    first.p_noisy(labels)
    align(probs, np.full(5, 0.2))
    np.testing.assert_array_equal(first.posterior_, posterior)
    np.testing.assert_array_equal(probs, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("towards", ["symmetric", "anchors"])
def test_the_order_of_samples_and_of_classes_does_not_matter(towards):
    probs, _, labels = draw(0.4, 400)
    probs = np.round(probs, 1) + 0.01  # many are as sure as others
    model = fit(probs, labels, towards=towards)
    samples, classes = (
        np.random.default_rng(1).permutation(400),
        np.array([3, 0, 4, 1, 2]),
    )  # new class k was classes[k]
    shuffled = fit(probs[samples], labels[samples], towards=towards)
    np.testing.assert_allclose(shuffled.posterior_, model.posterior_[samples], atol=1e-6)
    renamed = fit(probs[:, classes], np.argsort(classes)[labels], towards=towards)
    np.testing.assert_allclose(renamed.posterior_, model.posterior_[:, classes], atol=1e-6)
    np.testing.assert_allclose(renamed.transition_, model.transition_[np.ix_(classes, classes)], atol=1e-6)
    np.testing.assert_allclose(renamed.factors_, model.factors_[classes])


def test_a_bias_between_classes_does_not_matter():
    # What one factor a class distorts, the alignment mends, up to its last rounds.
    probs, _, labels = draw(0.4, 3000)
    biased = probs * [3, 1, 0.4, 1, 0.8]
    rounds = 300
    expected = fit(probs, labels, rounds=rounds)
    np.testing.assert_allclose(fit(biased, labels, rounds=rounds).posterior_, expected.posterior_, atol=1e-4)


def test_the_posterior_of_a_label_rises_with_its_prediction():
    # All samples of one label and one shape of prediction, differing only in how sure it is of the label.
    own = np.linspace(0.01, 0.97, 49)
    probs = np.concatenate([np.stack([own, *[(1 - own) / 2] * 2], axis=1)] * 3)
    probs = np.concatenate([np.roll(probs[:49], k, axis=1) for k in range(3)])
    labels = np.repeat(np.arange(3), 49)
    p_noisy = fit(probs, labels).p_noisy(labels).reshape(3, 49)
    assert (np.diff(p_noisy, axis=1) < 0).all()


def test_near_zero_p_noisy_keeps_its_order():
    labels = np.zeros(4, dtype=int)
    p_noisy = fit(np.array([[1 - 10.0**-k, 10.0**-k] for k in (3, 5, 7, 9)]), labels).p_noisy(labels)
    assert (np.diff(p_noisy) < 0).all() and p_noisy[-1] > 0


# Statistics.


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4])
def test_the_noise_rate_the_transition_and_calibration(rate):
    probs, clean, labels = draw(rate)
    model = fit(unsharp(probs), labels)
    is_noisy = labels != clean
    # The realised share of 20,000 is known; as the true classes are not, the estimate has a standard error near
    # sqrt(0.25 / 20,000) / 0.75 = 0.005. Aligned priors are those of the observed labels: here uniform, like the true.
    assert model.noise_rate_ == pytest.approx(is_noisy.mean(), abs=0.015)
    # An entry is a share of the 4,000 samples of a class: 0.008 for each at most, and thirty of them.
    np.testing.assert_allclose(model.transition_, symmetric(rate, 5), atol=0.03)
    assert calibration_error(model.p_noisy(labels), is_noisy) < 0.05  # 200 samples: 0.035 for one sigma at most
    # The predictions' argmax is right for 0.64 only, so that it mends no more than a part.
    assert np.mean(model.posterior_.argmax(1) == clean) > np.mean(labels == clean) + rate / 6


def test_clean_labels_are_left_alone():
    probs, clean, _ = draw(0)
    model = fit(unsharp(probs), clean)
    # The rate is held at 0.005 for the matrix; the posterior of a label may be lower or higher by its prediction.
    assert model.noise_rate_ < 0.01 and np.mean(model.posterior_.argmax(1) == clean) > 0.99


def test_a_class_dependent_transition():
    transition = np.eye(5)
    transition[0, :2] = 0.6, 0.4
    transition[1, 1:3] = 0.7, 0.3
    probs, clean, labels = draw(0, transition=transition)
    model = fit(unsharp(probs), labels)
    # The prior of the labels is not that of the classes: too few of the first, 0.12 for 0.20. An entry without
    # shrinkage has the standard error of a share of 4,000, and of the predictions that tell who they are: 0.015.
    loose = fit(unsharp(probs), labels, shrink=0)
    np.testing.assert_allclose(loose.transition_, transition, atol=0.05)
    np.testing.assert_allclose(loose.prior_, np.bincount(clean) / 20_000, atol=0.015)
    assert abs(np.bincount(labels)[0] / 20_000 - 0.2) > 0.05  # else it would not show
    # Shrunk, half of it is lost, but which class takes the labels of which is still plain.
    for true, observed in ((0, 1), (1, 2)):
        others = np.delete(model.transition_[true], [true, observed])
        assert 0.4 < model.transition_[true, observed] / transition[true, observed] < 0.7
        assert model.transition_[true, observed] > 6 * others.max()
    assert model.noise_rate_ == pytest.approx(np.mean(labels != clean), abs=0.02)


def test_a_part_of_many_samples_finds_the_matrix(monkeypatch):
    probs, _, labels = draw(0.4)
    whole = fit(unsharp(probs), labels)
    monkeypatch.setattr(label_posterior, "EM_SAMPLES", 2_500)  # of 20,000
    part = fit(unsharp(probs), labels)
    # Entries of 500 samples of a class: a standard error of sqrt(0.24 / 500) = 0.02 each, and fifty of them.
    np.testing.assert_allclose(part.transition_, whole.transition_, atol=0.06)
    assert np.abs(part.transition_ - whole.transition_).max() > 1e-4  # it was a part
    assert part.posterior_.shape == whole.posterior_.shape
    assert part.noise_rate_ == pytest.approx(whole.noise_rate_, abs=0.03)
    # A part of each class, also where classes come in turn and every eighth sample is of one.
    turns = np.argsort(np.argsort(labels, kind="stable") % 4000, kind="stable")
    in_turn = fit(unsharp(probs)[turns], labels[turns])
    np.testing.assert_allclose(in_turn.transition_, whole.transition_, atol=0.06)


def test_class_frequencies_are_unfolded_by_hand():
    # Of the first class 0.4 are labelled as the second: 0.3 of the labels are 0.6 of it, the prior halves.
    unfolded = label_posterior._unfolded(np.array([0.3, 0.7]), np.array([[0.6, 0.4], [0.0, 1.0]]), rounds=300)
    np.testing.assert_allclose(unfolded, [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(label_posterior._unfolded(np.array([0.3, 0.7]), np.eye(2)), [0.3, 0.7])
    # A class without a label has no samples; nothing is divided by zero.
    np.testing.assert_allclose(label_posterior._unfolded(np.array([0.0, 1.0]), np.eye(2)), [0, 1])


def test_the_sharper_the_more_is_called_wrong():
    probs, _, labels = draw(0.4, 5000)
    rates = [fit(unsharp(probs), labels, temperature=t).noise_rate_ for t in (1, 0.7, 0.5, 0.35)]
    assert sorted(rates) == rates


# Degenerate input.


def finite(model):
    posterior = model.posterior_
    assert np.isfinite(posterior).all() and np.isfinite(model.transition_).all() and np.isfinite(model.noise_rate_)
    assert np.isfinite(np.log(model.factors_)).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(model.transition_.sum(axis=1), 1)
    return model


ONE_HOT = np.eye(4)[np.random.default_rng(0).integers(0, 4, 200)]
LABELS = np.random.default_rng(1).integers(0, 4, 200)


@pytest.mark.parametrize("towards", ["symmetric", "anchors"])
@pytest.mark.parametrize("shrink", [0.0, 0.3, np.inf])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.01])
@pytest.mark.parametrize(
    "probs, labels",
    [
        (ONE_HOT, LABELS),
        (ONE_HOT, ONE_HOT.argmax(axis=1)),
        (ONE_HOT, (ONE_HOT.argmax(axis=1) + 1) % 4),
        (np.eye(4)[np.zeros(200, int)], LABELS),
        (np.eye(4)[np.zeros(200, int)], np.full(200, 3)),
        (np.full((200, 4), 0.25), LABELS),
        (np.full((200, 4), 0.25), np.zeros(200, int)),
        (np.tile([0.7, 0.1, 0.1, 0.1], (200, 1)), LABELS),
        (ONE_HOT, np.minimum(LABELS, 1)),
        (np.full((200, 4), 0.25) + 1e-30 * ONE_HOT, LABELS),
        (np.array([[0.2, 0.8]]), np.array([0])),
        (np.array([[0.0, 1.0]]), np.array([0])),
        (np.ones((3, 1)), np.zeros(3, int)),
    ],
)
def test_never_nan(probs, labels, temperature, shrink, towards):
    p_noisy = finite(fit(probs, labels, temperature=temperature, shrink=shrink, towards=towards)).p_noisy(labels)
    assert np.isfinite(p_noisy).all() and p_noisy.min() >= 0 and p_noisy.max() <= 1


def test_constant_predictions_know_nothing_but_the_label():
    model = fit(np.full((200, 4), 0.25), LABELS)
    np.testing.assert_array_equal(model.posterior_.argmax(1), LABELS)


def test_certain_predictions_that_agree_and_that_do_not():
    truth = ONE_HOT.argmax(axis=1)
    assert fit(ONE_HOT, truth).p_noisy(truth).max() == 0
    some = np.where(np.arange(200) < 40, (truth + 1) % 4, truth)
    np.testing.assert_array_equal(fit(ONE_HOT, some).p_noisy(some), np.arange(200) < 40)


@pytest.mark.parametrize(
    "probs, labels",
    [
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.ones(3), np.zeros(3, int)),
        (np.array([[np.nan, 1.0]]), np.array([0])),
        (np.array([[-0.1, 1.1]]), np.array([0])),
        (np.array([[0.0, 0.0]]), np.array([0])),
        (np.ones((2, 2)), np.array([0, 2])),
        (np.ones((2, 2)), np.array([-1, 0])),
        (np.ones((2, 2)), np.array([0])),
    ],
)
def test_what_is_no_prediction_or_no_label_is_an_error(probs, labels):
    with pytest.raises(ValueError, match="must be"):
        LabelPosterior().fit(probs, labels)


def test_no_label_is_likelier_than_a_class_of_its_own():
    """Else two classes may change places: of class 0 more samples are labelled 1 than 0."""
    counts = np.array([[40.0, 60.0], [1.0, 99.0]])
    found = label_posterior._shrunk(counts, 0.0, np.full((2, 2), 0.5))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.01, 0.99]])


@pytest.mark.parametrize("prior", [np.ones(3), np.zeros(2), np.array([-1.0, 2.0]), np.array([np.nan, 1.0])])
def test_what_is_no_prior_is_an_error(prior):
    with pytest.raises(ValueError, match="prior must be 2 numbers"):
        align(np.ones((2, 2)), prior)


def test_asking_before_a_fit_is_an_error():
    with pytest.raises(RuntimeError, match="call fit first"):
        LabelPosterior().p_noisy(LABELS)


def test_other_labels_have_another_posterior():
    probs, _, labels = draw(0.4, size=300)
    found = fit(probs, labels, iterations=3)
    np.testing.assert_allclose(found.of(labels), found.posterior_, atol=1e-6)
    others = (labels + 1) % 5
    moved = found.of(others)
    np.testing.assert_allclose(moved.sum(1), 1, atol=1e-5)
    assert (moved[np.arange(300), others] > found.posterior_[np.arange(300), others]).mean() > 0.99
    # The same from the posterior and the matrix alone, as ssl.py has them.
    np.testing.assert_allclose(relabelled(found.posterior_, found.transition_, labels, others), moved, atol=1e-4)
    np.testing.assert_allclose(found.label_probs(), found.likely_ @ found.transition_)
    np.testing.assert_allclose(wrong(moved, others), 1 - moved[np.arange(300), others], atol=1e-5)

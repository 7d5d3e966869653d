"""Planted errors: how scores rank them, and the noise rate and p_noisy that they give."""

import warnings

import numpy as np
import pytest

from utils.scoring.planted import MAX_RATE, PlantedCalibration, _logistic, planted_auc


def draw(rate, size=20_000, num_planted=600, distance=3.0, seed=0):
    """Scores N(0, 1) of right labels and N(distance, 1) of wrong ones: (rest, is_noisy of the rest, planted)."""
    generator = np.random.default_rng(seed)
    is_noisy = np.arange(size) < round(rate * size)
    return (
        generator.normal(size=size) + distance * is_noisy,
        is_noisy,
        generator.normal(distance, size=num_planted),
    )


def true_posterior(scores, rate, distance=3.0):
    log_odds = np.log(rate / (1 - rate)) + distance * scores - distance**2 / 2
    return 1 / (1 + np.exp(-log_odds))


def fit(rest, planted):
    """Fitted without a warning, numpy's and scikit-learn's included."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return PlantedCalibration().fit(rest, planted)


def fit_usable(rest, planted):
    calibration = fit(rest, planted)
    assert calibration.usable_ and calibration.reason_ is None
    return calibration


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


def test_auc_ranks_scores_as_the_true_auc_does():
    planted_aucs, true_aucs = [], []
    for distance in (0.5, 1, 1.5, 2, 3):
        rest, is_noisy, planted = draw(0.4, distance=distance)
        planted_aucs.append(planted_auc(rest, planted))
        true_aucs.append(planted_auc(rest[~is_noisy], rest[is_noisy]))
    assert sorted(planted_aucs) == planted_aucs
    # r / 2 + (1 - r) AUC, with a standard error of 0.29 / sqrt(600) = 0.012; three of them.
    np.testing.assert_allclose(planted_aucs, 0.2 + 0.6 * np.array(true_aucs), atol=0.036)


# Noise rate and p_noisy.


def test_the_rate_by_hand():
    # Thirty right labels score 0 to 29; of 20 wrong ones and of 20 planted each scores 100 to 119. Above any quantile
    # of the planted lie as many wrong ones as planted: the bound is 20 / 50 at each.
    high = np.arange(100, 120)
    calibration = fit_usable(np.concatenate([np.arange(30), high]), high)
    assert calibration.noise_rate_ == pytest.approx(20 / 50)
    # The planted at 100 to 119 have no wrong label beside them in a clean set.
    assert fit_usable(np.arange(100), high + 1000).noise_rate_ == 0
    assert not PlantedCalibration().fit(np.arange(100), high + 1000).p_noisy(np.arange(2000)).any()


def test_the_rate_where_scores_tie():
    # A memorising network: half of the wrong labels score 5 like all others, exactly.
    rest, planted = np.repeat([0.0, 5.0], [60, 40]), np.full(30, 5.0)
    assert fit_usable(rest, planted).noise_rate_ == pytest.approx(0.4)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4])
def test_rate_and_calibration(rate):
    for seed in range(3):
        rest, is_noisy, planted = draw(rate, seed=seed)
        calibration = fit_usable(rest, planted)
        # A tail above the q-quantile of 600 has a relative standard error of sqrt(q / (1 - q) / 600): 0.033 at 0.4,
        # 0.062 at 0.7, and the lowest of four lies below their mean. At 0.4 right labels still add (1 - r) P(z > 2.75),
        # 0.003 / 0.6. Three times the middle of it, 0.045, is 0.13 of the rate.
        assert calibration.noise_rate_ == pytest.approx(rate, rel=0.13)
        p_noisy = calibration.p_noisy(rest)
        bins = np.minimum((10 * p_noisy).astype(int), 9)
        members = [bins == k for k in range(10)]
        gaps = [m.mean() * abs(p_noisy[m].mean() - is_noisy[m].mean()) for m in members if m.any()]
        assert sum(gaps) < 0.05
        assert np.abs(p_noisy - true_posterior(rest, rate)).mean() < 0.05
        called = p_noisy >= 0.9
        assert called.any() and is_noisy[called].mean() > 0.9


def test_a_clean_set_is_called_clean():
    rest, _, planted = draw(0)
    calibration = fit_usable(rest, planted)
    # Of the right labels 0.02 % lie above the planted ones' 0.7-quantile, 3.5.
    assert calibration.noise_rate_ < 0.01 and calibration.p_noisy(rest).mean() < 0.01


@pytest.mark.parametrize("rate", [0.05, 0.4, 0.8])
@pytest.mark.parametrize("distance", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("num_planted", [30, 600])
def test_p_noisy_never_falls_and_stays_within_0_and_1(rate, distance, num_planted):
    rest, _, planted = draw(rate, size=2000, num_planted=num_planted, distance=distance)
    calibration = fit(rest, planted)
    if not calibration.usable_:  # thirty among 80 % wrong ones may not stand out
        assert rate == 0.8
        return
    p_noisy = calibration.p_noisy(np.linspace(-10, 20, 30_001))
    assert p_noisy.dtype == np.float64 and p_noisy.min() >= 0 and p_noisy.max() <= 1
    assert np.diff(p_noisy).min() >= 0 and p_noisy[0] < p_noisy[-1]
    assert 0 <= calibration.noise_rate_ <= MAX_RATE < 1


def test_a_low_tail_of_planted_errors_does_not_lift_the_middle():
    # A tenth of the planted score lowest of all: the parabola of the logistic turns up at the low end.
    rest, is_noisy, planted = draw(0.3)
    planted[:60] = -5
    p_noisy = fit_usable(rest, planted).p_noisy(rest)
    assert p_noisy[~is_noisy].mean() < 0.15 and np.median(p_noisy[is_noisy]) > 0.7


def test_only_the_order_of_the_scores_matters():
    rest, _, planted = draw(0.4, size=3000, num_planted=200)
    expected = fit_usable(rest, planted)
    for change in (lambda s: 8 * s - 3, np.exp):
        moved = fit_usable(change(rest), change(planted))
        assert moved.noise_rate_ == pytest.approx(expected.noise_rate_, abs=2 / 3000)  # quantiles interpolate
        np.testing.assert_allclose(moved.p_noisy(change(rest)), expected.p_noisy(rest), atol=0.01)


def test_the_order_of_the_samples_does_not_matter_and_the_input_is_untouched():
    rest, _, planted = draw(0.4, size=3000, num_planted=200)
    before = rest.copy(), planted.copy()
    expected = fit_usable(rest, planted).p_noisy(rest)
    shuffled = np.random.default_rng(1).permutation(3000)
    again = fit_usable(rest[shuffled], planted[::-1])
    np.testing.assert_allclose(again.p_noisy(rest), expected, atol=1e-4)  # the logistic's solver stops at 1e-4
    np.testing.assert_array_equal(rest, before[0])
    np.testing.assert_array_equal(planted, before[1])


def test_equal_scores_get_equal_probabilities():
    generator = np.random.default_rng(0)
    rest = np.concatenate([generator.integers(0, 5, 600), generator.integers(3, 8, 400)]).astype(np.float32)
    planted = generator.integers(3, 8, 100).astype(np.float32)
    p_noisy = fit_usable(rest, planted).p_noisy(rest)
    assert all(len(set(p_noisy[rest == value])) == 1 for value in range(8))
    # And which of them comes first changes nothing.
    np.testing.assert_allclose(fit_usable(rest[::-1], planted[::-1]).p_noisy(rest), p_noisy, atol=1e-4)


def test_the_curve_by_maximum_likelihood():
    generator = np.random.default_rng(0)
    x = generator.logistic(size=20_000)
    wrong = 1 / (1 + np.exp(1 - 3 * x - 0.2 * x**2))
    planted = generator.choice(x, 2000, p=wrong / wrong.sum())
    flags = np.arange(22_000) >= 20_000
    found = _logistic(np.concatenate([x, planted]), flags, wrong.mean())[:20_000]
    # Below the valley at x = -7.5 the curve is held. Of 2,000 planted a twentieth, 100, has a relative standard error
    # of 0.1; the three weights share all 2,000.
    assert np.abs(found - wrong)[x > -7.5].max() < 0.08 and np.abs(found - wrong).mean() < 0.02
    # No curve nearby is likelier.
    middle = np.abs(x) < 3
    weights = np.polyfit(x[middle], np.log(found[middle]) - np.log1p(-found[middle]), 2)

    def minus_log_likelihood(weights):
        p = 1 / (1 + np.exp(-np.polyval(weights, np.concatenate([x, planted]))))
        odds = 2000 / (20_000 * wrong.mean()) * p
        return -np.where(flags, np.log(odds / (1 + odds)), -np.log1p(odds)).sum()

    least = minus_log_likelihood(weights)
    for step in 0.02 * np.concatenate([np.eye(3), -np.eye(3)]):
        assert minus_log_likelihood(weights + step) > least


def test_beyond_its_peak_the_curve_is_held():
    # All planted lie in the middle: a parabola with its peak there.
    x = np.concatenate([np.linspace(-5, 5, 2001), np.linspace(-1, 2, 200)])
    found = _logistic(x, np.arange(2201) > 2000, 0.25)[:2001]
    assert np.diff(found).min() >= 0
    np.testing.assert_array_equal(found[1201:], found[-1])
    assert found[0] < 0.01 and found[-1] > 0.5


def test_steps_and_curve_both_take_part():
    rest, _, planted = draw(0.4, size=3000, num_planted=100)
    calibration = fit_usable(rest, planted)
    p_noisy = np.sort(calibration.p_noisy(rest))
    assert len(np.unique(p_noisy)) > 1000  # isotonic regression alone has one step for each planted error at most
    assert np.diff(p_noisy).max() > 0.03  # the curve alone would have none


# When it is not usable.


def reason(rest, planted):
    calibration = fit(rest, planted)
    assert not calibration.usable_
    with pytest.raises(RuntimeError, match="not usable"):
        calibration.p_noisy(np.zeros(3))
    return calibration.reason_


def test_too_few():
    rest, _, planted = draw(0.4, size=1000, num_planted=9)
    assert reason(rest, planted) == "9 planted errors beside 1000 samples are too few"
    assert "too few" in reason(rest, planted[:0])
    assert "too few" in reason(planted[:0], rest)


def test_constant_scores():
    assert reason(np.full(100, 0.3), np.full(20, 0.3)) == "all scores are the same"
    assert reason(np.zeros(100), np.zeros(20)) == "all scores are the same"
    almost = np.float32(1000), np.nextafter(np.float32(1000), np.float32(2000))
    assert reason(np.full(100, almost[0]), np.full(20, almost[1])) == "all scores are the same"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(bad):
    rest, _, planted = draw(0.4, size=1000, num_planted=50)
    rest[3] = planted[7] = bad
    assert reason(rest, planted) == "2 of 1050 scores are not finite"


def test_planted_errors_that_do_not_stand_out():
    # At distance 0 two standard errors are passed by chance once in 44 draws: three seeds seen to stay below.
    for seed in range(3):
        rest, _, planted = draw(0.4, distance=0, seed=seed)
        assert reason(rest, planted) == "the planted errors do not score higher than the rest"
    rest, _, planted = draw(0.4)
    assert reason(-rest, -planted) == "the planted errors do not score higher than the rest"


def test_scores_that_are_no_vector_are_an_error():
    with pytest.raises(ValueError, match="must be vectors"):
        PlantedCalibration().fit(np.zeros((5, 2)), np.zeros(5))


def test_asking_before_a_fit_is_an_error():
    with pytest.raises(RuntimeError, match="call fit first"):
        PlantedCalibration().p_noisy(np.zeros(3))


def test_a_second_fit_forgets_the_first():
    rest, _, planted = draw(0.4, size=2000, num_planted=100)
    calibration = PlantedCalibration().fit(np.zeros(50), np.zeros(20))
    calibration.fit(rest, planted)
    assert calibration.usable_ and calibration.reason_ is None
    np.testing.assert_array_equal(calibration.p_noisy(rest), fit(rest, planted).p_noisy(rest))

"""The beta mixture: what it learns, what it promises of the posterior, and when it declares itself unusable."""

import math
import warnings

import numpy as np
import pytest
from scipy.special import betaln

from utils.scoring.mixture import BetaMixture


def two_betas(clean, noisy, share, size=20_000, seed=0):
    """Scores drawn from Beta(*clean) and, for `share` of them, Beta(*noisy); and is_noisy."""
    generator = np.random.default_rng(seed)
    is_noisy = np.arange(size) < round(share * size)
    return np.where(is_noisy, generator.beta(*noisy, size), generator.beta(*clean, size)), is_noisy


def losses(share, size=5_000, seed=0):
    """What cross-entropies look like: a clean heap that decays from 0, a broad hump of noisy ones; and is_noisy."""
    generator = np.random.default_rng(seed)
    is_noisy = np.arange(size) < round(share * size)
    return np.where(is_noisy, generator.gamma(6, 0.5, size), generator.exponential(0.3, size)), is_noisy


def true_posterior(scores):
    """Of Beta(8, 2) with weight 0.4 against Beta(2, 8), whose normalisers are equal."""
    log_odds = np.log(0.4 / 0.6) + 6 * np.log(scores) - 6 * np.log1p(-scores)
    return 1 / (1 + np.exp(-log_odds))


def fit(scores, **arguments):
    """A mixture fitted without a warning, numpy's included: those at the end of a long run help nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return BetaMixture(**arguments).fit(scores)


def fit_usable(scores, **arguments):
    mixture = fit(scores, **arguments)
    assert mixture.usable_ and mixture.reason_ is None
    return mixture


def posteriors(mixture, scores):
    """Of both components, (N, 2), before that of the noisy one is held at an end."""
    return mixture._posterior(mixture._scale(scores))


def log_beta(x, alpha, beta):
    log_norm = math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
    return (alpha - 1) * math.log(x) + (beta - 1) * math.log(1 - x) - log_norm


def slow_em(scores, iterations):
    """The same algorithm, one sample at a time. Returns the posteriors of all scores, a list of (clean, noisy)."""
    low, high = np.percentile(scores, [5, 95])
    scaled = [min(max((s - low) / (high - low), 1e-3), 1 - 1e-3) for s in scores]
    fitted = [x for x, s in zip(scaled, scores, strict=True) if low <= s <= high]
    weights, alphas, betas = [0.5, 0.5], [1.0, 2.0], [2.0, 1.0]

    def posterior(x):
        joint = [weights[k] * math.exp(log_beta(x, alphas[k], betas[k])) for k in (0, 1)]
        return [value / sum(joint) for value in joint]

    for _ in range(iterations):
        resp = [posterior(x) for x in fitted]
        for k in (0, 1):
            total = sum(r[k] for r in resp)
            mean = sum(r[k] * x for r, x in zip(resp, fitted, strict=True)) / total
            variance = sum(r[k] * (x - mean) ** 2 for r, x in zip(resp, fitted, strict=True)) / total
            alphas[k] = mean * (mean * (1 - mean) / variance - 1)
            betas[k] = alphas[k] * (1 - mean) / mean
            weights[k] = total / len(fitted)
    return [posterior(x) for x in scaled]


# What it learns.


def test_recovers_the_parameters_that_drew_the_scores():
    scores, _ = two_betas((2, 8), (9, 3), share=0.4)
    scores[:2] = 0, 1  # with percentiles 0 and 100 the scaling is then the identity
    mixture = fit_usable(scores, max_iter=500, percentiles=(0, 100))
    assert mixture.converged_
    # 12,000 and 8,000 samples: a beta's parameter by moments has a relative standard error near
    # sqrt(2 / n) = 1.3 % to 1.6 %, some more for the overlap; a share of 0.4 one of 0.005. Four of them each.
    np.testing.assert_allclose(mixture.weights_, [0.6, 0.4], atol=0.02)
    np.testing.assert_allclose(mixture.alphas_, [2, 9], rtol=0.08)
    np.testing.assert_allclose(mixture.betas_, [8, 3], rtol=0.08)


def test_scaled_by_percentiles_it_still_finds_the_shares_the_means_and_the_posterior():
    scores, _ = two_betas((2, 8), (8, 2), share=0.4)
    mixture = fit_usable(scores, max_iter=1000)
    # What is cut off at either end belongs to one component, 5 % of all samples each: (0.4 - 0.05) / 0.9 = 0.39.
    # The tolerances are three times what the missing tails were seen to cost.
    assert mixture.weights_[1] == pytest.approx(0.39, abs=0.01)
    means = mixture.alphas_ / (mixture.alphas_ + mixture.betas_)
    np.testing.assert_allclose(mixture.low_ + (mixture.high_ - mixture.low_) * means, [0.2, 0.8], atol=0.07)
    assert np.abs(mixture.p_noisy(scores) - true_posterior(scores)).mean() < 0.005


def test_ten_iterations_already_tell_the_components_apart():
    scores, _ = two_betas((2, 8), (8, 2), share=0.4)
    p_noisy = fit_usable(scores).p_noisy(scores)
    # The published budget stops short of convergence here: the weight is 0.47 on its way from 0.5 to 0.39, and 4 % of
    # the samples, those between the humps, still lie on the other side than under the true posterior.
    assert np.mean((p_noisy > 0.5) == (true_posterior(scores) > 0.5)) > 0.94


def test_agrees_with_a_sample_by_sample_loop():
    scores, _ = losses(0.4, size=400)
    mixture = fit_usable(scores)
    assert mixture.n_iter_ == 10
    # Both take the same steps in float64; sums in another order differ in the last digits only.
    np.testing.assert_allclose(posteriors(mixture, scores), slow_em(scores, 10), atol=1e-9)


def test_the_likelihood_rises_on_scores_that_are_betas():
    # With moments in place of maximum likelihood a rise is no theorem; near the true family it holds up to the small
    # difference of the two estimates. Elsewhere only the end is promised to be better than the start.
    scores, _ = two_betas((2, 8), (8, 2), share=0.4)
    scores[:2] = 0, 1
    bounds = fit_usable(scores, percentiles=(0, 100)).lower_bounds_
    assert len(bounds) == 10
    assert np.diff(bounds).min() > -1e-5
    assert bounds[-1] > bounds[0] + 0.01


def test_the_last_lower_bound_is_the_likelihood_of_the_fitted_mixture():
    scores, _ = two_betas((2, 8), (8, 2), share=0.4, size=500)
    mixture = fit_usable(scores)
    fitted = scores[(scores >= mixture.low_) & (scores <= mixture.high_)]
    x = np.clip((fitted - mixture.low_) / (mixture.high_ - mixture.low_), 1e-3, 1 - 1e-3)
    density = 0
    for weight, alpha, beta in zip(mixture.weights_, mixture.alphas_, mixture.betas_, strict=True):
        density = density + weight * np.exp((alpha - 1) * np.log(x) + (beta - 1) * np.log(1 - x) - betaln(alpha, beta))
    assert mixture.lower_bounds_[-1] == pytest.approx(np.log(density).mean(), abs=1e-9)


def test_scores_outside_the_percentiles_do_not_move_the_fit():
    scores, _ = losses(0.4)
    far = np.where(scores > np.percentile(scores, 96), scores * 1000, scores)
    first, second = fit_usable(scores), fit_usable(far)
    np.testing.assert_array_equal(first.alphas_, second.alphas_)
    assert (first.low_, first.high_) == (second.low_, second.high_)


def test_scaling_and_shifting_the_scores_changes_nothing():
    scores, _ = losses(0.4)
    expected = fit_usable(scores).p_noisy(scores)
    moved = 8 * scores - 3
    np.testing.assert_allclose(fit_usable(moved).p_noisy(moved), expected, atol=1e-9)


def test_a_tolerance_ends_the_fit_early_and_the_budget_without_it():
    scores, _ = two_betas((2, 8), (8, 2), share=0.5)
    long = fit_usable(scores, max_iter=1000, tol=1e-6)
    assert long.converged_ and 10 < long.n_iter_ < 1000
    short = fit_usable(scores, max_iter=3)  # too few is the caller's wish: a flag, no refusal
    assert not short.converged_ and short.n_iter_ == 3


def test_the_density_integrates_to_one_over_the_fit_range():
    scores, _ = two_betas((2, 8), (8, 2), share=0.4)
    mixture = fit_usable(10 * scores)
    grid = np.linspace(mixture.low_, mixture.high_, 100_001)
    middle = mixture.component_densities((grid[1:] + grid[:-1]) / 2) * np.diff(grid)[:, None]
    # Clipping replaces the outer thousandths by a constant: an error of the order of 1e-3.
    np.testing.assert_allclose(middle.sum(axis=0), mixture.weights_, atol=5e-3)
    assert not mixture.component_densities(np.array([mixture.low_ - 1, mixture.high_ + 1])).any()


# What it promises of the posterior.

SHAPES = [two_betas((2, 8), (8, 2), q)[0] for q in (0.1, 0.4, 0.8)] + [losses(q)[0] for q in (0.2, 0.4, 0.6, 0.8)]


@pytest.mark.parametrize("scores", SHAPES)
def test_p_noisy_never_falls_and_stays_within_0_and_1(scores):
    p_noisy = fit_usable(scores).p_noisy(np.linspace(scores.min() - 1, scores.max() + 1, 20_001))
    assert np.diff(p_noisy).min() >= 0
    assert p_noisy.min() >= 0 and p_noisy.max() <= 1
    assert p_noisy[0] < 0.5 < p_noisy[-1]


@pytest.mark.parametrize("scores", SHAPES)
def test_weights_and_posteriors_sum_to_one_and_the_clean_mean_is_lower(scores):
    mixture = fit_usable(scores)
    assert mixture.weights_.sum() == pytest.approx(1)
    np.testing.assert_allclose(posteriors(mixture, scores).sum(axis=1), 1)
    clean, noisy = mixture.alphas_ / (mixture.alphas_ + mixture.betas_)
    assert clean < noisy


def hand_made(alphas, betas):
    mixture = BetaMixture()
    mixture.usable_, mixture.low_, mixture.high_ = True, 0.0, 1.0
    mixture.weights_, mixture.alphas_, mixture.betas_ = np.array([0.5, 0.5]), np.array(alphas), np.array(betas)
    return mixture


def test_beyond_its_peak_the_posterior_is_held_at_its_maximum():
    # Clean flat, noisy Beta(6, 3): x^5 (1-x)^2 peaks at 5/7, and would give the highest scores back to the flat one.
    mixture = hand_made([1.0, 6.0], [1.0, 3.0])
    grid = np.linspace(0.01, 0.99, 99)
    raw, held = posteriors(mixture, grid)[:, 1], mixture.p_noisy(grid)
    peak = 168 * (5 / 7) ** 5 * (2 / 7) ** 2  # density of Beta(6, 3) at 5/7: 1 / B(6, 3) = 168
    np.testing.assert_allclose(held[grid < 5 / 7], raw[grid < 5 / 7])
    np.testing.assert_allclose(held[grid > 5 / 7], peak / (1 + peak))
    assert raw[-1] < 0.1
    # Near the peak neighbours differ by less than a float's last digit, which must not fall either.
    assert np.diff(mixture.p_noisy(np.linspace(5 / 7 - 1e-6, 5 / 7, 10_001))).min() >= 0


def test_before_its_valley_the_posterior_is_held_at_its_minimum():
    # Noisy flat, clean Beta(3, 6): below 2/7 the flat one takes over again, though those scores are the lowest.
    mixture = hand_made([3.0, 1.0], [6.0, 1.0])
    grid = np.linspace(0.01, 0.99, 99)
    raw, held = posteriors(mixture, grid)[:, 1], mixture.p_noisy(grid)
    peak = 168 * (2 / 7) ** 2 * (5 / 7) ** 5
    np.testing.assert_allclose(held[grid > 2 / 7], raw[grid > 2 / 7])
    np.testing.assert_allclose(held[grid < 2 / 7], 1 / (1 + peak))
    assert raw[0] > 0.9


# When it is usable, and when not.


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_loss_histograms_have_a_second_mode(share):
    for seed in range(5):
        fit_usable(losses(share, seed=seed)[0])


@pytest.mark.parametrize("size", [1_500, 20_000])
def test_overlapping_humps_have_a_second_mode(size):
    # 0.6 Beta(2, 5) + 0.4 Beta(5, 2) dips to 0.90 between its peaks of 1.49 and 1.01.
    for seed in range(5):
        fit_usable(two_betas((2, 5), (5, 2), 0.4, size, seed)[0])


def test_two_values_are_told_apart():
    scores = np.repeat(np.float32([0.0, 1.0]), [60, 40])
    p_noisy = fit_usable(scores).p_noisy(scores)
    assert p_noisy[:60].max() < 0.01 and p_noisy[60:].min() > 0.99


def test_clean_losses_of_nearly_zero_are_told_apart():
    # A network that has memorised: the clean heap is narrower than the clipping of the scores.
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.exponential(1e-4, 600), generator.normal(8, 1, 400)])
    mixture = fit_usable(scores)
    assert np.all((mixture.p_noisy(scores) > 0.5) == (np.arange(1000) >= 600))


# Large, because a small sample of a flat histogram does have a dip somewhere.
ONE_LUMP = {
    "normal": lambda generator: generator.normal(size=20_000),
    "uniform": lambda generator: generator.uniform(size=20_000),
    "beta": lambda generator: generator.beta(2, 5, size=20_000),
    "exponential": lambda generator: generator.exponential(size=20_000),
    "log-normal": lambda generator: generator.lognormal(size=20_000),
}


@pytest.mark.parametrize("draw", ONE_LUMP.values(), ids=ONE_LUMP.keys())
def test_one_lump_has_no_second_mode(draw):
    for seed in range(5):
        mixture = fit(draw(np.random.default_rng(seed)))
        assert not mixture.usable_ and mixture.reason_ == "the scores have no second mode"


@pytest.mark.parametrize("scores", [[3.0], [0.5] * 100, [0.0] * 100, [0.0] * 99 + [7.0]])
def test_constant_scores(scores):
    # The last: what is not constant lies outside the percentiles.
    mixture = fit(np.array(scores, dtype=np.float32))
    assert not mixture.usable_ and "percentile" in mixture.reason_


def test_a_spread_of_float32_rounding_only_is_constant():
    scores = np.tile(np.float32([1000, np.nextafter(np.float32(1000), np.float32(2000))]), 50)
    mixture = fit(scores)
    assert not mixture.usable_ and "percentile" in mixture.reason_


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(bad):
    scores = losses(0.4)[0]
    scores[7] = bad
    mixture = fit(scores)
    assert not mixture.usable_ and mixture.reason_ == "1 of 5000 scores are not finite"


def test_a_component_without_samples():
    # Of 0, 1, 2 only the 1 lies within the percentiles: half a sample for either component.
    mixture = fit(np.array([0.0, 1.0, 2.0]))
    assert not mixture.usable_ and mixture.reason_ == "a component of the mixture is left without samples"


@pytest.mark.parametrize("scores", [np.zeros(0), np.zeros((5, 2)), np.float64(3)])
def test_scores_that_are_no_vector_are_an_error(scores):
    with pytest.raises(ValueError, match="non-empty vector"):
        BetaMixture().fit(scores)


@pytest.mark.parametrize("method", ["p_noisy", "component_densities"])
def test_predicting_before_or_without_a_fit_is_an_error(method):
    mixture = BetaMixture()
    with pytest.raises(RuntimeError, match="call fit first"):
        getattr(mixture, method)(np.zeros(3))
    mixture.fit(np.zeros(3))
    with pytest.raises(RuntimeError, match="not usable: the 5th and the 95th percentile"):
        getattr(mixture, method)(np.zeros(3))


def test_a_second_fit_forgets_the_first():
    scores = losses(0.4)[0]
    mixture = BetaMixture().fit(np.zeros(3))
    mixture.fit(scores)
    assert mixture.usable_ and mixture.reason_ is None
    np.testing.assert_array_equal(mixture.p_noisy(scores), BetaMixture().fit(scores).p_noisy(scores))

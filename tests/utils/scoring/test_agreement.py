"""Two score vectors side by side, on vectors one can check by hand."""

import math

import numpy as np
import pytest

from utils.scoring.agreement import compare_ends, compare_scores, overlap_curve


def compare(a, b, is_noisy=None):
    return compare_scores(np.float32(a), np.float32(b), is_noisy)


def test_the_lowest_halves_where_no_mixture_fits():
    # Clean halves: samples 0-4 and 2-6. Noisy: 0, 2 and 9.
    is_noisy = np.isin(np.arange(10), [0, 2, 9])
    result = compare(np.arange(10), [5, 6, 0, 1, 2, 3, 4, 7, 8, 9], is_noisy)
    assert result.note_a == result.note_b == "lowest half (the scores have no second mode)"
    assert (result.clean_a, result.clean_b, result.clean_both) == (5, 5, 3)
    assert result.overlap == pytest.approx(3 / 7)
    assert result.purity_a == pytest.approx(3 / 5)  # 0 and 2 are wrong
    assert result.purity_b == pytest.approx(4 / 5)  # 2 is wrong
    assert result.purity_both == pytest.approx(2 / 3)  # of 2, 3, 4
    # Rank differences 5, 5, -2 five times, 0 three times: 1 - 6 * 70 / (10 * 99).
    assert result.rank_correlation == pytest.approx(1 - 420 / 990)


def test_the_mixture_where_it_fits():
    a = np.repeat([0.0, 1.0], [6, 4])
    result = compare(a, np.arange(10))
    assert result.note_a == "" and result.note_b.startswith("lowest half")
    assert (result.clean_a, result.clean_b, result.clean_both) == (6, 5, 5)
    assert result.overlap == pytest.approx(5 / 6)


def test_ties_share_their_mean_rank():
    # Ranks 3.5 (six times) and 8.5 (four) against 1..10; as sums of squares: covariance 60, variances 60 and 82.5.
    result = compare(np.repeat([0.0, 1.0], [6, 4]), np.arange(10))
    assert result.rank_correlation == pytest.approx(60 / np.sqrt(60 * 82.5))


def test_only_the_order_matters_to_the_rank_correlation():
    assert compare(np.arange(10), np.exp(np.arange(10))).rank_correlation == pytest.approx(1)
    assert compare(np.arange(10), -np.arange(10)).rank_correlation == pytest.approx(-1)


def test_opposite_scores_share_no_clean_sample():
    result = compare(np.arange(10), -np.arange(10), np.zeros(10, dtype=bool))
    assert (result.clean_both, result.overlap) == (0, 0)
    assert result.purity_both is None and result.purity_a == 1


def test_a_constant_score_has_no_rank_correlation():
    result = compare(np.ones(10), np.arange(10))
    assert math.isnan(result.rank_correlation)
    assert "percentile" in result.note_a
    assert result.clean_both == 5  # equal scores go by position


def test_two_empty_clean_sets_have_no_overlap():
    result = compare([1.0], [2.0])  # half of one sample rounds to none
    assert math.isnan(result.overlap) and (result.clean_a, result.clean_b) == (0, 0)


def test_without_the_truth_there_is_no_purity():
    result = compare(np.arange(10), np.arange(10))
    assert result.purity_a is result.purity_b is result.purity_both is None
    assert result.overlap == 1


def test_vectors_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="10 scores cannot be compared with 9"):
        compare(np.arange(10), np.arange(9))


def test_both_ends_side_by_side():
    # Lowest fifth: 0, 1 and 0, 9; highest: 8, 9 and 7, 8.
    a, b, is_noisy = np.arange(10), np.array([0, 2, 3, 4, 5, 6, 7, 8, 9, 1]), np.isin(np.arange(10), [1, 7, 8])
    low, high = compare_ends(a, b, 0.2, is_noisy)
    assert (low.overlap, low.purity_a, low.purity_b) == (pytest.approx(1 / 3), 0.5, 1)
    assert (high.overlap, high.purity_a, high.purity_b) == (pytest.approx(1 / 3), 0.5, 0)
    low, high = compare_ends(a, b, 0.04)  # rounds to no sample
    assert math.isnan(low.overlap) and low.purity_a is high.purity_b is None


def test_the_overlap_of_the_k_lowest_for_every_k():
    assert overlap_curve(np.arange(4), np.array([1, 0, 3, 2])).tolist() == [0, 1, 2 / 4, 1]
    assert overlap_curve(np.arange(4), -np.arange(4)).tolist() == [0, 0, 2 / 4, 1]
    assert overlap_curve(np.ones(3), np.arange(3)).tolist() == [1, 1, 1]  # ties go by position
    a, b = np.random.default_rng(0).integers(0, 20, (2, 50))
    for sign, end in ((1, 0), (-1, 1)):
        curve = overlap_curve(sign * a, sign * b)
        assert curve[9] == compare_ends(a, b, 0.2)[end].overlap

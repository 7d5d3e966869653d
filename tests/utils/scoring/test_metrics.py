"""AUC and calibration against hand values."""

import numpy as np
import pytest

from utils.scoring.metrics import auc, aucs, class_accuracy, reliability, vetoed

IS_NOISY = np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1.0),  # noisy samples on top
        ([0.4, 0.3, 0.2, 0.1], 0.0),
        ([0.1, 0.3, 0.2, 0.4], 0.75),  # three of the four pairs in order
        ([5.0, 5.0, 5.0, 5.0], 0.5),  # a tie is half a pair
        ([0.1, 0.2, 0.2, 0.4], 0.875),
    ],
)
def test_auc_is_the_share_of_pairs_in_order(scores, expected):
    value = auc(np.array(scores, dtype=np.float32), IS_NOISY)
    assert value == pytest.approx(expected)
    assert type(value) is float


def test_auc_depends_on_the_order_alone():
    scores = np.random.default_rng(0).random(200)
    is_noisy = np.arange(200) % 3 == 0
    assert auc(np.exp(10 * scores), is_noisy) == auc(scores, is_noisy)
    assert auc(-scores, is_noisy) == pytest.approx(1 - auc(scores, is_noisy))


@pytest.mark.parametrize("is_noisy", [None, np.zeros(4, bool), np.ones(4, bool)])
def test_auc_is_left_out_where_it_has_no_meaning(is_noisy):
    assert auc(np.arange(4.0), is_noisy) is None


def test_reliability_by_hand():
    """Of two called 0 one is wrong, of two called 0.5 one, and the one called 1 is: (2 * 0.5 + 2 * 0 + 1 * 0) / 5."""
    found = reliability(np.float32([0, 0, 0.5, 0.5, 1]), np.array([False, True, False, True, True]))
    assert found.counts.tolist() == [2, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    np.testing.assert_array_equal(found.claimed[[0, 5, 9, 1]], [0, 0.5, 1, np.nan])
    np.testing.assert_array_equal(found.wrong[[0, 5, 9, 1]], [0.5, 0.5, 1, np.nan])
    assert found.error == pytest.approx(0.2) and type(found.error) is float


@pytest.mark.filterwarnings("error")
def test_probabilities_that_mean_what_they_say_have_next_to_no_calibration_error():
    """20,000 draws: the standard error of a bin's share is 0.011."""
    generator = np.random.default_rng(0)
    p_noisy = generator.random(20_000)
    is_noisy = generator.random(20_000) < p_noisy
    assert reliability(p_noisy, is_noisy).error < 0.02
    assert reliability(p_noisy, ~is_noisy).error == pytest.approx(0.5, abs=0.02)  # the mean of |2 p - 1|


def test_a_veto_takes_out_the_highest_scores_of_the_clean_set():
    # From the highest score on: sample 3 (outside the set), 1 (wrong), 2 (right; the same score as 4), 4, 0 (right).
    scores, clean = np.array([0.1, 0.8, 0.5, 0.9, 0.5]), np.array([True, True, True, False, True])
    wrong, right = vetoed(clean, scores, np.array([False, True, False, True, True]))
    assert (wrong.tolist(), right.tolist()) == ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2])


def test_kinds_of_noise_are_told_apart_in_the_figures():
    labels, clean = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, -1, -1])
    scores = np.array([0.2, 0.5, 0.4, 0.9, 0.1])  # right, right, wrong, of no class twice
    found = aucs("x", scores, labels, clean)
    assert found == {"auc_x": pytest.approx(3 / 6), "auc_x_ood": 0.5, "auc_x_label_noise": 0.5}
    found = aucs("x", np.array([0, 1, 2, 0.5, 3]), labels, clean)
    assert found == {"auc_x": pytest.approx(5 / 6), "auc_x_ood": 0.75, "auc_x_label_noise": 1}
    assert aucs("x", scores[:3], labels[:3], clean[:3]) == {"auc_x": 0.5}  # a single kind
    assert aucs("x", scores, labels, None) == {"auc_x": None}
    alone = aucs("x", scores[[0, 3]], labels[[0, 3]], clean[[0, 3]])
    assert alone == {"auc_x": 1, "auc_x_ood": 1, "auc_x_label_noise": None}


def test_class_accuracy_is_the_share_of_likeliest_classes_that_are_true():
    probs = np.array([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.8, 0.2]])
    assert class_accuracy(probs, np.array([0, 1, 0, -1])) == pytest.approx(2 / 3)  # of the last no class is right
    assert class_accuracy(probs, np.full(4, -1)) is None
    assert class_accuracy(probs, None) is None

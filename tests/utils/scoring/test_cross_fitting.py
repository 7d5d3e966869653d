"""Regressions on folds: who learns from whom, how strong the penalty is, and classes that are not there."""

import numpy as np
import pytest

from utils.scoring.cross_fitting import FOLDS, LEAST, Regression, folds_of

N, C = 200, 3
CLASSES = np.arange(N) % C
FEATURES = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
FEATURES[:, :C] += 3 * np.eye(C, dtype=np.float32)[CLASSES]


def test_folds_hold_every_sample_once():
    permutation = np.random.default_rng(1).permutation(13)
    folds = folds_of(permutation)
    assert [len(fold) for fold in folds] == [3, 3, 3, 2, 2]
    np.testing.assert_array_equal(np.concatenate(folds), permutation)


def test_log_probabilities_are_of_all_classes_in_their_order():
    log_probs = Regression().fit(FEATURES, CLASSES).log_probs(FEATURES, C)
    assert log_probs.shape == (N, C) and log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)
    assert (log_probs.argmax(axis=1) == CLASSES).mean() > 0.9


def test_labels_without_rhyme_or_reason_get_a_strong_penalty():
    generator = np.random.default_rng(2)
    features, labels = generator.normal(size=(N, 100)).astype(np.float32), generator.integers(0, C, N)
    assert Regression().fit(features, labels).penalty_ >= 1  # a weak one would learn them by heart
    assert Regression().fit(FEATURES, CLASSES).penalty_ < 0.1


def test_a_class_that_a_training_part_lacks_is_as_good_as_impossible():
    known = CLASSES != 1
    log_probs = Regression().fit(FEATURES[known], CLASSES[known]).log_probs(FEATURES, C + 1)
    np.testing.assert_array_equal(log_probs[:, [1, 3]], np.float32(LEAST))
    np.testing.assert_allclose(np.exp(log_probs[:, [0, 2]]).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("others", [0, 1])
def test_a_single_class_needs_no_regression(others):
    labels = np.full(FOLDS * 2, 2)
    labels[:others] = 0  # within the validation part: the rest is of one class
    log_probs = Regression().fit(FEATURES[: len(labels)], labels).log_probs(FEATURES, C)
    assert log_probs.shape == (N, C) and np.isfinite(log_probs).all()
    if not others:
        np.testing.assert_array_equal(log_probs, np.float32([LEAST, LEAST, 0])[None].repeat(N, axis=0))

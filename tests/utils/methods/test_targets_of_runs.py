"""Posteriors of several separations, put together."""

import numpy as np

from utils.methods.targets_of_runs import agreed_posterior, mean_posterior


def test_posteriors_are_averaged():
    sure, unsure = np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])
    np.testing.assert_allclose(mean_posterior([sure, unsure]), [[0.5, 0.5]])


def test_with_agreement_a_label_counts_as_far_as_all_trust_it():
    trusting = np.array([[1 - 1e-6, 1e-6, 0], [0.9, 0.1, 0.0], [1, 0, 0]])
    doubting = np.array([[0.12, 0.66, 0.22], [0.01, 0.99, 0.0], [1, 0, 0]])
    labels = np.array([0, 0, 0])
    agreed = agreed_posterior([trusting, doubting], labels)
    # The other classes share the rest as in the mean: 0.33 to 0.11, all of it, none.
    np.testing.assert_allclose(agreed, [[0.12, 0.66, 0.22], [0.01, 0.99, 0], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(agreed_posterior([doubting, trusting], labels), agreed, atol=1e-6)
    assert agreed.dtype == np.float32

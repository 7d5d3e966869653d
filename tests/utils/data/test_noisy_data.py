"""A data set as the methods see it: what is planted among its labels, and what stays as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import datasets
from utils.compute import Compute
from utils.data.choice import DataChoice
from utils.data.noisy_data import prepare

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)
DIGITS = DataChoice("digits", None, [0, 1, 2], None, None, "random_in_noise", 0.2, 1)


@pytest.mark.parametrize("noise", ["random_in_noise", "none"])
@pytest.mark.parametrize("share", [0.03, 0.5])
def test_errors_are_planted_among_exactly_that_share_of_the_labels(noise, share):
    data = prepare(replace(DIGITS, noise_type=noise), CPU, plant=share)
    ids, trained = data.planted.ids, data.training_labels.numpy()
    assert len(ids) == round(share * len(data)) and (np.diff(ids) > 0).all()
    np.testing.assert_array_equal(np.flatnonzero(trained != data.labels), ids)
    assert trained.dtype == ids.dtype == np.int64 and set(trained) == {0, 1, 2}


def test_planting_touches_neither_observed_nor_true_nor_test_labels():
    plain, planted = prepare(DIGITS, CPU), prepare(DIGITS, CPU, plant=0.1)
    for name in ("labels", "clean_labels", "is_noisy", "test_labels", "device_labels"):
        np.testing.assert_array_equal(getattr(planted, name), getattr(plain, name))
    assert planted.fingerprint() == plain.fingerprint() and planted.noise_ratio == plain.noise_ratio
    np.testing.assert_array_equal(plain.test_labels, datasets.load("digits", None, "test", [0, 1, 2], None).labels)


def test_the_seed_alone_decides_what_is_planted():
    def planted(**changes):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        return prepare(replace(DIGITS, **changes), CPU, plant=0.1).planted

    first = planted()
    np.testing.assert_array_equal(planted().ids, first.ids)
    assert torch.equal(planted().labels, first.labels)
    assert not np.array_equal(planted(seed=2).ids, first.ids)
    np.testing.assert_array_equal(planted(noise_ratio=0.4).ids, first.ids)  # which ones does not depend on the noise


@pytest.mark.parametrize("share", [0.0, 0.0001])
def test_where_nothing_is_planted_training_is_given_the_observed_labels(share):
    data = prepare(DIGITS, CPU, plant=share)
    assert data.planted is None and data.training_labels is data.device_labels
    np.testing.assert_array_equal(data.device_labels, data.labels)


def test_the_prior_is_the_share_of_each_class_among_the_observed_labels():
    data = replace(prepare(DIGITS, CPU, plant=0.5), labels=np.array([0, 2, 2, 0, 0]))
    assert data.prior.dtype == torch.float32
    np.testing.assert_allclose(data.prior, [0.6, 0, 0.4])

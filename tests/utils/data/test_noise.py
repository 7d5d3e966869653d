"""Label noise: how many labels change, into what, and what is left alone."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from utils.data.noise import (
    CIFAR100_SUPERCLASSES,
    FEWEST_PLANTED,
    add_label_noise,
    confusion_of,
    describe_noise,
    share_to_plant,
    transition_matrix,
)
from utils.scoring.planted import MIN_PLANTED

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = tuple(sorted(name for superclass in CIFAR100_SUPERCLASSES for name in superclass))
DIGITS = tuple("0123456789")
# The published superclass of each CIFAR-100 class, classes in alphabetical order.
CIFAR100_COARSE = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7,
    6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
    16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
    12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
]  # fmt: skip


def noisy_labels(labels, kind, ratio, seed=0, num_classes=10, **options):
    return add_label_noise(labels, kind, ratio, np.random.default_rng(seed), num_classes=num_classes, **options)


def arrows(data_name, class_names):
    """{class: class it is mistaken for}, by name, without the classes that keep their labels."""
    target = confusion_of(data_name, class_names)
    return {class_names[c]: class_names[t] for c, t in enumerate(target) if t != c}


# Random noise.


@pytest.mark.parametrize(
    ("samples", "ratio", "changed"), [(1000, 0.4, 400), (7, 0.5, 4), (10, 0.25, 2), (100, 0.99, 99), (9, 0, 0)]
)
def test_random_noise_changes_exactly_the_rounded_share(samples, ratio, changed):
    labels = np.arange(samples) % 10
    noisy = noisy_labels(labels, "random_in_noise", ratio)
    assert (noisy != labels).sum() == changed
    assert noisy.dtype == np.int64 and noisy.min() >= 0 and noisy.max() < 10


def test_random_noise_with_two_classes_swaps_them():
    labels = np.array([0, 1] * 10)
    noisy = noisy_labels(labels, "random_in_noise", 0.5, num_classes=2)
    assert (noisy == 1 - labels).sum() == 10


def test_random_noise_is_uniform_over_the_other_classes():
    labels = np.repeat(np.arange(10), 4000)
    noisy = noisy_labels(labels, "random_in_noise", 0.5)
    for c in range(10):
        into = np.bincount(noisy[(labels == c) & (noisy != c)], minlength=10)
        assert into[c] == 0
        # Seeded. Uniform labels fail this for one class in ten thousand; leaving one class out gives p < 1e-40.
        assert chisquare(np.delete(into, c)).pvalue > 1e-4


def test_random_noise_strikes_every_class_alike():
    labels = np.repeat(np.arange(10), 1000)
    noisy = noisy_labels(labels, "random_in_noise", 0.4)
    share = [(noisy[labels == c] != c).mean() for c in range(10)]
    assert np.abs(np.subtract(share, 0.4)).max() < 4 * np.sqrt(0.4 * 0.6 / 1000)  # 4 standard deviations


# Any noise.


@pytest.mark.parametrize("kind", ["random_in_noise", "real_in_noise", "none"])
def test_noise_leaves_its_input_and_global_random_state_alone(kind):
    labels = np.arange(500) % 10
    before = labels.copy()
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    noisy = noisy_labels(labels, kind, 0.4, confused_with=confusion_of("cifar10", CIFAR10))
    noisy[:] = -5  # a view of the input would change it
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("kind", ["random_in_noise", "real_in_noise"])
def test_the_generator_alone_decides(kind):
    labels = np.arange(500) % 10
    options = {"confused_with": confusion_of("folder", CIFAR10)}
    first, again, other = (noisy_labels(labels, kind, 0.4, seed, **options) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_no_noise_keeps_the_labels():
    np.testing.assert_array_equal(noisy_labels(np.arange(10), "none", 0.0), np.arange(10))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="known: random_in_noise"):
        noisy_labels(np.arange(10), "some_noise", 0.1)


def test_class_dependent_noise_needs_to_know_what_each_class_becomes():
    with pytest.raises(ValueError, match="needs confused_with"):
        add_label_noise(np.arange(4), "real_in_noise", 0.4, np.random.default_rng(1), num_classes=4)


# Class-dependent noise.


def test_cifar10_pairs():
    assert arrows("cifar10", CIFAR10) == {
        "truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["digits", "svhn"])
def test_digit_pairs(name):
    assert arrows(name, DIGITS) == {"7": "1", "2": "7", "5": "6", "6": "5", "3": "8"}


def test_cifar100_goes_round_each_superclass():
    target = arrows("cifar100", CIFAR100)
    assert len(target) == 100
    for superclass in CIFAR100_SUPERCLASSES:
        assert [target[name] for name in superclass] == [*superclass[1:], superclass[0]]


def test_cifar100_superclasses_are_the_published_ones():
    assert len(CIFAR100_SUPERCLASSES) == 20 and {len(row) for row in CIFAR100_SUPERCLASSES} == {5}
    assert len(set(CIFAR100)) == 100
    published = {
        frozenset(name for name, coarse in zip(CIFAR100, CIFAR100_COARSE, strict=True) if coarse == k)
        for k in range(20)
    }
    assert published == {frozenset(row) for row in CIFAR100_SUPERCLASSES}


def test_a_folder_goes_to_the_next_class_circularly():
    assert arrows("folder", ("ant", "bee", "cat")) == {"ant": "bee", "bee": "cat", "cat": "ant"}


def test_a_class_subset_keeps_the_meaning_of_its_classes():
    assert arrows("cifar10", ("dog", "truck", "cat", "automobile")) == {
        "dog": "cat", "cat": "dog", "truck": "automobile"
    }  # fmt: skip
    assert arrows("cifar100", ("whale", "rose", "beaver", "tulip")) == {
        "whale": "beaver", "beaver": "whale", "rose": "tulip", "tulip": "rose"
    }  # fmt: skip


def test_a_target_outside_the_subset_means_no_noise():
    assert arrows("cifar10", ("bird", "cat", "deer", "dog")) == {"cat": "dog", "dog": "cat"}
    assert arrows("cifar100", ("rose", "whale")) == {}


def test_real_noise_follows_its_table_with_the_given_probability():
    labels, confused_with = np.repeat(np.arange(10), 2000), confusion_of("cifar10", CIFAR10)
    noisy = noisy_labels(labels, "real_in_noise", 0.3, confused_with=confused_with)
    changed = noisy != labels
    np.testing.assert_array_equal(noisy[changed], confused_with[labels[changed]])
    for c, t in enumerate(confused_with):
        expected = 0.3 if t != c else 0.0
        # 4 standard deviations of a binomial share of 2000 labels, 0 where no label may change
        assert abs(changed[labels == c].mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / 2000)


# What is said about it.


def test_transition_matrix_by_hand():
    clean, observed = np.array([0, 0, 0, 0, 1, 1, -1, -1]), np.array([0, 0, 0, 2, 1, 0, 2, 1])
    np.testing.assert_array_equal(
        transition_matrix(clean, observed, 3),
        [[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 0, 0]],  # the two samples without a class count nowhere
    )


def test_rows_of_the_transition_matrix_sum_to_one():
    labels = np.arange(1000) % 10
    matrix = transition_matrix(labels, noisy_labels(labels, "random_in_noise", 0.4), 10)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-12)
    assert np.trace(matrix) / 10 == pytest.approx(0.6)  # equal classes: the mean of the diagonal is what was kept


def test_the_description_states_requested_and_realised_ratio_and_the_matrix():
    clean, observed = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1, 1, 1])
    text = describe_noise(clean, observed, ("ant", "bee"), "random_in_noise", 0.1)
    assert "requested 0.1000, realised 0.1250 (1 of 8 labels)" in text
    rows = [line.split() for line in text.splitlines()[-2:]]
    assert rows == [["ant", "75.0", "25.0"], ["bee", ".", "100.0"]]


def test_labels_as_they_came_are_described_without_a_request_and_an_image_of_no_class_is_wrong():
    clean, observed = np.array([0, 0, 0, -1, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1, 1, 1])
    text = describe_noise(clean, observed, ("ant", "bee"), "as mine.csv has it", None)
    assert text.startswith("label noise: as mine.csv has it, realised 0.1250 (1 of 8 labels)")
    assert [line.split() for line in text.splitlines()[-2:]] == [["ant", "100.0", "."], ["bee", ".", "100.0"]]


def test_many_classes_are_described_by_what_they_mostly_become():
    clean = np.repeat(np.arange(100), 4)
    observed = clean.copy()
    observed[0] = 5
    lines = describe_noise(clean, observed, CIFAR100, "random_in_noise", 0.0025).splitlines()
    assert len(lines) == 102
    assert lines[2].split() == [f"{CIFAR100[0]}:", "75.0", "kept;", "25.0", CIFAR100[5]]


@pytest.mark.parametrize(
    ("samples", "errors"), [(1_000_000, 30_000), (5_000, 150), (3_000, 150), (1_438, 144), (600, 60), (95, 10), (94, 0)]
)
def test_of_small_sets_a_larger_share_is_planted_but_at_most_a_tenth(samples, errors):
    assert round(share_to_plant(samples) * samples) == errors


def test_no_errors_are_planted_of_which_nothing_would_be_asked():
    assert FEWEST_PLANTED == MIN_PLANTED

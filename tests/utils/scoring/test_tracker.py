"""The tracker against hand values, slow NumPy versions and scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from utils.scoring.tracker import (
    Snapshot,
    Tracker,
    cross_entropy_of_votes,
    neighbour_cross_entropy,
    neighbour_votes,
    whiten,
)
from utils.scoring.tracking import LOSS_ALONE, Tracking

CLASSES = 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_pass(samples=240, dimensions=12, seed=0):
    """logits (N, 4), features (N, D), labels (N,): what a network that knows nothing would give."""
    g = generator(seed)
    logits = 3 * torch.randn(samples, CLASSES, generator=g)
    features = torch.rand(samples, dimensions, generator=g) * torch.arange(1.0, dimensions + 1)
    return logits, features, torch.randint(CLASSES, (samples,), generator=g)


def clusters(samples=120, seed=0):
    """logits, features, labels where every class is a cluster of its own in both spaces."""
    labels = torch.arange(samples) % CLASSES
    g = generator(seed)
    logits = 8.0 * F.one_hot(labels, CLASSES) + torch.randn(samples, CLASSES, generator=g)
    features = torch.randn(CLASSES, 10, generator=g)[labels] + 0.1 * torch.randn(samples, 10, generator=g)
    return logits, features, labels


def slow_counts(vectors, labels, k):
    """Labels of the k nearest by cosine after normalising and whitening, one pair of samples at a time."""
    x = vectors.double().numpy()
    x = PCA(whiten=True).fit_transform(x / np.linalg.norm(x, axis=1, keepdims=True))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    counts = np.zeros((len(x), CLASSES))
    for i in range(len(x)):
        distances = [-1.0 if j == i else 1 - x[i] @ x[j] for j in range(len(x))]  # itself first
        for j in np.argsort(distances)[:k]:
            counts[i, labels[j]] += 1
    return counts


def slow_cross_entropy(logits, features, labels, k):
    h = slow_counts(logits, labels, k + 1) + slow_counts(features, labels, k)
    ce = []
    for i, label in enumerate(labels):
        q = np.exp(h[i] / 10) / np.exp(h[i] / 10).sum()
        ce.append(-np.log(q[label] + 1e-6) / CLASSES)
    return np.array(ce)


def snapshot(logits, features, labels, sample_ids=None, batch=50, nn_k=100):
    """One pass through a tracker, in batches, in the order of `sample_ids`."""
    tracker = Tracker(labels, CLASSES, Tracking(nn_k=nn_k))
    update(tracker, logits, features, sample_ids, batch)
    return tracker.finish()


def update(tracker, logits, features, sample_ids=None, batch=50):
    for ids in (torch.arange(len(logits)) if sample_ids is None else sample_ids).split(batch):
        tracker.update(logits[ids], ids, features[ids])


# Loss and accuracy.


def test_loss_and_accuracy_by_hand():
    labels = torch.tensor([0, 1, 0, 1])
    tracker = Tracker(labels, 2, LOSS_ALONE)
    logits = torch.tensor([[0.0, 0.0], [np.log(3), 0.0], [np.log(3), 0.0], [-9.0, 9.0]])
    tracker.update(logits, torch.arange(4))
    result = tracker.finish()
    loss = result.loss(labels)
    np.testing.assert_allclose(loss, np.log([2, 4, 4 / 3, 1 + np.exp(-18)]), rtol=1e-5, atol=1e-7)
    assert loss.dtype == np.float32
    assert result.accuracy == 0.75  # a tie goes to the first class
    assert torch.equal(result.logits, logits.float()) and result.votes is None
    assert list(result.scores(labels, "ce", "loss")) == ["loss"]


def test_a_pass_is_scored_against_any_labels():
    tracker = Tracker(torch.tensor([0, 0]), 2, Tracking(nn_k=1))
    tracker.update(torch.tensor([[np.log(3), 0.0], [0.0, np.log(3)]]), torch.arange(2), torch.eye(2))
    result = tracker.finish()
    np.testing.assert_allclose(result.loss(torch.tensor([0, 1])), np.log([4 / 3, 4 / 3]), rtol=1e-6)
    np.testing.assert_allclose(result.loss(torch.tensor([1, 1])), np.log([4, 4 / 3]), rtol=1e-6)
    # Both neighbours in logit space and itself in feature space are labelled 0, whatever is scored.
    q = 1 / (1 + np.exp(-0.3))
    np.testing.assert_allclose(result.ce(torch.tensor([0, 1])), -np.log([q + 1e-6, 1 - q + 1e-6]) / 2, rtol=1e-5)
    both = result.scores(torch.tensor([1, 1]), "ce", "loss")
    assert list(both) == ["ce", "loss"]
    np.testing.assert_array_equal(both["ce"], result.ce(torch.tensor([1, 1])))
    np.testing.assert_array_equal(both["loss"], result.loss(torch.tensor([1, 1])))
    assert result.accuracy == 0.5


def test_a_neighbour_cross_entropy_without_features_is_refused():
    tracker = Tracker(torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="needs features"):
        tracker.update(torch.zeros(2, 2), torch.tensor([0, 1]))


def test_half_precision_logits_are_kept_in_single_precision():
    labels = torch.tensor([0])
    tracker = Tracker(labels, 2, LOSS_ALONE)
    tracker.update(torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), torch.tensor([0]))
    result = tracker.finish()
    assert result.logits.dtype == torch.float32
    np.testing.assert_allclose(result.loss(labels), np.log(1 + np.e), rtol=1e-6)


# Neighbour cross-entropy.


@pytest.mark.parametrize(("labels", "own"), [([0, 0], 4), ([0, 1], 2)])
def test_neighbour_cross_entropy_of_two_samples_by_hand(labels, own):
    # k clamps to both samples in both spaces: `own` of the four counts are of one's own class.
    ce = neighbour_cross_entropy(torch.eye(2), torch.eye(2), torch.tensor(labels), 2)
    q = np.exp(own / 10) / (np.exp(own / 10) + np.exp((4 - own) / 10))
    np.testing.assert_allclose(ce, [-np.log(q + 1e-6) / 2] * 2, rtol=1e-6)


def test_the_cross_entropy_of_votes_by_hand():
    votes = torch.tensor([[0.5, 0.25, 0.25, 0.0]] * 3)
    ce = cross_entropy_of_votes(votes, torch.tensor([0, 2, 3]))
    assert ce.dtype == torch.float32
    np.testing.assert_allclose(ce, -np.log(np.array([0.5, 0.25, 0]) + 1e-6) / 4, rtol=1e-5)


def test_votes_by_hand():
    votes = neighbour_votes(torch.eye(2), torch.eye(2), torch.tensor([2, 1]), CLASSES, 1, 1.0)
    counts = np.array([[0, 1, 2, 0], [0, 2, 1, 0]])  # both in logit space, itself in feature space
    assert votes.dtype == torch.float32
    np.testing.assert_allclose(votes, np.exp(counts / 10) / np.exp(counts / 10).sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("make", [random_pass, clusters])
@pytest.mark.parametrize("k", [1, 20])
def test_neighbour_cross_entropy_is_the_slow_one(make, k):
    logits, features, labels = make()
    fast = neighbour_cross_entropy(logits, features, labels, CLASSES, k)
    assert fast.dtype == torch.float32
    np.testing.assert_allclose(fast, slow_cross_entropy(logits, features, labels.numpy(), k), rtol=1e-5)


def test_a_wrong_label_in_a_pure_cluster_scores_highest():
    logits, features, labels = clusters()
    labels[7] = (labels[7] + 1) % CLASSES
    ce = snapshot(logits, features, labels, nn_k=15).ce(labels)
    assert ce.argmax() == 7
    assert ce[7] > 2 * np.delete(ce, 7).max()


def test_k_clamps_to_the_number_of_samples():
    logits, features, labels = random_pass(samples=20)
    assert torch.equal(*(neighbour_cross_entropy(logits, features, labels, CLASSES, k) for k in (20, 1000)))


# Whitening.


def test_whitening_is_scikit_learns_up_to_rotation():
    _, features, _ = random_pass()
    ours = whiten(features).double()
    theirs = PCA(whiten=True).fit_transform(F.normalize(features.double()))
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3)  # directions a thousandth in variance


def test_whitened_rows_are_unit_and_ignore_the_length_of_what_came_in():
    _, features, _ = random_pass()
    unit = whiten(features)
    np.testing.assert_allclose(unit.norm(dim=1), 1, rtol=1e-5)
    stretched = whiten(features * torch.linspace(0.1, 10, len(features))[:, None])
    np.testing.assert_allclose(unit @ unit.T, stretched @ stretched.T, atol=1e-3)


def test_directions_without_variance_are_dropped():
    _, features, _ = random_pass(dimensions=5)
    assert whiten(features).shape == (240, 5)
    twice = torch.cat([features, features, torch.zeros(240, 3)], dim=1)
    assert whiten(twice).shape == (240, 5)


# Odd features.


ODD_FEATURES = {
    "all equal": lambda n: torch.full((n, 8), 0.3),
    "all zero": lambda n: torch.zeros(n, 8),
    "some rows zero": lambda n: torch.randn(n, 8, generator=generator()) * (torch.arange(n) % 3 > 0)[:, None],
    "more features than samples": lambda n: torch.randn(n, 5 * n, generator=generator()),
    "huge and tiny": lambda n: torch.randn(n, 8, generator=generator()) * torch.logspace(-20, 15, n)[:, None],
}


@pytest.mark.parametrize("make", ODD_FEATURES.values(), ids=ODD_FEATURES)
@pytest.mark.parametrize("samples", [1, 40])
def test_odd_features_give_finite_scores(make, samples):
    logits, _, labels = random_pass(samples=samples)
    features = make(samples)
    assert whiten(features).isfinite().all()
    for pair in ((logits, features), (features[:, :CLASSES], features)):
        ce = snapshot(*pair, labels, nn_k=5).ce(labels)
        assert np.isfinite(ce).all() and ce.shape == (samples,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("broken", ["logits", "features"])
def test_outputs_that_are_not_finite_are_an_error(broken, value):
    logits, features, labels = random_pass(samples=20)
    {"logits": logits, "features": features}[broken][3, 1] = value
    with pytest.raises(FloatingPointError):
        snapshot(logits, features, labels)


# A pass over the samples.


def test_the_order_of_batches_and_their_size_do_not_matter():
    logits, features, labels = random_pass()
    once = snapshot(logits, features, labels, nn_k=10, batch=240)
    shuffled = snapshot(logits, features, labels, torch.randperm(240, generator=generator()), nn_k=10, batch=7)
    assert torch.equal(once.logits, shuffled.logits) and torch.equal(once.votes, shuffled.votes)
    assert once.accuracy == shuffled.accuracy


def test_nothing_carries_over_to_the_next_pass():
    logits, features, labels = random_pass()
    tracker = Tracker(labels, CLASSES, Tracking(nn_k=10))
    results = []
    for scale in (1.0, -2.0, 1.0):
        update(tracker, scale * logits, features.roll(int(scale), 0))
        results.append(tracker.finish())
    first, other, again = results
    assert torch.equal(first.logits, again.logits) and torch.equal(first.votes, again.votes)
    assert (first.logits != other.logits).any() and (first.votes != other.votes).any()


def test_a_pass_does_not_change_the_scores_of_the_one_before():
    logits, features, labels = random_pass()
    tracker = Tracker(labels, CLASSES, Tracking(nn_k=10))
    update(tracker, logits, features)
    first = tracker.finish()
    kept = first.logits.clone(), first.votes.clone()
    update(tracker, -logits, features)
    tracker.finish()
    assert torch.equal(first.logits, kept[0]) and torch.equal(first.votes, kept[1])


@pytest.mark.parametrize(
    "batches",
    [[[0, 1]], [[0, 1, 2], [1]], [[0, 1, 2, 1]], [[0, 1], [1]], []],
    ids=["one missing", "one in two batches", "one twice in a batch", "one for another", "none"],
)
def test_a_sample_seen_never_or_twice_is_an_error(batches):
    tracker = Tracker(torch.tensor([0, 1, 2]), CLASSES, LOSS_ALONE)
    for ids in batches:
        tracker.update(torch.zeros(len(ids), CLASSES), torch.tensor(ids))
    with pytest.raises(ValueError, match="exactly once"):
        tracker.finish()


def test_a_pass_goes_on_from_its_state():
    logits, _, labels = random_pass(6)
    one, other = (Tracker(labels, CLASSES, LOSS_ALONE) for _ in range(2))
    other.update(logits[:3], torch.tensor([3, 4, 5]))  # what the state takes the place of
    assert one.state_dict()["logits"] is None
    one.update(logits[:4], torch.arange(4))
    other.load_state_dict(one.state_dict())
    for tracker in (one, other):
        tracker.update(logits[4:], torch.arange(4, 6))
    assert torch.equal(one.finish().logits, other.finish().logits)


def test_where_all_neighbours_have_the_class_that_is_taken_away_nothing_speaks_for_any_other():
    votes = (torch.tensor([[2001.0, 0, 0]]) / 10).softmax(1)  # of single precision: 1, 0, 0
    left = Snapshot(torch.zeros(1, 3), votes, 1.0).without(torch.tensor([0]), torch.tensor([0]))
    np.testing.assert_allclose(left.votes, [[0, 0.5, 0.5]])
    assert np.isfinite(left.ce(torch.tensor([1]))).all()

"""What a network learns from: rows that sum to 1, whatever is renewed, and when."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils.methods.targets import PosteriorTargets, SplitTargets
from utils.scoring.label_posterior import posterior_at_rate

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
N, C = len(LABELS), 3
CLEAN = np.array([True, True, True, False, False, False])
LOGITS = torch.tensor([[0.0, 2, 1], [1, 0, 0], [5, 0, -5], [100, 0, 0], [0, 0, 0], [-3, 0, 3]])
POSTERIOR = np.float32([[0.9, 0.1, 0], [0, 1, 0], [0.25, 0.25, 0.5], [0.6, 0.2, 0.2], [0.5, 0.4, 0.1], [0, 0, 1]])
PROBS = np.full((N, C), 1 / 3, dtype=np.float32)


def split(begin=2, clean=CLEAN):
    data = SimpleNamespace(device_labels=LABELS, num_classes=C, ids=torch.arange(N))
    return SplitTargets(data, clean, begin)


def posterior(renew_from=2):
    return PosteriorTargets(LABELS, C, POSTERIOR, PROBS, renew_from)


def one_hot(labels):
    return np.eye(C, dtype=np.float32)[labels]


def reread(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# A clean set and predictions.


def test_before_the_beginning_the_clean_set_alone_is_learnt_from():
    targets = split(begin=2)
    assert [targets.ids(epoch).tolist() for epoch in range(3)] == [[0, 1, 2], [0, 1, 2], list(range(6))]


def test_the_clean_set_keeps_its_labels_and_the_rest_gets_the_newest_predictions():
    targets = split(begin=2)
    targets.update(LOGITS, 0)
    np.testing.assert_array_equal(targets.current, one_hot(LABELS))  # not needed yet
    targets.update(LOGITS, 1)
    np.testing.assert_array_equal(targets.current[:3], one_hot(LABELS[:3]))
    np.testing.assert_allclose(targets.current[3:], LOGITS[3:].softmax(1), atol=1e-7)
    targets.update(-LOGITS, 2)
    np.testing.assert_allclose(targets.current[3:], (-LOGITS[3:]).softmax(1), atol=1e-7)
    assert torch.equal(targets[torch.tensor([4, 0])], torch.from_numpy(targets.current[[4, 0]]))


@pytest.mark.parametrize("begin", [1, 2, 5])
@pytest.mark.parametrize("clean", [CLEAN, ~CLEAN, np.ones(N, bool)], ids=["first", "last", "all"])
def test_no_row_is_ever_empty(begin, clean):
    """The original learnt from zero vectors in the first epoch after the warm-up."""
    targets = split(begin, clean)
    for epoch in range(5):
        np.testing.assert_allclose(targets.current.sum(1), 1, atol=1e-6)
        targets.update(LOGITS, epoch)
        assert epoch + 1 < begin or not (~clean).any() or not np.array_equal(targets.current, one_hot(LABELS))


def test_split_targets_go_on_from_a_saved_state():
    targets, again = split(), split()
    targets.update(LOGITS, 1)
    again.load_state_dict(reread(targets.state_dict()))
    np.testing.assert_array_equal(again.current, targets.current)
    for one in (targets, again):
        one.update(-LOGITS, 2)
    np.testing.assert_array_equal(again.current, targets.current)


# The posterior.


def test_the_given_posterior_is_learnt_from_until_it_is_renewed():
    targets = posterior(renew_from=2)
    assert targets.ids(0).tolist() == targets.ids(7).tolist() == list(range(N))
    np.testing.assert_array_equal(targets.current, POSTERIOR)
    targets.update(LOGITS, 0)
    np.testing.assert_array_equal(targets.current, POSTERIOR)
    assert torch.equal(targets[torch.tensor([4, 0])], torch.from_numpy(POSTERIOR[[4, 0]]))
    # 1 − the probability of the label: 0.1, 0, 0.5, 0.4, 0.6, 0, the mean of which is the estimated rate.
    np.testing.assert_allclose(targets.p_noisy, [0.1, 0, 0.5, 0.4, 0.6, 0], atol=1e-7)
    assert targets.rate == pytest.approx(1.6 / 6, abs=1e-7)


def test_a_renewal_is_the_mean_of_the_given_posterior_and_of_the_networks_own():
    targets = posterior(renew_from=2)
    targets.update(LOGITS, 0)
    targets.update(LOGITS, 1)
    probs = (PROBS + targets.accumulated.predictions()) / 2
    np.testing.assert_allclose(targets.renewed_probs(), probs, atol=1e-7)
    own = posterior_at_rate(probs, LABELS.numpy(), targets.rate).posterior_
    np.testing.assert_allclose(targets.current, (POSTERIOR + own) / 2, atol=1e-6)
    assert not np.allclose(targets.current, POSTERIOR, atol=0.01)


def test_the_posterior_is_renewed_every_fifth_epoch():
    targets, changed = posterior(renew_from=2), []
    for epoch in range(12):
        before = targets.current.copy()
        targets.update(LOGITS if epoch % 2 else -LOGITS, epoch)
        np.testing.assert_allclose(targets.current.sum(1), 1, atol=1e-6)
        assert targets.p_noisy.min() >= 0 and targets.p_noisy.max() <= 1
        if not np.array_equal(targets.current, before):
            changed.append(epoch)
    assert changed == [1, 6, 11]  # after the second epoch, so that the third learns from it


def test_what_was_given_counts_as_much_however_often_it_is_renewed():
    """A renewal replaces the one before: no rounding and no drift from renewals that renew each other."""
    targets = posterior(renew_from=1)
    for epoch in range(11):
        targets.update(LOGITS, epoch)  # the same predictions, so the same posterior at every renewal
    once = posterior(renew_from=1)
    once.update(LOGITS, 0)
    np.testing.assert_allclose(targets.current, once.current, atol=1e-5)


@pytest.mark.parametrize("epochs", [1, 3])
def test_posterior_targets_go_on_from_a_saved_state(epochs):
    targets, again = posterior(), posterior()
    for epoch in range(epochs):
        targets.update(LOGITS, epoch)
    again.load_state_dict(reread(targets.state_dict()))
    np.testing.assert_array_equal(again.current, targets.current)
    for one in (targets, again):
        for epoch in range(epochs, 8):
            one.update(-LOGITS, epoch)
    np.testing.assert_array_equal(again.current, targets.current)
    np.testing.assert_array_equal(again.renewed_probs(), targets.renewed_probs())

"""Soft labels: one-hot at first, then exactly what was recorded."""

import io

import pytest
import torch

from utils.training.soft_labels import SoftLabels

LABELS = torch.tensor([0, 2, 1, 2])
ONE_HOT = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
LOGITS = torch.tensor([[1.0, 2, 3], [0, 0, 0], [-5, 9, 0], [100, 0, 0]])


def recorded():
    """Soft labels with every sample recorded, in two batches out of order."""
    soft = SoftLabels(LABELS, 3)
    for ids in ([3, 1], [0, 2]):
        soft.record(torch.tensor(ids), LOGITS[ids])
    return soft


def test_they_start_one_hot():
    soft = SoftLabels(LABELS, 3)
    assert soft.current.dtype == torch.float32 and torch.equal(soft.current, ONE_HOT)
    assert torch.equal(soft[torch.tensor([2, 0])], ONE_HOT[[2, 0]])


def test_recording_changes_nothing_until_it_is_committed():
    soft = recorded()
    assert torch.equal(soft.current, ONE_HOT)
    soft.commit()
    torch.testing.assert_close(soft.current, LOGITS.softmax(1))
    torch.testing.assert_close(soft.current.sum(1), torch.ones(4))


def test_only_the_samples_asked_for_are_replaced():
    soft = recorded()
    soft.commit(replace=torch.tensor([True, False, True, False]))
    torch.testing.assert_close(soft.current[[0, 2]], LOGITS[[0, 2]].softmax(1))
    assert torch.equal(soft.current[[1, 3]], ONE_HOT[[1, 3]])


def test_a_commit_is_not_changed_by_the_next_epoch():
    soft = recorded()
    soft.commit()
    before = soft.current.clone()
    soft.record(torch.arange(4), -LOGITS)
    assert torch.equal(soft.current, before)


@pytest.mark.parametrize(
    "batches",
    [[[0, 1, 2]], [[0, 1, 2, 3], [2]], [[0, 1, 2, 3, 3]], [[0, 1, 2], [2]], []],
    ids=["one missing", "one in two batches", "one twice in a batch", "one for another", "none"],
)
def test_a_sample_recorded_never_or_twice_is_an_error(batches):
    soft = SoftLabels(LABELS, 3)
    for ids in batches:
        soft.record(torch.tensor(ids), LOGITS[ids])
    with pytest.raises(ValueError, match="exactly once"):
        soft.commit()
    assert torch.equal(soft.current, ONE_HOT)


def test_each_epoch_is_counted_afresh():
    soft = recorded()
    soft.commit()
    with pytest.raises(ValueError, match="exactly once"):
        soft.commit()
    soft.record(torch.arange(4), torch.zeros(4, 3))
    soft.commit()
    torch.testing.assert_close(soft.current, torch.full((4, 3), 1 / 3))


# The mean of several epochs.


def one_hot_logits(label):
    """Logits (4, 3) whose softmax is 1 at a class."""
    logits = torch.full((4, 3), -1000.0)
    logits[:, label] = 0
    return logits


def test_labels_are_the_mean_of_the_last_epochs_or_of_fewer_at_first():
    soft, found = SoftLabels(LABELS, 3, epochs=3), []
    for label in (0, 1, 2, 2, 2):
        soft.record(torch.arange(4), one_hot_logits(label))
        soft.commit()
        found.append(soft.current[0].tolist())
    third = pytest.approx(1 / 3)
    assert found == [[1, 0, 0], [0.5, 0.5, 0], [third, third, third], [0, third, pytest.approx(2 / 3)], [0, 0, 1]]


def test_what_is_kept_changes_nothing_but_later_means():
    soft, single = SoftLabels(LABELS, 3, epochs=2), SoftLabels(LABELS, 3)
    for labels in (soft, single):
        labels.record(torch.arange(4), one_hot_logits(0))
        labels.keep()
        assert torch.equal(labels.current, ONE_HOT)
        with pytest.raises(ValueError, match="exactly once"):
            labels.keep()
        labels.record(torch.arange(4), one_hot_logits(1))
        labels.commit()
    assert soft.current[0].tolist() == [0.5, 0.5, 0] and single.current[0].tolist() == [0, 1, 0]


def test_the_epochs_before_survive_a_checkpoint():
    soft, resumed = SoftLabels(LABELS, 3, epochs=2), SoftLabels(LABELS, 3, epochs=2)
    soft.record(torch.arange(4), one_hot_logits(0))
    soft.commit()
    file = io.BytesIO()
    torch.save(soft.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for labels in (soft, resumed):
        labels.record(torch.arange(4), one_hot_logits(2))
        labels.commit()
        assert labels.current[0].tolist() == [0.5, 0, 0.5]


def test_predictions_are_recorded_without_gradient_and_in_single_precision():
    soft = SoftLabels(LABELS, 3)
    soft.record(torch.arange(4), LOGITS.bfloat16().requires_grad_())
    soft.commit()
    assert soft.current.dtype == torch.float32 and not soft.current.requires_grad
    torch.testing.assert_close(soft.current.sum(1), torch.ones(4))


def test_the_state_in_the_middle_of_an_epoch_survives_a_checkpoint():
    soft = SoftLabels(LABELS, 3)
    soft.record(torch.tensor([3, 1]), LOGITS[[3, 1]])
    file = io.BytesIO()
    torch.save(soft.state_dict(), file)
    file.seek(0)
    resumed = SoftLabels(torch.zeros(4, dtype=torch.long), 3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(resumed.current, ONE_HOT)
    resumed.record(torch.tensor([0, 2]), LOGITS[[0, 2]])
    resumed.commit()
    torch.testing.assert_close(resumed.current, LOGITS.softmax(1))

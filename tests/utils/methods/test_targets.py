"""What a network learns from: rows that sum to 1, and which of them change when."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils.methods.targets import PosteriorTargets, SplitTargets

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
N, C = len(LABELS), 3
CLEAN = np.array([True, True, True, False, False, False])
LOGITS = torch.tensor([[0.0, 2, 1], [1, 0, 0], [5, 0, -5], [100, 0, 0], [0, 0, 0], [-3, 0, 3]])
POSTERIOR = np.float32([[0.9, 0.1, 0], [0, 1, 0], [0.25, 0.25, 0.5], [0.6, 0.2, 0.2], [0.5, 0.4, 0.1], [0, 0, 1]])


def split(begin=2, clean=CLEAN, **options):
    data = SimpleNamespace(device_labels=LABELS, num_classes=C, ids=torch.arange(N))
    return SplitTargets(data, clean, begin, **options)


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


def test_predictions_of_the_warm_up_count_in_the_mean_of_several_epochs():
    targets = split(begin=2, epochs=2)
    targets.update(LOGITS, 0)
    targets.update(-LOGITS, 1)
    mean = (LOGITS.softmax(1) + (-LOGITS).softmax(1)) / 2
    np.testing.assert_allclose(targets.current[3:], mean[3:], atol=1e-7)
    np.testing.assert_array_equal(targets.current[:3], one_hot(LABELS[:3]))


def uniform_rows(targets):
    rows = targets[torch.arange(N)]
    return [i for i in range(N) if rows[i].tolist() == pytest.approx([1 / C] * C, abs=1e-6)]


def test_a_share_of_the_pseudo_labels_is_made_uniform_anew_each_epoch():
    clean = np.array([True, False, False, False, False, False])
    targets, logits, drawn = split(begin=1, clean=clean, uniform=0.4, seed=3), torch.eye(C)[LABELS] * 5, []
    assert uniform_rows(targets) == []
    for epoch in range(8):
        targets.update(logits, epoch)
        drawn.append(uniform_rows(targets))
        assert len(drawn[-1]) == 2 and 0 not in drawn[-1]  # 0.4 of 5
        np.testing.assert_allclose(targets.current[1:], logits[1:].softmax(1), atol=1e-7)  # what was predicted stays
    assert len(set(map(tuple, drawn))) > 1


def test_the_draw_is_a_function_of_seed_run_and_epoch_and_survives_a_checkpoint():
    def drawn(**options):
        targets = split(begin=1, clean=np.zeros(N, bool), uniform=0.5, **options)
        targets.update(torch.eye(C)[LABELS] * 5, 4)
        return targets

    assert uniform_rows(drawn(seed=3)) == uniform_rows(drawn(seed=3))
    several = {tuple(uniform_rows(drawn(seed=seed, run=run))) for seed in (1, 2, 3) for run in (1, 2)}
    assert len(several) > 2
    again = split(begin=1, clean=np.zeros(N, bool), uniform=0.5)
    again.load_state_dict(reread(drawn(seed=3).state_dict()))
    assert uniform_rows(again) == uniform_rows(drawn(seed=3))


# The posterior.


def test_the_posterior_is_learnt_from_throughout():
    data = SimpleNamespace(device_labels=LABELS, num_classes=C, ids=torch.arange(N))
    targets = PosteriorTargets(POSTERIOR, data)
    assert targets.ids(0).tolist() == targets.ids(7).tolist() == list(range(N))
    targets.update(LOGITS, 0)
    np.testing.assert_array_equal(targets.current, POSTERIOR)
    assert torch.equal(targets[torch.tensor([4, 0])], torch.from_numpy(POSTERIOR[[4, 0]]))

"""The two halves of parallel.py: every sample in one, and put together in the data set's order."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils.methods.halves import in_order, mean_of, on_host, split_in_halves, together
from utils.scoring.tracker import Snapshot


@pytest.mark.parametrize("n", [4, 7])
def test_halves_hold_every_sample_once_and_are_put_together_in_order(n):
    permutation, halves = split_in_halves(n, seed=1)
    assert sorted(permutation) == list(range(n)) and [len(ids) for ids in halves] == [n - n // 2, n // 2]
    np.testing.assert_array_equal(np.sort(np.concatenate(halves)), np.arange(n))
    for ids, part in zip(halves, (permutation[: n - n // 2], permutation[n - n // 2 :]), strict=True):
        np.testing.assert_array_equal(ids, np.sort(part))
    values = torch.arange(2 * n).reshape(n, 2)
    of_halves = [SimpleNamespace(ids=torch.from_numpy(ids)) for ids in halves]
    assert in_order(of_halves, [values[half.ids] for half in of_halves]).equal(values)


def test_two_halves_are_as_accurate_as_their_samples():
    halves = [SimpleNamespace(ids=torch.tensor([0, 2])), SimpleNamespace(ids=torch.tensor([1]))]
    parts = [Snapshot(torch.tensor([[0.0], [2.0]]), None, 0.5), Snapshot(torch.tensor([[1.0]]), None, 1.0)]
    whole = together(halves, parts)
    assert whole.logits.flatten().tolist() == [0, 1, 2] and whole.accuracy == pytest.approx(2 / 3)


def test_what_two_networks_say_together_is_their_mean_probability():
    halves = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.1, 0.9], [0.3, 0.7]])
    both = mean_of([Snapshot(probs.log() + 3, None, 0.0) for probs in halves], torch.tensor([1, 1]))
    torch.testing.assert_close(both.logits.exp(), torch.tensor([[0.3, 0.7], [0.6, 0.4]]))
    assert both.accuracy == 0.5 and both.votes is None


def test_a_state_on_its_way_to_other_processes_is_on_the_host():
    state = {"weights": {"a": torch.ones(2)}, "momentum": [torch.zeros(1), None], "step": 3}
    sent = on_host(state)
    assert sent.keys() == state.keys() and sent["weights"]["a"].device.type == "cpu" and sent["step"] == 3
    assert on_host(None) is None


def test_the_split_depends_on_the_seed_alone():
    assert np.array_equal(split_in_halves(50, 1)[0], split_in_halves(50, 1)[0])
    assert not np.array_equal(split_in_halves(50, 1)[0], split_in_halves(50, 2)[0])

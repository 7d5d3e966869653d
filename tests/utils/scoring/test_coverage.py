"""Every sample exactly once."""

import pytest
import torch

from utils.scoring.coverage import Coverage


@pytest.mark.parametrize(
    ("batches", "complete"),
    [
        ([[2], [0, 1]], True),
        ([[0, 1]], False),
        ([[0, 1, 2], [1]], False),
        ([[0, 1, 2, 1]], False),
        ([[0, 1, 1]], False),
        ([], False),
    ],
    ids=["once", "one missing", "one in two batches", "one twice in a batch", "one for another", "none"],
)
def test_a_pass_is_complete_once_every_sample_was_seen_once(batches, complete):
    coverage = Coverage(3, torch.device("cpu"))
    for ids in batches:
        coverage.add(torch.tensor(ids))
    assert coverage.complete().item() is complete


def test_repeats_are_counted_until_the_reset():
    coverage = Coverage(3, torch.device("cpu"))
    coverage.add(torch.tensor([0, 2, 2]))
    assert coverage.seen.tolist() == [1, 0, 2]
    coverage.reset()
    coverage.add(torch.arange(3))
    assert coverage.complete()

"""The order of an epoch."""

import pytest
import torch

from utils.training.batches import batches_per_epoch, epoch_batches


@pytest.mark.parametrize(("samples", "batch_size"), [(100, 10), (101, 100), (103, 10), (7, 100), (250, 3), (5, 5)])
def test_an_epoch_holds_every_id_once_in_even_batches(samples, batch_size):
    ids = torch.arange(samples) * 3 + 50
    batches = epoch_batches(ids, batch_size, 1)
    assert torch.equal(torch.cat(batches).sort().values, ids)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-samples // batch_size)  # no more of them than needed


def test_the_order_is_a_function_of_seed_stream_and_epoch():
    ids = torch.arange(50)

    def order(seed, *counters):
        torch.rand(3)  # what was drawn before does not matter
        return tuple(torch.cat(epoch_batches(ids, 10, seed, *counters)).tolist())

    orders = {order(1, 1, 0), order(1, 1, 1), order(1, 2, 0), order(2, 1, 0), tuple(ids.tolist())}
    assert len(orders) == 5
    assert order(1, 1, 0) == order(1, 1, 0)


@pytest.mark.parametrize(
    ("samples", "batch_size", "count"),
    [(4, 2, 2), (5, 2, 2), (3, 2, 1), (2, 2, 1), (1, 2, 1), (7, 3, 3), (101, 100, 2)],
)
def test_no_sample_is_left_alone_in_a_batch(samples, batch_size, count):
    batches = epoch_batches(torch.arange(samples), batch_size, 1)
    assert len(batches) == batches_per_epoch(samples, batch_size) == count
    assert min(map(len, batches)) > 1 or samples == 1
    assert max(map(len, batches)) <= batch_size + samples % 2

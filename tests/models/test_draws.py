"""Draws of training steps: distributed as torch's, laid out as what they are for, the same for the same seed."""

import pytest
import torch
from torch import nn

from models.draws import Dropout, normal_like

SHAPE = (20, 8, 25, 25)  # 100,000 values


def ones(channels_last, dtype=torch.float32):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.ones(SHAPE, dtype=dtype).to(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_keeps_its_share_of_the_values_enlarged_so_that_the_mean_stays(p, dtype, channels_last):
    torch.manual_seed(0)
    x = ones(channels_last, dtype)
    y = Dropout(p)(x)
    assert y.dtype == dtype and y.stride() == x.stride()
    kept = y != 0
    # The standard error of a share of 100,000 is 0.0016 at most.
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.007)
    assert set(y[kept].tolist()) == {torch.tensor(1 / (1 - round(p * 2**16) / 2**16), dtype=dtype).item()}
    y.sum().backward()
    assert torch.equal(x.grad, y)
    for dimension in range(4):  # no row, column or channel goes together
        share = kept.float().mean([k for k in range(4) if k != dimension])
        assert share.std() < 0.03 and kept.float().var() > 0.08


def test_dropout_draws_anew_and_the_same_for_the_same_seed():
    dropout, x = Dropout(0.5), ones(True)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first) and not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_all_or_nothing_is_torchs(p):
    x = ones(False)
    assert torch.equal(Dropout(p)(x), nn.Dropout(p)(x))


def test_dropout_leaves_what_is_not_training_alone():
    x, state = ones(True), torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 7, 1), (2, 3)])
def test_dropout_takes_any_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


@pytest.mark.parametrize("channels_last", [False, True])
def test_normal_draws_lie_as_what_they_are_for(channels_last):
    torch.manual_seed(0)
    x = ones(channels_last).detach()
    noise = normal_like(x)
    assert noise.shape == x.shape and noise.stride() == x.stride() and noise.dtype == x.dtype
    # The standard errors of mean and standard deviation of 100,000 draws are 0.003 and 0.002.
    assert abs(noise.mean().item()) < 0.013 and noise.std().item() == pytest.approx(1, abs=0.01)
    assert noise.unique().numel() > 90_000

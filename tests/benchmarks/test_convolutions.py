"""The convolutions of a network: which they are, what they cost, and a network with batch norm folded into them."""

import shutil

import pytest
import torch
from torch import nn

import models
from tests.benchmarks.convolutions import alone, convolutions_of, flops_of, folded, ways_to_evaluate
from utils.compute import choose

WIDTH = 0.1


def trained_a_little(name):
    torch.manual_seed(0)
    network = models.build(name, 3, width=WIDTH)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return network.eval()


COMPUTE = choose(-1, "fp32")


def test_flops_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1, stride=2))
    convolutions = convolutions_of(network, torch.zeros(2, 3, 8, 8), COMPUTE)
    first, second = 2 * 64 * 4 * 27, 2 * 16 * 2 * 4  # outputs times what makes one of them
    assert flops_of(convolutions, COMPUTE) == 2 * (first + second)


def test_each_round_leaves_the_gradients_of_one():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    convolutions = convolutions_of(network, torch.ones(2, 3, 8, 8), COMPUTE)
    alone(convolutions, COMPUTE, backward=False)()
    assert all(layer.weight.grad is None for layer, _ in convolutions)
    work, gradients = alone(convolutions, COMPUTE, backward=True), []
    for _ in range(2):
        work()
        gradients.append([layer.weight.grad for layer, _ in convolutions])
    assert gradients[0][0].eq(2 * 36).all()  # of ones: two images, 6 x 6 places
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compilation for a CPU needs g++")
def test_all_ways_to_evaluate_say_the_same():
    network, images = trained_a_little(models.CNN13), torch.randn(4, 3, 32, 32)
    assert list(ways_to_evaluate(network, images, COMPUTE)) == ["as it is", "cached", "folded", "frozen"]


@pytest.mark.parametrize("name", [models.CNN13, models.PREACT_RESNET18])
def test_a_folded_network_says_the_same(name):
    network, images = trained_a_little(name), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        before, small = network(images), folded(network)
        torch.testing.assert_close(small(images), before, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(network(images), before, rtol=0, atol=0)  # it is a copy
    gone = sum(isinstance(layer, nn.Identity) for layer in small.modules())
    assert gone == {models.CNN13: 9, models.PREACT_RESNET18: 8}[name]

"""What a run will take: sums by hand."""

import pytest
import torch
from torch import nn

import models
from tests.utils.training.test_learner import CPU, RESISTING, noisy_data
from utils.errors import UserError
from utils.scoring.tracking import LOSS_ALONE
from utils.training import expectation
from utils.training.expectation import (
    Rates,
    Work,
    expect,
    in_words,
    memory_of_activations,
    memory_of_weights,
)


class FixedRates:
    """One second for a training image, 0.1 for a scored one, 5 for a search."""

    first_step, weights = 1.0, 1000

    def __init__(self, *of) -> None:
        pass

    def seconds(self, part: Work) -> float:
        return part.trained + 0.1 * part.scored + 5 * part.searches


class TenSamples:
    num_classes, test_images, bytes_of_images = 2, None, 10**9

    class images:  # noqa: N801 (an attribute)
        on_host = False

    def __len__(self) -> int:
        return 10


def test_the_sum_by_hand(monkeypatch):
    monkeypatch.setattr(expectation, "Rates", FixedRates)
    monkeypatch.setattr(expectation, "peak_memory", lambda compute: 10**9)
    data, settings = TenSamples(), (None, None, 1.0)
    work = [Work.of_epochs("a", 3, data), Work("b", 20, 10, searches=2)]
    assert work[0] == Work("a", 30, 30) and Work.of_epochs("a", 3, data, from_batches=True) == Work("a", 30, 0)
    found = expect(work, 7, data, *settings)
    extra = expectation.START_AND_END + 10 * expectation.PER_SAMPLE
    assert found.seconds == pytest.approx(30 + 3 + 20 + 1 + 10 + extra)
    assert found.memory - 10**9 == found.more_memory == 64 * 10 * 2
    assert found.disk == 4 * 7 * 10 + 16 * 10 * 2 + 400 * 10 + 2 * 1000 + 3 * (3 * 1000 + 64 * 10 * 2)
    two = expect([Work("a", 30, 30, networks=2)], 7, data, *settings)
    assert two.disk - found.disk == (2 + 3 * 3) * 1000  # another network in each checkpoint and among the kept ones
    assert expect(work, 7, data, *settings, short=91) is None  # 90 images take 90 seconds at most
    assert expect(work, 7, data, *settings, short=90) is not None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(75, "75 s"), (99.6, "100 s"), (720, "12 min"), (3.5 * 3600, "3.5 h"), (4.2 * 86400, "4.2 days")],
)
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words


def test_real_rates_are_positive():
    work = [Work(models.CNN13, 800, 800, searches=1)]
    found = expect(work, 3, noisy_data(), CPU, RESISTING, 0.1, short=0)
    assert found.seconds > expectation.START_AND_END and found.disk > 0
    assert found.memory >= found.more_memory + expectation.peak_memory(CPU) // 2


def test_a_step_that_takes_long_is_the_only_one(monkeypatch):
    steps = []

    def five_seconds(self, work):
        work()
        return 5.0

    monkeypatch.setattr(Rates, "_timed", five_seconds)
    monkeypatch.setattr(Rates, "_train", lambda self, count=1: steps.append(count))
    rates = Rates(models.CNN13, noisy_data(), CPU, RESISTING, 0.1, LOSS_ALONE)  # batches of four
    assert rates.of_training == rates.first_step == 5 / 4 and steps == [1]
    monkeypatch.setattr(expectation, "TIMED_SECONDS", 10.0)  # into which two more fit
    assert rates.first_step == 5 / 4
    del rates.of_training
    assert rates.of_training == 5 / 8 and steps == [1, 2]


def test_the_memory_of_a_step_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2))
    kept = 3 * 64 + 4 * 64  # input of the convolution; what the ReLU makes, which the linear layer takes too
    assert memory_of_activations(network, torch.rand(1, 3, 8, 8), CPU) == 4 * kept
    doubled = memory_of_weights(models.CNN13, 10, 2), memory_of_weights(models.CNN13, 10, 1)
    assert 3.9 < doubled[0] / doubled[1] < 4.1  # twice the channels on either side
    built = models.build(models.CNN13, 10)
    assert doubled[1] == 4 * 4 * sum(parameter.numel() for parameter in built.parameters())


def test_a_network_that_does_not_fit_is_not_made(monkeypatch):
    monkeypatch.setattr(expectation, "new_network", None)
    monkeypatch.setattr(expectation, "free_memory", lambda compute: 10**6)
    with pytest.raises(UserError, match=r"^a training step needs 0\.2 GB of memory.*lower --batch_size, --width"):
        Rates(models.CNN13, noisy_data(), CPU, RESISTING, 2.0, LOSS_ALONE)


def test_a_batch_that_does_not_fit_is_refused_before_its_step(monkeypatch):
    steps, free = [], 5 * 10**9
    monkeypatch.setattr(Rates, "_train", lambda self: steps.append(1))
    monkeypatch.setattr(expectation, "memory_of_activations", lambda network, image, compute: 10**9)
    monkeypatch.setattr(expectation, "free_memory", lambda compute: free)
    of = models.CNN13, noisy_data(), CPU, RESISTING, 0.1, LOSS_ALONE  # batches of four
    Rates(*of)
    assert len(steps) == 1
    free = 4 * 10**9
    with pytest.raises(UserError, match="^a training step needs 4.0 GB of memory, and 4.0 GB are free.*--batch_size"):
        Rates(*of)
    assert len(steps) == 1

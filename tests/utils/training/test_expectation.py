"""What a run will take: sums by hand."""

import pytest

import models
from tests.utils.training.test_learner import CPU, RESISTING, noisy_data
from utils.training import expectation
from utils.training.expectation import Work, expect, in_words


class FixedRates:
    """One second for a training image, 0.1 for a scored one, 5 for a search."""

    first_step, weights = 1.0, 1000

    def __init__(self, *of) -> None:
        pass

    def seconds(self, part: Work) -> float:
        return part.trained + 0.1 * part.scored + 5 * part.searches


class TenSamples:
    num_classes, test_images = 2, None

    def __len__(self) -> int:
        return 10


def test_the_sum_by_hand(monkeypatch):
    monkeypatch.setattr(expectation, "Rates", FixedRates)
    monkeypatch.setattr(expectation, "peak_memory", lambda compute: 10**9)
    data, settings = TenSamples(), (None, None, 1.0)
    work = [Work.of_epochs("a", 3, data), Work("b", 20, 10, searches=2)]
    assert work[0] == Work("a", 30, 30)
    found = expect(work, 7, data, *settings)
    extra = expectation.START_AND_END + 10 * expectation.PER_SAMPLE
    assert found.seconds == pytest.approx(30 + 3 + 20 + 1 + 10 + extra)
    assert found.memory - 10**9 == found.more_memory == 40 * 10 * 2 + 4 * 7 * 10 // 2
    assert found.disk == 4 * 7 * 10 + 16 * 10 * 2 + 400 * 10 + 2 * (3 * 1000 + 40 * 10 * 2)
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

"""The schedule of the learning rate, and what the flags make of it."""

import argparse
import math

import pytest

from utils.training.optimisation import (
    Optimisation,
    Schedule,
    epochs_for,
    optimisation_of,
    schedule_of,
    why_epochs,
)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.1), (39, 0.1), (40, 0.01), (79, 0.01), (80, 0.001), (149, 0.001), (10_000, 0.001)]
)
def test_the_rate_falls_at_each_milestone(epoch, expected):
    assert Schedule(0.1, milestones=[40, 80], gamma=0.1).rate(epoch) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["steps", "constant"])
def test_without_milestones_the_rate_stays(kind):
    assert Schedule(0.3, kind, epochs=10).rate(1000) == 0.3


@pytest.mark.parametrize(
    ("epoch", "share"), [(0, 1), (2, 0.75), (3, 0.5), (4, 0.25), (5, (1 - math.cos(math.pi / 6)) / 2), (6, 0)]
)
def test_a_cosine_falls_to_nothing_after_the_last_epoch(epoch, share):
    assert Schedule(0.2, "cosine", epochs=6).rate(epoch) == pytest.approx(0.2 * share, abs=1e-12)


def test_another_base_takes_over_and_the_milestones_still_count():
    schedule = Schedule(0.1, milestones=[2, 4], gamma=0.1, later_base=5.0, later_from=3)
    assert [schedule.rate(epoch) for epoch in range(5)] == pytest.approx([0.1, 0.1, 0.01, 0.5, 0.05])


def test_another_base_takes_over_and_the_cosine_goes_on():
    schedule = Schedule(0.1, "cosine", epochs=4, later_base=0.2, later_from=2)
    assert [schedule.rate(epoch) for epoch in (0, 2, 4)] == pytest.approx([0.1, 0.2 / 2, 0])


SGD = {"lr": 0.2, "gamma_scheduler": 0.5, "batch_size": 50, "momentum": 0.8, "wd": 1e-3, "seed": 7}
RESISTING = {"mixup": 2.0, "ema": 0.9, "augment": "strong"}


def test_flags_become_a_schedule():
    args = argparse.Namespace(**SGD, schedule="steps", M=[3])
    assert schedule_of(args, 20) == Schedule(0.2, "steps", [3], 0.5, 20)
    later = Schedule(0.2, "steps", [3], 0.5, 20, later_base=0.4, later_from=6)
    assert schedule_of(args, 20, later_base=0.4, later_from=6) == later


def test_milestones_keep_their_share_of_a_shorter_training():
    args = argparse.Namespace(lr=0.2, schedule="steps", M=[100, 140, 1], gamma_scheduler=0.5)
    assert schedule_of(args, 60, counted=160).milestones == [38, 52, 1]
    assert schedule_of(args, 160, counted=160).milestones == [100, 140, 1]


def test_flags_become_settings():
    args, schedule = argparse.Namespace(**SGD, **RESISTING, balance=0.3), Schedule(0.4)
    expected = Optimisation(schedule, 50, 0.8, 1e-3, 7, mixup=2.0, ema=0.9, augment="strong", balance=0.3)
    assert optimisation_of(args, schedule) == expected


def test_a_script_without_a_flag_for_it_does_not_balance_the_plain_loss():
    args, schedule = argparse.Namespace(**SGD, **RESISTING), Schedule(0.4)
    expected = Optimisation(schedule, 50, 0.8, 1e-3, 7, mixup=2.0, ema=0.9, augment="strong", colour_jitter=0.4)
    assert optimisation_of(args, schedule, 0.4) == expected


@pytest.mark.parametrize(
    ("samples", "epochs"),
    [(20, 40), (1437, 40), (50_000, 40), (100_000, 20), (10_000_000, 10)],
)
def test_default_epochs_shrink_where_a_set_is_large(samples, epochs):
    assert epochs_for(samples, 40) == epochs


@pytest.mark.parametrize(
    ("given", "samples", "memorises", "why"),
    [
        (True, 100_000, True, "as given"),
        (False, 50_000, True, "by default, fewer above 50,000 images; more of them would memorise a small set"),
        (False, 50_000, False, "by default, fewer above 50,000 images"),
        (False, 50_001, False, "by default: scaled down above 50,000 images, since each epoch has more steps"),
    ],
)
def test_the_log_says_why_there_are_so_many_epochs(given, samples, memorises, why):
    assert why_epochs(given, samples, memorises=memorises) == why

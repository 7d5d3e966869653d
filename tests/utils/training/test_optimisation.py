"""The schedule of the learning rate, and what the flags make of it."""

import argparse

import pytest

from utils.training.optimisation import Optimisation, Schedule, optimisation_of


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.1), (39, 0.1), (40, 0.01), (79, 0.01), (80, 0.001), (149, 0.001), (10_000, 0.001)]
)
def test_the_rate_falls_at_each_milestone(epoch, expected):
    assert Schedule(0.1, [40, 80], 0.1).rate(epoch) == pytest.approx(expected)


def test_without_milestones_the_rate_stays():
    assert Schedule(0.3).rate(1000) == 0.3


def test_another_base_takes_over_and_the_milestones_still_count():
    schedule = Schedule(0.1, [2, 4], 0.1, later_base=5.0, later_from=3)
    assert [schedule.rate(epoch) for epoch in range(5)] == pytest.approx([0.1, 0.1, 0.01, 0.5, 0.05])


def test_flags_become_settings():
    args = argparse.Namespace(lr=0.2, M=[3], gamma_scheduler=0.5, batch_size=50, momentum=0.8, wd=1e-3, seed=7)
    assert optimisation_of(args) == Optimisation(Schedule(0.2, [3], 0.5), 50, 0.8, 1e-3, 7)
    assert optimisation_of(args, Schedule(0.4)) == Optimisation(Schedule(0.4), 50, 0.8, 1e-3, 7)

"""The pace of tracking, by hand."""

import numpy as np
import pytest

from utils.scoring.pace import Pace, rank_change
from utils.scoring.tracking import LONGEST

ORDER = np.arange(10, dtype=np.float32)


def test_change_of_ranks_by_hand():
    assert rank_change(ORDER, 2 * ORDER + 1) == 0  # the values do not matter
    assert rank_change(ORDER, ORDER[::-1]) == pytest.approx(0.5)  # (9 + 7 + 5 + 3 + 1) * 2 / 10 / 10
    assert rank_change(ORDER[:4], np.array([1, 0, 2, 3])) == pytest.approx(2 / 4 / 4)
    random = np.random.default_rng(0).random((2, 10_000))
    # Of two uniform ranks: a standard deviation of 1 / √18, so of 10,000 a standard error of 0.0024.
    assert rank_change(*random) == pytest.approx(1 / 3, abs=0.01)


def test_the_distance_doubles_up_to_a_bound_and_is_one_again_once_scores_move():
    pace = Pace()
    pace.dense(0)
    tracked = [0]
    while len(tracked) < 7:
        tracked.append(pace.next)
        pace.follow(pace.next, ORDER, ORDER)
    assert tracked == [0, 1, 3, 7, 15, 31, 31 + LONGEST]
    assert pace.next == tracked[-1] + LONGEST
    pace.follow(pace.next, ORDER, ORDER[::-1])
    assert pace.next == tracked[-1] + LONGEST + 1


def test_a_pace_goes_on_from_its_state():
    pace, other = Pace(), Pace()
    pace.dense(3)
    pace.follow(4, ORDER, ORDER)
    other.load_state_dict(pace.state_dict())
    for each in (pace, other):
        each.follow(6, ORDER, ORDER)
    assert pace.next == other.next == 10

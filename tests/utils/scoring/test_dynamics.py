"""Training dynamics: streaks and breaks of hand-made tracks, and a state to go on from."""

import io

import torch

from utils.scoring.dynamics import NEVER, Streak, learnt

# A row per moment from 1 on, a column per sample: always, never, late, lost at the end, twice forgotten.
HOLDS = torch.tensor([
    [1, 0, 0, 1, 1],
    [1, 0, 0, 1, 0],
    [1, 0, 1, 1, 1],
    [1, 0, 1, 0, 0],
    [1, 0, 1, 0, 1],
], dtype=torch.bool)  # fmt: skip
SINCE, BREAKS = [1, NEVER, 3, NEVER, 5], [0, 0, 0, 1, 2]


def test_streaks_and_breaks_of_hand_made_tracks():
    streak = Streak(5, HOLDS.device)
    for moment, holds in enumerate(HOLDS, 1):
        streak.update(moment, holds)
    assert (streak.since.tolist(), streak.breaks.tolist()) == (SINCE, BREAKS)


def test_a_streak_may_begin_at_moment_0():
    streak = Streak(2, HOLDS.device)
    for moment in (0, 4, 8):  # every fourth step is tracked
        streak.update(moment, torch.tensor([True, moment > 0]))
    assert streak.since.tolist() == [0, 4]


def test_a_saved_state_goes_on_where_it_was():
    for cut in range(len(HOLDS)):
        file, first, again = io.BytesIO(), Streak(5, HOLDS.device), Streak(5, HOLDS.device)
        for moment, holds in enumerate(HOLDS[:cut], 1):
            first.update(moment, holds)
        torch.save(first.state_dict(), file)
        file.seek(0)
        again.load_state_dict(torch.load(file, weights_only=True))
        for moment, holds in enumerate(HOLDS[cut:], cut + 1):
            again.update(moment, holds)
        assert (again.since.tolist(), again.breaks.tolist()) == (SINCE, BREAKS)


def test_learnt_means_that_the_label_is_predicted():
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [-1.0, 0.0]])
    assert learnt(logits, torch.tensor([0, 1, 1])).tolist() == [True, False, True]

"""Scores followed over time in a real experiment folder."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from utils.experiments.artifacts import digest, load_array
from utils.experiments.experiment import Experiment
from utils.results import score_tracks
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks

LOSS, CE = TrackedScore("x_loss", "loss_track", "loss (nats)"), TrackedScore("x_ce", "ce_track", None)
IS_NOISY = np.array([False, False, True, True])
FIRST, SECOND = np.float32([0, 1, 2, 3]), np.float32([0, 2, 1, 3])  # AUC 1; three of the four pairs in order


@contextlib.contextmanager
def tracks(root, scores=(CE, LOSS), is_noisy=IS_NOISY, max_rows=2):
    with Experiment(root, "run").open("main.py", "forget", {}) as experiment:
        experiment.begin({"images": "abc"})
        yield ScoreTracks(experiment, scores, max_rows, 4, is_noisy), experiment


def test_rows_are_added_and_the_newest_is_the_last(tmp_path):
    with tracks(tmp_path) as (followed, _):
        assert followed.rows == 0
        followed.append({"x_loss": FIRST, "x_ce": -FIRST})
        first = followed.last()
        followed.append({"x_loss": SECOND, "x_ce": -SECOND})
        assert followed.rows == 2
        for name, sign in (("x_loss", 1), ("x_ce", -1)):
            np.testing.assert_array_equal(first[name], sign * FIRST)
            assert type(first[name]) is np.ndarray  # no piece of the map
            np.testing.assert_array_equal(followed.last()[name], sign * SECOND)
            np.testing.assert_array_equal(followed.read()[name], [sign * FIRST, sign * SECOND])


def test_what_is_not_followed_is_passed_over(tmp_path):
    with tracks(tmp_path, [LOSS]) as (followed, experiment):
        followed.append({"x_loss": FIRST, "x_ce": None})
        assert followed.last().keys() == {"x_loss"} and list(experiment.tracks) == ["loss_track"]


@pytest.mark.parametrize("scores", [(CE, LOSS), (LOSS, CE)], ids=["ce first", "loss first"])
def test_aucs_are_of_the_newest_row_in_the_order_of_the_scores(tmp_path, scores):
    with tracks(tmp_path, scores) as (followed, _):
        for row in (FIRST, SECOND):
            followed.append({"x_loss": row, "x_ce": -row})
        assert followed.aucs() == {"auc_x_loss": 0.75, "auc_x_ce": 0.25}
        assert list(followed.aucs()) == [f"auc_{score.name}" for score in scores]


def test_without_the_truth_there_are_no_aucs(tmp_path):
    with tracks(tmp_path, is_noisy=None) as (followed, _):
        followed.append({"x_loss": FIRST, "x_ce": FIRST})
        assert followed.aucs() == {"auc_x_ce": None, "auc_x_loss": None}


@pytest.mark.parametrize("max_rows", [2, 5])
def test_closed_tracks_have_their_names_rows_and_digests(tmp_path, max_rows):
    with tracks(tmp_path, max_rows=max_rows) as (followed, experiment):
        for row in (FIRST, SECOND):
            followed.append({"x_loss": row, "x_ce": -row})
        assert not list(experiment.path.glob("*_track.npy"))
        followed.close()
        for name, sign in (("loss_track", 1), ("ce_track", -1)):
            track = load_array(experiment.path / f"{name}.npy")
            np.testing.assert_array_equal(track, [sign * FIRST, sign * SECOND])
            assert experiment.record["digests"][name] == digest(track)
        assert not list(experiment.path.glob("*.part"))


def test_a_figure_has_a_panel_for_each_score_that_has_a_label(monkeypatch):
    drawn = {}
    monkeypatch.setattr(score_tracks, "track_figure", lambda *given, **more: drawn.update(given=given, **more))
    rows = [  # text: taken over from a file
        {"step": "0", "auc_x_loss": "", "mean_loss": "0.5"},
        {"step": "10", "auc_x_loss": "0.75", "mean_loss": "0.75"},
    ]
    more = {"means": {"x_loss": "mean_loss", "x_ce": "mean_ce"}, "marks": {"oracle": 10}}
    experiment = SimpleNamespace(record=SimpleNamespace(own=lambda name: f"run/{name}"))
    data = SimpleNamespace(is_noisy=IS_NOISY, choice=SimpleNamespace(in_words=lambda: "digits"))
    given = (experiment, data, "f.png", "Title", (CE, LOSS), {"x_loss": "a track"}, rows)
    draw_tracks(*given, x="step", xlabel="a step", **more)
    assert drawn["given"] == ("run/f.png", {"loss (nats)": "a track"}, IS_NOISY, [0, 10], "a step", "Title", "digits")
    np.testing.assert_array_equal(drawn["means"].pop("loss (nats)"), [0.5, 0.75])
    assert drawn["means"] == {}
    np.testing.assert_array_equal(drawn["aucs"].pop("loss (nats)"), [np.nan, 0.75])
    assert drawn["aucs"] == {} and drawn["marks"] == {"oracle": 10}

"""Figures over time: medians and bands, accuracies, the learning rate, and what is left out where it is unknown."""

import numpy as np
import pytest

from tests.utils.results.drawn import IS_NOISY, SAMPLES, STEPS, SUBJECT, assert_png, colours, legend, title, track
from utils.results import track_figures
from utils.results.drawing import AUC, CLEAN, NOISY
from utils.results.track_figures import accuracy_figure, quartiles, track_figure

# A user would see them in the terminal, at the end of a long run; deprecations in a library none.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")


# ---- quartiles


def test_quartiles_of_a_hand_checkable_track():
    values = np.array([[1, 2, 3, 4, 5, 100], [50, 10, 40, 20, 30, -100]], dtype=np.float32)
    mask = np.array([True] * 5 + [False])
    assert quartiles(values, mask).tolist() == [[2, 20], [3, 30], [4, 40]]


def test_quartiles_without_a_mask_take_every_sample():
    assert quartiles(np.array([[0.0, 4.0, 8.0]])).tolist() == [[2], [4], [6]]


def test_quartiles_of_nobody_are_nan():
    assert np.isnan(quartiles(track(), np.zeros(SAMPLES, dtype=bool))).all()


def test_quartiles_of_a_memory_mapped_track_in_chunks(tmp_path, monkeypatch):
    """Chunks of 4 rows over 6 rows: the last one is shorter."""
    monkeypatch.setattr(track_figures, "VALUES_PER_CHUNK", 4 * SAMPLES)
    np.save(tmp_path / "track.npy", track())
    mapped, gone = np.load(tmp_path / "track.npy", mmap_mode="r"), []
    monkeypatch.setattr(track_figures, "let_go", gone.append)
    expected = [np.quantile(row[IS_NOISY], (0.25, 0.5, 0.75)) for row in track()]
    np.testing.assert_allclose(quartiles(mapped, IS_NOISY), np.transpose(expected), rtol=1e-6)
    assert len(gone) == 2 and gone[0] is gone[1] is mapped  # no more than a chunk of it stays in memory


# ---- tracks


@pytest.mark.parametrize("panels", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_track_figure_draws_both_kinds_and_the_auc_in_every_panel(tmp_path, panels, steps):
    tracks = {f"loss {k} (nats)": track(k)[:steps] for k in range(panels)}
    aucs = {name: np.linspace(0.6, 0.9, steps) for name in tracks}
    figure = track_figure(
        tmp_path / "t.png", tracks, IS_NOISY, np.arange(1, steps + 1), "epoch", "Losses", SUBJECT, aucs
    )
    kinds = ["clean (30): median, 25–75 %", "noisy (10): median, 25–75 %"]
    assert legend(figure) == [*kinds, "AUC (right axis)"]
    assert {CLEAN, NOISY, AUC} <= colours(figure)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == list(tracks) + ["AUC"] * panels
    assert_png(tmp_path / "t.png")


def test_track_figure_draws_the_medians(tmp_path):
    figure = track_figure(tmp_path / "t.png", {"loss": track()}, IS_NOISY, np.arange(STEPS), "epoch", "Losses", SUBJECT)
    drawn = {line.get_color(): line.get_ydata() for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(drawn[CLEAN], np.median(track()[:, ~IS_NOISY], axis=1), rtol=1e-6)
    np.testing.assert_allclose(drawn[NOISY], np.median(track()[:, IS_NOISY], axis=1), rtol=1e-6)


@pytest.mark.parametrize("steps", [1, STEPS])
def test_track_figure_without_truth_has_no_clean_or_noisy_or_auc(tmp_path, steps):
    figure = track_figure(
        tmp_path / "t.png", {"loss (nats)": track()[:steps]}, None, np.arange(steps), "epoch", "Losses", SUBJECT
    )
    assert legend(figure) == ["all samples: median, 25–75 %"]
    assert not {CLEAN, NOISY, AUC} & colours(figure)
    assert len(figure.axes) == 1  # no right axis
    assert_png(tmp_path / "t.png")


def test_track_figure_of_clean_samples_only_leaves_noisy_and_an_undefined_auc_out(tmp_path):
    nobody = np.zeros(SAMPLES, dtype=bool)
    aucs = {"loss": np.full(STEPS, np.nan)}
    figure = track_figure(
        tmp_path / "t.png", {"loss": track()}, nobody, np.arange(STEPS), "epoch", "Losses", SUBJECT, aucs
    )
    assert legend(figure) == ["clean (40): median, 25–75 %"]
    assert len(figure.axes) == 1


def test_an_auc_below_the_usual_axis_is_still_seen(tmp_path):
    figure = track_figure(
        tmp_path / "t.png", {"a": track()}, IS_NOISY, np.arange(STEPS), "", "", "", {"a": np.full(STEPS, 0.17)}
    )
    assert figure.axes[1].get_ylim()[0] == pytest.approx(0.1)


def test_marks_are_vertical_lines_once_in_the_legend_and_only_inside_the_range(tmp_path):
    marks = {"learning rate × 0.1": [2, 4, 40], "oracle: best AUC (true labels)": 3, "never reached": 99}
    tracks = {"a": track(), "b": track(1)}
    figure = track_figure(tmp_path / "t.png", tracks, None, np.arange(STEPS), "epoch", "Losses", SUBJECT, marks=marks)
    assert legend(figure)[1:] == ["learning rate × 0.1", "oracle: best AUC (true labels)"]
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.get_lines()[1:]] == [2, 4, 3]


# ---- axes


def medians(clean, noisy):
    """(T, N) with these medians (T,) of either kind."""
    return np.where(IS_NOISY, np.array(noisy)[:, None], np.array(clean)[:, None]).astype(np.float32)


def test_a_clean_median_near_zero_moves_on_a_logarithmic_axis(tmp_path):
    """It doubles from 0.001 to 0.002 to 0.004 below noisy samples at 2: equal steps, none of them lost."""
    tracks = {"loss": medians([0.001, 0.002, 0.004], [2, 2, 2])}
    figure = track_figure(tmp_path / "t.png", tracks, IS_NOISY, [0, 1, 2], "step", "Forgetting", SUBJECT)
    panel = figure.axes[0]
    assert panel.get_yscale() == "symlog"
    figure.draw_without_rendering()
    heights = panel.transAxes.inverted().transform(panel.transData.transform([(0, y) for y in (0.001, 0.002, 0.004)]))
    steps = np.diff(heights[:, 1])
    assert steps[0] == pytest.approx(steps[1]) and steps[0] > 0.05
    assert panel.get_ylim()[0] == 0 and panel.get_ylim()[1] > 2


@pytest.mark.parametrize(
    ("clean", "noisy"),
    [([0.5, 1, 2], [2, 2, 2]), ([-1, 0.001, 1], [2, 2, 2]), ([0, 0, 0], [0, 0, 0])],
    ids=["in sight", "below zero", "all zero"],
)
def test_other_axes_are_linear(tmp_path, clean, noisy):
    tracks = {"loss": medians(clean, noisy)}
    figure = track_figure(tmp_path / "t.png", tracks, IS_NOISY, [0, 1, 2], "step", "Forgetting", SUBJECT)
    assert figure.axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("steps", [1, STEPS])
def test_the_mean_loss_is_drawn_over_the_track_that_has_one(tmp_path, steps):
    tracks = {"ce": track()[:steps], "loss": track(1)[:steps]}
    mean = tracks["loss"].mean(axis=1)
    given = {"means": {"loss": mean}}
    figure = track_figure(tmp_path / "t.png", tracks, IS_NOISY, np.arange(steps), "step", "Title", SUBJECT, **given)
    assert legend(figure)[-1] == "mean_loss: mean of all samples"
    drawn = [[line for line in axes.get_lines() if line.get_color() == track_figures.MEAN] for axes in figure.axes]
    assert [len(lines) for lines in drawn] == [0, 1]
    np.testing.assert_array_equal(drawn[1][0].get_ydata(), mean)
    assert title(figure) == f"Title\n{SUBJECT}"


# ---- accuracy


def test_accuracy_figure_is_in_percent_and_joins_measured_points(tmp_path):
    curves = {"training": [0.5, 0.6, 0.7], "test": [0.4, np.nan, 0.6], "missing": [np.nan] * 3}
    figure = accuracy_figure(tmp_path / "a.png", [1, 2, 3], curves, "epoch", "Accuracy", SUBJECT)
    training, test = figure.axes[0].get_lines()
    np.testing.assert_allclose(training.get_ydata(), [50, 60, 70])
    np.testing.assert_allclose(test.get_xydata(), [[1, 40], [3, 60]])
    assert legend(figure) == ["training", "test"]
    assert_png(tmp_path / "a.png")


@pytest.mark.parametrize(("value", "steps"), [(1.0, STEPS), (0.0, STEPS), (0.5, 1)])
def test_flat_accuracy_is_seen_inside_the_axis(tmp_path, value, steps):
    figure = accuracy_figure(
        tmp_path / "a.png", np.arange(steps), {"test": np.full(steps, value)}, "epoch", "Accuracy", SUBJECT
    )
    low, high = figure.axes[0].get_ylim()
    assert -1 < low < 100 * value < high < 101


def test_no_measured_accuracy_no_figure(tmp_path):
    assert accuracy_figure(tmp_path / "a.png", [1], {"test": [np.nan]}, "epoch", "Accuracy", SUBJECT) is None
    assert not list(tmp_path.iterdir())


def test_the_learning_rate_has_a_panel_in_which_every_drop_is_seen(tmp_path):
    rates = np.array([0.1, 0.1, 0.01, 0.001])
    curves = {"test": np.linspace(0.2, 0.8, 4)}
    figure = accuracy_figure(tmp_path / "a.png", [1, 2, 3, 4], curves, "epoch", "Accuracy", SUBJECT, rates)
    above, below = figure.axes
    assert below.get_yscale() == "log" and below.get_xlabel() == "epoch" and not above.get_xlabel()
    (line,) = below.get_lines()
    np.testing.assert_allclose(line.get_ydata(), rates)
    assert line.get_drawstyle() == "steps-pre"  # the rate of an epoch holds from the end of the one before
    low, high = below.get_ylim()
    assert low < 0.001 and high > 0.1
    assert title(figure) == f"Accuracy\n{SUBJECT}"
    assert_png(tmp_path / "a.png")


def test_marks_go_through_accuracies_and_rates(tmp_path):
    of = [1, 2, 3], {"test": np.array([0.2, 0.5, 0.8])}, "epoch", "Accuracy", SUBJECT, np.full(3, 0.1)
    figure = accuracy_figure(tmp_path / "a.png", *of, marks={"relabelling begins": 2})
    assert len(figure.axes) == 2
    assert all([2, 2] in [list(line.get_xdata()) for line in panel.get_lines()] for panel in figure.axes)
    assert "relabelling begins" in legend(figure)


@pytest.mark.parametrize("last", [0.0, 1e-6])
def test_a_rate_that_ends_at_nothing_leaves_room_for_the_others(tmp_path, last):
    figure = accuracy_figure(tmp_path / "a.png", [1, 2], {"test": [0.2, 0.8]}, "epoch", "", "", np.array([0.1, last]))
    assert figure.axes[1].get_ylim() == pytest.approx((5e-6, 0.2))


@pytest.mark.parametrize("rates", [None, np.zeros(2)])
def test_without_a_rate_there_is_no_panel_of_it(tmp_path, rates):
    figure = accuracy_figure(tmp_path / "a.png", [1, 2], {"test": [0.2, 0.8]}, "epoch", "Accuracy", SUBJECT, rates)
    assert len(figure.axes) == 1

"""Figures: what is drawn, what is left out where it is unknown, and files that decode."""

import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from utils.errors import UserError
from utils.results import figures

SAMPLES, STEPS = 40, 6
IS_NOISY = np.arange(SAMPLES) % 4 == 0  # 10 noisy, 30 clean


@pytest.fixture(autouse=True)
def warnings_are_errors():
    """A figure that warns would do so at the end of a long run, in the user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class FakeMixture:
    """Flat components on [0, 1], the clean one twice as high and infinite at the ends, as a beta may be."""

    def component_densities(self, scores):
        inside = (scores > 0) & (scores < 1)
        return np.stack([np.where(inside, 2.0, np.inf), np.where(inside, 1.0, 0.0)], axis=1)


def track(seed=0):
    """(T, N) float32, noisy samples one higher than clean ones."""
    noise = np.random.default_rng(seed).random((STEPS, SAMPLES), dtype=np.float32)
    return noise + IS_NOISY.astype(np.float32)


def legend(figure):
    return [text.get_text() for drawn in figure.legends for text in drawn.get_texts()]


def colours(figure):
    """Of all lines and filled areas in the figure, as hex without transparency."""
    drawn = [line.get_color() for axes in figure.axes for line in axes.get_lines()]
    drawn += [c for axes in figure.axes for area in axes.collections for c in area.get_facecolor()]
    drawn += [patch.get_facecolor() for axes in figure.axes for patch in axes.patches]
    return {matplotlib.colors.to_hex(colour).upper() for colour in drawn}


def assert_png(path):
    """It decodes, is not blank, and nothing else was left in its folder."""
    image = imread(path)
    assert image.ndim == 3 and min(image.shape[:2]) > 300
    assert image[..., :3].std() > 0.01
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# ---- quartiles


def test_quartiles_of_a_hand_checkable_track():
    values = np.array([[1, 2, 3, 4, 5, 100], [50, 10, 40, 20, 30, -100]], dtype=np.float32)
    mask = np.array([True] * 5 + [False])
    assert figures.quartiles(values, mask).tolist() == [[2, 20], [3, 30], [4, 40]]


def test_quartiles_without_a_mask_take_every_sample():
    assert figures.quartiles(np.array([[0.0, 4.0, 8.0]])).tolist() == [[2], [4], [6]]


def test_quartiles_of_nobody_are_nan():
    assert np.isnan(figures.quartiles(track(), np.zeros(SAMPLES, dtype=bool))).all()


def test_quartiles_of_a_memory_mapped_track_in_chunks(tmp_path, monkeypatch):
    """Chunks of 4 rows over 6 rows: the last one is shorter."""
    monkeypatch.setattr(figures, "VALUES_PER_CHUNK", 4 * SAMPLES)
    np.save(tmp_path / "track.npy", track())
    mapped = np.load(tmp_path / "track.npy", mmap_mode="r")
    expected = [np.quantile(row[IS_NOISY], (0.25, 0.5, 0.75)) for row in track()]
    np.testing.assert_allclose(figures.quartiles(mapped, IS_NOISY), np.transpose(expected), rtol=1e-6)


# ---- tracks


@pytest.mark.parametrize("panels", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_track_figure_draws_both_kinds_and_the_auc_in_every_panel(tmp_path, panels, steps):
    tracks = {f"loss {k} (nats)": track(k)[:steps] for k in range(panels)}
    aucs = {name: np.linspace(0.6, 0.9, steps) for name in tracks}
    figure = figures.track_figure(
        tmp_path / "t.png", tracks, IS_NOISY, np.arange(1, steps + 1), "epoch", "Losses", aucs
    )
    kinds = ["clean (30): median, 25–75 %", "noisy (10): median, 25–75 %"]
    assert legend(figure) == [*kinds, "AUC (right axis)"]
    assert {figures.CLEAN, figures.NOISY, figures.AUC} <= colours(figure)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == list(tracks) + ["AUC"] * panels
    assert_png(tmp_path / "t.png")


def test_track_figure_draws_the_medians(tmp_path):
    figure = figures.track_figure(tmp_path / "t.png", {"loss": track()}, IS_NOISY, np.arange(STEPS), "epoch", "Losses")
    drawn = {line.get_color(): line.get_ydata() for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(drawn[figures.CLEAN], np.median(track()[:, ~IS_NOISY], axis=1), rtol=1e-6)
    np.testing.assert_allclose(drawn[figures.NOISY], np.median(track()[:, IS_NOISY], axis=1), rtol=1e-6)


@pytest.mark.parametrize("steps", [1, STEPS])
def test_track_figure_without_truth_has_no_clean_or_noisy_or_auc(tmp_path, steps):
    figure = figures.track_figure(
        tmp_path / "t.png", {"loss (nats)": track()[:steps]}, None, np.arange(steps), "epoch", "Losses"
    )
    assert legend(figure) == ["all samples: median, 25–75 %"]
    assert not {figures.CLEAN, figures.NOISY, figures.AUC} & colours(figure)
    assert len(figure.axes) == 1  # no right axis
    assert_png(tmp_path / "t.png")


def test_track_figure_of_clean_samples_only_leaves_noisy_and_an_undefined_auc_out(tmp_path):
    nobody = np.zeros(SAMPLES, dtype=bool)
    aucs = {"loss": np.full(STEPS, np.nan)}
    figure = figures.track_figure(
        tmp_path / "t.png", {"loss": track()}, nobody, np.arange(STEPS), "epoch", "Losses", aucs
    )
    assert legend(figure) == ["clean (40): median, 25–75 %"]
    assert len(figure.axes) == 1


def test_an_auc_below_the_usual_axis_is_still_seen(tmp_path):
    figure = figures.track_figure(
        tmp_path / "t.png", {"a": track()}, IS_NOISY, np.arange(STEPS), "", "", {"a": np.full(STEPS, 0.17)}
    )
    assert figure.axes[1].get_ylim()[0] == pytest.approx(0.1)


def test_marks_are_vertical_lines_once_in_the_legend_and_only_inside_the_range(tmp_path):
    marks = {"learning rate × 0.1": [2, 4, 40], "oracle: best AUC (true labels)": 3, "never reached": 99}
    tracks = {"a": track(), "b": track(1)}
    figure = figures.track_figure(tmp_path / "t.png", tracks, None, np.arange(STEPS), "epoch", "Losses", marks=marks)
    assert legend(figure)[1:] == ["learning rate × 0.1", "oracle: best AUC (true labels)"]
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.get_lines()[1:]] == [2, 4, 3]


# ---- ROC


def test_roc_figure_says_the_auc_of_each_score(tmp_path):
    """The truth as score separates perfectly, its opposite is always wrong, a constant knows nothing."""
    scores = {"good": IS_NOISY.astype(float), "bad": -IS_NOISY.astype(float), "constant": np.ones(SAMPLES)}
    figure = figures.roc_figure(tmp_path / "roc.png", scores, IS_NOISY)
    expected = ["good: AUC 1.000", "bad: AUC 0.000", "constant: AUC 0.500", "chance: AUC 0.500"]
    assert legend(figure) == expected
    assert_png(tmp_path / "roc.png")


@pytest.mark.parametrize("is_noisy", [None, np.zeros(SAMPLES, dtype=bool), np.ones(SAMPLES, dtype=bool)])
def test_an_undefined_roc_is_left_out(tmp_path, is_noisy):
    assert figures.roc_figure(tmp_path / "roc.png", {"loss": np.arange(SAMPLES)}, is_noisy) is None
    assert not list(tmp_path.iterdir())


# ---- histogram


def test_histogram_areas_are_the_shares_of_the_samples_shown(tmp_path):
    """1000 samples, 250 noisy; the 0.5–99.5 % range leaves 5 out on either side, here 10 clean ones."""
    scores = np.linspace(0, 1, 1000)
    is_noisy = (np.arange(1000) >= 400) & (np.arange(1000) < 650)
    figure = figures.histogram_figure(tmp_path / "h.png", {"loss": scores}, is_noisy)
    areas = {}
    for patch in figure.axes[0].patches:
        heights, edges, _ = patch.get_data()
        if patch.get_fill():
            areas[matplotlib.colors.to_hex(patch.get_facecolor()).upper()] = np.sum(heights * np.diff(edges))
    assert areas == pytest.approx({figures.CLEAN: 0.74, figures.NOISY: 0.25})
    assert "10 of 1,000 samples outside" in figure.axes[0].get_xlabel()
    assert legend(figure) == ["clean (750)", "noisy (250)"]
    assert_png(tmp_path / "h.png")


def test_histogram_draws_the_mixture_of_the_score_that_has_one(tmp_path):
    scores = dict.fromkeys(("fitted", "failed", "none"), np.linspace(0, 1, 100))
    mixtures = {"fitted": FakeMixture(), "failed": None}
    figure = figures.histogram_figure(tmp_path / "h.png", scores, np.arange(100) > 60, mixtures)
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 0, 0]
    clean, noisy = figure.axes[0].get_lines()
    assert clean.get_ydata()[256] == 2 and noisy.get_ydata()[256] == 1
    assert legend(figure)[2:] == ["mixture, clean component", "mixture, noisy component"]
    assert all(np.isfinite(axes.get_ylim()).all() for axes in figure.axes)
    assert_png(tmp_path / "h.png")


def test_histogram_without_truth_has_no_clean_or_noisy_bars(tmp_path):
    figure = figures.histogram_figure(tmp_path / "h.png", {"loss": track()[0]}, None)
    assert legend(figure) == ["all samples"]
    assert not {figures.CLEAN, figures.NOISY} & colours(figure)


@pytest.mark.parametrize("value", [0.0, 2.3, -1e20])
def test_constant_scores_are_one_bar(tmp_path, value):
    figure = figures.histogram_figure(tmp_path / "h.png", {"loss": np.full(SAMPLES, value)}, IS_NOISY)
    low, high = figure.axes[0].get_xlim()
    assert low < value < high
    assert "0 of 40 samples outside" in figure.axes[0].get_xlabel()
    assert_png(tmp_path / "h.png")


def test_scores_equal_but_for_a_few_show_these_few(tmp_path):
    scores = np.zeros(1000)
    scores[0] = 3.0  # beyond the 99.5th percentile, which is 0
    figure = figures.histogram_figure(tmp_path / "h.png", {"loss": scores}, None)
    assert figure.axes[0].get_xlim() == (0.0, 3.0)


# ---- accuracy


def test_accuracy_figure_is_in_percent_and_joins_measured_points(tmp_path):
    curves = {"training": [0.5, 0.6, 0.7], "test": [0.4, np.nan, 0.6], "missing": [np.nan] * 3}
    figure = figures.accuracy_figure(tmp_path / "a.png", [1, 2, 3], curves, "epoch", "Accuracy")
    training, test = figure.axes[0].get_lines()
    np.testing.assert_allclose(training.get_ydata(), [50, 60, 70])
    np.testing.assert_allclose(test.get_xydata(), [[1, 40], [3, 60]])
    assert legend(figure) == ["training", "test"]
    assert_png(tmp_path / "a.png")


@pytest.mark.parametrize(("value", "steps"), [(1.0, STEPS), (0.0, STEPS), (0.5, 1)])
def test_flat_accuracy_is_seen_inside_the_axis(tmp_path, value, steps):
    figure = figures.accuracy_figure(
        tmp_path / "a.png", np.arange(steps), {"test": np.full(steps, value)}, "epoch", "Accuracy"
    )
    low, high = figure.axes[0].get_ylim()
    assert -1 < low < 100 * value < high < 101


def test_no_measured_accuracy_no_figure(tmp_path):
    assert figures.accuracy_figure(tmp_path / "a.png", [1], {"test": [np.nan]}, "epoch", "Accuracy") is None
    assert not list(tmp_path.iterdir())


# ---- transition matrix


def test_confusion_figure_writes_row_percentages(tmp_path):
    """Rows are true classes: counts 3 and 1 of the first are 75 and 25 %; the second class has no samples."""
    counts = np.array([[3, 1], [0, 0]])
    figure = figures.confusion_figure(tmp_path / "c.png", counts, ["cat", "$d_o$g"], "Noise")
    panel = figure.axes[0]
    assert {text.get_position(): text.get_text() for text in panel.texts} == {(0, 0): "75.0", (1, 0): "25.0"}
    assert [text.get_text() for text in panel.get_yticklabels()] == ["cat", "$d_o$g"]
    assert panel.get_ylabel() == "true class" and panel.get_xlabel() == "observed class"
    assert_png(tmp_path / "c.png")


def test_counts_and_shares_give_the_same_picture(tmp_path):
    counts = np.array([[30, 10], [5, 15]])
    for name, matrix in (("counts.png", counts), ("shares.png", counts / counts.sum(axis=1, keepdims=True))):
        figures.confusion_figure(tmp_path / name, matrix, ["a", "b"], "Noise")
    np.testing.assert_array_equal(imread(tmp_path / "counts.png"), imread(tmp_path / "shares.png"))


@pytest.mark.parametrize(("classes", "numbers"), [(12, 144), (13, 0), (100, 0)])
def test_confusion_figure_of_many_classes_has_no_numbers(tmp_path, classes, numbers):
    names = [f"a rather long class name {k}" for k in range(classes)]
    figure = figures.confusion_figure(tmp_path / "c.png", np.full((classes, classes), 2), names, "Noise")
    assert len(figure.axes[0].texts) == numbers
    assert len(figure.axes[0].get_yticks()) <= 30
    assert_png(tmp_path / "c.png")


# ---- files


def test_the_same_figure_is_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        figures.histogram_figure(tmp_path / name, {"loss": track()[0]}, IS_NOISY)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_folder_that_is_not_there_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        figures.roc_figure(tmp_path / "missing" / "roc.png", {"loss": np.arange(SAMPLES)}, IS_NOISY)


def test_neither_pyplot_nor_torch_is_imported_and_settings_are_put_back():
    code = (
        "import sys, io, matplotlib; from utils.results import figures;"
        "before = matplotlib.rcParams['legend.frameon'];"
        "figures.write_atomically = lambda path, write: write(io.BytesIO());"
        "figures.accuracy_figure('', [1, 2], {'test': [0.1, 0.2]}, 'epoch', 'Accuracy');"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules;"
        "assert matplotlib.rcParams['legend.frameon'] == before"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""ROC, histograms and reliability: what is drawn, and what is left out where it is unknown."""

import matplotlib
import numpy as np
import pytest

from tests.utils.results.drawn import IS_NOISY, SAMPLES, SUBJECT, assert_png, colours, legend, title, track
from utils.results.drawing import ALL, CLEAN, NOISY
from utils.results.score_figures import (
    histogram_figure,
    operating_point,
    overlap_figure,
    reliability_figure,
    roc_figure,
    veto_figure,
)
from utils.scoring.metrics import reliability

# A user would see them in the terminal, at the end of a long run; deprecations in a library none.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")


class FakeMixture:
    """Flat components between 0 and 1, where it was fitted, the clean one twice as high."""

    def component_densities(self, scores):
        inside = (scores > 0) & (scores < 1)
        return np.stack([np.where(inside, 2.0, 0.0), np.where(inside, 1.0, 0.0)], axis=1)


def filled(figure):
    """{colour: (heights, edges)} of the filled areas of the first panel."""
    areas = {}
    for patch in figure.axes[0].patches:
        heights, edges, _ = patch.get_data()
        if patch.get_fill():
            areas[matplotlib.colors.to_hex(patch.get_facecolor()).upper()] = heights, edges
    return areas


# ---- ROC


def test_roc_figure_says_the_auc_of_each_score(tmp_path):
    """The truth as score separates perfectly, its opposite is always wrong, a constant knows nothing."""
    scores = {"good": IS_NOISY.astype(float), "bad": -IS_NOISY.astype(float), "constant": np.ones(SAMPLES)}
    figure = roc_figure(tmp_path / "roc.png", scores, IS_NOISY, SUBJECT)
    assert legend(figure) == ["good: AUC 1.000", "bad: AUC 0.000", "constant: AUC 0.500", "chance: AUC 0.500"]
    assert title(figure).endswith(f"\n{SUBJECT}")
    assert_png(tmp_path / "roc.png")


def test_roc_figure_marks_the_k_highest_scores(tmp_path):
    """Of the 10 noisy and 30 clean samples the highest 20 are all noisy and a third of the clean ones."""
    figure = roc_figure(tmp_path / "roc.png", {"loss": IS_NOISY.astype(float)}, IS_NOISY, SUBJECT, k=20)
    points = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "None"]
    np.testing.assert_allclose(points[0].get_xydata(), [[100 / 3, 100]])
    assert legend(figure)[0] == "loss: AUC 1.000, precision at k 50.0 %"
    assert "k = 20 highest" in legend(figure)[-1]


@pytest.mark.parametrize(("k", "expected"), [(3, (1 / 3, 2 / 3, 2 / 3)), (5, (1, 2 / 3, 2 / 5)), (99, (1, 1, 1 / 2))])
def test_an_operating_point_by_hand(k, expected):
    """Of the two scores of 1 the earlier one, which is clean, comes first."""
    is_noisy = np.array([True, False, True, False, False, True])
    assert operating_point(np.array([5, 4, 3, 2, 1, 1]), is_noisy, k) == pytest.approx(expected)


# ---- histogram


def test_histograms_count_the_samples_of_either_kind(tmp_path):
    scores = np.linspace(0, 1, 1000)
    is_noisy = (np.arange(1000) >= 400) & (np.arange(1000) < 650)
    figure = histogram_figure(tmp_path / "h.png", {"loss": scores}, is_noisy, SUBJECT)
    counts = {colour: heights[heights >= 1].sum() for colour, (heights, _) in filled(figure).items()}
    assert counts == {CLEAN: 750, NOISY: 250}
    assert figure.axes[0].get_yscale() == "log" and "outside" not in figure.axes[0].get_xlabel()
    assert legend(figure) == ["clean (750)", "noisy (250)"]
    assert title(figure) == f"Scores of clean and noisy samples\n{SUBJECT}"
    assert_png(tmp_path / "h.png")


def test_a_single_sample_is_above_the_axis_and_an_empty_bin_below_it(tmp_path):
    figure = histogram_figure(tmp_path / "h.png", {"loss": np.repeat([0.0, 1.0], [99, 1])}, None, SUBJECT)
    heights, _ = filled(figure)[ALL]
    bottom, top = figure.axes[0].get_ylim()
    assert heights[0] == 99 < top and heights[-1] == 1 > bottom and (heights[1:-1] < bottom).all()


def test_histogram_draws_the_mixture_in_samples_a_bin_where_it_was_fitted(tmp_path):
    """100 scores, of which 98 took part, in 10 bins: 98 / 10 times the density."""
    scores = dict.fromkeys(("fitted", "failed", "none"), np.linspace(0, 1, 100))
    mixtures = {"fitted": FakeMixture(), "failed": None}
    figure = histogram_figure(tmp_path / "h.png", scores, np.arange(100) > 60, SUBJECT, mixtures)
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 0, 0]
    for line, height in zip(figure.axes[0].get_lines(), (19.6, 9.8), strict=True):
        np.testing.assert_allclose(line.get_ydata()[1:-1], height)
        assert np.isnan(line.get_ydata()[[0, -1]]).all()
        assert figure.axes[0].get_ylim()[1] > height  # nowhere cut off
    kinds = ["mixture, clean component, where it was fitted", "mixture, noisy component, where it was fitted"]
    assert legend(figure)[2:] == kinds
    assert_png(tmp_path / "h.png")


def test_a_mixture_higher_than_the_bars_is_seen_whole(tmp_path):
    class Peak(FakeMixture):
        def component_densities(self, scores):
            return 50 * super().component_densities(scores)

    figure = histogram_figure(tmp_path / "h.png", {"loss": np.linspace(0, 1, 100)}, None, SUBJECT, {"loss": Peak()})
    assert figure.axes[0].get_ylim()[1] > 980


def test_histogram_draws_the_threshold_of_the_score_that_has_one(tmp_path):
    scores = dict.fromkeys(("a", "b", "c"), np.linspace(0, 1, 100))
    thresholds = {"a": 0.25, "b": None}
    figure = histogram_figure(tmp_path / "h.png", scores, None, SUBJECT, None, thresholds, "p_noisy = 0.5")
    assert [[tuple(line.get_xdata()) for line in axes.get_lines()] for axes in figure.axes] == [[(0.25, 0.25)], [], []]
    assert legend(figure) == ["all samples", "p_noisy = 0.5"]


def test_histogram_without_truth_has_no_clean_or_noisy_bars(tmp_path):
    figure = histogram_figure(tmp_path / "h.png", {"loss": track()[0]}, None, SUBJECT)
    assert legend(figure) == ["all samples"] and title(figure).startswith("Scores of all samples")
    assert not {CLEAN, NOISY} & colours(figure)


@pytest.mark.parametrize("value", [0.0, 2.3, -1e20])
def test_constant_scores_are_one_bar(tmp_path, value):
    figure = histogram_figure(tmp_path / "h.png", {"loss": np.full(SAMPLES, value)}, IS_NOISY, SUBJECT)
    low, high = figure.axes[0].get_xlim()
    assert low < value < high
    assert_png(tmp_path / "h.png")


def test_scores_equal_but_for_a_few_show_these_few(tmp_path):
    scores = np.zeros(1000)
    scores[0] = 3.0  # beyond the 99.5th percentile, which is 0
    figure = histogram_figure(tmp_path / "h.png", {"loss": scores}, None, SUBJECT)
    assert figure.axes[0].get_xlim() == (0.0, 3.0)


def test_one_score_far_away_does_not_hide_the_others_and_is_counted(tmp_path):
    """The middle 99 % are about 1 wide: the axis ends at about 2."""
    scores = np.append(np.linspace(0, 1, 1000), 100)
    figure = histogram_figure(tmp_path / "h.png", {"loss": scores}, None, SUBJECT)
    assert figure.axes[0].get_xlim() == pytest.approx((0, 1.99), abs=0.01)
    assert figure.axes[0].get_xlabel().endswith("; 1 of 1,001 samples outside")


# ---- reliability


def test_reliability_figure_shows_what_was_claimed_and_what_was_wrong(tmp_path):
    """Called 0.25 a quarter is wrong of 4; called 0.95 half of 2; the error is (4 * 0 + 2 * 0.45) / 6."""
    p_noisy = np.repeat([0.25, 0.95], [4, 2])
    found = reliability(p_noisy, np.array([True, False, False, False, True, False]))
    figure = reliability_figure(tmp_path / "r.png", found, SUBJECT)
    above, below = figure.axes
    (measured,) = [line for line in above.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(measured.get_xydata(), [[25, 25], [95, 50]])
    assert [bar.get_height() for bar in below.patches] == [0, 0, 4, 0, 0, 0, 0, 0, 0, 2]
    assert [bar.get_x() for bar in below.patches] == pytest.approx(range(0, 100, 10))
    assert "expected calibration error 0.150" in legend(figure)[1]
    assert_png(tmp_path / "r.png")


def test_the_intervals_are_wilsons(tmp_path):
    """0 of 10 wrong: the interval ends at z² / (10 + z²), 27.8 %; it begins at 0."""
    found = reliability(np.full(10, 0.05), np.zeros(10, dtype=bool))
    figure = reliability_figure(tmp_path / "r.png", found, SUBJECT)
    (bar,) = figure.axes[0].collections
    np.testing.assert_allclose(bar.get_segments()[0][:, 1], [0, 27.75], atol=0.01)


# ---- comparison and veto


def test_overlap_figure_has_a_panel_for_each_end(tmp_path):
    ends = {"lowest": {"a, b": np.array([0, 1, 0.5, 1])}, "highest": {"a, b": np.array([0, 0, 0.5, 1])}}
    figure = overlap_figure(tmp_path / "compare.png", ends, "Scores of x and y", SUBJECT, 0.2)
    assert legend(figure) == ["a, b", "chance", "20% of the samples"]
    for panel, end in zip(figure.axes, ends, strict=True):
        drawn = panel.get_lines()[0].get_xydata()
        np.testing.assert_allclose(drawn, np.stack([[25, 50, 75, 100], ends[end]["a, b"]], 1))
        assert end in panel.get_ylabel()
    assert title(figure) == f"Scores of x and y\n{SUBJECT}"
    assert_png(tmp_path / "compare.png")


def test_veto_figure_shows_what_is_removed_and_what_it_costs(tmp_path):
    counts = np.array([0, 1, 2, 2]), np.array([0, 0, 0, 4])
    figure = veto_figure(tmp_path / "veto.png", *counts, 0.37, "--fn_th 0.05", SUBJECT)
    wrong, right, used = (line.get_xydata() for line in figure.axes[0].get_lines())
    np.testing.assert_allclose(used[:, 0], 37)
    np.testing.assert_allclose(wrong, [[0, 0], [100 / 3, 50], [200 / 3, 100], [100, 100]])
    np.testing.assert_allclose(right[:, 1], [0, 0, 0, 100])
    assert legend(figure) == [
        "wrong labels removed, of 2 in the clean set",
        "right ones lost, of 4 in the clean set",
        "--fn_th 0.05",
    ]
    assert_png(tmp_path / "veto.png")
    assert veto_figure(tmp_path / "none.png", np.array([0, 0]), np.array([0, 1]), 0.05, "", SUBJECT) is None
    assert not (tmp_path / "none.png").exists()

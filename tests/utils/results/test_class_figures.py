"""Transition matrices, one or two side by side, and the list of the largest confusions."""

import numpy as np
import pytest
from matplotlib.image import imread

from tests.utils.results.drawn import SUBJECT, assert_png, legend, title
from utils.results.class_figures import transition_figure

# A user would see them in the terminal, at the end of a long run; deprecations in a library none.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")


def draw(path, matrices, names=None):
    classes = len(next(iter(matrices.values())))
    return transition_figure(path, matrices, names or [f"class {k}" for k in range(classes)], "Noise", SUBJECT)


def ring(classes, kept):
    """Each class keeps that share and gives the rest to the next one."""
    return kept * np.eye(classes) + (1 - kept) * np.roll(np.eye(classes), 1, axis=1)


def test_a_matrix_has_row_percentages(tmp_path):
    """Rows are true classes: counts 3 and 1 of the first are 75 and 25 %; the second class has no samples."""
    figure = draw(tmp_path / "t.png", {"true": [[3, 1], [0, 0]]}, ["cat", "$d_o$g"])
    panel = figure.axes[0]
    assert {text.get_position(): text.get_text() for text in panel.texts} == {(0, 0): "75.0", (1, 0): "25.0"}
    assert [text.get_text() for text in panel.get_yticklabels()] == ["cat", "$d_o$g"]
    assert panel.get_ylabel() == "true class" and panel.get_xlabel() == "label" and panel.get_title() == ""
    assert title(figure) == f"Noise\n{SUBJECT}"
    assert_png(tmp_path / "t.png")


def test_two_matrices_stand_side_by_side(tmp_path):
    figure = draw(tmp_path / "t.png", {"estimated": [[8, 2], [0, 1]], "true": [[3, 1], [0, 1]]})
    estimated, true = figure.axes[:2]
    assert (estimated.get_title(), true.get_title()) == ("estimated", "true")
    assert [text.get_text() for text in estimated.texts] == ["80.0", "20.0", "0", "100.0"]
    assert [text.get_text() for text in true.texts] == ["75.0", "25.0", "0", "100.0"]
    assert_png(tmp_path / "t.png")


def test_counts_and_shares_give_the_same_picture(tmp_path):
    counts = np.array([[30, 10], [5, 15]])
    for name, matrix in (("counts.png", counts), ("shares.png", counts / counts.sum(axis=1, keepdims=True))):
        draw(tmp_path / name, {"true": matrix})
    np.testing.assert_array_equal(imread(tmp_path / "counts.png"), imread(tmp_path / "shares.png"))


@pytest.mark.parametrize(("classes", "numbers"), [(12, 144), (13, 0), (20, 0)])
def test_a_matrix_of_many_classes_has_no_numbers(tmp_path, classes, numbers):
    names = [f"a rather long class name {k}" for k in range(classes)]
    figure = draw(tmp_path / "t.png", {"true": np.full((classes, classes), 2)}, names)
    assert len(figure.axes[0].texts) == numbers and len(figure.axes[0].images) == 1
    assert_png(tmp_path / "t.png")


def test_of_more_than_twenty_classes_the_largest_confusions_are_listed(tmp_path):
    """Class 5 gives 30 % to class 2, class 0 gives 20 % to class 1; of all other classes nothing is lost."""
    estimated = np.eye(21)
    estimated[5, [5, 2]] = 0.7, 0.3
    estimated[0, [0, 1]] = 0.8, 0.2
    true = np.eye(21)
    true[5, [5, 2]] = 0.75, 0.25
    figure = draw(tmp_path / "t.png", {"estimated": estimated, "true": true})
    panel = figure.axes[0]
    assert len(panel.patches) == 20 and not panel.images
    names = [text.get_text() for text in panel.get_yticklabels()]
    assert names[:2] == ["class 5 → class 2: 30.00", "class 0 → class 1: 20.00"] and names[2].endswith(": 0.00")
    np.testing.assert_allclose([bar.get_width() for bar in panel.patches][:3], [30, 20, 0])
    np.testing.assert_allclose(panel.get_lines()[0].get_xdata()[:3], [25, 0, 0])
    low, high = panel.get_ylim()
    assert low > high  # the largest on top
    even = f"every wrong class alike: {50 / 420:.2f} %"
    assert legend(figure) == ["estimated", "true", even, "each class keeps 70 to 100 % of its labels"]
    assert_png(tmp_path / "t.png")


def test_a_class_without_samples_has_no_place_in_the_list(tmp_path):
    matrix = ring(30, 0.6)
    matrix[29] = 0
    figure = draw(tmp_path / "t.png", {"true": matrix})
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [f"class {k} → class {k + 1}: 40.00" for k in range(20)]  # of equal ones the first
    assert not figure.axes[0].get_title()


def test_names_are_one_short_line(tmp_path):
    figure = draw(tmp_path / "t.png", {"true": np.eye(2)}, ["a name of a class that is long", "b\nc"])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["a name of a class…", "b c"]

"""Means and standard deviations that one can check by hand, in every format."""

import pytest

from utils.results.tables import FORMATS, Row, Spread, Table, figure_label

TABLE = Table(
    ["noise_type", "lr"],
    ["test_accuracy"],
    [
        Row(["random_in_noise", "0.1"], [Spread.of([0.5, 0.75, 1.0])], ("mixed torch: 1, 2",)),
        Row(["a|b", "-"], [Spread.of([0.25])], ("mixed torch: 1, 2", "seed 3 & more")),
        Row(["none", ""], [None]),
    ],
)


def test_the_deviation_is_that_of_a_sample():
    assert Spread.of([2, 4, 4, 4, 5, 5, 7, 9]) == Spread(5, pytest.approx((32 / 7) ** 0.5), 8)
    assert Spread.of([0.5, 0.75, 1.0]) == Spread(0.75, 0.25, 3)
    assert Spread.of([0.5]) == Spread(0.5, None, 1)
    assert Spread.of([]) is None


def test_a_figure_that_is_not_finite_shows():
    assert str(Spread.of([0.5, float("nan")])) == str(Spread.of([0.5, float("inf")])) == "nan ± nan (2)"


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.5, 0.75, 1.0], "0.7500 ± 0.2500 (3)"), ([0.5], "0.5000 (1)"), ([1000, 1001], "1000.5 ± 0.7 (2)")],
)
def test_a_spread_in_words(values, said):
    assert str(Spread.of(values)) == said


def test_the_best_test_accuracy_is_called_an_oracle():
    assert figure_label("test_accuracy_best") == "test_accuracy_best (oracle)"
    assert figure_label("test_accuracy_best_run1") == "test_accuracy_best_run1 (oracle)"
    assert figure_label("test_accuracy") == "test_accuracy"


def test_as_text():
    assert FORMATS["text"](TABLE).splitlines() == [
        "noise_type       lr   test_accuracy        note",
        "random_in_noise  0.1  0.7500 ± 0.2500 (3)  [1]",
        "a|b              -    0.2500 (1)           [1] [2]",
        "none",
        "[1] mixed torch: 1, 2",
        "[2] seed 3 & more",
    ]


def test_as_csv_every_number_has_a_column():
    assert FORMATS["csv"](TABLE).splitlines() == [
        "noise_type,lr,test_accuracy mean,test_accuracy sd,test_accuracy n,note",
        'random_in_noise,0.1,0.75,0.25,3,"mixed torch: 1, 2"',
        'a|b,-,0.25,,1,"mixed torch: 1, 2; seed 3 & more"',
        "none,,,,0,",
    ]


def test_as_markdown():
    assert FORMATS["markdown"](TABLE).splitlines() == [
        "| noise_type | lr | test_accuracy | note |",
        "| --- | --- | --- | --- |",
        "| random_in_noise | 0.1 | 0.7500 ± 0.2500 (3) | [1] |",
        r"| a\|b | - | 0.2500 (1) | [1] [2] |",
        "| none |  |  |  |",
        "",
        "[1] mixed torch: 1, 2",
        "",
        "[2] seed 3 & more",
    ]


def test_as_latex():
    # A plain [ after a line break would begin a length.
    assert FORMATS["latex"](TABLE).splitlines() == [
        r"\begin{tabular}{llll}",
        r"\hline",
        r"noise\_type & lr & test\_accuracy & note \\",
        r"\hline",
        r"random\_in\_noise & 0.1 & 0.7500 $\pm$ 0.2500 (3) & {[}1] \\",
        r"a\textbar{}b & - & 0.2500 (1) & {[}1] {[}2] \\",
        r"none &  &  &  \\",
        r"\hline",
        r"\end{tabular}",
        r"\par {[}1] mixed torch: 1, 2",
        r"\par {[}2] seed 3 \& more",
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_without_notes_there_is_no_column_for_them(kind):
    assert "note" not in FORMATS[kind](Table(["lr"], ["a"], [Row(["1"], [Spread.of([1.0])])]))

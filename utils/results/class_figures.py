"""Figures of classes: where the labels of each class went."""

import os
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.results.drawing import STYLE, blank_figure, class_label, finish

MOST_NUMBERS = 12  # classes for which the shares are written into a matrix
MOST_CLASSES = 20  # that a matrix is drawn for; of more, the largest confusions are listed
LISTED = 20  # confusions
BAR, OTHER = "#56B4E9", "#000000"


@matplotlib.rc_context(STYLE)
def transition_figure(
    path: str | os.PathLike,
    matrices: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    title: str,
    subject: str,
) -> Figure:
    """Transition matrices (C, C), row = true class, column = label, as percentages of each row; one or two.

    matrices: what each is -> counts or shares; the row of a class without samples stays empty. Of more than
    MOST_CLASSES classes the largest confusions of the first are listed, with those of the second beside them.
    """
    percents = {name: _percent(matrix) for name, matrix in matrices.items()}
    if len(class_names) <= MOST_CLASSES:
        figure, handles = _matrices(percents, class_names), {}
    else:
        figure, handles = _largest(percents, class_names)
    finish(figure, path, title, subject, handles, columns=1)
    return figure


def _percent(matrix: np.ndarray) -> np.ndarray:
    """Of each row's sum; NaN where that is 0."""
    matrix = np.asarray(matrix, dtype=float)
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(100 * matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)


def _matrices(percents: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Side by side."""
    classes = len(class_names)
    side = float(np.clip(0.55 * classes, 3.8, 6.5))
    figure = blank_figure(len(percents) * (side + 1.0) + 1.0, side + 1.3)
    panels = figure.subplots(1, len(percents), squeeze=False)[0]
    for panel, (name, percent) in zip(panels, percents.items(), strict=True):
        # Square root: with many classes the single off-diagonal shares are below 1 % and would look like zero.
        image = panel.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
        _write_numbers(panel, percent)
        names = [class_label(name) for name in class_names]
        plain = {"parse_math": False}  # class names come from folders: a "$" in one is no formula
        panel.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor", **plain)
        panel.set_yticks(range(classes), names, **plain)
        panel.set_xlabel("label")
        panel.set_ylabel("true class")
        if len(percents) > 1:
            panel.set_title(name)
    bar = figure.colorbar(image, ax=list(panels), shrink=0.8, ticks=(0, 1, 5, 20, 40, 60, 80, 100))
    bar.set_label("share of the true class (%)")
    return figure


def _write_numbers(panel: Axes, percent: np.ndarray) -> None:
    if len(percent) > MOST_NUMBERS:
        return
    for row, column in np.argwhere(np.isfinite(percent)):
        value = percent[row, column]
        text = "0" if value == 0 else f"{value:.1f}"
        panel.text(column, row, text, ha="center", va="center", color="white" if value > 35 else "black")


def _largest(percents: Mapping[str, np.ndarray], class_names: Sequence[str]) -> tuple[Figure, dict[str, object]]:
    """The largest confusions of the first matrix as bars, the largest on top; those of the second as points."""
    (name, percent), *others = percents.items()
    off = percent.copy()
    np.fill_diagonal(off, np.nan)
    ranked = np.argsort(-np.nan_to_num(off, nan=-1).ravel(), kind="stable")[:LISTED]
    rows, columns = np.unravel_index(ranked, off.shape)
    figure = blank_figure(7.5, 1.9 + 0.27 * len(rows) + 0.2 * len(others))
    panel = figure.add_subplot()
    places = np.arange(len(rows))
    handles: dict[str, object] = {name: panel.barh(places, off[rows, columns], height=0.7, color=BAR)}
    for other, values in others:
        points = values[rows, columns]
        (handles[other],) = panel.plot(points, places, "D", color=OTHER, ms=5, ls="", clip_on=False)
    even = float(np.nanmean(off))
    handles[f"every wrong class alike: {even:.2f} %"] = panel.axvline(even, color="#444444", ls="--", lw=1.2)
    kept = np.diag(percent)
    handles[f"each class keeps {np.nanmin(kept):.0f} to {np.nanmax(kept):.0f} % of its labels"] = Line2D([], [], ls="")
    short = [class_label(name) for name in class_names]
    pairs = zip(rows, columns, strict=True)
    names = [f"{short[row]} → {short[column]}: {off[row, column]:.2f}" for row, column in pairs]
    panel.set_yticks(places, names, parse_math=False)
    panel.set(ylim=(len(rows) - 0.4, -0.6), xlabel="share of the true class (%)", ylabel="true class → label: share")
    panel.set_xlim(left=0)
    return figure, handles

"""The figures of an experiment: tracks over time, ROC, score histograms, accuracy, transition matrix.

Drawn through matplotlib's objects, never pyplot, so nothing here depends on a display or on global state.
Every function takes arrays, writes one PNG (whole or not at all) and returns the Figure; where there is
nothing to show (a ROC without both kinds of samples, no finite accuracy) it writes no file and returns None.
What needs the truth is left out where the truth is unknown (`is_noisy` None).

N samples, T points in time, C classes. Scores: higher = more likely mislabelled.
"""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc, roc_curve

from utils.files import write_atomically

# Okabe & Ito (2008), "Color universal design": told apart with every common kind of colour blindness.
CLEAN, NOISY, AUC = "#0072B2", "#D55E00", "#00805C"
ALL = "#555555"  # samples whose truth is unknown
CURVES = ("#000000", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#808080")  # none of the above
MIXTURE = ("#003A5C", "#7A2E00")  # darker clean and noisy, to stand out from the bars behind them
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKS = (("--", 1.1), (":", 1.8), ("-.", 1.1))  # dashes and width in points

STYLE = {"font.size": 10, "axes.titlesize": 11, "figure.titlesize": 12, "legend.frameon": False}
DPI = 130
WIDTH, PANEL_HEIGHT, MARGIN_HEIGHT = 7.5, 2.8, 1.3  # inches; the margin holds title and legend
VALUES_PER_CHUNK = 2**22  # 16 MiB of float32: what is read of a track at a time


class Mixture(Protocol):
    """What `histogram_figure` asks of a fitted mixture."""

    def component_densities(self, scores: np.ndarray) -> np.ndarray:
        """Float (M, 2): the weighted densities of the clean and the noisy component at M scores."""
        ...


def quartiles(track: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Float (3, T): the 25, 50 and 75 % quantiles of each row of `track` (T, N) over the samples in `mask`.

    mask: bool (N,), None = all samples; the quantiles are NaN where it is empty. Reads a few rows at a time:
    a memory-mapped track may be larger than the memory.
    """
    steps, samples = track.shape
    result = np.full((3, steps), np.nan)
    if samples == 0 or (mask is not None and not np.any(mask)):
        return result
    rows = max(1, VALUES_PER_CHUNK // samples)
    for start in range(0, steps, rows):
        chunk = np.asarray(track[start : start + rows])
        if mask is not None:
            chunk = chunk[:, mask]
        result[:, start : start + rows] = np.quantile(chunk, (0.25, 0.5, 0.75), axis=1)
    return result


@matplotlib.rc_context(STYLE)
def track_figure(
    path: str | os.PathLike,
    tracks: Mapping[str, np.ndarray],
    is_noisy: np.ndarray | None,
    x: Sequence[float] | np.ndarray,
    xlabel: str,
    title: str,
    aucs: Mapping[str, np.ndarray] | None = None,
    marks: Mapping[str, float | Sequence[float]] | None = None,
) -> Figure:
    """Median and 25–75 % band of the clean and of the noisy samples over time, a panel per track.

    tracks: axis label -> (T, N), for instance {"cross-entropy loss (nats)": losses}; may be memory-mapped.
    is_noisy: bool (N,), or None where the truth is unknown: then all samples together.
    x: (T,), ascending, what the points in time are on the axis `xlabel`.
    aucs: the tracks' names -> (T,) in [0, 1], drawn on a second axis; a track without one has no second axis.
    marks: label -> one or more x positions of vertical dashed lines, left out where outside the range of `x`.
    """
    x = np.asarray(x, dtype=float)
    figure, panels = _panels(len(tracks), share_x=True)
    handles: dict[str, object] = {}
    for panel, (name, track) in zip(panels, tracks.items(), strict=True):
        groups = _groups(is_noisy, track.shape[1])
        for place, (label, colour, mask) in enumerate(groups):
            # Side by side where there is a single point in time, or their bars would lie on each other.
            shift = 0.1 * (place - (len(groups) - 1) / 2)
            handle = _draw_band(panel, x, quartiles(track, mask), colour, shift)
            handles.setdefault(f"{label}: median, 25–75 %", handle)
        panel.set_ylabel(textwrap.fill(name, 34))
        values = np.asarray((aucs or {}).get(name, ()), dtype=float)
        if np.isfinite(values).any():
            handles.setdefault("AUC (right axis)", _draw_auc(panel, x, values))
    for panel in panels:
        _draw_marks(panel, x, marks, handles)
    _finish_time_axis(panels, x, xlabel)
    _finish(figure, path, title, handles)
    return figure


@matplotlib.rc_context(STYLE)
def roc_figure(path: str | os.PathLike, scores: Mapping[str, np.ndarray], is_noisy: np.ndarray | None) -> Figure | None:
    """ROC of each score (name -> (N,)) as a detector of mislabelled samples, its AUC in the legend.

    None, and no file, unless `is_noisy` has both clean and noisy samples: a ROC is not defined without.
    """
    if not _both_kinds(is_noisy):
        return None
    figure = _figure(5.6, 5.6 + 0.25 * len(scores))
    panel = figure.add_subplot()
    handles = {}
    for place, (name, values) in enumerate(scores.items()):
        false_positives, true_positives, _ = roc_curve(is_noisy, values)
        (line,) = panel.plot(100 * false_positives, 100 * true_positives, lw=2, **_curve_style(place))
        handles[f"{name}: AUC {auc(false_positives, true_positives):.3f}"] = line
    handles["chance: AUC 0.500"] = panel.plot((0, 100), (0, 100), color="#AAAAAA", lw=1)[0]
    panel.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    panel.set_xlabel("clean samples wrongly called noisy (%)")
    panel.set_ylabel("noisy samples found (%)")
    _finish(figure, path, "How well each score finds the mislabelled samples", handles, columns=1)
    return figure


@matplotlib.rc_context(STYLE)
def histogram_figure(
    path: str | os.PathLike,
    scores: Mapping[str, np.ndarray],
    is_noisy: np.ndarray | None,
    mixtures: Mapping[str, Mixture | None] | None = None,
) -> Figure:
    """Histogram of each score (name -> (N,)), clean and noisy samples apart, the fitted mixture as lines.

    Each kind's area is its share of the samples, which is the scale of the mixture's weighted components. The
    axis shows the 0.5–99.5 % range and says how many samples lie outside. A score without a mixture (or None)
    has no lines.
    """
    figure, panels = _panels(len(scores))
    handles: dict[str, object] = {}
    for panel, (name, values) in zip(panels, scores.items(), strict=True):
        values = np.asarray(values, dtype=float)
        low, high = _robust_range(values)
        peak = 0.0
        bins = int(np.clip(np.sqrt(len(values)), 10, 60))
        for label, colour, mask in _groups(is_noisy, len(values)):
            counts, edges = np.histogram(values[mask], bins, (low, high))
            heights = counts / (len(values) * np.diff(edges))
            peak = max(peak, heights.max())
            panel.stairs(heights, edges, fill=True, color=colour, alpha=0.4)
            panel.stairs(heights, edges, color=colour, lw=1)
            handles.setdefault(label, Patch(facecolor=(colour, 0.4), edgecolor=colour))
        mixture = (mixtures or {}).get(name)
        if mixture is not None:
            peak = max(peak, _draw_mixture(panel, mixture, (low, high), 1.5 * peak, handles))
        panel.set(title=name, ylabel="density", xlim=(low, high), ylim=(0, 1.05 * peak))
        outside = int(np.sum((values < low) | (values > high)))
        panel.set_xlabel(f"score (higher = more likely mislabelled); {outside:,} of {len(values):,} samples outside")
    title = "Scores of clean and noisy samples" if _both_kinds(is_noisy) else "Scores of all samples"
    _finish(figure, path, title, handles)
    return figure


@matplotlib.rc_context(STYLE)
def accuracy_figure(
    path: str | os.PathLike,
    x: Sequence[float] | np.ndarray,
    curves: Mapping[str, np.ndarray],
    xlabel: str,
    title: str,
) -> Figure | None:
    """Accuracies in percent over `x` (T,), ascending.

    curves: name -> (T,) fractions in [0, 1], NaN where not measured. Measured points are joined across the
    missing ones; a curve without any is left out; with no curve left there is no file and None is returned.
    """
    x = np.asarray(x, dtype=float)
    curves = {name: 100 * np.asarray(values, dtype=float) for name, values in curves.items()}
    if not any(np.isfinite(values).any() for values in curves.values()):
        return None
    figure, panels = _panels(1, PANEL_HEIGHT + 0.7)
    panel = panels[0]
    handles: dict[str, object] = {}
    for place, (name, values) in enumerate(curves.items()):
        known = np.isfinite(values)
        if known.any():
            marker = "o" if known.sum() <= 30 else ""
            (handles[name],) = panel.plot(x[known], values[known], marker=marker, ms=4, **_curve_style(place))
    low, high = panel.get_ylim()
    low, high = min(low, high - 5), max(high, low + 5)  # a flat curve should look flat
    panel.set_ylim(max(low, -0.7), min(high, 100.7))  # a line at 100 % is seen whole
    panel.set_ylabel("accuracy (%)")
    _finish_time_axis(panels, x, xlabel)
    _finish(figure, path, title, handles)
    return figure


@matplotlib.rc_context(STYLE)
def confusion_figure(path: str | os.PathLike, matrix: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Transition matrix (C, C), row = true class, column = observed class, as percentages of each row.

    `matrix` holds counts or shares; the row of a class without samples stays empty. Numbers are written for
    C <= 12, class names for C <= 30, beyond that class numbers.
    """
    matrix = np.asarray(matrix, dtype=float)
    totals = matrix.sum(axis=1, keepdims=True)
    percent = np.divide(100 * matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)
    classes = len(matrix)
    side = float(np.clip(0.55 * classes, 3.8, 6.5))
    figure = _figure(side + 2.0, side + 1.0)
    panel = figure.add_subplot()
    # Square root: with many classes the single off-diagonal shares are below 1 % and would look like zero.
    image = panel.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    bar = figure.colorbar(image, ax=panel, shrink=0.8, ticks=(0, 1, 5, 20, 40, 60, 80, 100))
    bar.set_label("share of the true class (%)")
    if classes <= 12:
        for row, column in np.argwhere(np.isfinite(percent)):
            value = percent[row, column]
            text = "0" if value == 0 else f"{value:.1f}"
            panel.text(column, row, text, ha="center", va="center", color="white" if value > 35 else "black")
    if classes <= 30:
        names = [_short(name) for name in class_names]
        plain = {"parse_math": False}  # class names come from folders: a "$" in one is no formula
        panel.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor", **plain)
        panel.set_yticks(range(classes), names, **plain)
    panel.set_xlabel("observed class" if classes <= 30 else "observed class (number)")
    panel.set_ylabel("true class" if classes <= 30 else "true class (number)")
    _finish(figure, path, title, {})
    return figure


# ---- pieces shared by the figures


def _both_kinds(is_noisy: np.ndarray | None) -> bool:
    return is_noisy is not None and bool(np.any(is_noisy)) and not np.all(is_noisy)


def _groups(is_noisy: np.ndarray | None, samples: int) -> list[tuple[str, str, np.ndarray]]:
    """Label, colour and mask, bool (N,), of each kind of samples; a kind without samples is left out."""
    if is_noisy is None:
        return [("all samples", ALL, np.ones(samples, dtype=bool))]
    is_noisy = np.asarray(is_noisy, dtype=bool)
    kinds = [("clean", CLEAN, ~is_noisy), ("noisy", NOISY, is_noisy)]
    return [(f"{name} ({mask.sum():,})", colour, mask) for name, colour, mask in kinds if mask.any()]


def _draw_band(panel: Axes, x: np.ndarray, bounds: np.ndarray, colour: str, shift: float) -> object:
    """Median line and quartile band; a marker with a bar where T = 1. Returns the legend's handle."""
    low, middle, high = bounds
    if len(x) == 1:
        bar = panel.vlines(x + shift, low, high, color=colour, alpha=0.4, lw=6)
        return bar, panel.plot(x + shift, middle, "o", color=colour)[0]
    panel.fill_between(x, low, high, color=colour, alpha=0.22, lw=0)
    (line,) = panel.plot(x, middle, color=colour, lw=1.8)
    return Patch(facecolor=(colour, 0.22)), line


def _draw_auc(panel: Axes, x: np.ndarray, values: np.ndarray) -> Line2D:
    """AUC on a right axis from 0.4 (lower only where the values are) to 1."""
    axis = panel.twinx()
    shift = 0.2 if len(x) == 1 else 0.0
    (line,) = axis.plot(x + shift, values, "D" if len(x) == 1 else "-.", color=AUC, lw=1.4, ms=6)
    axis.set_ylim(min(0.4, np.floor(10 * np.nanmin(values)) / 10), 1.01)  # 1.01: a line at 1 is seen whole
    axis.set_ylabel("AUC", color=AUC)
    axis.tick_params(axis="y", colors=AUC)
    return line


def _draw_marks(
    panel: Axes,
    x: np.ndarray,
    marks: Mapping[str, float | Sequence[float]] | None,
    handles: dict[str, object],
) -> None:
    for place, (label, positions) in enumerate((marks or {}).items()):
        dashes, width = MARKS[place % len(MARKS)]
        style = {"color": "#444444", "ls": dashes, "lw": width}
        for position in np.atleast_1d(positions):
            if x.min() <= position <= x.max():
                handles.setdefault(label, panel.axvline(position, zorder=1, **style))


def _draw_mixture(
    panel: Axes, mixture: Mixture, limits: tuple[float, float], ceiling: float, handles: dict[str, object]
) -> float:
    """Both components as lines. Returns their height, at most `ceiling`: a beta density may end infinite."""
    axis = np.linspace(*limits, 512)
    densities = np.asarray(mixture.component_densities(axis), dtype=float)
    densities = np.where(densities > 0, densities, np.nan)  # no line outside the range that was fitted
    for label, colour, density in zip(("clean", "noisy"), MIXTURE, densities.T, strict=True):
        (line,) = panel.plot(axis, density, color=colour, lw=1.8, ls="-" if label == "clean" else "--")
        handles.setdefault(f"mixture, {label} component", line)
    finite = densities[np.isfinite(densities)]
    return min(ceiling, float(finite.max(initial=0)))


def _robust_range(values: np.ndarray) -> tuple[float, float]:
    """The 0.5–99.5 % range; where that is a point, all values; where all are equal, some room around them."""
    for low, high in (np.percentile(values, (0.5, 99.5)), (values.min(), values.max())):
        if high > low:
            return float(low), float(high)
    margin = 0.5 * max(1.0, abs(low))
    return float(low - margin), float(high + margin)


def _curve_style(place: int) -> dict[str, object]:
    """Colour and dashes of the curve at `place`: where curves lie on each other, both are seen."""
    return {"color": CURVES[place % len(CURVES)], "ls": LINES[place % len(LINES)]}


def _short(name: object) -> str:
    name = str(name)
    return name if len(name) <= 18 else name[:17] + "…"


def _finish_time_axis(panels: Sequence[Axes], x: np.ndarray, xlabel: str) -> None:
    """Limits and ticks of the shared time axis; its label below the lowest panel only."""
    panels[-1].set_xlabel(xlabel)
    if len(x) == 1:
        panels[-1].set_xlim(x[0] - 0.5, x[0] + 0.5)
        panels[-1].set_xticks(x)
        return
    margin = 0.01 * (x[-1] - x[0])
    panels[-1].set_xlim(x[0] - margin, x[-1] + margin)
    whole = bool(np.all(x % 1 == 0))  # no epoch 2.5
    panels[-1].xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 5, 10), integer=whole))


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(count: int, height: float = PANEL_HEIGHT, share_x: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, one above the other: as legible in a column of text as alone."""
    figure = _figure(WIDTH, MARGIN_HEIGHT + count * height)
    return figure, list(figure.subplots(count, 1, sharex=share_x, squeeze=False)[:, 0])


def _finish(
    figure: Figure, path: str | os.PathLike, title: str, handles: Mapping[str, object], columns: int = 2
) -> None:
    """Title, one legend for all panels, below them, where it covers no data, and the file."""
    figure.suptitle(textwrap.fill(title, int(10 * figure.get_figwidth())))
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    write_atomically(path, lambda handle: figure.savefig(handle, format="png", dpi=DPI))

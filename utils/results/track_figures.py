"""Figures over time: tracks of scores, accuracies."""

import os
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from utils.files import let_go
from utils.results.drawing import (
    AUC,
    DASHED,
    NOISY,
    PANEL_HEIGHT,
    STYLE,
    curve_style,
    finish,
    groups,
    stacked_panels,
)

MEAN = "#000000"
MARKS = (("--", 1.1), (":", 1.8), ("-.", 1.1))  # dashes and width in points
RATE_HEIGHT = 1.0  # inches, of the panel of the learning rate
VALUES_PER_CHUNK = 2**22  # 16 MiB of float32: what is read of a track at a time
FLAT = 20  # a median this many times below the top of a panel is told from zero on a logarithmic axis only
SMALLEST = 1e-6  # scores, nats for instance, below which an axis is linear


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
        let_go(track)
    return result


@matplotlib.rc_context(STYLE)
def track_figure(
    path: str | os.PathLike,
    tracks: Mapping[str, np.ndarray],
    is_noisy: np.ndarray | None,
    x: Sequence[float] | np.ndarray,
    xlabel: str,
    title: str,
    subject: str,
    aucs: Mapping[str, np.ndarray] | None = None,
    means: Mapping[str, np.ndarray] | None = None,
    marks: Mapping[str, float | Sequence[float]] | None = None,
) -> Figure:
    """Median and 25–75 % band of the clean and of the noisy samples over time, a panel per track.

    tracks: axis label -> (T, N), for instance {"cross-entropy loss (nats)": losses}; may be memory-mapped. Where a
    median comes so near to zero that a linear axis would not show it move, the axis is logarithmic, but linear below
    the smallest median.
    is_noisy: bool (N,), or None where the truth is unknown: then all samples together.
    x: (T,), ascending, what the points in time are on the axis `xlabel`.
    aucs: the tracks' names -> (T,) in [0, 1], drawn on a second axis; a track without one has no second axis.
    means: the tracks' names -> (T,), the mean loss over all samples.
    marks: label -> one or more x positions of vertical dashed lines, left out where outside the range of `x`.
    """
    x = np.asarray(x, dtype=float)
    figure, panels = stacked_panels([PANEL_HEIGHT] * len(tracks), share_x=True)
    handles: dict[str, object] = {}
    for panel, (name, track) in zip(panels, tracks.items(), strict=True):
        kinds, drawn = groups(is_noisy, track.shape[1]), []
        for place, (label, colour, mask) in enumerate(kinds):
            # Side by side where there is a single point in time, or their bars would lie on each other.
            shift = 0.1 * (place - (len(kinds) - 1) / 2)
            drawn.append(quartiles(track, mask))
            handles.setdefault(f"{label}: median, 25–75 %", _draw_band(panel, x, drawn[-1], colour, shift))
        if means and name in means:
            marker = {"marker": "s", "ls": ""} if len(x) == 1 else {"ls": ":", "lw": 1.6}
            handles["mean_loss: mean of all samples"] = panel.plot(x, means[name], color=MEAN, **marker)[0]
        _scale_to_the_medians(panel, np.array(drawn))
        panel.set_ylabel(textwrap.fill(name, 34))
        values = np.asarray((aucs or {}).get(name, ()), dtype=float)
        if np.isfinite(values).any():
            handles.setdefault("AUC (right axis)", _draw_auc(panel, x, values))
    for panel in panels:
        _draw_marks(panel, x, marks, handles)
    _finish_time_axis(panels, x, xlabel)
    finish(figure, path, title, subject, handles)
    return figure


@matplotlib.rc_context(STYLE)
def accuracy_figure(
    path: str | os.PathLike,
    x: Sequence[float] | np.ndarray,
    curves: Mapping[str, np.ndarray],
    xlabel: str,
    title: str,
    subject: str,
    rates: np.ndarray | None = None,
    marks: Mapping[str, float | Sequence[float]] | None = None,
) -> Figure | None:
    """Accuracies in percent over `x` (T,), ascending, and below them the learning rate.

    curves: name -> (T,) fractions in [0, 1], NaN where not measured; coloured by their order, in all scripts what was
    trained on first, test second. Measured points are joined across the missing ones; a curve without any is left out;
    with no curve left there is no file and None is returned.
    rates: (T,): the learning rate with which each point was reached from the one before; without (None) or with none
    above zero there is no such panel. marks: as in `track_figure`.
    """
    x = np.asarray(x, dtype=float)
    curves = {name: 100 * np.asarray(values, dtype=float) for name, values in curves.items()}
    if not any(np.isfinite(values).any() for values in curves.values()):
        return None
    has_rates = rates is not None and bool(np.any(np.asarray(rates) > 0))
    figure, panels = stacked_panels([PANEL_HEIGHT + 0.7] + [RATE_HEIGHT] * has_rates, share_x=True)
    panel = panels[0]
    handles: dict[str, object] = {}
    for place, (name, values) in enumerate(curves.items()):
        known = np.isfinite(values)
        if known.any():
            marker = "o" if known.sum() <= 30 else ""
            (handles[name],) = panel.plot(x[known], values[known], marker=marker, ms=4, **curve_style(place))
    low, high = panel.get_ylim()
    low, high = min(low, high - 5), max(high, low + 5)  # a flat curve should look flat
    panel.set_ylim(max(low, -0.7), min(high, 100.7))  # a line at 100 % is seen whole
    panel.set_ylabel("accuracy (%)")
    for panel in panels:
        _draw_marks(panel, x, marks, handles)
    if has_rates:
        _draw_rates(panels[1], x, np.asarray(rates, dtype=float))
    _finish_time_axis(panels, x, xlabel)
    finish(figure, path, title, subject, handles)
    return figure


# ---- pieces


def _draw_band(panel: Axes, x: np.ndarray, bounds: np.ndarray, colour: str, shift: float) -> object:
    """Median line and quartile band; a marker with a bar where T = 1. Returns the legend's handle."""
    low, middle, high = bounds
    noisy = colour == NOISY
    if len(x) == 1:
        bar = panel.vlines(x + shift, low, high, color=colour, alpha=0.4, lw=6)
        return bar, panel.plot(x + shift, middle, "D" if noisy else "o", color=colour)[0]
    panel.fill_between(x, low, high, color=colour, alpha=0.22, lw=0)
    (line,) = panel.plot(x, middle, color=colour, lw=1.8, ls=DASHED if noisy else "-")
    return Patch(facecolor=(colour, 0.22)), line


def _scale_to_the_medians(panel: Axes, bounds: np.ndarray) -> None:
    """A symmetric logarithmic axis for quartiles (kinds, 3, T) whose medians would lie on a linear one's edge."""
    medians, top = bounds[:, 1], np.nanmax(bounds)
    if not np.nanmin(bounds) >= 0 or np.nanmin(medians) > top / FLAT or not medians.max() > 0:
        return
    smallest = max(float(medians[medians > 0].min()), SMALLEST)
    linear = 10 ** np.floor(np.log10(smallest))
    panel.set_yscale("symlog", linthresh=linear, linscale=0.4)
    panel.set_ylim(0, 1.3 * panel.dataLim.y1)
    decades = np.log10(panel.dataLim.y1 / linear)
    if decades <= 4:  # more would be a grey bar
        panel.yaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))


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


def _draw_rates(panel: Axes, x: np.ndarray, rates: np.ndarray) -> None:
    """As steps: each rate holds from the point before to its own. Logarithmic, or the second drop would be unseen."""
    panel.step(x, rates, where="pre", color="#000000", lw=1.4, marker="" if len(x) > 1 else "o")
    panel.set_yscale("log")
    panel.set_ylabel("learning\nrate")
    low, high = rates.min(), rates.max()
    # A schedule that ends at nearly zero would otherwise be shown at that end mostly.
    panel.set_ylim(max(low, high / 1e4) / 2, 2 * high)
    panel.yaxis.set_major_locator(LogLocator(numticks=4))
    panel.yaxis.set_minor_locator(NullLocator())


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

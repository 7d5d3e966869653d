"""Figures of the scores at the end: histograms, ROC, and how far p_noisy means what it says."""

import os
from collections.abc import Mapping
from typing import Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator
from sklearn.metrics import auc, roc_curve

from utils.results.drawing import (
    ALL,
    CLEAN,
    DASHED,
    NOISY,
    PANEL_HEIGHT,
    STYLE,
    blank_figure,
    both_kinds,
    curve_style,
    finish,
    groups,
    stacked_panels,
)
from utils.scoring.metrics import Reliability

MIXTURE = ("#003A5C", "#7A2E00")  # darker clean and noisy, to stand out from the bars behind them
CHANCE = "#AAAAAA"
POINTS = (("o", 14), ("s", 10), ("^", 8), ("D", 5))  # shapes and sizes: of points at the same place all are seen
FLOOR = 0.6  # samples: the bottom of a logarithmic axis of counts, below a bar of one
NORMAL_95 = 1.96  # standard deviations of a 95 % interval


class Mixture(Protocol):
    """What `histogram_figure` asks of a fitted mixture."""

    def component_densities(self, scores: np.ndarray) -> np.ndarray:
        """Float (M, 2): the weighted densities of the clean and the noisy component at M scores, 0 where not fitted."""
        ...


@matplotlib.rc_context(STYLE)
def histogram_figure(
    path: str | os.PathLike,
    scores: Mapping[str, np.ndarray],
    is_noisy: np.ndarray | None,
    subject: str,
    mixtures: Mapping[str, Mixture | None] | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    threshold_label: str = "threshold",
) -> Figure:
    """How many samples have each score (name -> (N,)), clean and noisy apart, on a logarithmic axis.

    A score's fitted mixture is drawn in the same unit, samples in a bin, over the range it was fitted on, and its
    threshold as a vertical line; a score without (or with None) has none. The axis shows all scores, but for those
    further away from the middle 99 % than these are wide; it says how many that are.
    """
    figure, panels = stacked_panels([PANEL_HEIGHT] * len(scores))
    handles: dict[str, object] = {}
    for panel, (name, values) in zip(panels, scores.items(), strict=True):
        values = np.asarray(values, dtype=float)
        low, high = _visible_range(values)
        edges = np.linspace(low, high, int(np.clip(np.sqrt(len(values)), 10, 60)) + 1)
        peak = max(_draw_bars(panel, values, is_noisy, edges, handles), 1.0)
        if (mixture := (mixtures or {}).get(name)) is not None:
            peak = max(peak, _draw_mixture(panel, mixture, values, edges, handles))
        if (threshold := (thresholds or {}).get(name)) is not None:
            handles.setdefault(threshold_label, panel.axvline(threshold, color="#000000", lw=1.4, ls=":"))
        panel.set(ylabel="samples in a bin (log)", yscale="log", xlim=(low, high), ylim=(FLOOR, 1.6 * peak))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        outside = int(np.sum((values < low) | (values > high)))
        said = f"; {outside:,} of {len(values):,} samples outside" if outside else ""
        panel.set_xlabel(f"{name} (higher = more likely mislabelled){said}")
    title = "Scores of clean and noisy samples" if both_kinds(is_noisy) else "Scores of all samples"
    finish(figure, path, title, subject, handles)
    return figure


@matplotlib.rc_context(STYLE)
def roc_figure(
    path: str | os.PathLike,
    scores: Mapping[str, np.ndarray],
    is_noisy: np.ndarray,
    subject: str,
    k: int | None = None,
) -> Figure:
    """ROC of each score (name -> (N,)) as a detector of mislabelled samples, its AUC in the legend.

    `is_noisy`: bool (N,), of both kinds: a ROC is not defined without.

    `k`: the estimated number of wrong labels; the point at which a score's k highest are called wrong is marked, and
    the share of them that are (the precision) is in the legend.
    """
    figure = blank_figure(5.6, 6.2 + 0.25 * (len(scores) + bool(k)))
    panel = figure.add_subplot()
    handles = {}
    for place, (name, values) in enumerate(scores.items()):
        false_positives, true_positives, _ = roc_curve(is_noisy, values)
        style = curve_style(place)
        (line,) = panel.plot(100 * false_positives, 100 * true_positives, lw=2, **style)
        said = f"{name}: AUC {auc(false_positives, true_positives):.3f}"
        if k:
            x, y, precision = operating_point(values, is_noisy, k)
            shape, size = POINTS[place % len(POINTS)]
            marker = {"marker": shape, "ms": size, "color": style["color"], "mec": "white"}
            (point,) = panel.plot(100 * x, 100 * y, ls="", zorder=3, **marker)
            line, said = (line, point), f"{said}, precision at k {100 * precision:.1f} %"
        handles[said] = line
    handles["chance: AUC 0.500"] = panel.plot((0, 100), (0, 100), color=CHANCE, lw=1)[0]
    if k:
        handles[f"points: the k = {k:,} highest scores (labels estimated to be wrong)"] = Line2D([], [], ls="")
    panel.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", anchor="N")
    panel.set_xlabel("clean samples wrongly called noisy (%)")
    panel.set_ylabel("noisy samples found (%)")
    finish(figure, path, "How well each score finds the mislabelled samples", subject, handles, columns=1)
    return figure


def operating_point(scores: np.ndarray, is_noisy: np.ndarray, k: int) -> tuple[float, float, float]:
    """Of calling the k highest of `scores` (N,) wrong: (share of the clean samples called so, share of the noisy ones
    found, share of the k that are noisy). Of equal scores the earlier position comes first, as in suspects.csv."""
    called = is_noisy[np.argsort(-scores, kind="stable")[:k]]
    found = int(called.sum())
    return (len(called) - found) / int((~is_noisy).sum()), found / int(is_noisy.sum()), found / len(called)


@matplotlib.rc_context(STYLE)
def overlap_figure(
    path: str | os.PathLike,
    ends: Mapping[str, Mapping[str, np.ndarray]],
    title: str,
    subject: str,
    marked: float,
) -> Figure:
    """How far the k samples at an end of two rankings are the same: end -> pair -> (N,), in [0, 1], k = 1 ... N.

    A panel per end; `marked`: a share of the samples, drawn as a vertical line.
    """
    figure, panels = stacked_panels([PANEL_HEIGHT] * len(ends), share_x=True)
    handles: dict[str, object] = {}
    for panel, (end, pairs) in zip(panels, ends.items(), strict=True):
        for place, (pair, overlap) in enumerate(pairs.items()):
            share = np.arange(1, len(overlap) + 1) / len(overlap)
            (line,) = panel.plot(100 * share, overlap, lw=1.6, **curve_style(place))
            handles.setdefault(pair, line)
        share = np.linspace(0, 1, 101)  # of two rankings that know nothing of each other share² is in both
        handles["chance"] = panel.plot(100 * share, share / (2 - share), color=CHANCE, lw=1)[0]
        handles[f"{marked:.0%} of the samples"] = panel.axvline(100 * marked, color="#444444", lw=1.1, ls=":")
        panel.set(ylabel=f"overlap of the k {end}\n(intersection over union)", xlim=(-1, 101), ylim=(-0.02, 1.02))
    panels[-1].set_xlabel("k (% of the samples)")
    finish(figure, path, title, subject, handles)
    return figure


@matplotlib.rc_context(STYLE)
def veto_figure(
    path: str | os.PathLike, wrong: np.ndarray, right: np.ndarray, used: float, rule: str, subject: str
) -> Figure | None:
    """What a veto takes out of a clean set, over the share of all samples that it takes, those with the highest scores.

    wrong, right: int (N + 1,), how many samples of either kind the veto of 0 ... N samples takes; at N that is all the
    clean set had. used: the share in [0, 1] that the run took, by the `rule`. None, and no file, unless the clean set
    has both kinds.
    """
    if not (wrong[-1] and right[-1]):
        return None
    figure, (panel,) = stacked_panels([PANEL_HEIGHT + 0.7])
    handles: dict[str, object] = {}
    shares = np.linspace(0, 100, len(wrong))
    for what, taken, colour, dashes in (
        ("wrong labels removed", wrong, NOISY, DASHED),
        ("right ones lost", right, CLEAN, "-"),
    ):
        (line,) = panel.plot(shares, 100 * taken / taken[-1], color=colour, ls=dashes, lw=1.8)
        handles[f"{what}, of {taken[-1]:,} in the clean set"] = line
    handles[rule] = panel.axvline(100 * used, color="#000000", lw=1.4, ls=":")
    panel.set(xlabel="veto (% of all samples)", ylabel="taken out (%)", xlim=(-1, 101), ylim=(-2, 102))
    finish(figure, path, "What a veto takes out of the clean set", subject, handles)
    return figure


@matplotlib.rc_context(STYLE)
def reliability_figure(path: str | os.PathLike, reliability: Reliability, subject: str) -> Figure:
    """Of the samples with about one p_noisy, the share whose label is wrong; below, how many samples these are."""
    figure, (above, below) = stacked_panels([PANEL_HEIGHT + 1.2, 1.2], share_x=True)
    filled = reliability.counts > 0
    counts, claimed, wrong = (
        values[filled] for values in (reliability.counts, 100 * reliability.claimed, reliability.wrong)
    )
    low, high = _wilson(wrong, counts)
    handles = {"as it should be": above.plot((0, 100), (0, 100), color=CHANCE, lw=1.4)[0]}
    errors = 100 * np.stack([wrong - low, high - wrong]).clip(0)
    handles[f"measured, with 95 % intervals (expected calibration error {reliability.error:.3f})"] = above.errorbar(
        claimed, 100 * wrong, errors, color="#000000", marker="o", ms=5, lw=1.2, capsize=3
    )
    above.set(ylabel="labels that are wrong (%)", xlim=(-1, 101), ylim=(-2, 102))
    width = 100 / len(reliability.counts)
    starts = width * np.arange(len(reliability.counts))
    below.bar(starts, reliability.counts, width, align="edge", color=ALL, alpha=0.6, ec="white")
    below.set(xlabel="p_noisy (%)", ylabel="samples", yscale="log", ylim=(FLOOR, 2 * counts.max()))
    below.yaxis.set_minor_locator(NullLocator())
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    finish(figure, path, "How far p_noisy means what it says", subject, handles, columns=1)
    return figure


# ---- pieces


def _draw_bars(
    panel: Axes, values: np.ndarray, is_noisy: np.ndarray | None, edges: np.ndarray, handles: dict[str, object]
) -> float:
    """A histogram of each kind of samples; the highest count."""
    peak = 0.0
    for label, colour, mask in groups(is_noisy, len(values)):
        counts, _ = np.histogram(values[mask], edges)
        peak = max(peak, counts.max())
        noisy = colour == NOISY
        dashes, hatch = (DASHED, "////") if noisy else ("-", None)
        heights = np.maximum(counts, FLOOR / 2)  # an empty bin is below the axis
        face = {"facecolor": (colour, 0.35), "edgecolor": (colour, 0.5), "hatch": hatch}
        panel.stairs(heights, edges, baseline=FLOOR / 2, fill=True, lw=0, **face)
        panel.stairs(heights, edges, baseline=FLOOR / 2, color=colour, lw=1.3, ls=dashes)
        handles.setdefault(label, Patch(facecolor=(colour, 0.35), edgecolor=colour, ls=dashes, hatch=hatch))
    return peak


def _draw_mixture(
    panel: Axes, mixture: Mixture, values: np.ndarray, edges: np.ndarray, handles: dict[str, object]
) -> float:
    """Both components as lines, in samples in a bin; the height of the highest."""
    axis = np.linspace(edges[0], edges[-1], 1024)
    fitted = int(np.sum(mixture.component_densities(values).sum(axis=1) > 0))  # the scores at the ends took no part
    heights = fitted * (edges[1] - edges[0]) * np.asarray(mixture.component_densities(axis), dtype=float)
    heights = np.where((heights > 0) & np.isfinite(heights), heights, np.nan)
    for label, colour, height in zip(("clean", "noisy"), MIXTURE, heights.T, strict=True):
        (line,) = panel.plot(axis, height, color=colour, lw=1.8, ls="-" if label == "clean" else "--")
        handles.setdefault(f"mixture, {label} component, where it was fitted", line)
    return float(np.nanmax(heights, initial=0))


def _visible_range(values: np.ndarray) -> tuple[float, float]:
    """All values, but for those further from the middle 99 % than these are wide; where all are equal, some room."""
    low, high = np.percentile(values, (0.5, 99.5))
    width = high - low if high > low else np.inf
    low, high = max(values.min(), low - width), min(values.max(), high + width)
    if high > low:
        return float(low), float(high)
    margin = 0.5 * max(1.0, abs(low))
    return float(low - margin), float(high + margin)


def _wilson(share: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a probability that showed as `share` of `counts` draws (Wilson 1927)."""
    z = NORMAL_95**2 / counts
    middle = share + z / 2
    half = NORMAL_95 * np.sqrt(share * (1 - share) / counts + z / (4 * counts))
    return (middle - half) / (1 + z), (middle + half) / (1 + z)

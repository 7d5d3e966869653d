"""What all figures of an experiment share: colours, panels, title, legend and the file.

Drawn through matplotlib's objects, never pyplot, so nothing here depends on a display or on global state. The figures
themselves are in track_figures.py, score_figures.py and class_figures.py. Each of their functions takes arrays, writes
one PNG (whole or not at all) and returns the Figure; where there is nothing to show (a veto on a clean set without both
kinds of samples, no finite accuracy) it writes no file and returns None. What needs the truth is left out where the
truth is unknown. `subject` is the second line of the title: data set, noise and seed.

N samples, T points in time, C classes. Scores: higher = more likely mislabelled.
"""

import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.files import write_atomically
from utils.results.suspects import printable

# Okabe & Ito (2008), "Color universal design": told apart with every common kind of colour blindness. In grey, lines
# are told apart by their dashes and areas by their hatching.
CLEAN, NOISY, AUC = "#0072B2", "#D55E00", "#00805C"
ALL = "#555555"  # samples whose truth is unknown
CURVES = ("#000000", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#808080")  # none of the above
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
DASHED = (0, (4, 1.2))  # the noisy samples

STYLE = {
    "font.size": 10, "axes.titlesize": 11, "figure.titlesize": 12, "legend.frameon": False, "hatch.linewidth": 0.5,
}  # fmt: skip
DPI = 130
WIDTH, PANEL_HEIGHT, MARGIN_HEIGHT = 7.5, 2.8, 1.5  # inches; the margin holds title and legend


def both_kinds(is_noisy: np.ndarray | None) -> bool:
    """Whether there are both clean and noisy samples, and known."""
    return is_noisy is not None and bool(np.any(is_noisy)) and not np.all(is_noisy)


def groups(is_noisy: np.ndarray | None, samples: int) -> list[tuple[str, str, np.ndarray]]:
    """Label, colour and mask, bool (N,), of each kind of samples; a kind without samples is left out."""
    if is_noisy is None:
        return [("all samples", ALL, np.ones(samples, dtype=bool))]
    is_noisy = np.asarray(is_noisy, dtype=bool)
    kinds = [("clean", CLEAN, ~is_noisy), ("noisy", NOISY, is_noisy)]
    return [(f"{name} ({mask.sum():,})", colour, mask) for name, colour, mask in kinds if mask.any()]


def curve_style(place: int) -> dict[str, object]:
    """Colour and dashes of the curve at `place`: where curves lie on each other, both are seen."""
    return {"color": CURVES[place % len(CURVES)], "ls": LINES[place % len(LINES)]}


def class_label(name: object, longest: int = 18) -> str:
    """The name of a class in one line, cut to so many characters; names come from folders and may be anything."""
    text = " ".join(printable(str(name)).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches."""
    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def stacked_panels(heights: Sequence[float], share_x: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of panels of those heights in inches, one above the other: as legible in a column of text as alone."""
    figure = blank_figure(WIDTH, MARGIN_HEIGHT + sum(heights))
    panels = figure.subplots(len(heights), 1, sharex=share_x, squeeze=False, height_ratios=heights)
    return figure, list(panels[:, 0])


def finish(
    figure: Figure,
    path: str | os.PathLike,
    title: str,
    subject: str,
    handles: Mapping[str, object],
    columns: int = 2,
) -> None:
    """Title and subject, one legend for all panels, below them, where it covers no data, and the file."""
    width = int(10 * figure.get_figwidth())
    lines = [textwrap.fill(line, width) for line in (title, printable(subject)) if line]
    figure.suptitle("\n".join(lines), parse_math=False)  # a folder's name may hold a "$"
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    write_atomically(path, lambda handle: figure.savefig(handle, format="png", dpi=DPI))

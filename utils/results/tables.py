"""Tables of figures over seeds, mean ± sd (n): as text, csv, Markdown or LaTeX. Imports nothing heavy."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest

LATEX = {character: rf"\{character}" for character in "&%$#_{}"}
LATEX |= {"[": "{[}", "|": r"\textbar{}", "<": "$<$", ">": "$>$"}  # after \\ a plain [ begins a length
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}


def figure_label(name: str) -> str:
    """How a figure of run.json is called where people read it."""
    return f"{name} (oracle)" if name.startswith("test_accuracy_best") else name


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    mean: float
    sd: float | None  # of the sample, over n - 1; None = of one value there is none
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None where there are no values; nan where one is not finite."""
        values = list(values)
        if not values:
            return None
        if not all(map(math.isfinite, values)):  # left out, it would flatter the rest
            return cls(math.nan, math.nan, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def __str__(self) -> str:
        digits = 4 if abs(self.mean) < 10 else 1  # shares, then counts
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread} ({self.n})"


@dataclass(frozen=True)
class Row:
    """A group of runs: its labels, its figures, and what a reader must know of it."""

    labels: list[str]
    spreads: list[Spread | None]  # None = no run of the group has the figure
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under the names of their labels and figures."""

    labels: list[str]
    figures: list[str]
    rows: list[Row]

    def notes(self) -> list[str]:
        """Every note once; it is referred to by its place, counted from 1."""
        return list(dict.fromkeys(note for row in self.rows for note in row.notes))

    def cells(self) -> list[list[str]]:
        """Header and rows as text, with a column of numbers of notes where there are any."""
        notes = self.notes()
        lines = [[*self.labels, *self.figures, "note"]]
        for row in self.rows:
            numbers = " ".join(f"[{1 + notes.index(note)}]" for note in row.notes)
            lines.append([*row.labels, *("" if of is None else str(of) for of in row.spreads), numbers])
        return lines if notes else [line[:-1] for line in lines]

    def numbered_notes(self) -> list[str]:
        return [f"[{number}] {note}" for number, note in enumerate(self.notes(), 1)]


# -- formats -----------------------------------------------------------------------------------------------------------


def as_text(table: Table) -> str:
    """Columns side by side."""
    lines = table.cells()
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    aligned = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*aligned, *table.numbered_notes()])


def as_csv(table: Table) -> str:
    """A row per group; of every figure its mean, sd and n in columns of their own, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    notes = ["note"] if table.notes() else []
    writer.writerow(
        [*table.labels, *(f"{name} {part}" for name in table.figures for part in ("mean", "sd", "n")), *notes]
    )
    for row in table.rows:
        numbers = [part for of in row.spreads for part in (("", "", 0) if of is None else (of.mean, of.sd, of.n))]
        writer.writerow([*row.labels, *numbers, *(["; ".join(row.notes)] if notes else [])])
    return text.getvalue().rstrip("\n")


def as_markdown(table: Table) -> str:
    header, *rows = [[cell.replace("|", r"\|") for cell in line] for line in table.cells()]
    lines = ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)]
    return "\n".join([*lines, *(f"\n{note}" for note in table.numbered_notes())])


def as_latex(table: Table) -> str:
    """A tabular that needs no package."""
    header, *rows = [" & ".join(map(latex, line)) + r" \\" for line in table.cells()]
    columns = "l" * len(table.cells()[0])
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", header, r"\hline", *rows, r"\hline", r"\end{tabular}"]
    return "\n".join([*lines, *(rf"\par {latex(note)}" for note in table.numbered_notes())])


def latex(text: str) -> str:
    """`text` with the characters escaped that mean something to LaTeX."""
    return re.sub(r"[\[|<>\\&%$#_{}~^±]", lambda found: LATEX[found[0]], text)


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": as_text,
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}

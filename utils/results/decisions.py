"""What becomes of every sample: by p_noisy alone, or as it was decided in review.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.label_file import UNLABELLED
from utils.errors import UserError
from utils.experiments.record import Record, command_again
from utils.results.suspects import printable

NEEDED = ("sample_id", "label", "suggested_label", "confidence", "p_noisy")  # columns of suspects.csv
REVIEW = ("sample_id", "file", "label", "decision", "new_label")  # of review.csv


@dataclass(frozen=True)
class Listed:
    """A row of suspects.csv."""

    sample_id: int
    file: str  # below the data's root, "" where the images are no files
    label: str
    suggested: str
    confidence: float
    p_noisy: float


@dataclass(frozen=True)
class Decided:
    """A sample with the label that it leaves with."""

    sample: Listed
    label: str | None  # None = removed
    score: float  # how sure that label is, in [0, 1]; 1 where a person decided
    judged: bool = False  # by a person

    @property
    def relabelled(self) -> bool:
        return self.label not in (None, self.sample.label)


def read_suspects(record: Record) -> list[Listed]:
    """suspects.csv of a finished experiment. Raises UserError where it is missing or not what the run wrote."""
    path = record.path / "suspects.csv"
    try:
        samples = [
            Listed(
                int(row["sample_id"]),
                row.get("file", ""),
                row["label"],
                row["suggested_label"],
                float(row["confidence"]),
                float(row["p_noisy"]),
            )
            for _, row in _table(path, NEEDED)
        ]
    except (ValueError, TypeError) as error:  # cells that are no numbers, short rows
        raise UserError(f"{path} is damaged ({error})", f"run {command_again(record)}") from error
    if not np.array_equal(sorted(sample.sample_id for sample in samples), np.sort(record.read_array("sample_ids"))):
        raise UserError(f"{path} does not list the samples of its run", f"run {command_again(record)}")
    return samples


def unlabelled(record: Record) -> list[str]:
    """Names of the images that the run's --labels file left out, by file or sample id."""
    path = record.path / "skipped.csv"
    if not path.exists():
        return []
    return [row["file"] for _, row in _table(path, ("file", "reason")) if row["reason"].startswith(UNLABELLED)]


def classes_of(samples: list[Listed]) -> list[str]:
    """Sorted names of the classes that samples carry or may carry."""
    return sorted({sample.label for sample in samples} | {sample.suggested for sample in samples})


def by_p_noisy(samples: list[Listed], least: float, relabel: bool) -> list[Decided]:
    """Samples with p_noisy from `least` on get the suggested label, or are removed; the others keep theirs."""
    decided = []
    for sample in samples:
        if sample.p_noisy < least:
            decided.append(Decided(sample, sample.label, 1 - sample.p_noisy))
        else:
            decided.append(Decided(sample, sample.suggested if relabel else None, sample.confidence))
    return decided


def by_review(samples: list[Listed], path: Path) -> list[Decided]:
    """As review.csv says; samples that it does not name keep their labels.

    Raises UserError for a row that is not this experiment's, an unknown decision or class, or a sample decided twice.
    """
    of_id, classes = {str(sample.sample_id): sample for sample in samples}, set(classes_of(samples))
    new: dict[int, str | None] = {}
    for where, row in _table(path, REVIEW):
        sample = of_id.get(row["sample_id"])
        # Of a name that is no text the page could only hold what it shows.
        if sample is None or printable(sample.file) != row["file"] or printable(sample.label) != row["label"]:
            raise UserError(
                f"{where}: the experiment has no sample {row['sample_id']}, file {row['file']}, label {row['label']}",
                "give the review of this experiment",
            )
        if sample.sample_id in new:
            raise UserError(f"{where}: sample {sample.sample_id} is decided twice", "keep one of the two rows")
        new[sample.sample_id] = _new_label(where, row, sample, classes)
    return [
        Decided(sample, new[sample.sample_id], 1.0, judged=True)
        if sample.sample_id in new
        else Decided(sample, sample.label, 1 - sample.p_noisy)
        for sample in samples
    ]


def _new_label(where: str, row: dict[str, str], sample: Listed, classes: set[str]) -> str | None:
    decision, label = row["decision"], row["new_label"]
    if decision not in ("keep", "relabel", "remove"):
        raise UserError(f"{where}: unknown decision {decision!r}", "take keep, relabel or remove")
    if decision != "relabel":
        if label:
            raise UserError(f"{where}: {decision} with the new label {label!r}", "say relabel, or leave the label out")
        return sample.label if decision == "keep" else None
    named = {printable(name): name for name in classes}
    if label not in named:
        raise UserError(f"{where}: there is no class {label!r}", f"take one of {', '.join(sorted(named)[:20])}")
    return named[label]


def _table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """(Where it stands, row) of a csv file. Raises UserError where it cannot be read or lacks one of the columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as handle:
            reader = csv.DictReader(handle, strict=True)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise UserError(f"{path} has no column {missing[0]}", f"its first line must name {', '.join(columns)}")
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{path}, line {reader.line_num}: too many or too few fields", "correct that line")
                yield f"{path}, line {reader.line_num}", row
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", "check its name") from error
    except csv.Error as error:
        raise UserError(f"{path} is no csv file ({error})", "give the file as it was written") from error

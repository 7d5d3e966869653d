"""history.csv: a row per epoch or tracked step."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import write_csv


class History:
    """The rows of a run so far; columns are those of all rows, in the order in which they first came."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Another row, floats rounded; it is on disk with the next checkpoint."""
        self.rows.append({key: (rounded(v) if isinstance(v, float) else v) for key, v in row.items()})

    def until(self, epoch: int) -> list[dict[str, Any]]:
        """The rows of the epochs up to this one, counted from 1, of a run whose last training was given up."""
        return [row for row in self.rows if row["epoch"] <= epoch]

    def latest(self) -> str:
        """The figures of the newest row, for a log line."""
        return ", ".join(f"{key} {value:.4g}" for key, value in self.rows[-1].items() if isinstance(value, float))

    def highlights(self) -> dict[str, str]:
        """Loss and AUCs of the newest row, for a progress bar."""
        row = self.rows[-1]
        shown = {key: row[key] for key in row if key in ("train_loss", "mean_loss") or key.startswith("auc_")}
        return {key: f"{value:.3f}" for key, value in shown.items() if value is not None}

    def write(self, path: Path) -> None:
        write_csv(path, self.rows)


def rounded(value: float) -> float:
    """To six digits after the point, or where it is small to six that count: losses of what is memorised are."""
    return float(f"{value:.6g}") if abs(value) < 1 else round(value, 6)


def read_stage(path: Path, stage: str, remedy: str) -> list[dict[str, str]]:
    """The rows of one stage of main.py's history.csv, as text. Raises UserError where they are not all numbers."""
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            rows = [row for row in csv.DictReader(handle) if row["stage"] == stage]
        for value in (value for row in rows for value in row.values() if value != ""):
            float(value)
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error})", remedy) from error
    return rows


def history_columns(rows: list[dict], names: dict[str, str]) -> dict[str, np.ndarray]:
    """{label: float array over the rows} for the columns that hold anything; blanks become NaN."""
    found = {
        label: np.array([float(row[name]) if row.get(name) not in ("", None) else np.nan for row in rows])
        for label, name in names.items()
    }
    return {label: values for label, values in found.items() if not np.isnan(values).all()}

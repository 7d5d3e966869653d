"""Finding the scores that a separation script left: by name, or the newest finished run on the same data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from utils.cli import DataChoice
from utils.commands import SEPARATIONS, separation_command
from utils.compare import require_same_data
from utils.errors import UserError
from utils.experiment import load_array, load_recorded, read_finished, records
from utils.selection import validate_scores


def read_scores(
    root: str, method: str, experiment_name: str, names: tuple[str, ...], choice: DataChoice, fingerprint: dict
) -> tuple[np.ndarray, str]:
    """(scores float32 (N,), where they came from): the first of `names` that the experiment holds.

    `experiment_name` "" = the newest finished experiment of `method` with the same data set, class subset, noise type,
    ratio and seed. Raises UserError where there is none, or where its scores belong to other images or labels.
    """
    if experiment_name:
        if not (Path(root) / experiment_name).exists():
            command = separation_command(method, choice, root)
            raise UserError(
                f"there is no experiment {experiment_name} under {root}",
                f"correct the name, or run this first: {command} --experiment_name {experiment_name}",
            )
        record = read_finished(root, experiment_name)
        if record["method"] != method:
            raise UserError(
                f"{experiment_name} was made by {record['script']}, not {SEPARATIONS[method].script}",
                f"name it with --{record['method']}",
            )
    else:
        record = newest(root, method, choice, fingerprint)
    require_same_data(fingerprint, record["data"], record["path"].name)
    for name in names:
        file = record["path"] / f"{name}.npy"
        if file.exists():
            return validate_scores(load_recorded(record, name), fingerprint["samples"], file), str(file)
    raise UserError(f"{record['path']} holds no {names[0]}.npy", f"run python3 {record['command']} --overwrite")


def newest(root: str, method: str, choice: DataChoice, fingerprint: dict) -> dict[str, Any]:
    """The record of the finished experiment of `method` on this data that finished last, equal fingerprints first."""
    wanted = {
        "data_set": choice.name,
        "class_subset": choice.subset,
        "noise_type": choice.noise_type,
        "noise_ratio": choice.noise_ratio,
        "seed": choice.seed,
    }
    found = [
        record
        for record in records(Path(root))
        if record["status"] == "finished"
        and record["method"] == method
        and all((record["data"] or {}).get(key) == value for key, value in wanted.items())
    ]
    if not found:
        raise UserError(
            f"no finished {SEPARATIONS[method].script} experiment under {root} has the same data, noise and seed",
            f"run this first: {separation_command(method, choice, root)}",
        )
    return max(found, key=lambda record: (record["data"] == fingerprint, record["finish_number"]))


def read_score_file(path: str, samples: int) -> tuple[np.ndarray, str]:
    """Scores from elsewhere: any .npy of one real number per sample, higher = more likely mislabelled."""
    return validate_scores(load_array(Path(path)), samples, path), path

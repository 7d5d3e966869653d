"""What the three separation scripts leave behind alike: labels, scores, suspects, figures; comparing two of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from utils.commands import SEPARATIONS
from utils.compare import compare_scores
from utils.compute import Compute
from utils.errors import UserError
from utils.experiment import Experiment, load_array, read_finished
from utils.figures import accuracy_figure, histogram_figure, roc_figure
from utils.metrics import auc
from utils.mixture import BetaMixture, fit_quietly
from utils.noisy_data import NoisyData
from utils.training import accuracy


def start(experiment: Experiment, data: NoisyData, compute: Compute) -> None:
    """Say and save what the run works on."""
    for line in (f"device: {compute}", *data.describe().splitlines()):
        experiment.log(line)
    experiment.update(data=data.fingerprint(), device=str(compute))
    experiment.save_array("labels", data.labels)
    experiment.save_array("sample_ids", data.sample_ids)
    if data.clean_labels is not None:
        experiment.save_array("clean_labels", data.clean_labels)


def save_scores(experiment: Experiment, data: NoisyData, scores: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Write scores (the first ranks the suspects), suspects.csv, ROC and histograms; the figures auc_<score>."""
    mixtures = {}
    for name, values in scores.items():
        experiment.save_array(name, values.astype(np.float32))
        mixture = fit_quietly(values)
        if mixture.usable_:
            mixtures[name] = mixture
    save_suspects(experiment, data, scores, mixtures)
    histogram_figure(experiment.path / "scores.png", scores, data.is_noisy, mixtures)
    if any(auc(values, data.is_noisy) is not None for values in scores.values()):
        roc_figure(experiment.path / "roc.png", scores, data.is_noisy)
    aucs = {f"auc_{name}": auc(values, data.is_noisy) for name, values in scores.items()}
    return aucs | {"noise_ratio_realised": data.noise_ratio}


def save_suspects(
    experiment: Experiment, data: NoisyData, scores: dict[str, np.ndarray], mixtures: dict[str, BetaMixture]
) -> None:
    """suspects.csv: every sample, the most likely mislabelled first by the first score."""
    first = next(iter(scores))
    p_noisy = mixtures[first].p_noisy(scores[first]) if first in mixtures else None
    rows = []
    for i in np.argsort(-scores[first], kind="stable"):
        row: dict[str, Any] = {"sample_id": data.sample_ids[i]}
        if data.file_names is not None:
            row["file"] = data.file_names[i]
        row["label"] = data.class_names[data.labels[i]]
        row |= {name: f"{values[i]:.6g}" for name, values in scores.items()}
        if p_noisy is not None:
            row["p_noisy"] = f"{p_noisy[i]:.4f}"
        rows.append(row)
    experiment.write_csv("suspects.csv", rows)


def test_accuracy(model: nn.Module, data: NoisyData, compute: Compute, batch_size: int | None) -> float | None:
    if data.test_images is None:
        return None
    return accuracy(model, data.test_images, data.test_labels, compute, batch_size)


def accuracy_figures(
    experiment: Experiment, rows: list[dict], names: dict[str, str], file: str = "accuracy.png"
) -> None:
    """An accuracy figure from the history columns `names` {label: column}."""
    epochs = [int(row["epoch"]) for row in rows]
    accuracy_figure(experiment.path / file, epochs, columns(rows, names), "epoch", "Accuracy")


def accuracy_numbers(rows: list[dict]) -> dict[str, float | None]:
    """train_accuracy, test_accuracy (last) and test_accuracy_best of a history with a row per epoch, in [0, 1]."""
    found = columns(rows, {"train": "train_accuracy", "test": "test_accuracy"})
    numbers = {"train_accuracy": float(found["train"][-1])} if "train" in found else {}
    if "test" in found:
        numbers |= {"test_accuracy": float(found["test"][-1]), "test_accuracy_best": float(found["test"].max())}
    return numbers


def columns(rows: list[dict], names: dict[str, str]) -> dict[str, np.ndarray]:
    """{label: float array over the rows} for the columns that hold anything; blanks become NaN."""
    found = {
        label: np.array([float(row[name]) if row.get(name) not in ("", None) else np.nan for row in rows])
        for label, name in names.items()
    }
    return {label: values for label, values in found.items() if not np.isnan(values).all()}


def compare(experiment: Experiment, other_name: str) -> str:
    """Both experiments' scores side by side: rank correlation, overlap and purity of what both call clean.

    Raises UserError where the other experiment is unfinished or judged other data or labels.
    """
    other = read_finished(experiment.path.parent, other_name)
    require_same_data(experiment.record["data"], other["data"], other_name)
    labels = load_array(experiment.path / "labels.npy")
    is_noisy = None
    if (experiment.path / "clean_labels.npy").exists():
        is_noisy = load_array(experiment.path / "clean_labels.npy") != labels
    names = [
        [name for s in SEPARATIONS.values() for name in s.scores if (path / f"{name}.npy").exists()]
        for path in (experiment.path, other["path"])
    ]
    lines = [f"\nscores of {experiment.name} and of {other_name}; clean = p_noisy < 0.5 under the beta mixture"]
    lines.append(
        f"  {'this':<14} {'other':<14} {'rank corr.':>10} {'clean':>7} {'clean':>7} {'both':>7} "
        f"{'overlap':>8} {'purity of both':>15}"
    )
    for a in names[0]:
        for b in names[1]:
            c = compare_scores(
                load_array(experiment.path / f"{a}.npy"), load_array(other["path"] / f"{b}.npy"), is_noisy
            )
            purity = "unknown" if c.purity_both is None else f"{c.purity_both:.4f}"
            lines.append(
                f"  {a:<14} {b:<14} {c.rank_correlation:>10.4f} {c.clean_a:>7} {c.clean_b:>7} {c.clean_both:>7} "
                f"{c.overlap:>8.4f} {purity:>15}"
            )
    return "\n".join(lines)


def require_same_data(ours: dict, theirs: dict, name: str) -> None:
    """Raises UserError naming what differs between two data fingerprints."""
    differing = [f"{key} {theirs.get(key)!r} there, {ours[key]!r} here" for key in ours if ours[key] != theirs.get(key)]
    if differing:
        raise UserError(
            f"{name} judged other data: {'; '.join(differing)}", "use the same data, noise and seed for both"
        )

"""What every script says and leaves behind alike: the data it works on, accuracies and their figure."""

from __future__ import annotations

import numpy as np
from torch import nn

from utils.compute import Compute
from utils.experiment import Experiment
from utils.figures import accuracy_figure, confusion_figure
from utils.noise import transition_matrix
from utils.noisy_data import NoisyData
from utils.training import accuracy


def start(experiment: Experiment, data: NoisyData, compute: Compute, **more_data: dict) -> None:
    """Say and save what the run works on; nothing is written before. `more_data`: fingerprints beside the main one.

    Raises UserError where an interrupted run worked on other data or in another precision.
    """
    resuming = experiment.record["data"] is not None
    experiment.begin(data.fingerprint(), resolved_precision="bf16" if compute.bf16 else "fp32", **more_data)
    experiment.update(device=str(compute))
    if resuming:
        experiment.log(f"going on with {experiment.path} on {compute}")
    else:
        for line in (f"device: {compute}", *data.describe().splitlines()):
            experiment.log(line)
    # Written again on a resume: the first start may have been stopped before it came this far.
    experiment.save_array("labels", data.labels)
    experiment.save_array("sample_ids", data.sample_ids)
    if data.clean_labels is not None:
        experiment.save_array("clean_labels", data.clean_labels)
        matrix = transition_matrix(data.clean_labels, data.labels, data.num_classes)
        title = "Label noise: where the labels of each class went"
        confusion_figure(experiment.path / "transition.png", matrix, data.class_names, title)


def accuracy_on_test(model: nn.Module, data: NoisyData, compute: Compute, batch_size: int | None) -> float | None:
    """Share of the test images classified right, in [0, 1]; None without a test set."""
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

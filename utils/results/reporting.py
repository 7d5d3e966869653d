"""What every script says and leaves behind alike: the data it works on, accuracies and their figure."""

from __future__ import annotations

from utils.compute import Compute
from utils.data.noise import transition_matrix
from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.experiments.history import history_columns
from utils.results.figures import accuracy_figure, confusion_figure


def announce(experiment: Experiment, data: NoisyData, compute: Compute, **more_data: dict) -> None:
    """Say and save what the run works on; nothing is written before. `more_data`: fingerprints beside the main one.

    Raises UserError where an interrupted run worked on other data or in another precision.
    """
    resuming = experiment.resuming
    experiment.begin(data.fingerprint(), resolved_precision=compute.precision, **more_data)
    experiment.record.update(device=str(compute))
    if resuming:
        experiment.log(f"going on with {experiment.path} on {compute}")
    else:
        for line in (f"device: {compute}", *data.describe().splitlines()):
            experiment.log(line)
    # Written again on a resume: the first start may have been stopped before it came this far.
    experiment.save_array("labels", data.labels)
    experiment.save_array("sample_ids", data.sample_ids)
    save_left_out(experiment, data)
    if data.planted is not None:
        experiment.save_array("trained_labels", data.training_labels.cpu().numpy())
    if data.clean_labels is not None:
        experiment.save_array("clean_labels", data.clean_labels)
        matrix = transition_matrix(data.clean_labels, data.labels, data.num_classes)
        title = "Label noise: where the labels of each class went"
        confusion_figure(experiment.record.own("transition.png"), matrix, data.class_names, title)


def save_left_out(experiment: Experiment, data: NoisyData, name: str = "skipped.csv") -> None:
    """Which images take no part, and why; no file where all do."""
    if data.left_out:
        experiment.write_csv(name, [{"file": file, "reason": reason} for file, reason in data.left_out.items()])


def write_accuracy_figure(
    experiment: Experiment, rows: list[dict], names: dict[str, str], file: str = "accuracy.png"
) -> None:
    """An accuracy figure from the history columns `names` {label: column}."""
    epochs = [int(row["epoch"]) for row in rows]
    accuracy_figure(experiment.record.own(file), epochs, history_columns(rows, names), "epoch", "Accuracy")


def accuracy_numbers(rows: list[dict]) -> dict[str, float | None]:
    """train_accuracy, test_accuracy (last) and test_accuracy_best of a history with a row per epoch, in [0, 1]."""
    found = history_columns(rows, {"train": "train_accuracy", "test": "test_accuracy"})
    numbers = {"train_accuracy": float(found["train"][-1])} if "train" in found else {}
    if "test" in found:
        numbers |= {"test_accuracy": float(found["test"][-1]), "test_accuracy_best": float(found["test"].max())}
    return numbers

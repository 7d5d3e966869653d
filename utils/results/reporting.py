"""What scripts say and leave behind alike: the data, accuracies, what p_noisy says of the noise, trained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from utils.compute import Compute, has_bf16
from utils.data.noise import transition_matrix
from utils.data.noisy_data import NoisyData
from utils.errors import Foreseen, UserError
from utils.experiments.experiment import Experiment
from utils.experiments.history import history_columns
from utils.files import require_space
from utils.memory import free_memory
from utils.results.class_figures import transition_figure
from utils.results.score_figures import reliability_figure
from utils.results.track_figures import accuracy_figure
from utils.scoring.metrics import reliability
from utils.training.expectation import SHORT, Expectation, host_instead

TRUTH = "true"  # of a transition matrix
CORNER = "true class / label"  # the header of the column of names: no class can be called that, since it holds a "/"


def announce(
    experiment: Experiment,
    data: NoisyData,
    compute: Compute,
    *,
    epochs: Sequence[int] = (),
    why: str = "",
    expected: str | None = None,
    notes: Sequence[str] = (),
    **more_data: dict,
) -> None:
    """Say and save what the run works on; nothing is written before, and with --overwrite nothing removed.

    Call once nothing can refuse the run any more. `epochs`: of each training, one after the other; `why` so many.
    `expected`: what `foresee` found. `notes`: more lines for the log. `more_data`: fingerprints beside the main one.

    Raises UserError where an interrupted run worked on other data.
    """
    resuming = experiment.resuming
    experiment.begin(data.fingerprint(), resolved_precision=compute.precision, epochs=list(epochs), **more_data)
    before, now = experiment.record.get("ranks", 1), compute.ranks.size
    device_before = experiment.record.get("device")
    experiment.record.update(device=str(compute), ranks=now)
    if resuming:
        experiment.log(f"going on with {experiment.path} on {compute}")
        if before != now:
            experiment.log(f"begun with {in_words(before)}, going on with {in_words(now)}: the bytes will differ")
        elif device_before not in (None, str(compute)):
            experiment.log(f"begun on {device_before}: the bytes may differ")
        if compute.bf16 and not has_bf16(compute.device):
            experiment.log("begun in bf16, which this machine is slow in")
    else:
        for line in (f"device: {compute}", *data.describe(augments(experiment)).splitlines()):
            experiment.log(line)
        for line in notes:
            experiment.log(line)
        if epochs:
            experiment.log(f"epochs: {' + '.join(map(str, epochs))}, for {len(data)} images ({why})")
        if data.planted is not None:
            planted = len(data.planted.ids)
            experiment.log(f"planted: {planted} labels changed for the training, to choose and calibrate by (--plant)")
    if expected is not None:
        experiment.log(expected)
    # Written again on a resume: the first start may have been stopped before it came this far.
    experiment.save_array("labels", data.labels)
    experiment.save_array("sample_ids", data.sample_ids)
    save_left_out(experiment, data)
    if data.planted is not None:
        experiment.save_array("trained_labels", data.trained)
    if data.clean_labels is not None:
        experiment.save_array("clean_labels", data.clean_labels)
        matrices = {TRUTH: transition_matrix(data.clean_labels, data.labels, data.num_classes)}
        title = "Label noise: where the labels of each class went"
        path = experiment.record.own("transition.png")
        transition_figure(path, matrices, data.class_names, title, data.choice.in_words())


def augments(experiment: Experiment) -> bool:
    """Whether training images are changed at random."""
    settings = experiment.record["settings"]
    return settings.get("augment") != "none" and settings.get("features") is None  # of features no image is trained on


def in_words(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def foresee(
    experiment: Experiment,
    data: NoisyData,
    expectation: Callable[..., Expectation | None],
    compute: Compute,
    only: bool,
) -> str | None:
    """A line on what the run will take, None on a resume; `expectation(short=)`: of one of at least so many seconds.

    `only`: say it, and what the data are, and no more, which ends in Foreseen (--estimate). Raises UserError for what
    cannot fit.
    """
    if experiment.history.rows:
        return None
    expected = expectation(short=0.0 if only else SHORT)
    if expected is None:
        return None
    line = f"expected: {expected}"
    if only:
        print(data.describe(augments(experiment)), line, sep="\n")
    require_space(experiment.path, expected.disk - experiment.bytes_to_remove, "the run")
    free = free_memory(compute)
    if free is not None and expected.more_memory > free:
        elsewhere = 0 if expected.images_on_host else expected.images
        raise UserError(
            f"the run needs {expected.more_memory / 1e9:.1f} GB of memory more, and {free / 1e9:.1f} GB are free",
            "take fewer images" + host_instead(expected.more_memory - free, elsewhere),
        )
    if only:
        compute.ranks.wait()  # until all have looked at the folder, which rank 0 removes next
        raise Foreseen
    return line


def write_transition(experiment: Experiment, data: NoisyData, transition: np.ndarray, symmetric: bool = False) -> None:
    """transition_estimated.csv and .png of a noise matrix (C, C), rows = true class, that was found without the truth.

    `symmetric`: it was taken to be, which the figure says. Where the truth is known, that stands beside the estimate.
    """
    experiment.write_csv(
        "transition_estimated.csv",
        [
            {CORNER: name} | {label: f"{share:.6f}" for label, share in zip(data.class_names, row, strict=True)}
            for name, row in zip(data.class_names, transition, strict=True)
        ],
    )
    matrices = {"estimated without the truth": transition}
    if data.clean_labels is not None:
        matrices[TRUTH] = transition_matrix(data.clean_labels, data.labels, data.num_classes)
    title = f"Estimated label noise{', taken to be symmetric' if symmetric else ''}"
    path = experiment.record.own("transition_estimated.png")
    transition_figure(path, matrices, data.class_names, title, data.choice.in_words())


def write_reliability(experiment: Experiment, data: NoisyData, p_noisy: np.ndarray) -> dict[str, float]:
    """How far p_noisy (N,) means what it says: reliability.png and the figure p_noisy_calibration_error.

    Nothing where the truth is unknown.
    """
    if data.is_noisy is None:
        return {}
    found = reliability(p_noisy, data.is_noisy)
    reliability_figure(experiment.record.own("reliability.png"), found, data.choice.in_words())
    return {"p_noisy_calibration_error": found.error}


def save_left_out(experiment: Experiment, data: NoisyData, name: str = "skipped.csv") -> None:
    """Which images take no part, and why; no file where all do."""
    if data.left_out:
        experiment.write_csv(name, [{"file": file, "reason": reason} for file, reason in data.left_out.items()])


def save_model(experiment: Experiment, data: NoisyData, network: nn.Module, name: str, width: float, file: str) -> None:
    """A trained network, `name` in the registry, with all else that utils/classifier.py needs."""
    mean, std = (statistic.cpu() for statistic in data.images.statistics)
    experiment.save_torch(
        file,
        {
            "network": name,
            "width": width,
            "class_names": list(data.class_names),
            "side": list(data.images.side),
            "mean": mean,
            "std": std,
            "weights": network.state_dict(),
        },
    )


def write_accuracy_figure(
    experiment: Experiment,
    data: NoisyData,
    rows: list[dict],
    names: dict[str, str],
    file: str = "accuracy.png",
    marks: dict[str, float] | None = None,
) -> None:
    """An accuracy figure from the history columns `names` {label: column}, with the learning rate, and marks."""
    rates = history_columns(rows, {"lr": "lr"}).get("lr")
    accuracy_figure(
        experiment.record.own(file),
        [int(row["epoch"]) for row in rows],
        history_columns(rows, names),
        "epoch",
        "Accuracy",
        data.choice.in_words(),
        rates,
        marks,
    )


def accuracy_numbers(rows: list[dict]) -> dict[str, float | None]:
    """train_accuracy, test_accuracy (last) and test_accuracy_best (an oracle: the epoch is chosen by the test labels)
    of a history with a row per epoch, in [0, 1]."""
    found = history_columns(rows, {"train": "train_accuracy", "test": "test_accuracy"})
    numbers = {"train_accuracy": float(found["train"][-1])} if "train" in found else {}
    if "test" in found:
        numbers |= {"test_accuracy": float(found["test"][-1]), "test_accuracy_best": float(found["test"].max())}
    return numbers

"""Finding the scores that a separation script left: by name, or the newest finished run on the same data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.data.choice import DataChoice
from utils.errors import UserError
from utils.experiments.artifacts import load_array
from utils.experiments.experiment import spelt_out
from utils.experiments.record import (
    SAME_DATA,
    Record,
    command_again,
    differences,
    finished_records,
    others,
    read_finished,
)
from utils.results.commands import separation_command
from utils.scoring.selection import validate_scores
from utils.separations import SEPARATIONS, Separation


@dataclass(frozen=True)
class Found:
    """What a separation says of every sample: a score and, where it has them, probabilities."""

    scores: np.ndarray  # float32 (N,), higher = more likely mislabelled
    source: str  # where it came from
    posterior: np.ndarray | None = None  # float32 (N, C), of the true class given predictions and label
    transition: np.ndarray | None = None  # float64 (C, C), of labels (columns) given true classes (rows)
    trained: np.ndarray | None = None  # int64 (N,), labels trained on; None where no errors were planted
    record: Record | None = None  # of the experiment that it was found in


DIGESTS = ("images", "labels")  # of a fingerprint: that they differ is all that a reader learns from them
OF_POSTERIOR = ("posterior", "transition", "trained")
NAMING_IMAGES = ("train_root", "labels", "image_size", "ood_ratio", "ood_data", "ood_root", "ood_subset")  # flags


def read_scores(
    root: str,
    separation: Separation,
    experiment_name: str,
    choice: DataChoice,
    fingerprint: dict,
    names: tuple[str, ...] | None = None,
    width: float | None = None,
) -> Found:
    """The first of the scores `names` (None = the separation's) that there is, with the posterior.

    `experiment_name` "" = the newest finished experiment of the separation with the same data set, class subset, noise
    type, ratio, labels file, images put in and seed of the noise. Raises UserError where its scores belong to other
    images or labels, or where there is none, with the command that makes them, of networks of that `width`.
    """
    record = _named(root, separation, experiment_name, choice, width) if experiment_name else None
    if record is None:
        record = newest(root, separation, choice, fingerprint, honest=True, width=width)
    if differing := _differences(record, choice, fingerprint):
        what, remedy = f"{record.path.name} judged other data: {differing}", SAME_DATA
        if not experiment_name:
            what = f"no finished {separation.script} experiment under {root} judged this data ({what})"
            remedy = f"run this first: {separation_command(separation, choice, root, width)}"
        raise UserError(what, remedy)
    if chosen_by_truth(record):
        what = f"{record.path.name} chose its score by the true labels"
        command = separation_command(separation, choice, root, width)
        raise UserError(what, f"use an experiment without --choose oracle: {command} --experiment_name NAME")
    names = names or separation.scores
    for name in names:
        if record.wrote(name):  # where it was deleted since, no other takes its place
            if not record.holds(name):
                break
            file = record.path / f"{name}.npy"
            scores = validate_scores(record.read_array(name), fingerprint["samples"], file)
            files = (f"{separation.key}_posterior", f"{separation.key}_transition", "trained_labels")
            if record.wrote("trained_labels") and not record.holds("trained_labels"):
                break
            more = (record.read_array(f) if record.holds(f) else None for f in files)
            return Found(scores, str(file), *more, record=record)
    missing = names[0] if not record.holds(names[0]) else "trained_labels"
    raise UserError(f"{record.path} holds no {missing}.npy", f"run {command_again(record)}")


def _differences(record: Record, choice: DataChoice, fingerprint: dict) -> str:
    """Between the data of an experiment and these, of other images with the flags that name them; "" for none."""
    if record["data"] == fingerprint:
        return ""
    here, there = dict(fingerprint), dict(record["data"])
    other = [key for key in DIGESTS if here.pop(key, None) != there.pop(key, None)]
    if "images" in other:
        typed = {"train_root": choice.root, "image_size": choice.image_size}
        here |= spelt_out(typed)
        there |= spelt_out({flag: record["settings"].get(flag) for flag in typed})
    return "; ".join(filter(None, [differences(here, there), *(f"other {key}" for key in other)]))


def _named(root: str, separation: Separation, name: str, choice: DataChoice, width: float | None) -> Record:
    if not (Path(root) / name).exists():
        command = separation_command(separation, choice, root, width)
        raise UserError(
            f"there is no experiment {name} under {root}{others(Path(root) / name)}",
            f"correct the name, or run this first: {command} --experiment_name {name}",
        )
    record = read_finished(root, name)
    if record["method"] != separation.key:
        raise UserError(
            f"{name} was made by {record['script']}, not {separation.script}", f"name it with --{record['method']}"
        )
    return record


def chosen_by_truth(record: Record) -> bool:
    """Whether the score of a separation is an oracle's."""
    return record["settings"].get("choose") == "oracle"


def newest(
    root: str,
    separation: Separation,
    choice: DataChoice,
    fingerprint: dict | None = None,
    honest: bool = False,
    width: float | None = None,
) -> Record:
    """The finished experiment of the separation on this data that finished last.

    Those with an equal fingerprint come first, then those of the same seed. `fingerprint` None = not known yet: then
    those of the same images and labels file, as their flags name them. `honest`: those alone that chose their score
    without the truth. `width`: of the networks of the command that is told where there is none. Raises UserError then.
    """
    wanted = {
        "data_set": choice.name,
        "class_subset": choice.subset,
        "noise_type": choice.noise_type,
        "noise_ratio": choice.noise_ratio,
        "seed": choice.seed_of_labels,
    }
    if fingerprint is not None:
        wanted |= {name: fingerprint.get(name) for name in ("labels_file", "ood")}
    found = [
        record
        for record in finished_records(Path(root))
        if record["method"] == separation.key
        and not (honest and chosen_by_truth(record))
        and all((record["data"] or {}).get(key) == value for key, value in wanted.items())
    ]
    if not found:
        raise UserError(
            f"no finished {separation.script} experiment under {root} has the same data, noise and seed"
            + (" (those with --choose oracle do not count)" if honest else ""),
            f"run this first: {separation_command(separation, choice, root, width)}",
        )

    def fitness(record: Record) -> tuple:
        settings = record["settings"]
        same_data = record["data"] == fingerprint
        if fingerprint is None:
            typed = {name.removeprefix("--"): value for name, value in choice.flags().items()}
            here, there = ({name: flags.get(name) or None for name in NAMING_IMAGES} for flags in (typed, settings))
            same_data = spelt_out(there) == spelt_out(here)
        return same_data, settings.get("seed") == choice.seed, record.get("finish_number", 0)

    return max(found, key=fitness)


def read_score_file(path: str, samples: int) -> Found:
    """Scores from elsewhere: any .npy of one real number per sample, higher = more likely mislabelled."""
    if Path(path).name.startswith("oracle_") or _ranked_by_truth(Path(path)):
        raise UserError(f"{path} was chosen by the true labels", "name scores that were found without them")
    return Found(validate_scores(load_array(Path(path)), samples, path), path)


def _ranked_by_truth(file: Path) -> bool:
    """Whether this is the default score of a separation with --choose oracle, or its p_noisy, which has that order."""
    try:
        record = Record.read(file.parent)
    except UserError:  # a file from elsewhere
        return False
    separation = SEPARATIONS.get(record["method"])
    return separation is not None and chosen_by_truth(record) and file.stem in (separation.scores[0], "p_noisy")


def second_opinion(record: Record) -> str:
    """Of a run that began with what separations had found: that, in words, for readers of what it ranks; else ""."""
    names = [source["experiment"] for source in record.get("sources", {}).values()]
    return f"a second opinion, of {record['script']} after {' and '.join(names)}" if names else ""


def title_of(record: Record) -> str:
    """The name of its experiment, for readers of what it ranks."""
    return record.path.name + (" (oracle)" if chosen_by_truth(record) else "")

"""Frozen features: parallel cross tracking without a training, for a laptop and thousands of photographs.

A pretrained network turns every image into a vector, once. Logistic regressions on these, one per fold, take the place
of the two models: each fold is scored by the regression that never saw its labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from statistics import mean

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from datasets.decoding import refusing_bombs
from models.backbone import Backbone, load_backbone
from utils.compute import Compute, stream_generator
from utils.data.choice import data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.data.pictures import Pictures, portions_of
from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.memory import peak_memory
from utils.methods.cross_tracking import CROSS_CE, CROSS_LOSS
from utils.ranks import Ranks
from utils.results.evidence import Evidence
from utils.results.reporting import announce, foresee
from utils.results.separation_results import save_scores
from utils.scoring.cross_fitting import FOLDS, Regression, folds_of
from utils.scoring.tracker import Snapshot, Tracker
from utils.scoring.tracking import Tracking, tracking_of
from utils.separations import PARALLEL
from utils.training.expectation import PER_SAMPLE, START_AND_END, Expectation

EXTRACTION, REGRESSION = "extraction", "regression"  # phases
FEATURES, TEST_FEATURES = "features", "test_features"  # files
BATCH_SIZE = {"cpu": 32, "cuda": 250}  # photographs of 224 pixels, unless --eval_batch_size says otherwise
SECONDS_BETWEEN_CHECKPOINTS = 10


def frozen_features(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Extract, fit, score; writes the whole experiment folder."""
    with compute.ranks.first_alone():  # which downloads it
        backbone = load_backbone(args.features, args.weights)
    data = prepare(data_choice(args), compute, plant=args.plant)
    if len(data) < 2 * FOLDS:
        raise UserError(f"{len(data)} samples make no {FOLDS} folds to learn from", f"give at least {2 * FOLDS}")
    evidence = Evidence(PARALLEL.prefixes[0], data, args.choose, epochs=1)
    compute = replace(compute, eval_batch_size=args.eval_batch_size or BATCH_SIZE[compute.device.type])
    expected = None
    if not experiment.done(EXTRACTION):
        expectation = partial(expect_extraction, backbone, data, compute)
        expected = foresee(experiment, data, expectation, compute, args.estimate)
    fingerprint = {"network": args.features, "weights": backbone.weights}
    notes = [f"features: {backbone.dimension} a picture, by {args.features} with {backbone.weights}"]
    announce(experiment, data, compute, expected=expected, notes=notes, features=fingerprint)
    permutation = stream_generator(args.seed, "halves").permutation(len(data))  # the stream of parallel.py's halves
    experiment.save_array("permutation", permutation)
    features, test_features = extracted(backbone, data, compute, experiment)
    folds = folds_of(permutation)
    snapshot = cross_fit(data, features, test_features, folds, tracking_of(args), evidence, compute.ranks, experiment)
    if compute.ranks.leads:
        write_results(data, snapshot, evidence, experiment)


# -- features ----------------------------------------------------------------------------------------------------------


def extracted(
    backbone: Backbone, data: NoisyData, compute: Compute, experiment: Experiment
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features float32 (N, D) of the training images and (M, D) of the test images, None without those."""
    pictures = pictures_of(data)
    if not experiment.done(EXTRACTION):
        extract(backbone, pictures, compute, experiment)
    of_test = experiment.record.read_array(TEST_FEATURES) if TEST_FEATURES in pictures else None
    return experiment.record.read_array(FEATURES), of_test


def pictures_of(data: NoisyData) -> dict[str, Pictures]:
    """{name of the file for their features: pictures} of the training images and, if there are any, the test images.

    Images of another set are there as pixels alone. Beside files in full size they would show by their sharpness which
    they are, so then all pictures are read from pixels.
    """
    files, test_files = (None, None) if len(data.replaced) else (data.file_names, data.test_file_names)
    pictures = {FEATURES: Pictures(data.images, data.choice.root, files)}
    if data.test_images is not None:
        pictures[TEST_FEATURES] = Pictures(data.test_images, data.choice.root, test_files)
    return pictures


def expect_extraction(backbone: Backbone, data: NoisyData, compute: Compute, short: float) -> Expectation | None:
    """What it will take, by a timed batch after one that warms up; the regressions take less and are not counted."""
    pictures, ranks = pictures_of(data), compute.ranks
    with refusing_bombs():
        batches = features_of(pictures[FEATURES], backbone, compute, 0)
        start = time.perf_counter()
        first = sum(map(len, islice(batches, ranks.size)))
        warm = time.perf_counter()
        timed = sum(map(len, islice(batches, ranks.size)))
    total = sum(len(of) for of in pictures.values())
    each = ranks.agreed((time.perf_counter() - warm) / timed if timed else (warm - start) / first)
    if total * each < short:
        return None
    disk = 4 * total * backbone.dimension
    seconds = START_AND_END + PER_SAMPLE * len(data) + total * each
    more_memory = 3 * disk  # features, scaled, whitened
    return Expectation(
        seconds, peak_memory(compute) + more_memory, more_memory, disk, data.bytes_of_images, data.images.on_host
    )


def extract(backbone: Backbone, pictures: dict[str, Pictures], compute: Compute, experiment: Experiment) -> None:
    """The features of all `pictures` {name of the file: N of them} into files, a row each, written as they come."""
    files = {name: experiment.tracks.new(name, len(of), backbone.dimension) for name, of in pictures.items()}
    total = sum(len(of) for of in pictures.values())
    with experiment.phase(EXTRACTION, {}) as phase:
        done, saved = sum(file.rows for file in files.values()), time.monotonic()
        with phase.bar(total, done, "image") as bar, refusing_bombs():
            for name, file in files.items():
                for rows in features_of(pictures[name], backbone, compute, file.rows):
                    file.extend(rows)
                    bar.update(len(rows))
                    phase.stop_if_asked()
                    if compute.ranks.agreed(time.monotonic() - saved) > SECONDS_BETWEEN_CHECKPOINTS:
                        phase.checkpoint()
                        saved = time.monotonic()
        phase.checkpoint()
        for name in files:
            experiment.tracks.close(name)


@torch.inference_mode()
def features_of(pictures: Pictures, backbone: Backbone, compute: Compute, first: int) -> Iterator[np.ndarray]:
    """Batches of features float32 (B, D), in order, from picture `first` on; of several ranks each makes some."""
    network, ranks = compute.prepare(backbone.network), compute.ranks
    portions = portions_of(len(pictures), compute.eval_batch_size, first)
    own = pictures.batches(backbone.transforms, backbone.side, portions[ranks.rank :: ranks.size])

    def features(batch: Tensor) -> Tensor:
        with compute.autocast():
            return network(batch.to(compute.device, memory_format=torch.channels_last)).float()

    for start in range(0, len(portions), ranks.size):
        group = portions[start : start + ranks.size]
        counts = [len(portion) for portion in group] + [0] * (ranks.size - len(group))
        made = features(next(own)) if counts[ranks.rank] else torch.empty(0, backbone.dimension, device=compute.device)
        for rows in ranks.rows(made, counts).split(counts)[: len(group)]:
            if not rows.isfinite().all():
                raise UserError("the features are not finite numbers", "take other weights, or --precision fp32")
            yield rows.cpu().numpy()


# -- regressions -------------------------------------------------------------------------------------------------------


def cross_fit(
    data: NoisyData,
    features: np.ndarray,
    test_features: np.ndarray | None,
    folds: list[np.ndarray],
    tracking: Tracking,
    evidence: Evidence,
    ranks: Ranks,
    experiment: Experiment,
) -> Snapshot:
    """What a regression that never saw the label of a sample says of it, for all samples; into `evidence` too."""
    labels = data.trained
    scaler = StandardScaler().fit(features)
    inputs = scaler.transform(features)
    test_inputs = None if test_features is None else scaler.transform(test_features)
    log_probs = np.empty((len(data), data.num_classes), dtype=np.float32)
    accuracies = []

    def of_fold(place: int) -> tuple[np.ndarray, float, dict[str, float | None]]:
        """Log probabilities of the fold, penalty of its regression, accuracies."""
        fold, others = folds[place], np.concatenate([*folds[:place], *folds[place + 1 :]])
        regression = Regression().fit(inputs[others], labels[others])
        return regression.log_probs(inputs[fold], data.num_classes), regression.penalty_, {
            "train_accuracy": accuracy(regression, inputs[others], labels[others]),
            "cross_accuracy": accuracy(regression, inputs[fold], labels[fold]),
            "test_accuracy": accuracy(regression, test_inputs, data.test_labels),
        }  # fmt: skip

    with experiment.phase(REGRESSION, {}) as phase:
        with phase.bar(len(folds), 0, "fold") as bar:
            for place, (found, penalty, shares) in enumerate(ranks.in_turns(of_fold, range(len(folds)))):
                log_probs[folds[place]] = found
                accuracies.append(shares)
                experiment.history.add(fold=place + 1, penalty=penalty, **shares)
                experiment.log.quietly(f"{REGRESSION}: fold {place + 1}, {experiment.history.latest()}")
                bar.update()
                experiment.stop.raise_if_asked()  # with no checkpoint: all folds take seconds
        tracker, device = Tracker(data.training_labels, data.num_classes, tracking, ranks), data.ids.device
        tracker.update(torch.from_numpy(log_probs).to(device), data.ids, torch.from_numpy(features).to(device))
        snapshot = tracker.finish()
        candidates = evidence.candidates(snapshot, CROSS_LOSS.name, CROSS_CE.name)
        columns = evidence.add(snapshot.logits, "the regressions", candidates)
        evidence.conclude("the regressions")
        experiment.history.add(fold="all", **mean_accuracies(accuracies), **columns)
        experiment.save_array("cross_probs", snapshot.logits.softmax(1).cpu().numpy())
    return snapshot


def accuracy(regression: Regression, inputs: np.ndarray | None, labels: np.ndarray | None) -> float | None:
    """Share of inputs (M, D) that are classified as their labels say, in [0, 1]; None without any."""
    if inputs is None:
        return None
    return float(np.mean(regression.model_.predict(inputs) == labels))


def mean_accuracies(of_folds: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {name: None if value is None else mean(of[name] for of in of_folds) for name, value in of_folds[0].items()}


def write_results(data: NoisyData, snapshot: Snapshot, evidence: Evidence, experiment: Experiment) -> None:
    """Scores, figures and final numbers."""
    scores = evidence.observed(snapshot).scores(data.device_labels, CROSS_CE.name, CROSS_LOSS.name)
    figures = save_scores(experiment, data, PARALLEL, evidence, scores)
    last = experiment.history.rows[-1]
    experiment.finish(figures | {name: last[name] for name in ("train_accuracy", "cross_accuracy", "test_accuracy")})

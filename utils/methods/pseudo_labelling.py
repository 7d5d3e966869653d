"""From scores to a robust classifier: learn from every label as far as it can be trusted.

Two kinds of targets. `posterior`: each label with the probability that it is right, the predictions of other classes
with the rest. `split`: a clean set keeps its labels, the others get the network's own predictions (pseudo-labelling
against confirmation bias, Arazo et al. 2020; run twice: DRPL, Ortego et al. 2020, where the first run's losses make the
second run's clean set). With both: mixup, two regularisers, averaged weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from utils.compute import Compute, seed_torch
from utils.data.choice import SSL, data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import Diverged
from utils.experiments.experiment import Experiment
from utils.files import copy_atomically
from utils.methods.clean_set import find_scores, keep_scores
from utils.methods.pseudo_labelling_flags import resolve_epochs
from utils.methods.targets import PosteriorTargets, SplitTargets
from utils.methods.targets_of_runs import Posterior, Split
from utils.methods.tracked_training import TrackedTraining
from utils.results.dynamics_file import write_dynamics
from utils.results.evidence import Evidence
from utils.results.reporting import (
    accuracy_numbers,
    announce,
    foresee,
    save_model,
    write_accuracy_figure,
    write_reliability,
    write_transition,
)
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks
from utils.results.separation_results import draw_roc, log_posterior
from utils.results.suspect_files import posterior_of, write_suspects
from utils.scoring.label_posterior import align
from utils.scoring.metrics import aucs, class_accuracy
from utils.scoring.planted import in_the_order_of
from utils.scoring.tracker import Snapshot
from utils.scoring.tracking import BATCHES
from utils.separations import SEPARATIONS
from utils.training.expectation import Expectation, Work, expect
from utils.training.learner import Learner, new_network
from utils.training.losses import LossWeights, joint_loss
from utils.training.optimisation import EARLIER_EPOCHS, epochs_for, optimisation_of, schedule_of, why_epochs
from utils.training.passes import accuracy_on_test, probabilities

Targets = PosteriorTargets | SplitTargets
LOSS = "ssl_loss"  # the score that is tracked
MODEL = "model.pt"  # the network of the last run


def pseudo_labelling(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Read scores, then as often as asked: make targets, train from scratch; writes the whole experiment folder."""
    data = prepare(data_choice(args, SSL), compute)
    epochs_before = args.epoch or epochs_for(len(data), EARLIER_EPOCHS)
    why = why_epochs(args.epoch is not None, len(data), memorises=False)
    resolve_epochs(args, len(data))
    asked = {key: vars(args)[key] for key in (*SEPARATIONS, "scores") if vars(args)[key] is not None}
    root, ranks = args.experiments_root, compute.ranks
    found = ranks.from_first(lambda: find_scores(asked, root, args.score, data, experiment))  # perhaps the newest one
    epochs = [epochs_before] * (args.runs - 1) + [args.epoch]
    by_posterior = args.targets == "posterior"
    make = Posterior(args.agree_on_clean, found, data) if by_posterior else Split.from_flags(args, epochs, found, data)
    experiment.require_space_for_tracks(sum(epochs), len(data))
    expected = foresee(experiment, data, expectation_of(args, epochs, data, compute), compute, args.estimate)
    jitter = args.colour_jitter if data.images.coloured else 0.0
    notes = ["--colour_jitter does nothing to grey images"] if jitter != args.colour_jitter else []
    announce(experiment, data, compute, epochs=epochs, why=why, expected=expected, notes=notes)
    experiment.record.update(resolved={name: vars(args)[name] for name in ("epoch_begin", "swa_start")})
    keep_scores(found, experiment)

    def train(number: int) -> None:
        settings = RunSettings.from_flags(args, number, epochs[number - 1])
        targets = make.targets(number, experiment)
        network = new_network(
            settings.network, data.num_classes, compute, width=args.width, dropout=args.dropout,
            input_noise=args.input_noise, seed=args.seed, counter=number,
        )  # fmt: skip
        optimisation = optimisation_of(args, schedule_of(args, settings.epochs, counted=args.epoch), jitter)
        from_batches = args.track_from == BATCHES
        learner = Learner(
            network, make.data, compute, optimisation, number, name=settings.name, from_batches=from_batches
        )
        train_run(learner, settings, targets, experiment)

    runs = train_in_turn(args.runs, train, experiment)
    if ranks.leads:
        figures = write_results(runs, data, experiment)
        experiment.finish(figures | {"noise_ratio_realised": data.noise_ratio})


def expectation_of(
    args: argparse.Namespace, epochs: list[int], data: NoisyData, compute: Compute
) -> partial[Expectation | None]:
    """What the runs of so many epochs will take."""
    networks = [args.network[0]] * (len(epochs) - 1) + [args.network[-1]]
    from_batches = args.track_from == BATCHES
    pairs = zip(networks, epochs, strict=True)
    work = [Work.of_epochs(name, number, data, from_batches) for name, number in pairs]
    return partial(
        expect, work, sum(epochs), data, compute, optimisation_of(args, schedule_of(args, args.epoch)), args.width
    )


# -- 1. training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunSettings:
    """How a run trains."""

    number: int  # from 1
    epochs: int
    network: str
    width: float
    model: str  # the file that the network is kept in
    labeled_batch_size: int  # clean samples in every batch; 0 = as they come
    weights: LossWeights
    swa_start: int | None  # epochs before the averaging of weights; None = no averaging
    swa_freq: int | None  # epochs between two averaged ones

    @classmethod
    def from_flags(cls, args: argparse.Namespace, number: int, epochs: int) -> RunSettings:
        swa_start = None if args.swa_start is None else args.swa_start * epochs // args.epoch
        last, labeled = number == args.runs, args.labeled_batch_size or 0
        network, model = args.network[-1 if last else 0], MODEL if last else model_of_run(number)
        weights = LossWeights(args.alpha, args.beta)
        return cls(number, epochs, network, args.width, model, labeled, weights, swa_start, args.swa_freq)

    @property
    def name(self) -> str:
        """Of its phase, and in its files."""
        return f"run{self.number}"

    def averages(self, epoch: int) -> bool:
        """Whether the weights after an epoch, counted from 0, take part in the average."""
        return epoch >= self.swa_start and (epoch - self.swa_start) % self.swa_freq == 0


def tracked_loss(run: str) -> TrackedScore:
    return TrackedScore(LOSS, f"loss_track_{run}", "loss against the original label (nats)")


def model_of_run(number: int) -> str:
    """The file of the network of a run that another one follows."""
    return f"model_run{number}.pt"


def train_in_turn(runs: int, train: Callable[[int], None], experiment: Experiment) -> int:
    """Train run after run, `train(number)` from 1 on; the number of the last that is whole.

    Where one diverges before it could say more than the one before, what that found stands. Raises Diverged for the
    first one, and where the one before left no model, being of an earlier commit.
    """
    for number in range(1, runs + 1):
        if number < runs and experiment.done(f"run{number}"):
            continue
        try:
            train(number)
        except Diverged as error:
            before = experiment.path / model_of_run(number - 1)
            if number == 1 or not before.exists():
                raise
            experiment.log(f"run{number}: {error.what}: going on with what run{number - 1} found")
            copy_atomically(before, experiment.record.own(MODEL))
            return number - 1
    return runs


def train_run(learner: Learner, settings: RunSettings, targets: Targets, experiment: Experiment) -> None:
    """Train a fresh network on the targets; it is kept with its classes as frequent as theirs."""
    data, run = learner.data, settings.name
    losses = ScoreTracks(experiment, [tracked_loss(run)], settings.epochs, len(data), data.is_noisy)
    evidence = Evidence("ssl", data, "last", settings.epochs, from_batches=learner.from_batches)
    average = None if settings.swa_start is None else AveragedModel(learner.network)
    training = TrackedTraining(run, learner, data.device_labels, evidence, losses, experiment)
    parts = {"targets": targets} if average is None else {"targets": targets, "swa": average}

    def loss_of(ids: Tensor) -> Tensor:
        logits, mixed_targets = learner.mixed(ids, targets[ids])
        return joint_loss(logits, mixed_targets, settings.weights)

    def batches() -> list[Tensor]:
        return batches_of_epoch(learner, targets, settings.labeled_batch_size)

    def after_epoch(epoch: int, now: Snapshot) -> dict[str, float | None]:
        targets.update(now.logits, epoch)
        if average is not None and settings.averages(epoch):
            average.update_parameters(learner.network)
        return {"pseudo_label_accuracy": class_accuracy(targets.current, data.clean_labels)}

    with training.run(loss_of, after_epoch, first_columns={"run": settings.number}, parts=parts, batches=batches):
        losses.close()
        if settings.number > 1:
            evidence.require_half("the run before")
        network = learner.judge
        if average is not None and int(average.n_averaged):
            network = averaged(average, learner)
        align_classes(network, learner, targets)
        save_run(network, settings, targets, training)


def batches_of_epoch(learner: Learner, targets: Targets, labeled_batch_size: int) -> list[Tensor]:
    """Shuffled batches of what the epoch learns from; of a split perhaps `labeled_batch_size` clean ones in each."""
    ids = targets.ids(learner.progress.epoch)
    if not labeled_batch_size or len(ids) < len(learner.data) or bool(targets.is_clean.all()):
        return learner.batches(ids)
    clean, rest = ids[targets.is_clean], ids[~targets.is_clean]
    noisy_batches = learner.batches(rest, 0, batch_size=learner.optimisation.batch_size - labeled_batch_size)
    # The clean set is gone through again and again, each time in a new order, until every batch has its share.
    rounds, needed = [], len(noisy_batches) * labeled_batch_size
    while len(rounds) * len(clean) < needed:
        rounds.append(torch.cat(learner.batches(clean, 1 + len(rounds))))
    clean_batches = torch.cat(rounds)[:needed].split(labeled_batch_size)
    return [torch.cat(pair) for pair in zip(clean_batches, noisy_batches, strict=True)]


def averaged(average: AveragedModel, learner: Learner) -> nn.Module:
    """The weight-averaged network (Izmailov et al. 2018), batch-norm statistics recomputed over the training images."""
    batches = learner.batches()  # shuffled: sorted classes would bias
    learner.data.images.announce(batches)
    seed_torch(learner.optimisation.seed, "averaging", learner.stream)
    with learner.compute.autocast():
        update_bn((learner.data.images.batch(ids) for ids in batches), average)
    return average.module


@torch.no_grad()
def align_classes(network: nn.Module, learner: Learner, targets: Targets) -> None:
    """Shift the head's biases so that over the training images each class is predicted as often as it is a target.

    Networks that resist memorising favour some classes over others; that of a run began with such predictions.
    """
    probs = probabilities(network, learner.data.images, learner.compute)
    _, factors = align(probs.cpu().numpy(), targets.current.mean(0))
    network.head1.bias += torch.from_numpy(np.float32(np.log(factors))).to(learner.compute.device)


# -- 2. what is left behind --------------------------------------------------------------------------------------------


def save_run(network: nn.Module, settings: RunSettings, targets: Targets, training: TrackedTraining) -> None:
    """The network and the scores of a run, and what the next one begins with."""
    run, learner, evidence, experiment = training.name, training.learner, training.evidence, training.experiment
    data = learner.data
    save_model(experiment, data, network, settings.network, settings.width, settings.model)
    test_accuracy = accuracy_on_test(network, data, learner.compute)
    experiment.record.update(test_accuracy=experiment.record.get("test_accuracy", {}) | {run: test_accuracy})
    experiment.save_array(f"ssl_loss_{run}", training.losses_of(network))
    for name, values in evidence.scores().items():
        experiment.save_array(f"ssl_{name}_{run}", values)
    write_dynamics(experiment, data, evidence)  # that of the last run stays
    if isinstance(targets, SplitTargets):
        experiment.save_array(f"ssl_score_{run}", evidence.choice.best.observed)
        experiment.save_array(f"pseudo_labels_{run}", targets.current)
        # A clean sample's target is its label: what the network thinks of it is said by its predictions alone.
        experiment.save_array(f"ssl_probs_{run}", evidence.accumulated.predictions())
        return
    evidence.conclude()
    posterior = evidence.posterior()
    log_posterior(run, posterior, evidence, experiment)
    experiment.save_array(f"ssl_score_{run}", evidence.choice.best.observed)
    experiment.save_array(f"p_noisy_{run}", in_the_order_of(evidence.choice.best.observed, posterior.p_noisy_))
    experiment.save_array(f"pseudo_labels_{run}", posterior.posterior_)
    experiment.save_array(f"transition_{run}", posterior.transition_)
    if learner.compute.ranks.leads:
        # The figure of the last run stays, as in the other methods.
        write_transition(experiment, data, posterior.own_transition_, posterior.assumes_symmetric_)


def write_results(runs: int, data: NoisyData, experiment: Experiment) -> dict[str, float | None]:
    """The final per-sample files, a figure of each run, and the numbers of all runs."""
    record, last = experiment.record, f"run{runs}"
    scores = [f"ssl_{name}" for name in ("score", "prediction", "mean_loss", "aum", "loss")]
    for name in (*scores, "pseudo_labels", "p_noisy"):
        experiment.save_array(name, record.read_array(f"{name}_{last}"))
    if record.holds(f"ssl_probs_{last}"):  # of a clean set
        experiment.save_array("ssl_probs", record.read_array(f"ssl_probs_{last}"))
    score, p_noisy = (record.read_array(name) for name in ("ssl_score", "p_noisy"))
    write_suspects(experiment, data, {"ssl_score": score}, p_noisy, posterior_of(record))
    if record.holds(f"transition_{last}"):  # a clean set comes without
        experiment.save_array("ssl_transition", record.read_array(f"transition_{last}"))
    found = {name: record.read_array(name) for name in scores}
    figures, wrong_labels = {}, None
    if ((p_noisy > 0) & (p_noisy < 1)).any():  # else a threshold rule chose, which estimates nothing
        figures = write_reliability(experiment, data, p_noisy) | {"noise_ratio_estimated": float(p_noisy.mean())}
        wrong_labels = round(float(p_noisy.sum()))
    draw_roc(experiment, data, found, wrong_labels)
    for number in range(1, runs + 1):
        run = f"run{number}"
        rows = [row for row in experiment.history.rows if row["run"] == number]
        suffix = "" if run == last else f"_{run}"
        curves = {
            "train (observed labels)": "train_accuracy",
            "test": "test_accuracy",
            "targets (truth)": "pseudo_label_accuracy",
        }
        write_accuracy_figure(experiment, data, rows, curves, f"accuracy{suffix}.png")
        tracked = tracked_loss(run)
        draw_tracks(
            experiment,
            data,
            f"tracking{suffix}.png",
            f"Training past the wrong labels, run {number}",
            [tracked],
            {LOSS: record.read_array(tracked.track, mapped=True)},
            rows,
        )
        facts = record.get("selection", {}).get(run, {})
        numbers = accuracy_numbers(rows) | {key: facts.get(key) for key in ("clean_set_size", "clean_set_purity")}
        if (kept := record.get("test_accuracy", {}).get(run)) is not None:  # of the network as it was kept
            numbers |= {"test_accuracy": kept, "test_accuracy_best": max(kept, numbers["test_accuracy_best"])}
        numbers["pseudo_label_accuracy"] = rows[-1]["pseudo_label_accuracy"]
        for name in scores:
            numbers |= aucs(name, record.read_array(f"{name}_{run}"), data.labels, data.clean_labels)
        figures |= {f"{key}{suffix}": value for key, value in numbers.items()}
    return figures

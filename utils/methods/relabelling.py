"""Soft relabelling: what a network has learnt replaces the labels; a score says how little it thinks of the old ones.

Two ways. `posterior`: after the warm-up a fresh network learns from the posterior of each sample's true class, given
its label and what the first one predicted. `prediction`: joint optimisation (Tanaka et al. 2018), where one network's
own predictions replace the labels after every epoch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.compute import Compute
from utils.data.choice import data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import Diverged
from utils.experiments.artifacts import load_torch
from utils.experiments.experiment import Experiment
from utils.methods.relabelling_flags import resolve_epochs
from utils.methods.tracked_training import TrackedTraining
from utils.results.dynamics_file import write_dynamics
from utils.results.evidence import Evidence
from utils.results.reporting import accuracy_numbers, announce, foresee, write_accuracy_figure
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks
from utils.results.separation_results import log_posterior, save_scores
from utils.scoring.metrics import class_accuracy
from utils.scoring.planted import CalibratedPosterior
from utils.scoring.tracker import Snapshot
from utils.scoring.tracking import BATCHES
from utils.separations import RELABEL
from utils.training.expectation import Expectation, Work, expect
from utils.training.learner import Learner, new_network
from utils.training.losses import LossWeights, joint_loss
from utils.training.optimisation import Optimisation, optimisation_of, schedule_of, why_epochs
from utils.training.soft_labels import SoftLabels

WARM_UP, RELABELLING = "warm_up", "relabelling"  # phases
LOSS = TrackedScore("relabel_loss", "loss_track", "loss against the original label (nats)")


def relabelling(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Warm-up on the labels as they are, then on what replaces them; writes the whole experiment folder."""
    data = prepare(data_choice(args), compute, plant=args.plant)
    why = why_epochs(args.epoch_1st is not None, len(data))
    resolve_epochs(args, len(data))
    warm_up, later = args.warmup_e, args.epoch_1st - args.warmup_e
    first_training = warm_up if args.relabel_by == "posterior" else args.epoch_1st
    from_batches = args.track_from == BATCHES
    evidence = Evidence(RELABEL.prefixes[0], data, args.choose, first_training, from_batches=from_batches)
    experiment.require_space_for_tracks(args.epoch_1st, len(data))
    expected = foresee(experiment, data, expectation_of(args, data, compute), compute, args.estimate)
    notes = ["relabelling by prediction, epoch by epoch: see --relabel_by"] if args.relabel_by == "prediction" else []
    announce(experiment, data, compute, epochs=[warm_up, later], why=why, expected=expected, notes=notes)
    losses = ScoreTracks(experiment, [LOSS], args.epoch_1st, len(data), data.is_noisy)

    def learner(number: int, optimisation: Optimisation) -> Learner:
        name = args.model_type[min(number, len(args.model_type)) - 1]
        network = new_network(
            name, data.num_classes, compute, width=args.width, dropout=args.dropout, input_noise=args.input_noise,
            seed=args.seed, counter=number - 1,
        )  # fmt: skip
        return Learner(network, data, compute, optimisation, number, from_batches=from_batches)

    if args.relabel_by == "posterior":
        optimisation = replace(optimisation_of(args, schedule_of(args, warm_up)), augment=args.augment or "standard")
        posterior = learn_labels(learner(1, optimisation), evidence, losses, experiment)
        optimisation = replace(optimisation, schedule=schedule_of(args, later), augment=args.augment or "strong")
        second = learner(2, optimisation)
        weights = LossWeights(args.balance, args.reg_term2)
        evidence = learn_posterior(second, posterior, later, weights, evidence, losses, experiment)
        soft_labels = evidence.posterior().posterior_
    else:
        schedule = schedule_of(args, args.epoch_1st, later_base=args.lr_2nd, later_from=warm_up)
        plain_until = warm_up if args.ce_loss_inWarmup else 0
        weights = LossWeights(args.reg_term1, args.reg_term2)
        only = learner(1, optimisation_of(args, schedule))
        soft_labels = replace_by_predictions(
            only, warm_up, plain_until, args.epoch_update, weights, evidence, losses, experiment
        )
    experiment.save_array("soft_labels", soft_labels)
    if compute.ranks.leads:
        write_results(data, losses, evidence, soft_labels, warm_up, experiment)


def expectation_of(args: argparse.Namespace, data: NoisyData, compute: Compute) -> partial[Expectation | None]:
    """What the run will take: one or two trainings, and what is looked at after every epoch."""
    epochs = [args.epoch_1st]
    if args.relabel_by == "posterior":
        epochs = [args.warmup_e, args.epoch_1st - args.warmup_e]
    networks = (args.model_type[0], args.model_type[-1])
    from_batches = args.track_from == BATCHES
    pairs = zip(networks, epochs, strict=False)
    work = [Work.of_epochs(name, number, data, from_batches) for name, number in pairs]
    optimisation = replace(optimisation_of(args, schedule_of(args, args.epoch_1st)), augment=args.augment or "strong")
    return partial(expect, work, args.epoch_1st, data, compute, optimisation, args.width)


# -- by the posterior --------------------------------------------------------------------------------------------------


def learn_labels(
    learner: Learner, evidence: Evidence, losses: ScoreTracks, experiment: Experiment
) -> CalibratedPosterior:
    """The plain loss on the labels, by a network that is kept from memorising them; what it says of them."""
    if experiment.done(WARM_UP):
        of_warm_up = load_torch(experiment.path / "warm_up.pt", {"evidence": dict}, "use --overwrite to start anew")
        evidence.load_state_dict(of_warm_up["evidence"])
    else:
        data = learner.data
        training = TrackedTraining(WARM_UP, learner, data.training_labels, evidence, losses, experiment)
        right = soft_label_accuracy(F.one_hot(data.training_labels, data.num_classes).float().cpu().numpy(), data)
        with training.run(learner.cross_entropy, lambda epoch, now: right, loss_competes=True):
            evidence.conclude()
            experiment.save_torch("warm_up.pt", {"evidence": evidence.state_dict()})
    posterior = evidence.posterior()
    log_posterior(f"after {evidence.epochs} epochs", posterior, evidence, experiment)
    return posterior


def learn_posterior(
    learner: Learner,
    posterior: CalibratedPosterior,
    epochs: int,
    weights: LossWeights,
    of_warm_up: Evidence,
    losses: ScoreTracks,
    experiment: Experiment,
) -> Evidence:
    """A fresh network on the posterior that the warm-up found; what it says of the labels.

    The planted errors stay: the posterior has been misled by them as by the wrong labels that nobody knows.
    """
    evidence = of_warm_up.following(epochs)
    targets = torch.from_numpy(posterior.trained_).to(learner.compute.device)

    def loss_of(ids: Tensor) -> Tensor:
        logits, mixed_targets = learner.mixed(ids, targets[ids])
        return joint_loss(logits, mixed_targets, weights)

    labels, right = learner.data.training_labels, soft_label_accuracy(posterior.trained_, learner.data)
    training = TrackedTraining(RELABELLING, learner, labels, evidence, losses, experiment)
    try:
        with training.run(loss_of, lambda epoch, now: right, loss_competes=True):
            evidence.conclude()
        evidence.require_half("the warm-up")
    except Diverged as error:  # in its first half: what the warm-up found is whole
        experiment.log(f"{RELABELLING}: {error.what}: going on with what the warm-up found")
        return of_warm_up
    return evidence


# -- by predictions ----------------------------------------------------------------------------------------------------


def replace_by_predictions(
    learner: Learner,
    warm_up: int,
    plain_until: int,
    averaged: int,
    weights: LossWeights,
    evidence: Evidence,
    losses: ScoreTracks,
    experiment: Experiment,
) -> np.ndarray:
    """Joint optimisation: from the end of the warm-up predictions are the next epoch's labels (N, C).

    They are the mean of those of the last `averaged` epochs.
    """
    data = learner.data
    soft_labels = SoftLabels(data.training_labels, data.num_classes, averaged)
    mixes = bool(learner.optimisation.mixup)

    def loss_of(ids: Tensor) -> Tensor:
        plain = learner.progress.epoch < plain_until
        targets = F.one_hot(data.training_labels[ids], data.num_classes).float() if plain else soft_labels[ids]
        logits, targets = learner.mixed(ids, targets)
        if not mixes:  # else the predictions are of mixed images, and those of the pass take their place
            soft_labels.record(ids, logits)
        return F.cross_entropy(logits, targets) if plain else joint_loss(logits, targets, weights)

    def after_epoch(epoch: int, now: Snapshot) -> dict[str, float | None]:
        if mixes:
            soft_labels.record(data.ids, now.logits)
        if epoch + 1 < warm_up:
            soft_labels.keep()
        else:  # the next epoch learns from what this one predicted
            soft_labels.commit()
        return soft_label_accuracy(soft_labels.current.cpu().numpy(), data)

    training = TrackedTraining(RELABELLING, learner, data.training_labels, evidence, losses, experiment)
    with training.run(loss_of, after_epoch, parts={"soft_labels": soft_labels}, loss_competes=True):
        evidence.conclude()
    return soft_labels.current.cpu().numpy()


# -- both --------------------------------------------------------------------------------------------------------------


def soft_label_accuracy(soft_labels: np.ndarray, data: NoisyData) -> dict[str, float | None]:
    """Of labels (N, C), the share whose likeliest class is the true one, as a column of the history."""
    return {"soft_label_accuracy": class_accuracy(soft_labels, data.clean_labels)}


def relabelled_shares(soft_labels: np.ndarray, data: NoisyData) -> dict[str, float]:
    """Of the wrong labels, the share that relabelling corrected; of the right ones, the share that it spoilt.

    Of images that belong to a class: for others no label is right.
    """
    if data.is_noisy is None:
        return {}
    right = soft_labels.argmax(1) == data.clean_labels
    shares = soft_label_accuracy(soft_labels, data)
    wrong_ones = data.is_noisy & (data.clean_labels >= 0)
    if wrong_ones.any():
        shares["wrong_labels_corrected"] = float(right[wrong_ones].mean())
    if not data.is_noisy.all():
        shares["right_labels_spoilt"] = float(np.mean(~right[~data.is_noisy]))
    return shares


def write_results(
    data: NoisyData,
    losses: ScoreTracks,
    evidence: Evidence,
    soft_labels: np.ndarray,
    relabelling_from: int,
    experiment: Experiment,
) -> None:
    """Scores, figures and final numbers, from what the training left in the folder."""
    rows, marks = experiment.history.rows, {"relabelling begins": relabelling_from}
    draw_tracks(
        experiment,
        data,
        "tracking.png",
        "Soft relabelling",
        losses.scores,
        losses.read(),
        rows,
        marks=marks,
    )
    write_accuracy_figure(
        experiment,
        data,
        rows,
        {
            "train (labels trained on)": "train_accuracy",
            "test": "test_accuracy",
            "soft labels (truth)": "soft_label_accuracy",
        },
        marks=marks,
    )
    kept = experiment.history.until(evidence.last_epoch)  # where the second training was given up, those of the first
    figures = save_scores(experiment, data, RELABEL, evidence, losses.last(len(kept)))
    write_dynamics(experiment, data, evidence)
    experiment.finish(figures | relabelled_shares(soft_labels, data) | accuracy_numbers(kept))

"""Soft relabelling by joint optimisation (Tanaka et al. 2018): the network's own predictions replace the labels.

The loss against the *original* label is the score: a network that learns from its own predictions disagrees with
wrong labels.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from utils.compute import Compute
from utils.data.choice import data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.experiments.experiment import Experiment
from utils.results.evidence import Evidence
from utils.results.reporting import accuracy_numbers, announce, write_accuracy_figure
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks
from utils.results.separation_results import save_scores
from utils.scoring.tracker import Tracker
from utils.scoring.tracking import LOSS_ALONE
from utils.separations import RELABEL
from utils.training.learner import Learner, new_network
from utils.training.losses import joint_loss
from utils.training.optimisation import optimisation_of, schedule_of
from utils.training.soft_labels import SoftLabels

PHASE = "relabelling"
LOSS = TrackedScore("relabel_loss", "loss_track", "loss against the original label (nats)")


def relabelling(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Warm-up on the observed labels, then new soft labels after each epoch; writes the whole experiment folder."""
    data = prepare(data_choice(args), compute, plant=args.plant)
    announce(experiment, data, compute)
    network = new_network(
        args.model_type, data.num_classes, compute, width=args.width, dropout=args.dropout, seed=args.seed
    )
    schedule = schedule_of(args, args.epoch_1st, later_base=args.lr_2nd, later_from=args.warmup_e)
    learner = Learner(network, data, compute, optimisation_of(args, schedule), stream=1)
    soft_labels = SoftLabels(data.training_labels, data.num_classes)
    evidence = Evidence("relabel", data, args.choose)
    losses = ScoreTracks(experiment, [LOSS], args.epoch_1st, len(data), data.is_noisy)
    tracker = Tracker(data.training_labels, data.num_classes, LOSS_ALONE)
    plain_until = args.warmup_e if args.ce_loss_inWarmup else 0

    def loss_of(ids: Tensor) -> Tensor:
        plain = learner.progress.epoch < plain_until
        targets = F.one_hot(data.training_labels[ids], data.num_classes).float() if plain else soft_labels[ids]
        logits, targets = learner.mixed(ids, targets)
        if not args.mixup:  # else the predictions are of mixed images, and those of the pass take their place
            soft_labels.record(ids, logits)
        if plain:
            return F.cross_entropy(logits, targets)
        return joint_loss(logits, targets, args.reg_term1, args.reg_term2)

    with experiment.phase(PHASE, learner.parts() | {"soft_labels": soft_labels, "evidence": evidence}) as phase:
        with phase.until_divergence():
            for epoch in phase.epochs(args.epoch_1st, learner.progress):
                train_loss = learner.train_epoch(loss_of, after_step=phase.stop_if_asked)
                now = learner.score(tracker)
                if args.mixup:
                    soft_labels.record(data.ids, now.logits)
                if epoch + 1 < args.warmup_e:
                    soft_labels.discard()
                else:  # the next epoch learns from what this one predicted
                    soft_labels.commit()
                losses.append({LOSS.name: now.loss(data.device_labels)})
                phase.add_epoch(
                    epoch=epoch + 1,
                    lr=learner.rate,
                    train_loss=train_loss,
                    train_accuracy=now.accuracy,
                    test_accuracy=learner.test_accuracy(),
                    soft_label_accuracy=label_accuracy(soft_labels, data),
                    **losses.aucs(),
                    **evidence.add(now.logits, f"epoch {epoch + 1}", {LOSS.name: evidence.candidate(now.loss)}),
                )
        experiment.save_array("soft_labels", soft_labels.current.cpu().numpy())
    write_results(data, losses, evidence, soft_labels, args.warmup_e, experiment)


def label_accuracy(soft_labels: SoftLabels, data: NoisyData) -> float | None:
    """Share of samples whose likeliest soft label is the true class; None where the truth is unknown."""
    if data.clean_labels is None:
        return None
    return float(np.mean(soft_labels.current.argmax(1).cpu().numpy() == data.clean_labels))


def relabelled_shares(soft_labels: np.ndarray, data: NoisyData) -> dict[str, float]:
    """Of the wrong labels, the share that relabelling corrected; of the right ones, the share that it spoilt."""
    if data.is_noisy is None:
        return {}
    right = soft_labels.argmax(1) == data.clean_labels
    shares = {"soft_label_accuracy": float(right.mean())}
    if data.is_noisy.any():
        shares["wrong_labels_corrected"] = float(right[data.is_noisy].mean())
    if not data.is_noisy.all():
        shares["right_labels_spoilt"] = float(np.mean(~right[~data.is_noisy]))
    return shares


def write_results(
    data: NoisyData,
    losses: ScoreTracks,
    evidence: Evidence,
    soft_labels: SoftLabels,
    relabelling_from: int,
    experiment: Experiment,
) -> None:
    """Scores, figures and final numbers, from what the training left in the folder."""
    rows = experiment.history.rows
    draw_tracks(
        experiment.record.own("tracking.png"),
        losses.scores,
        losses.read(),
        data.is_noisy,
        rows,
        "epoch",
        "epoch",
        "Soft relabelling",
        marks={"relabelling begins": relabelling_from},
    )
    write_accuracy_figure(
        experiment,
        rows,
        {
            "train (observed labels)": "train_accuracy",
            "soft labels (truth)": "soft_label_accuracy",
            "test": "test_accuracy",
        },
    )
    figures = save_scores(experiment, data, RELABEL, evidence, losses.last())
    experiment.finish(figures | relabelled_shares(soft_labels.current.cpu().numpy(), data) | accuracy_numbers(rows))

"""Soft relabelling by joint optimisation (Tanaka et al. 2018): the network's own predictions replace the labels.

The loss against the *original* label is the score: a network that learns from its own predictions disagrees with
wrong labels.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch.nn.functional as F
from torch import Tensor

import models
from utils.batches import epoch_batches
from utils.cli import data_choice
from utils.compute import Compute, seed_torch
from utils.experiment import Experiment
from utils.figures import track_figure
from utils.losses import joint_loss
from utils.metrics import auc
from utils.noisy_data import NoisyData, prepare
from utils.reporting import accuracy_figures, accuracy_numbers, accuracy_on_test, columns, start
from utils.separation import save_scores
from utils.soft_labels import SoftLabels
from utils.tracker import Tracker
from utils.training import Progress, learning_rate, make_optimizer, set_learning_rate, track, train_one_epoch

PHASE = "relabelling"


def relabelling(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Warm-up on the observed labels, then new soft labels after each epoch; writes the whole experiment folder."""
    data = prepare(data_choice(args), compute)
    start(experiment, data, compute)
    seed_torch(args.seed, "init")
    model = compute.prepare(models.build(args.model_type, data.num_classes, width=args.width, dropout=args.dropout))
    optimizer = make_optimizer(model.parameters(), args.lr, args.momentum, args.wd)
    soft_labels = SoftLabels(data.device_labels, data.num_classes)
    progress = Progress()
    tracker = Tracker(data.device_labels, data.num_classes, with_ce=False)
    losses = experiment.new_track("loss_track", args.epoch_1st, len(data))

    def loss_of(ids: Tensor) -> Tensor:
        with compute.autocast():
            logits = model(data.images.augmented_batch(ids))
        soft_labels.record(ids, logits)
        if args.ce_loss_inWarmup and progress.epoch < args.warmup_e:
            return F.cross_entropy(logits, data.device_labels[ids])
        return joint_loss(logits, soft_labels[ids], args.reg_term1, args.reg_term2)

    parts = {"model": model, "optimizer": optimizer, "progress": progress, "soft_labels": soft_labels}
    with experiment.phase(PHASE, parts) as phase:
        for epoch in phase.epochs(args.epoch_1st, progress):
            lr = learning_rate(epoch, args.lr if epoch < args.warmup_e else args.lr_2nd, args.M, args.gamma_scheduler)
            set_learning_rate(optimizer, lr)
            model.train()
            batches = epoch_batches(data.ids, args.batch_size, args.seed, 1, epoch)
            train_loss = train_one_epoch(
                batches, loss_of, optimizer, progress, seed=args.seed, phase=1, after_step=phase.stop_if_asked
            )
            if epoch + 1 < args.warmup_e:
                soft_labels.discard()
            else:  # the next epoch learns from what this one predicted
                soft_labels.commit()
            tracked = track(model, data.images, tracker, compute, args.eval_batch_size, where=f"epoch {epoch + 1}")
            losses.append(tracked.loss)
            phase.add_epoch(
                epoch=epoch + 1,
                lr=lr,
                train_loss=train_loss,
                train_accuracy=tracked.accuracy,
                test_accuracy=accuracy_on_test(model, data, compute, args.eval_batch_size),
                soft_label_accuracy=label_accuracy(soft_labels, data),
                auc_relabel_loss=auc(tracked.loss, data.is_noisy),
            )
        experiment.save_array("soft_labels", soft_labels.current.cpu().numpy())
    report(args, data, experiment, soft_labels)


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


def report(args: argparse.Namespace, data: NoisyData, experiment: Experiment, soft_labels: SoftLabels) -> None:
    """Scores, figures and final numbers, from what the training left in the folder."""
    rows, losses = experiment.history, experiment.tracks["loss_track"].read()
    track_figure(
        experiment.path / "tracking.png",
        {"loss against the original label (nats)": losses},
        data.is_noisy,
        [row["epoch"] for row in rows],
        "epoch",
        "Soft relabelling",
        aucs=columns(rows, {"loss against the original label (nats)": "auc_relabel_loss"}),
        marks={"relabelling begins": args.warmup_e},
    )
    accuracy_figures(
        experiment,
        rows,
        {
            "train (observed labels)": "train_accuracy",
            "soft labels (truth)": "soft_label_accuracy",
            "test": "test_accuracy",
        },
    )
    figures = save_scores(experiment, data, {"relabel_loss": np.array(losses[-1])})
    experiment.finish(figures | relabelled_shares(soft_labels.current.cpu().numpy(), data) | accuracy_numbers(rows))

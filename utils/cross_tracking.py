"""Parallel cross tracking: two models, one per half of the data; each half is scored by the model that never saw it."""

from __future__ import annotations

import argparse
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from utils.batches import epoch_batches
from utils.cli import data_choice
from utils.compute import Compute, seed_torch, stream_generator
from utils.errors import UserError
from utils.experiment import Experiment
from utils.figures import track_figure
from utils.metrics import auc
from utils.noisy_data import NoisyData, prepare
from utils.reporting import accuracy_figures, accuracy_numbers, accuracy_on_test, columns, start
from utils.separation import save_scores
from utils.tracker import Tracked, Tracker
from utils.training import Progress, infer, learning_rate, make_optimizer, set_learning_rate, track, train_one_epoch

PHASE = "training"


def split_in_halves(n: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A seeded permutation int64 (N,) and the two halves it makes: the sorted first and last sample ids of it."""
    permutation = stream_generator(seed, "halves").permutation(n)
    return permutation, [np.sort(permutation[: n - n // 2]), np.sort(permutation[n - n // 2 :])]


class Half:
    """One model with its optimiser, the half it learns from, and a tracker for that half's samples."""

    def __init__(
        self, index: int, ids: np.ndarray, args: argparse.Namespace, data: NoisyData, compute: Compute
    ) -> None:
        self.index, self.args, self.data, self.compute = index, args, data, compute
        self.ids = torch.from_numpy(ids).to(compute.device)
        seed_torch(args.seed, "init", index)
        self.model = compute.prepare(models.build(models.PREACT_RESNET18, data.num_classes, width=args.width))
        self.optimizer = make_optimizer(self.model.parameters(), args.lr, args.momentum, args.wd)
        self.progress = Progress()
        self.tracker = Tracker(
            data.device_labels[self.ids],
            data.num_classes,
            nn_k=args.NN_k,
            with_ce=args.track_CE,
            memory_gb=args.nn_memory_gb,
        )

    def parts(self) -> dict:
        return {
            f"model{self.index}": self.model,
            f"optimizer{self.index}": self.optimizer,
            f"progress{self.index}": self.progress,
        }

    def loss_of(self, ids: Tensor) -> Tensor:
        with self.compute.autocast():
            logits = self.model(self.data.images.augmented_batch(ids))
        return F.cross_entropy(logits, self.data.device_labels[ids])

    def train(self, after_step: object) -> float:
        """Finish the epoch that `progress` is in; its mean loss."""
        self.model.train()
        batches = epoch_batches(self.ids, self.args.batch_size, self.args.seed, 1 + self.index, self.progress.epoch)
        return train_one_epoch(
            batches,
            self.loss_of,
            self.optimizer,
            self.progress,
            seed=self.args.seed,
            phase=1 + self.index,
            after_step=after_step,
        )

    def score(self, model: nn.Module) -> Tracked:
        """This half's samples as `model` sees them."""
        return track(
            model,
            self.data.images,
            self.tracker,
            self.compute,
            self.args.eval_batch_size,
            where=f"epoch {self.progress.epoch + 1}",
            ids=self.ids,
        )


def cross_tracking(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Train both models, track own and cross after every epoch; writes the whole experiment folder."""
    data = prepare(data_choice(args), compute)
    if len(data) < 4:
        raise UserError(f"{len(data)} samples make no two halves to train on", "give at least four")
    start(experiment, data, compute)
    permutation, halves_ids = split_in_halves(len(data), args.seed)
    experiment.save_array("permutation", permutation)
    halves = [Half(k, ids, args, data, compute) for k, ids in enumerate(halves_ids)]
    names = ("loss", "own_loss", "ce", "own_ce") if args.track_CE else ("loss", "own_loss")
    experiment.require_space_for_tracks(len(names) * args.epoch_1st, len(data))
    tracks = {name: experiment.new_track(f"{name}_track", args.epoch_1st, len(data)) for name in names}

    with experiment.phase(PHASE, halves[0].parts() | halves[1].parts()) as phase:
        for epoch in phase.epochs(args.epoch_1st, *(half.progress for half in halves)):
            lr = learning_rate(epoch, args.lr, args.M, args.gamma_scheduler)
            for half in halves:
                set_learning_rate(half.optimizer, lr)
            train_losses = [half.train(phase.stop_if_asked) for half in halves]
            own = [half.score(half.model) for half in halves]
            cross = [half.score(other.model) for half, other in zip(halves, halves[::-1], strict=True)]
            for name, track_of in tracks.items():
                kind, passes = ("ce" if name.endswith("ce") else "loss"), (own if name.startswith("own") else cross)
                track_of.append(in_order(halves_ids, [getattr(tracked, kind) for tracked in passes]))
            phase.add_epoch(
                epoch=epoch + 1,
                lr=lr,
                train_loss=mean(train_losses),
                train_accuracy=mean(tracked.accuracy for tracked in own),
                cross_accuracy=mean(tracked.accuracy for tracked in cross),
                test_accuracy=mean_accuracy_on_test(halves, data, compute, args.eval_batch_size),
                **{AUC_OF[name]: auc(track_of.read()[-1], data.is_noisy) for name, track_of in tracks.items()},
            )
        experiment.save_array("cross_probs", cross_probs(halves, halves_ids, data, compute, args.eval_batch_size))
    report(args, data, experiment)


AUC_OF = {"loss": "auc_parallel_loss", "ce": "auc_parallel_ce", "own_loss": "auc_own_loss", "own_ce": "auc_own_ce"}


def in_order(halves_ids: list[np.ndarray], values: list[np.ndarray]) -> np.ndarray:
    """Per-half arrays (N/2, ...) put together in the data set's order, (N, ...)."""
    whole = np.empty((sum(map(len, halves_ids)), *values[0].shape[1:]), dtype=np.float32)
    for ids, part in zip(halves_ids, values, strict=True):
        whole[ids] = part
    return whole


def mean_accuracy_on_test(
    halves: list[Half], data: NoisyData, compute: Compute, batch_size: int | None
) -> float | None:
    """The mean of the two models' test accuracies; None without a test set."""
    if data.test_images is None:
        return None
    return mean(accuracy_on_test(half.model, data, compute, batch_size) for half in halves)


def cross_probs(
    halves: list[Half], halves_ids: list[np.ndarray], data: NoisyData, compute: Compute, batch_size: int | None
) -> np.ndarray:
    """float32 (N, C): each sample's softmax by the model that never trained on it (what cleanlab calls pred_probs)."""
    probs = []
    for half, other in zip(halves, halves[::-1], strict=True):
        batches = infer(other.model, data.images, compute, batch_size, ids=half.ids)
        probs.append(torch.cat([logits.softmax(1) for _, logits, _ in batches]).cpu().numpy())
    return in_order(halves_ids, probs)


def report(args: argparse.Namespace, data: NoisyData, experiment: Experiment) -> None:
    """Scores, figures and final numbers, from what the training left in the folder."""
    rows, tracks = experiment.history, experiment.tracks
    epochs = [row["epoch"] for row in rows]
    shown = {"cross loss (nats)": "loss", "own loss (nats)": "own_loss"}
    if args.track_CE:
        shown = {"cross neighbour cross-entropy": "ce", **shown}
    track_figure(
        experiment.path / "tracking.png",
        {label: tracks[f"{name}_track"].read() for label, name in shown.items()},
        data.is_noisy,
        epochs,
        "epoch",
        "Each half scored by the model that never saw it, and by its own",
        aucs=columns(rows, {label: AUC_OF[name] for label, name in shown.items()}),
    )
    accuracy_figures(
        experiment,
        rows,
        {
            "own half (observed labels)": "train_accuracy",
            "other half (observed labels)": "cross_accuracy",
            "test": "test_accuracy",
        },
    )
    scores = {
        f"parallel_{name}": np.array(tracks[f"{name}_track"].read()[-1])
        for name in (("ce", "loss") if args.track_CE else ("loss",))
    }
    figures = save_scores(experiment, data, scores)
    figures |= {
        AUC_OF[name]: auc(tracks[f"{name}_track"].read()[-1], data.is_noisy)
        for name in ("own_loss", "own_ce")
        if f"{name}_track" in tracks
    }
    experiment.finish(figures | accuracy_numbers(rows))

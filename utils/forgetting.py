"""Forgetting: fit the noisy labels, fine-tune on another data set, and watch which samples are forgotten first.

Wrong labels are memorised last and forgotten first (second-split forgetting, Maini et al. 2022): after a few steps of
fine-tuning on unrelated images, the loss and the neighbour cross-entropy of the memorised set rank its wrong labels.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import models
from utils.batches import batches_per_epoch, epoch_batches
from utils.cli import data_choice
from utils.compute import Compute, seed_torch
from utils.errors import UserError
from utils.experiment import Experiment, differences, load_array, load_recorded, load_torch, read_finished
from utils.figures import track_figure
from utils.metrics import auc
from utils.noisy_data import NoisyData, prepare
from utils.reporting import accuracy_figures, accuracy_numbers, accuracy_on_test, columns, start
from utils.separation import save_scores
from utils.tracker import Tracked, Tracker
from utils.training import (
    Progress,
    learning_rate,
    make_optimizer,
    set_learning_rate,
    track,
    train_one_epoch,
)

STAGE1, STAGE2 = "stage1", "stage2"
STREAM_OF = {STAGE1: 1, STAGE2: 2}  # the two stages draw different orders and augmentations

# Flags that decide what stage 1 ends with; --first_stage_from reuses weights only where all of them agree.
STAGE1_SETTINGS = (
    "width",
    "epoch_1st",
    "lr",
    "M",
    "gamma_scheduler",
    "batch_size",
    "momentum",
    "wd",
    "seed",
    "precision",
)


def forgetting(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Both stages; writes the whole experiment folder."""
    first = prepare(data_choice(args), compute)
    second_choice = data_choice(args, "second_stage_")
    second = prepare(second_choice, compute, stream="label_noise_2nd", like=first.images, with_test=False)
    if args.save_best_AUC_model and not 0 < (first.noise_ratio or 0) < 1:
        raise UserError("--save_best_AUC_model needs true labels that tell right ones from wrong ones", "leave it out")
    stage1 = read_reusable_stage1(args, first, experiment)
    start(experiment, first, compute, second_data=second.fingerprint())
    experiment.log_quietly("second " + second.describe().splitlines()[0])
    experiment.require_space_for_tracks(
        args.epoch_1st + (1 + args.track_CE) * tracked_rows(args, second), len(first)
    )

    model = build_network(args, first, compute)
    if not experiment.done(STAGE1):
        if stage1 is None:
            memorise(args, model, first, compute, experiment)
        else:
            take_over_stage1(args, stage1, experiment)
    model.load_state_dict(read_stage1(experiment.path)["weights"])
    oracle = forget(args, model, first, second, compute, experiment)
    report(args, first, oracle, experiment)


def stage2_steps(args: argparse.Namespace, second: NoisyData) -> int:
    return min(args.step_number, args.epoch_2nd * batches_per_epoch(len(second), args.batch_size))


def tracked_rows(args: argparse.Namespace, second: NoisyData) -> int:
    """Rows of a stage-2 track: one before the first step, one per tracked step, one for the last."""
    return 1 + -(-stage2_steps(args, second) // args.track_every)


def build_network(args: argparse.Namespace, first: NoisyData, compute: Compute) -> nn.Module:
    seed_torch(args.seed, "init")
    return compute.prepare(models.build(models.PREACT_RESNET18, first.num_classes, width=args.width))


# -- stage 1 -----------------------------------------------------------------------------------------------------------


def memorise(
    args: argparse.Namespace, model: nn.Module, data: NoisyData, compute: Compute, experiment: Experiment
) -> None:
    """Cross-entropy on the noisy labels through head 1; every sample's loss is tracked after each epoch."""
    optimizer = make_optimizer(model.parameters(), args.lr, args.momentum, args.wd)
    progress = Progress()
    losses = experiment.new_track("stage1_loss_track", args.epoch_1st, len(data))
    tracker = Tracker(data.device_labels, data.num_classes, with_ce=False)

    def loss_of(ids: Tensor) -> Tensor:
        with compute.autocast():
            logits = model(data.images.augmented_batch(ids))
        return F.cross_entropy(logits, data.device_labels[ids])

    parts = {"model": model, "optimizer": optimizer, "progress": progress}
    with experiment.phase(STAGE1, parts) as phase:
        for epoch in phase.epochs(args.epoch_1st, progress):
            lr = learning_rate(epoch, args.lr, args.M, args.gamma_scheduler)
            set_learning_rate(optimizer, lr)
            model.train()
            batches = epoch_batches(data.ids, args.batch_size, args.seed, STREAM_OF[STAGE1], epoch)
            train_loss = train_one_epoch(
                batches, loss_of, optimizer, progress,
                seed=args.seed, phase=STREAM_OF[STAGE1], after_step=phase.stop_if_asked,
            )  # fmt: skip
            where = f"stage 1, epoch {epoch + 1}"
            tracked = track(model, data.images, tracker, compute, args.eval_batch_size, where=where)
            losses.append(tracked.loss)
            phase.add_epoch(
                stage=1,
                epoch=epoch + 1,
                step="",
                lr=lr,
                train_loss=train_loss,
                train_accuracy=tracked.accuracy,
                test_accuracy=accuracy_on_test(model, data, compute, args.eval_batch_size),
                auc_stage1_loss=auc(tracked.loss, data.is_noisy),
            )
        experiment.save_array("stage1_loss", losses.read()[-1])
        losses.close()
        experiment.save_torch("stage1.pt", {"settings": stage1_settings(args, data), "weights": model.state_dict()})


def stage1_settings(args: argparse.Namespace, data: NoisyData) -> dict:
    return {key: vars(args)[key] for key in STAGE1_SETTINGS} | data.fingerprint()


def read_stage1(path: Path) -> dict:
    try:
        return load_torch(path / "stage1.pt", {"settings", "weights"}, "run that experiment again with --overwrite")
    except FileNotFoundError:
        raise UserError(f"{path} holds no stage1.pt", "name an experiment of main.py") from None


def read_reusable_stage1(args: argparse.Namespace, data: NoisyData, experiment: Experiment) -> dict | None:
    """Stage 1 of the finished experiment --first_stage_from; None where none is asked for.

    Raises UserError listing what differs where it was not made with the same data, noise, network, schedule and seed.
    """
    if args.first_stage_from is None or experiment.done(STAGE1):
        return None
    if args.first_stage_from == experiment.name:
        raise UserError("--first_stage_from names this very experiment", "take another --experiment_name")
    record = read_finished(experiment.path.parent, args.first_stage_from)
    source = record["path"]
    stage1 = read_stage1(source)
    if differing := differences(stage1_settings(args, data), stage1["settings"]):
        raise UserError(
            f"the first stage of {args.first_stage_from} was made otherwise: {differing}",
            "give the same flags, or leave --first_stage_from out to train it anew",
        )
    for name in ("stage1_loss", "stage1_loss_track"):
        stage1[name] = load_recorded(record, name)
    try:
        with open(source / "history.csv", newline="") as handle:
            stage1["history"] = [row for row in csv.DictReader(handle) if row["stage"] == "1"]
    except (OSError, KeyError, csv.Error) as error:
        raise UserError(f"{source / 'history.csv'} is damaged ({error})", "leave --first_stage_from out") from error
    return stage1


def take_over_stage1(args: argparse.Namespace, stage1: dict, experiment: Experiment) -> None:
    """Weights, losses and history of --first_stage_from instead of training."""
    for name in ("stage1_loss", "stage1_loss_track"):
        experiment.save_array(name, stage1[name])
    experiment.history = stage1["history"]
    experiment.save_torch("stage1.pt", {key: stage1[key] for key in ("settings", "weights")})
    experiment.log(f"stage 1 taken from {args.first_stage_from}")
    experiment.skip_phase(STAGE1)


# -- stage 2 -----------------------------------------------------------------------------------------------------------


@dataclass
class Oracle:
    """The step with the best AUC, chosen with the true labels: a bound for evaluation, not a result."""

    auc: float = -1.0
    step: int = -1
    scores: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def consider(self, step: int, scores: dict[str, np.ndarray], is_noisy: np.ndarray, model: nn.Module) -> None:
        value = auc(scores[primary(scores)], is_noisy)
        if value is not None and value > self.auc:
            self.auc, self.step = value, step
            self.scores = {name: torch.from_numpy(array.copy()) for name, array in scores.items()}
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)


def primary(scores: dict) -> str:
    """The score that ranks the suspects: the neighbour cross-entropy where it is tracked."""
    return "forget_ce" if "forget_ce" in scores else "forget_loss"


class ForgettingTrack:
    """The first set while the network learns the second: a row before the first step, then one per tracked step."""

    def __init__(
        self, args: argparse.Namespace, data: NoisyData, compute: Compute, experiment: Experiment, rows: int
    ) -> None:
        self.args, self.data, self.compute, self.experiment = args, data, compute, experiment
        self.tracker = Tracker(
            data.device_labels, data.num_classes, nn_k=args.NN_k, with_ce=args.track_CE, memory_gb=args.nn_memory_gb
        )
        self.loss = experiment.new_track("loss_track", rows, len(data))
        self.ce = experiment.new_track("ce_track", rows, len(data)) if args.track_CE else None
        self.oracle = Oracle()
        self.latest: Tracked | None = None

    def update(self, model: nn.Module, unchanged: bool = False, **row: object) -> None:
        """Track now and add a history row; `unchanged`: no weight before head 1 has moved since the last time."""
        if not (unchanged and self.latest):
            self.latest = track(
                model,
                self.data.images,
                self.tracker,
                self.compute,
                self.args.eval_batch_size,
                where=f"stage 2, epoch {row['epoch']}, step {row['step']}",
            )
        self.loss.append(self.latest.loss)
        scores = {"forget_loss": self.latest.loss}
        if self.ce is not None:
            self.ce.append(self.latest.ce)
            scores["forget_ce"] = self.latest.ce
        self.experiment.add_history(
            stage=2,
            **row,
            train_accuracy=self.latest.accuracy,
            mean_loss=float(self.latest.loss.mean()),
            **{f"auc_{name}": auc(values, self.data.is_noisy) for name, values in scores.items()},
        )
        if self.args.save_best_AUC_model:
            self.oracle.consider(row["step"], scores, self.data.is_noisy, model)

    def limit_passed(self) -> bool:
        """Whether the mean loss of the first set has passed --second_stg_max_median_loss (a historical name)."""
        limit = self.args.second_stg_max_median_loss
        return limit is not None and float(self.loss.read()[-1].mean()) > limit


def forget(
    args: argparse.Namespace,
    model: nn.Module,
    first: NoisyData,
    second: NoisyData,
    compute: Compute,
    experiment: Experiment,
) -> Oracle:
    """Fine-tune on the second set through head 2 and track the first set through head 1 after every step."""
    seed_torch(args.seed, "init_2nd")
    model.add_second_head(second.num_classes)
    early = EarlyStage(args, model)
    optimizer = make_optimizer(
        [*model.backbone(), *model.head2.parameters()],
        args.lr_2nd,
        args.momentum,
        args.wd,
        fused=not args.freeze_earlySecondStage,  # fused SGD wants every momentum to begin in the same step
    )
    progress = Progress()
    steps_per_epoch = batches_per_epoch(len(second), args.batch_size)
    steps = stage2_steps(args, second)
    tracks = ForgettingTrack(args, first, compute, experiment, tracked_rows(args, second))
    parts = {"model": model, "optimizer": optimizer, "progress": progress, "oracle": tracks.oracle}
    with experiment.phase(STAGE2, parts) as phase:
        if not tracks.loss.rows:
            tracks.update(model, epoch=0, step=0)

        def steps_done() -> int:
            return progress.epoch * steps_per_epoch + progress.step

        def loss_of(ids: Tensor) -> Tensor:
            early.set_modes(steps_done(), progress.epoch)
            with compute.autocast():
                logits = model(second.images.augmented_batch(ids), head=2)
            return F.cross_entropy(logits, second.device_labels[ids])

        def after_step() -> bool:
            done, enough = steps_done(), False
            if done % args.track_every == 0 or done == steps:
                tracks.update(
                    model,
                    early.frozen,
                    epoch=progress.epoch + 1,
                    step=done,
                    lr=optimizer.param_groups[0]["lr"],
                    train_loss=float(progress.losses[progress.step - 1]),
                )
                enough = tracks.limit_passed()
                experiment.show(bar, done)
            if not enough and done % args.checkpoint_every == 0:
                phase.checkpoint()
            phase.stop_if_asked()
            return enough or done >= steps

        with tqdm(total=steps, initial=steps_done(), desc=STAGE2, unit="step", disable=None) as bar:
            while steps_done() < steps and not tracks.limit_passed():
                set_learning_rate(
                    optimizer, learning_rate(progress.epoch, args.lr_2nd, args.M_2nd or [], args.gamma_scheduler)
                )
                batches = epoch_batches(second.ids, args.batch_size, args.seed, STREAM_OF[STAGE2], progress.epoch)
                train_one_epoch(
                    batches,
                    loss_of,
                    optimizer,
                    progress,
                    seed=args.seed,
                    phase=STREAM_OF[STAGE2],
                    after_step=after_step,
                )
                if progress.step == steps_per_epoch:
                    progress.next_epoch()
                experiment.log_quietly(f"{STAGE2}: step {steps_done()}, {experiment.latest()}")
        if tracks.limit_passed():
            experiment.log(
                f"stage 2 stopped at step {steps_done()}: the mean loss passed {args.second_stg_max_median_loss}"
            )
        if args.save_best_AUC_model:
            save_oracle(experiment, tracks.oracle)
    return tracks.oracle


class EarlyStage:
    """What may move at each step of stage 2: with --freeze_earlySecondStage the backbone stays frozen at first."""

    def __init__(self, args: argparse.Namespace, model: nn.Module) -> None:
        self.model = model
        self.freeze = args.freeze_earlySecondStage
        self.until = args.unfreeze_secondStage or 1
        self.epoch_wise = args.freeze_epochWise
        self.batch_norm_thaws = args.batch_eval_preUnfreeze_only
        self.frozen = False

    def set_modes(self, step: int, epoch: int) -> None:
        """For the step numbered `step` (from 0, over the whole stage) of epoch `epoch` (from 0)."""
        self.frozen = self.freeze and (epoch if self.epoch_wise else step) < self.until
        for parameter in self.model.backbone():
            parameter.requires_grad_(not self.frozen)
        self.model.train()
        if self.frozen or not self.batch_norm_thaws:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()


def save_oracle(experiment: Experiment, oracle: Oracle) -> None:
    for name, values in oracle.scores.items():
        experiment.save_array(f"oracle_{name}", values.numpy())
    experiment.save_torch(
        "oracle_best_auc_model.pt", {"step": oracle.step, "auc": oracle.auc, "weights": oracle.weights}
    )


# -- what is left behind ---------------------------------------------------------------------------------------------


def report(args: argparse.Namespace, data: NoisyData, oracle: Oracle, experiment: Experiment) -> None:
    """Scores, figures and final numbers, from what the two stages left in the folder."""
    names = ["forget_ce", "forget_loss"] if args.track_CE else ["forget_loss"]
    stage1 = [row for row in experiment.history if int(row["stage"]) == 1]
    stage2 = [row for row in experiment.history if int(row["stage"]) == 2]
    path = experiment.path

    epochs = np.arange(1, len(stage1) + 1)
    track_figure(
        path / "stage1.png",
        {"loss (nats)": load_array(path / "stage1_loss_track.npy")},
        data.is_noisy,
        epochs,
        "epoch",
        "Stage 1: memorising the noisy labels",
        aucs=columns(stage1, {"loss (nats)": "auc_stage1_loss"}),
    )
    accuracy_figures(experiment, stage1, {"train (observed labels)": "train_accuracy", "test": "test_accuracy"})
    tracks = {"loss (nats)": "loss_track"}
    if args.track_CE:
        tracks = {"neighbour cross-entropy": "ce_track", **tracks}
    track_figure(
        path / "forgetting.png",
        {label: experiment.tracks[name].read() for label, name in tracks.items()},
        data.is_noisy,
        [row["step"] for row in stage2],
        "fine-tuning step on the second data set",
        "Stage 2: forgetting the first data set",
        aucs=columns(stage2, dict(zip(tracks, (f"auc_{name}" for name in names), strict=True))),
        marks={"oracle: best AUC (uses true labels)": oracle.step} if args.save_best_AUC_model else None,
    )

    last_rows = {
        name: np.array(experiment.tracks[t].read()[-1]) for name, t in zip(names, tracks.values(), strict=True)
    }
    figures = save_scores(experiment, data, last_rows)
    figures["auc_stage1_loss"] = auc(load_array(path / "stage1_loss.npy"), data.is_noisy)
    if args.track_CE:
        figures["auc_stage1_ce"] = stage2[0]["auc_forget_ce"]
    if args.save_best_AUC_model:
        figures |= {f"oracle_auc_{names[0]}": oracle.auc, "oracle_step": oracle.step}
    figures["steps"] = stage2[-1]["step"]
    experiment.finish(figures | accuracy_numbers(stage1))

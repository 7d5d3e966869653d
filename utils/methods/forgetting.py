"""Forgetting: fit the noisy labels, fine-tune on another data set, and watch which samples are forgotten first.

Wrong labels are memorised last and forgotten first (second-split forgetting, Maini et al. 2022): after a few steps of
fine-tuning on unrelated images, the loss and the neighbour cross-entropy of the memorised set rank its wrong labels.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from utils.compute import Compute, seed_torch
from utils.data.choice import SECOND, data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import Diverged, UserError
from utils.experiments.artifacts import load_torch
from utils.experiments.experiment import Experiment
from utils.experiments.phase import Phase
from utils.experiments.record import Record, differences, read_finished
from utils.results.evidence import Evidence
from utils.results.reporting import accuracy_numbers, announce, write_accuracy_figure
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks
from utils.results.separation_results import save_scores
from utils.scoring.choosing import Candidate
from utils.scoring.metrics import auc
from utils.scoring.tracker import Snapshot, Tracker
from utils.scoring.tracking import LOSS_ALONE, Tracking, tracking_of
from utils.separations import FORGET
from utils.training.batches import batches_per_epoch
from utils.training.learner import Learner, new_network
from utils.training.optimisation import Optimisation, Schedule, optimisation_of, schedule_of
from utils.training.passes import score_samples

STAGE1, STAGE2 = "stage1", "stage2"
STREAM1, STREAM2 = 1, 2  # the two stages draw different orders and augmentations

STAGE1_LOSS = TrackedScore("stage1_loss", "stage1_loss_track", "loss (nats)")
LOSS = TrackedScore("forget_loss", "loss_track", "loss (nats)")
CE = TrackedScore("forget_ce", "ce_track", "neighbour cross-entropy")

STAGE1_ENTRIES = {"settings", "weights", "evidence"}  # of stage1.pt
# Flags that decide what stage 1 ends with; --first_stage_from reuses weights only where all of them agree.
STAGE1_SETTINGS = (
    "width", "epoch_1st", "memorise_until", "lr", "schedule", "M", "gamma_scheduler", "batch_size", "momentum", "wd",
    "mixup", "ema", "balance", "augment", "mirror", "plant", "choose", "seed",
)  # fmt: skip


def forgetting(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Both stages; writes the whole experiment folder."""
    first = prepare(data_choice(args), compute, plant=args.plant)
    second = prepare(data_choice(args, SECOND), compute, stream="label_noise_2nd", like=first.images, with_test=False)
    if args.save_best_AUC_model and not 0 < (first.noise_ratio or 0) < 1:
        raise UserError("--save_best_AUC_model needs true labels that tell right ones from wrong ones", "leave it out")
    settings = {key: vars(args)[key] for key in STAGE1_SETTINGS} | first.fingerprint()
    source = None
    if args.first_stage_from is not None and not experiment.done(STAGE1):
        source = reusable_stage1(args.first_stage_from, settings, compute.precision, experiment)
    stage2 = SecondStageSettings.from_flags(args, second)
    announce(experiment, first, compute, second_data=second.fingerprint())
    experiment.log.quietly("second " + second.describe().splitlines()[0])
    experiment.require_space_for_tracks(args.epoch_1st + (1 + args.track_CE) * stage2.tracked_rows, len(first))

    evidence = Evidence("stage1", first, args.choose)
    network = new_network(models.PREACT_RESNET18, first.num_classes, compute, width=args.width, seed=args.seed)
    if not experiment.done(STAGE1):
        if source is None:
            optimisation = optimisation_of(args, schedule_of(args, args.epoch_1st))
            learner = Learner(network, first, compute, optimisation, STREAM1, name="stage 1")
            memorise(learner, args.epoch_1st, args.memorise_until, evidence, settings, experiment)
        else:
            take_over_stage1(source, experiment)
    stage1 = read_stage1(experiment.path)
    network.load_state_dict(stage1["weights"])
    evidence.load_state_dict(stage1["evidence"])
    schedule = Schedule(args.lr_2nd, milestones=args.M_2nd or [], gamma=args.gamma_scheduler)
    optimisation = replace(optimisation_of(args, schedule), mixup=0.0, ema=0.0)  # it is to forget, not to resist
    oracle = Oracle() if args.save_best_AUC_model else None
    second_stage = SecondStage(
        network, first, second, compute, optimisation, tracking_of(args), stage2, evidence, oracle, experiment
    )
    second_stage.run(args.checkpoint_every)
    write_results(first, second_stage, experiment)


# -- stage 1 -----------------------------------------------------------------------------------------------------------


def memorise(
    learner: Learner, epochs: int, until: float, evidence: Evidence, settings: dict, experiment: Experiment
) -> None:
    """Cross-entropy on the noisy labels through head 1; every sample is tracked after each epoch.

    `until`: share of the labels in (0, 1] that, once fitted, ends the stage.
    """
    data = learner.data
    losses = ScoreTracks(experiment, [STAGE1_LOSS], epochs, len(data), data.is_noisy)
    tracker = Tracker(data.training_labels, data.num_classes, LOSS_ALONE)
    with experiment.phase(STAGE1, learner.parts() | {"evidence": evidence}) as phase:
        with phase.until_divergence():
            for epoch in phase.epochs(epochs, learner.progress, enough=lambda: fitted(experiment) >= until):
                train_loss = learner.train_epoch(learner.cross_entropy, after_step=phase.stop_if_asked)
                now = learner.score(tracker)
                losses.append({STAGE1_LOSS.name: now.loss(data.device_labels)})
                phase.add_epoch(
                    stage=1,
                    epoch=epoch + 1,
                    step="",
                    lr=learner.rate,
                    train_loss=train_loss,
                    train_accuracy=now.accuracy,
                    test_accuracy=learner.test_accuracy(),
                    **losses.aucs(),
                    **evidence.add(now.logits, f"epoch {epoch + 1}"),
                )
        experiment.save_array("stage1_loss", losses.last()[STAGE1_LOSS.name])
        losses.close()
        evidence.conclude()
        state = {"settings": settings, "weights": learner.judge.state_dict(), "evidence": evidence.state_dict()}
        experiment.save_torch("stage1.pt", state)


def fitted(experiment: Experiment) -> float:
    """Share of the labels that the network predicted after the last epoch of stage 1."""
    return experiment.history.rows[-1]["train_accuracy"] if experiment.history.rows else 0.0


def read_stage1(path: Path) -> dict:
    try:
        return load_torch(path / "stage1.pt", STAGE1_ENTRIES, "run that experiment again with --overwrite")
    except FileNotFoundError:
        raise UserError(f"{path} holds no stage1.pt", "name an experiment of main.py") from None


def reusable_stage1(name: str, settings: dict, precision: str, experiment: Experiment) -> Record:
    """The finished experiment `name`, whose stage 1 was made with these settings in this precision.

    Raises UserError listing what differs: data, noise, network, schedule, seed or precision.
    """
    if name == experiment.name:
        raise UserError("--first_stage_from names this very experiment", "take another --experiment_name")
    record = read_finished(experiment.path.parent, name)
    there = {"mirror": True} | read_stage1(record.path)["settings"]  # before it was a flag, images were mirrored
    there["precision"] = record.get("resolved_precision")  # what it came to, not what the flag said
    if differing := differences(settings | {"precision": precision}, there):
        raise UserError(
            f"the first stage of {name} was made otherwise: {differing}",
            "give the same flags, or leave --first_stage_from out to train it anew",
        )
    return record


def take_over_stage1(source: Record, experiment: Experiment) -> None:
    """Weights, losses and history of another experiment instead of training."""
    try:
        with open(source.path / "history.csv", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["stage"] == "1"]
    except (OSError, KeyError, csv.Error) as error:
        what = f"{source.path / 'history.csv'} is damaged ({error})"
        raise UserError(what, "leave --first_stage_from out") from error
    for name in ("stage1_loss", "stage1_loss_track"):
        experiment.save_array(name, source.read_array(name))
    experiment.save_torch("stage1.pt", read_stage1(source.path))
    experiment.history.rows = rows
    experiment.log(f"stage 1 taken from {source.path.name}")
    experiment.skip_phase(STAGE1)


# -- stage 2 -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondStageSettings:
    """How long stage 2 goes on and what may move in it."""

    steps: int  # at most
    steps_per_epoch: int
    track_every: int  # steps
    mean_loss_limit: float | None  # nats; stage 2 ends once the mean loss of the first set has passed it
    thaw_at: int  # the step or epoch, from 1, at which the backbone begins to move; 1 = never frozen
    thaw_by_epoch: bool  # thaw_at counts epochs
    batch_norm_thaws: bool  # from then on batch norm is in training mode

    @classmethod
    def from_flags(cls, args: argparse.Namespace, second: NoisyData) -> SecondStageSettings:
        steps_per_epoch = batches_per_epoch(len(second), args.batch_size)
        return cls(
            steps=min(args.step_number, args.epoch_2nd * steps_per_epoch),
            steps_per_epoch=steps_per_epoch,
            track_every=args.track_every,
            mean_loss_limit=args.second_stg_max_median_loss,
            thaw_at=args.unfreeze_secondStage if args.freeze_earlySecondStage else 1,
            thaw_by_epoch=args.freeze_epochWise,
            batch_norm_thaws=args.batch_eval_preUnfreeze_only,
        )

    @property
    def tracked_rows(self) -> int:
        """Rows of a track: one before the first step, one per tracked step, one for the last."""
        return 1 + -(-self.steps // self.track_every)

    def frozen(self, step: int) -> bool:
        """Whether head 2 alone moves in a step, counted from 0 over the whole stage."""
        return 1 + (step // self.steps_per_epoch if self.thaw_by_epoch else step) < self.thaw_at


@dataclass
class Oracle:
    """The step with the best AUC, chosen with the true labels: a bound for evaluation, not a result."""

    auc: float = -1.0
    step: int = -1
    scores: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def consider(self, step: int, scores: dict[str, np.ndarray], is_noisy: np.ndarray, network: nn.Module) -> None:
        value = auc(scores[primary(scores)], is_noisy)
        if value is not None and value > self.auc:
            self.auc, self.step = value, step
            self.scores = {name: torch.from_numpy(array) for name, array in scores.items()}
            self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)


def primary(scores: dict) -> str:
    """The original's score: the neighbour cross-entropy where it is tracked."""
    return next(name for name in (CE.name, LOSS.name) if name in scores)


class SecondStage:
    """Fine-tuning on the second set through head 2, while the first set is tracked through head 1."""

    def __init__(
        self,
        network: nn.Module,
        first: NoisyData,
        second: NoisyData,
        compute: Compute,
        optimisation: Optimisation,
        tracking: Tracking,
        settings: SecondStageSettings,
        evidence: Evidence,
        oracle: Oracle | None,
        experiment: Experiment,
    ) -> None:
        self.first, self.settings, self.oracle, self.experiment = first, settings, oracle, experiment
        self.evidence, self.choice = evidence, evidence.choice
        self.of_stage1 = self.choice.best  # what fine-tuning is to add to
        seed_torch(optimisation.seed, "init_2nd")
        network.add_second_head(second.num_classes)
        self.learner = Learner(
            network,
            second,
            compute,
            optimisation,
            STREAM2,
            name="stage 2",
            parameters=[*network.backbone(), *network.head2.parameters()],
            fused=settings.thaw_at == 1,
        )
        self.tracker = Tracker(first.training_labels, first.num_classes, tracking)
        scores = [LOSS, CE] if tracking.with_ce else [LOSS]
        self.scores = ScoreTracks(experiment, scores, settings.tracked_rows, len(first), first.is_noisy)
        self.latest: Snapshot | None = None  # of the last tracked step of this process
        self.frozen = False  # whether only head 2 moved in the last step
        self.mean_loss = 0.0  # of the first set, at the last tracked step

    @property
    def steps_done(self) -> int:
        return self.learner.progress.epoch * self.settings.steps_per_epoch + self.learner.progress.step

    def run(self, checkpoint_every: int) -> None:
        """Fine-tune until the steps are done or the limit is passed; `checkpoint_every` steps apart."""
        parts = self.learner.parts() | {"choice": self.choice}
        if self.oracle is not None:
            parts["oracle"] = self.oracle
        steps = self.settings.steps
        if self.settings.frozen(steps - 1):
            self.experiment.log(f"stage 2 has {steps} steps and none thaws the backbone: nothing will be forgotten")
        with self.experiment.phase(STAGE2, parts) as phase, phase.bar(steps, self.steps_done, "step"):
            if self.scores.rows:
                self.mean_loss = float(self.scores.last()[LOSS.name].mean(dtype=np.float64))
            else:
                self.track(epoch=0, step=0)
            try:
                self.fine_tune(phase, checkpoint_every)
            except Diverged as error:  # what was tracked before is whole
                self.experiment.log(f"{STAGE2}: {error.what}: going on with the steps before")
            if self.limit_passed():
                limit = self.settings.mean_loss_limit
                self.experiment.log(f"stage 2 stopped at step {self.steps_done}: the mean loss passed {limit}")
            if self.oracle is not None:
                save_oracle(self.experiment, self.oracle)

    def fine_tune(self, phase: Phase, checkpoint_every: int) -> None:
        while not self.enough():
            self.learner.train_epoch(
                self.loss, before_step=self.before_step, after_step=lambda: self.after_step(phase, checkpoint_every)
            )
            if self.learner.progress.step == self.settings.steps_per_epoch:
                self.learner.progress.next_epoch()
            self.experiment.log.quietly(f"{STAGE2}: step {self.steps_done}, {self.experiment.history.latest()}")

    def before_step(self) -> None:
        """What may move: at first perhaps head 2 alone; batch norm keeps its statistics unless it thaws too."""
        network = self.learner.network
        self.frozen = self.settings.frozen(self.steps_done)
        for parameter in network.backbone():
            parameter.requires_grad_(not self.frozen)
        network.train()
        if self.frozen or not self.settings.batch_norm_thaws:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def loss(self, ids: Tensor) -> Tensor:
        """Cross-entropy of the second set through head 2."""
        learner = self.learner
        return F.cross_entropy(learner.logits(learner.augmented(ids), head=2), learner.data.device_labels[ids])

    def after_step(self, phase: Phase, checkpoint_every: int) -> bool:
        """Track the first set where it is due; True ends the epoch."""
        progress, done = self.learner.progress, self.steps_done
        if done % self.settings.track_every == 0 or done == self.settings.steps:
            train_loss = float(progress.losses[progress.step - 1])  # here every tracked step waits for the device
            self.track(epoch=progress.epoch + 1, step=done, lr=self.learner.rate, train_loss=train_loss)
            phase.show(done)
        if not self.limit_passed() and done % checkpoint_every == 0:
            phase.checkpoint()
        phase.stop_if_asked()
        return self.enough()

    def enough(self) -> bool:
        return self.steps_done >= self.settings.steps or self.limit_passed()

    def limit_passed(self) -> bool:
        limit = self.settings.mean_loss_limit
        return limit is not None and self.mean_loss > limit

    def track(self, **row: object) -> None:
        """A row of the tracks and of the history: the first set as the network sees it now."""
        if self.latest is None or not self.frozen:  # else nothing before head 1 has moved
            where = f"stage 2, epoch {row['epoch']}, step {row['step']}"
            learner = self.learner
            self.latest = score_samples(learner.network, self.first.images, self.tracker, learner.compute, where=where)
        candidates = self.candidates(self.latest)
        self.scores.append({name: candidates[name].observed for name in (LOSS.name, CE.name) if name in candidates})
        self.mean_loss = float(candidates[LOSS.name].observed.mean(dtype=np.float64))  # float32 overflows
        self.experiment.history.add(
            stage=2,
            **row,
            train_accuracy=self.latest.accuracy,
            mean_loss=self.mean_loss,
            **self.scores.aucs(),
            **self.choice.consider(f"stage 2, step {row['step']}", candidates, default=False),
        )
        if self.oracle is not None:
            self.oracle.consider(row["step"], self.scores.last(), self.first.is_noisy, self.learner.network)

    def candidates(self, now: Snapshot) -> dict[str, Candidate]:
        """Neighbour cross-entropy and loss of a moment, each alone and by its mean rank with the best of stage 1."""
        observed, trained = self.first.device_labels, self.first.training_labels
        found = {LOSS.name: Candidate(now.loss(observed), now.loss(trained))}
        if now.votes is not None:
            found = {CE.name: Candidate(now.ce(observed), now.ce(trained))} | found
        return found | {f"{name}_and_stage1": c.with_rank_of(self.of_stage1) for name, c in found.items()}


def save_oracle(experiment: Experiment, oracle: Oracle) -> None:
    for name, values in oracle.scores.items():
        experiment.save_array(f"oracle_{name}", values.numpy())
    experiment.save_torch(
        "oracle_best_auc_model.pt", {"step": oracle.step, "auc": oracle.auc, "weights": oracle.weights}
    )


# -- what is left behind ---------------------------------------------------------------------------------------------


def write_results(first: NoisyData, second_stage: SecondStage, experiment: Experiment) -> None:
    """Scores, figures and final numbers, from what the two stages left in the folder."""
    rows1, rows2 = ([row for row in experiment.history.rows if int(row["stage"]) == stage] for stage in (1, 2))
    draw_tracks(
        experiment.record.own("stage1.png"),
        [STAGE1_LOSS],
        {STAGE1_LOSS.name: experiment.record.read_array(STAGE1_LOSS.track)},
        first.is_noisy,
        rows1,
        "epoch",
        "epoch",
        "Stage 1: fitting the noisy labels",
        first.choice.in_words(),
    )
    curves = {"train (observed labels)": "train_accuracy", "test": "test_accuracy"}
    write_accuracy_figure(experiment, first, rows1, curves)
    oracle = second_stage.oracle
    draw_tracks(
        experiment.record.own("forgetting.png"),
        second_stage.scores.scores[::-1],  # the one that ranks the suspects on top
        second_stage.scores.read(),
        first.is_noisy,
        rows2,
        "step",
        "fine-tuning step on the second data set",
        "Stage 2: forgetting the first data set",
        first.choice.in_words(),
        means={LOSS.name: "mean_loss"},
        marks=None if oracle is None else {"oracle: best AUC (uses true labels)": oracle.step},
    )
    scores = second_stage.scores.last()
    figures = save_scores(experiment, first, FORGET, second_stage.evidence, scores)
    figures["auc_stage1_loss"] = auc(experiment.record.read_array("stage1_loss"), first.is_noisy)
    if CE.name in scores:
        figures["auc_stage1_ce"] = rows2[0]["auc_forget_ce"]
    if oracle is not None:
        figures |= {f"oracle_auc_{primary(scores)}": oracle.auc, "oracle_step": oracle.step}
    figures["steps"] = rows2[-1]["step"]
    experiment.finish(figures | accuracy_numbers(rows1))

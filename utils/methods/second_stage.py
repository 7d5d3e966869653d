"""Stage 2 of forgetting: fine-tune on the second set through head 2, track the first one through head 1."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.compute import Compute, seed_torch
from utils.data.noisy_data import NoisyData
from utils.errors import Diverged, UserError
from utils.experiments.experiment import Experiment
from utils.experiments.phase import Phase
from utils.methods.forgetting_flags import AUTO
from utils.results.evidence import Evidence
from utils.results.score_tracks import ScoreTracks, TrackedScore
from utils.scoring.choosing import Candidate
from utils.scoring.dynamics import Streak, learnt
from utils.scoring.metrics import auc
from utils.scoring.pace import Pace
from utils.scoring.tracker import Snapshot, Tracker
from utils.scoring.tracking import Tracking, tracking_of
from utils.training.batches import batches_per_epoch
from utils.training.learner import Learner
from utils.training.optimisation import Optimisation
from utils.training.passes import score_samples

STAGE2 = "stage2"  # phase
STREAM2 = 2  # stage 1 draws other orders and augmentations

LOSS = TrackedScore("forget_loss", "loss_track", "loss (nats)")
CE = TrackedScore("forget_ce", "ce_track", "neighbour cross-entropy")


@dataclass(frozen=True)
class SecondStageSettings:
    """How long stage 2 goes on, what is tracked, and what may move in it."""

    tracking: Tracking  # of the first set
    oracle: bool  # whether the step with the best AUC is kept, too
    steps: int  # at most
    steps_per_epoch: int  # those of a whole epoch or fewer
    track_every: int | str  # steps, or AUTO
    mean_loss_limit: float | None  # nats; stage 2 ends once the mean loss of the first set has passed it
    thaw_at: int  # the step or epoch, from 1, at which the backbone begins to move; 1 = never frozen
    thaw_by_epoch: bool  # thaw_at counts epochs
    batch_norm_thaws: bool  # from then on batch norm is in training mode
    frozen_layers: Sequence[str] = ()  # patterns of the parameters that never move

    @classmethod
    def from_flags(cls, args: argparse.Namespace, second: NoisyData) -> SecondStageSettings:
        whole = batches_per_epoch(len(second), args.batch_size)
        steps_per_epoch = min(args.step_number or whole, whole)
        bounds = [args.steps_total, args.epoch_2nd and args.epoch_2nd * steps_per_epoch]
        return cls(
            tracking=tracking_of(args),
            oracle=args.save_best_AUC_model,
            steps=min(bound for bound in bounds if bound is not None),
            steps_per_epoch=steps_per_epoch,
            track_every=args.track_every,
            mean_loss_limit=args.second_stg_max_median_loss,
            thaw_at=args.unfreeze_secondStage if args.freeze_earlySecondStage else 1,
            thaw_by_epoch=args.freeze_epochWise,
            batch_norm_thaws=args.batch_eval_preUnfreeze_only,
            frozen_layers=args.freeze_layers or (),
        )

    @property
    def moments(self) -> int:
        """That are tracked, at most: one before the first step, one per tracked step, one for the last."""
        return 1 + -(-self.steps // (1 if self.track_every == AUTO else self.track_every))

    @property
    def track_rows(self) -> int:
        """Of all tracks together."""
        return (1 + self.tracking.with_ce) * self.moments

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


def frozen_parameters(network: nn.Module, patterns: Sequence[str]) -> set[str]:
    """The names of the backbone's parameters that match a shell pattern.

    Raises UserError for a pattern that matches none, and where nothing of the backbone is left to move.
    """
    shared = {id(parameter) for parameter in network.backbone()}
    names = [name for name, parameter in network.named_parameters() if id(parameter) in shared]
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            layers = dict.fromkeys(re.sub(r"(\.\d+)?\..*", r"\1", name) for name in names)  # blocks.3, stem
            listed = ", ".join(f"{layer}.*" for layer in layers)
            raise UserError(f"--freeze_layers {pattern} matches no parameter of the backbone", f"there are {listed}")
        found |= matching
    if len(found) == len(names):
        raise UserError("--freeze_layers freezes the whole backbone: nothing would be forgotten", "name fewer layers")
    return found


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
        settings: SecondStageSettings,
        evidence: Evidence,
        experiment: Experiment,
    ) -> None:
        self.first, self.settings, self.experiment = first, settings, experiment
        self.oracle = Oracle() if settings.oracle else None
        self.evidence, self.choice = evidence, evidence.choice
        self.of_stage1 = self.choice.best  # what fine-tuning is to add to
        seed_torch(optimisation.seed, "init_2nd")
        network.add_second_head(second.num_classes)
        frozen = frozen_parameters(network, settings.frozen_layers)
        named = dict(network.named_parameters())
        for name in frozen:
            named[name].requires_grad_(False)
        self.moving = [p for p in network.backbone() if p.requires_grad]  # of the backbone, once it has thawed
        self.frozen_norms = [
            module
            for place, module in network.named_modules()
            if isinstance(module, nn.BatchNorm2d) and any(name.startswith(f"{place}.") for name in frozen)
        ]  # their statistics stay too
        self.learner = Learner(
            network,
            second,
            compute,
            optimisation,
            STREAM2,
            name="stage 2",
            parameters=[*self.moving, *network.head2.parameters()],
            fused=settings.thaw_at == 1,
        )
        self.tracker = Tracker(first.training_labels, first.num_classes, settings.tracking, compute.ranks)
        scores = [LOSS, CE] if settings.tracking.with_ce else [LOSS]
        self.scores = ScoreTracks(experiment, scores, settings.moments, len(first), first.is_noisy)
        self.pace = Pace() if settings.track_every == AUTO else None
        self.forgotten = Streak(len(first), first.device_labels.device)
        self.latest: Snapshot | None = None  # of the last tracked step of this process
        self.frozen = False  # whether only head 2 moved in the last step
        self.mean_loss = 0.0  # of the first set, at the last tracked step

    @property
    def steps_done(self) -> int:
        return self.learner.progress.epoch * self.settings.steps_per_epoch + self.learner.progress.step

    def run(self, checkpoint_every: int) -> None:
        """Fine-tune until the steps are done or the limit is passed; `checkpoint_every` steps apart."""
        parts = self.learner.parts() | {"choice": self.choice, "forgotten": self.forgotten}
        if self.oracle is not None:
            parts["oracle"] = self.oracle
        if self.pace is not None:
            parts["pace"] = self.pace
        steps = self.settings.steps
        if self.settings.frozen(steps - 1):
            self.experiment.log(f"stage 2 has {steps} steps and none thaws the backbone: nothing will be forgotten")
        with self.experiment.phase(STAGE2, parts) as phase, phase.bar(steps, self.steps_done, "step"):
            self.experiment.log.quietly(f"{STAGE2}: {self.learner.optimisation.schedule.in_words()}")
            if self.scores.rows:
                self.mean_loss = float(self.scores.last()[LOSS.name].mean(dtype=np.float64))
            else:
                self.track(epoch=0, step=0)
            try:
                self.fine_tune(phase, checkpoint_every)
            except Diverged as error:  # what was tracked before is whole
                self.experiment.log(f"{STAGE2}: {error.what}: going on with the steps before, without stage2.pt")
            else:
                weights = self.learner.network.state_dict()
                self.experiment.save_torch("stage2.pt", {"step": self.steps_done, "weights": weights})
            if self.limit_passed():
                limit = self.settings.mean_loss_limit
                self.experiment.log(f"stage 2 stopped at step {self.steps_done}: the mean loss passed {limit}")
            if self.oracle is not None:
                save_oracle(self.experiment, self.oracle)

    def fine_tune(self, phase: Phase, checkpoint_every: int) -> None:
        while not self.enough():
            self.learner.train_epoch(
                self.loss,
                self.learner.batches()[: self.settings.steps_per_epoch],
                before_step=self.before_step,
                after_step=lambda: self.after_step(phase, checkpoint_every),
            )
            if self.learner.progress.step == self.settings.steps_per_epoch:
                self.learner.progress.next_epoch()
            self.experiment.log.quietly(f"{STAGE2}: step {self.steps_done}, {self.experiment.history.latest()}")

    def before_step(self) -> None:
        """What may move: at first perhaps head 2 alone; batch norm keeps its statistics unless it thaws too."""
        network = self.learner.network
        self.frozen = self.settings.frozen(self.steps_done)
        for parameter in self.moving:
            parameter.requires_grad_(not self.frozen)
        network.train()
        kept = self.frozen_norms if self.settings.batch_norm_thaws and not self.frozen else network.modules()
        for module in kept:
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def loss(self, ids: Tensor) -> Tensor:
        """Cross-entropy of the second set through head 2."""
        learner = self.learner
        return F.cross_entropy(learner.logits(learner.augmented(ids), head=2), learner.data.device_labels[ids])

    def after_step(self, phase: Phase, checkpoint_every: int) -> bool:
        """Track the first set where it is due; True ends the epoch."""
        progress, done = self.learner.progress, self.steps_done
        if self.due(done):
            train_loss = float(progress.losses[progress.step - 1])  # here every tracked step waits for the device
            self.track(epoch=progress.epoch + 1, step=done, lr=self.learner.rate, train_loss=train_loss)
            phase.show(done)
        if not self.limit_passed() and done % checkpoint_every == 0:
            phase.checkpoint()
        phase.stop_if_asked()
        return self.enough()

    def due(self, step: int) -> bool:
        """Whether a step is tracked; the last one always is."""
        due = step % self.settings.track_every == 0 if self.pace is None else step >= self.pace.next
        return due or step == self.settings.steps

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
        self.forgotten.update(
            row["step"], ~learnt(self.evidence.observed(self.latest).logits, self.first.device_labels)
        )
        candidates = self.candidates(self.latest)
        if self.pace is not None:
            self.set_pace(row["step"], candidates)
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

    def set_pace(self, step: int, candidates: dict[str, Candidate]) -> None:
        """When to track next; called before these scores are appended to the tracks."""
        if self.frozen or not self.scores.rows:  # nothing has moved yet: the first step that moves is to be seen
            self.pace.dense(step)
            return
        before = self.scores.last()
        score = primary(before)
        self.pace.follow(step, before[score], candidates[score].observed)

    def candidates(self, now: Snapshot) -> dict[str, Candidate]:
        """Neighbour cross-entropy and loss of a moment, each alone and by its mean rank with the best of stage 1."""
        found = self.evidence.candidates(now, LOSS.name, CE.name)
        return found | {f"{name}_and_stage1": c.with_rank_of(self.of_stage1) for name, c in found.items()}


def save_oracle(experiment: Experiment, oracle: Oracle) -> None:
    for name, values in oracle.scores.items():
        experiment.save_array(f"oracle_{name}", values.numpy())
    experiment.save_torch(
        "oracle_best_auc_model.pt", {"step": oracle.step, "auc": oracle.auc, "weights": oracle.weights}
    )

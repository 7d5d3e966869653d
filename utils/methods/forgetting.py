"""Forgetting: fit the noisy labels, fine-tune on another data set, and watch which samples are forgotten first.

Wrong labels are memorised last and forgotten first (second-split forgetting, Maini et al. 2022): so the paper. On what
was measured here (tests/benchmarks/results/) a few steps of fine-tuning on unrelated images make the neighbour
cross-entropy rank the wrong labels of digits better, the loss worse, and of photographs not memorised both worse.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import models
from utils.compute import Compute
from utils.data.choice import SECOND, data_choice
from utils.data.noise import share_to_plant
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import UserError
from utils.experiments.artifacts import load_torch
from utils.experiments.experiment import Experiment
from utils.experiments.history import read_stage
from utils.experiments.record import differences, read_finished
from utils.methods.second_stage import (
    CE,
    LOSS,
    SecondStage,
    SecondStageSettings,
    frozen_parameters,
    primary,
)
from utils.methods.tracked_training import TrackedTraining
from utils.results.dynamics_file import write_dynamics
from utils.results.evidence import Evidence
from utils.results.reporting import accuracy_numbers, announce, foresee, save_left_out, write_accuracy_figure
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks
from utils.results.separation_results import save_scores
from utils.scoring.metrics import aucs
from utils.scoring.tracking import BATCHES, PASSES
from utils.separations import FORGET
from utils.training.expectation import Expectation, Work, expect
from utils.training.learner import Learner, new_network
from utils.training.optimisation import Schedule, epochs_for, optimisation_of, schedule_of, why_epochs

STAGE1 = "stage1"  # phase
STREAM1 = 1

STAGE1_LOSS = TrackedScore("stage1_loss", "stage1_loss_track", "loss (nats)")

STAGE1_ENTRIES = {"settings": dict, "weights": dict, "evidence": dict}  # of stage1.pt
# Flags that decide what stage 1 ends with; --first_stage_from reuses weights only where all of them agree.
STAGE1_SETTINGS = (
    "width", "epoch_1st", "memorise_until", "lr", "schedule", "M", "gamma_scheduler", "batch_size", "momentum", "wd",
    "mixup", "ema", "balance", "augment", "mirror", "plant", "choose", "seed", "noise_seed", "track_from",
)  # fmt: skip


def forgetting(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Both stages; writes the whole experiment folder."""
    first = prepare(data_choice(args), compute, plant=args.plant)
    second = prepare(data_choice(args, SECOND), compute, stream="label_noise_2nd", like=first.images, with_test=False)
    if args.save_best_AUC_model and not 0 < (first.noise_ratio or 0) < 1:
        raise UserError("--save_best_AUC_model needs true labels that tell right ones from wrong ones", "leave it out")
    why = why_epochs(args.epoch_1st is not None, len(first))
    args.epoch_1st = args.epoch_1st or epochs_for(len(first), FORGET.epochs)
    args.plant = share_to_plant(len(first)) if args.plant is None else args.plant  # so that settings tell it
    settings = first.fingerprint() | {key: vars(args)[key] for key in STAGE1_SETTINGS}
    from_batches = args.track_from == BATCHES
    source = None
    if args.first_stage_from is not None and not experiment.done(STAGE1):
        source = FinishedStage1.read(args.first_stage_from, settings, compute.precision, experiment)
    stage2 = SecondStageSettings.from_flags(args, second)
    experiment.require_space_for_tracks(args.epoch_1st + stage2.track_rows, len(first))

    expectation = expectation_of(args, stage2, source is None, first, compute)
    evidence = Evidence(FORGET.prefixes[0], first, args.choose, args.epoch_1st, from_batches=from_batches)
    network = new_network(models.PREACT_RESNET18, first.num_classes, compute, width=args.width, seed=args.seed)
    frozen_parameters(network, stage2.frozen_layers)  # a slip of the pen shows now, not after stage 1
    expected = foresee(experiment, first, expectation, compute, args.estimate)
    more = {"second_data": second.fingerprint()}
    announce(experiment, first, compute, epochs=[args.epoch_1st], why=why, expected=expected, **more)
    experiment.log.quietly("second " + second.describe().splitlines()[0])
    save_left_out(experiment, second, "skipped_2nd.csv")
    trained_before = source is not None or experiment.done(STAGE1)
    if not experiment.done(STAGE1):
        if source is None:
            optimisation = optimisation_of(args, schedule_of(args, args.epoch_1st))
            learner = Learner(network, first, compute, optimisation, STREAM1, name="stage 1", from_batches=from_batches)
            memorise(learner, args.memorise_until, evidence, settings, experiment)
        else:
            source.take_over(experiment)
    stage1 = read_stage1(experiment.path)
    network.load_state_dict(stage1["weights"])
    if trained_before:  # else it knows, and need not weigh its predictions once more
        evidence.load_state_dict(stage1["evidence"])
    schedule = Schedule(args.lr_2nd, milestones=args.M_2nd or [], gamma=args.gamma_scheduler)
    optimisation = replace(optimisation_of(args, schedule), mixup=0.0, ema=0.0)  # it is to forget, not to resist
    second_stage = SecondStage(network, first, second, compute, optimisation, stage2, evidence, experiment)
    second_stage.run(args.checkpoint_every)
    if compute.ranks.leads:
        write_results(first, second_stage, experiment)


def expectation_of(
    args: argparse.Namespace, stage2: SecondStageSettings, trains: bool, first: NoisyData, compute: Compute
) -> partial[Expectation | None]:
    """What the run will take: stage 1, unless it is taken over; tracked steps."""
    name, moments, tracking = models.PREACT_RESNET18, stage2.moments, stage2.tracking
    work = [Work.of_epochs(name, args.epoch_1st, first, args.track_from == BATCHES)] if trains else []
    work.append(Work(name, stage2.steps * args.batch_size, moments * len(first), moments if tracking.with_ce else 0))
    optimisation = optimisation_of(args, schedule_of(args, args.epoch_1st))
    track_rows = args.epoch_1st + stage2.track_rows
    return partial(expect, work, track_rows, first, compute, optimisation, args.width, tracking)


# -- stage 1 -----------------------------------------------------------------------------------------------------------


def memorise(learner: Learner, until: float, evidence: Evidence, settings: dict, experiment: Experiment) -> None:
    """Cross-entropy on the noisy labels through head 1; every sample is tracked after each epoch.

    `until`: share of the labels in (0, 1] that, once fitted, ends the stage.
    """
    data = learner.data
    losses = ScoreTracks(experiment, [STAGE1_LOSS], evidence.epochs, len(data), data.is_noisy)
    training = TrackedTraining(STAGE1, learner, data.training_labels, evidence, losses, experiment)

    def enough() -> bool:
        return fitted(experiment) >= until

    with training.run(learner.cross_entropy, first_columns={"stage": 1}, enough=enough):
        losses.close()
        experiment.save_array("stage1_loss", training.losses_of(learner.judge))
        evidence.conclude()
        state = {"settings": settings, "weights": learner.judge.state_dict(), "evidence": evidence.state_dict()}
        experiment.save_torch("stage1.pt", state)


def fitted(experiment: Experiment) -> float:
    """Share of the labels that the network predicted after the last epoch of stage 1."""
    return experiment.history.rows[-1]["train_accuracy"] if experiment.history.rows else 0.0


def read_stage1(path: Path) -> dict:
    again = "run that experiment again with --overwrite"
    try:
        stage1 = load_torch(path / "stage1.pt", STAGE1_ENTRIES, again)
        json.dumps(stage1["settings"])  # they are compared, as those of run.json
    except FileNotFoundError:
        raise UserError(f"{path} holds no stage1.pt", "name an experiment of main.py") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{path / 'stage1.pt'} is damaged ({error})", again) from error
    if not {"learnt", "own"} <= stage1["evidence"].keys():
        raise UserError(f"{path / 'stage1.pt'} is of an earlier version, which kept less of its training", again)
    return stage1


def of_stage1(settings: dict) -> dict:
    """Of settings those that stage 1 went by: without a schedule of steps the rate's factor is of stage 2 alone."""
    return settings if settings.get("schedule") == "steps" else settings | {"gamma_scheduler": None}


@dataclass(frozen=True)
class FinishedStage1:
    """That of another experiment, all of it read before anything of this one is written."""

    name: str
    state: dict  # what stage1.pt holds
    arrays: dict[str, np.ndarray]  # {file: its values}
    rows: list[dict]  # of history.csv

    @classmethod
    def read(cls, name: str, settings: dict, precision: str, experiment: Experiment) -> FinishedStage1:
        """Of the finished experiment `name`, made with these settings in this precision.

        Raises UserError listing what differs: data, noise, network, schedule, seed or precision.
        """
        if name == experiment.name:
            raise UserError("--first_stage_from names this very experiment", "take another --experiment_name")
        record = read_finished(experiment.path.parent, name)
        state = read_stage1(record.path)
        before_they_were_flags = {"mirror": True, "noise_seed": None, "track_from": PASSES}
        there = before_they_were_flags | state["settings"]
        there["precision"] = record.get("resolved_precision")  # what it came to, not what the flag said
        if differing := differences(of_stage1(settings | {"precision": precision}), of_stage1(there)):
            raise UserError(
                f"the first stage of {name} was made otherwise: {differing}",
                "give the same flags, or leave --first_stage_from out to train it anew",
            )
        arrays = {array: record.read_array(array, mapped=True) for array in ("stage1_loss", "stage1_loss_track")}
        rows = read_stage(record.path / "history.csv", "1", "leave --first_stage_from out")
        return cls(name, state, arrays, rows)

    def take_over(self, experiment: Experiment) -> None:
        """Weights, losses and history instead of training."""
        for name, values in self.arrays.items():
            experiment.save_array(name, values)
        experiment.save_torch("stage1.pt", self.state)
        experiment.history.rows = self.rows
        experiment.log(f"stage 1 taken from {self.name}")
        experiment.skip_phase(STAGE1)


# -- what is left behind ---------------------------------------------------------------------------------------------


def write_results(first: NoisyData, second_stage: SecondStage, experiment: Experiment) -> None:
    """Scores, figures and final numbers, from what the two stages left in the folder."""
    rows1, rows2 = ([row for row in experiment.history.rows if int(row["stage"]) == stage] for stage in (1, 2))
    draw_tracks(
        experiment,
        first,
        "stage1.png",
        "Stage 1: fitting the noisy labels",
        [STAGE1_LOSS],
        {STAGE1_LOSS.name: experiment.record.read_array(STAGE1_LOSS.track, mapped=True)},
        rows1,
    )
    curves = {"train (labels trained on)": "train_accuracy", "test": "test_accuracy"}
    write_accuracy_figure(experiment, first, rows1, curves)
    oracle = second_stage.oracle
    draw_tracks(
        experiment,
        first,
        "forgetting.png",
        "Stage 2: forgetting the first data set",
        second_stage.scores.scores[::-1],  # the one that ranks the suspects on top
        second_stage.scores.read(),
        rows2,
        x="step",
        xlabel="fine-tuning step on the second data set",
        means={LOSS.name: "mean_loss"},
        marks=None if oracle is None else {"oracle: best AUC (uses true labels)": oracle.step},
    )
    scores = second_stage.scores.last()
    figures = save_scores(experiment, first, FORGET, second_stage.evidence, scores)
    write_dynamics(experiment, first, second_stage.evidence, second_stage.forgotten)
    stage1_loss = experiment.record.read_array("stage1_loss")
    figures |= aucs(STAGE1_LOSS.name, stage1_loss, first.labels, first.clean_labels)
    if CE.name in scores:
        figures["auc_stage1_ce"] = rows2[0]["auc_forget_ce"]
    if oracle is not None:
        figures |= {f"oracle_auc_{primary(scores)}": oracle.auc, "oracle_step": oracle.step}
    figures["steps"] = rows2[-1]["step"]
    experiment.finish(figures | accuracy_numbers(rows1))

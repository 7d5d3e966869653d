"""Parallel cross tracking: two models, one per half of the data; each half is scored by the model that never saw it.

Of several processes (utils/ranks.py) one half train the first model while the others train the second; after each epoch
all of them have both, and score together.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import models
from utils.compute import Compute, stream_generator
from utils.data.choice import data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.experiments.phase import Phase
from utils.ranks import ALONE
from utils.results.dynamics_file import write_dynamics
from utils.results.evidence import Evidence
from utils.results.reporting import accuracy_numbers, announce, foresee, save_model, write_accuracy_figure
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks
from utils.results.separation_results import save_scores
from utils.scoring.metrics import aucs
from utils.scoring.tracker import Snapshot, Tracker
from utils.scoring.tracking import Tracking, tracking_of
from utils.separations import PARALLEL
from utils.training.expectation import Expectation, Work, expect, images_of_a_pass
from utils.training.learner import Learner, new_network
from utils.training.optimisation import epochs_for, optimisation_of, schedule_of, why_epochs
from utils.training.passes import probabilities

PHASE = "training"
OWN = "own"  # prefix of the scores by the model that was trained on the sample

CROSS_LOSS = TrackedScore("parallel_loss", "loss_track", "cross loss (nats)")
OWN_LOSS = TrackedScore(f"{OWN}_loss", "own_loss_track", "own loss (nats)")
CROSS_CE = TrackedScore("parallel_ce", "ce_track", "cross neighbour cross-entropy")
OWN_CE = TrackedScore(f"{OWN}_ce", "own_ce_track", None)


class Half:
    """One model, the half that it learns from, and a tracker for that half's samples."""

    def __init__(self, learner: Learner, ids: np.ndarray, tracking: Tracking) -> None:
        self.learner = learner
        self.ids = torch.from_numpy(ids).to(learner.compute.device)
        labels, ranks = learner.data.training_labels[self.ids], learner.compute.ranks
        self.tracker = Tracker(labels, learner.data.num_classes, tracking, ranks)

    @property
    def network(self) -> nn.Module:
        return self.learner.judge

    def train(self, after_step: object) -> float:
        """Finish the current epoch on this half; its mean loss."""
        batches = self.learner.batches(self.ids)
        return self.learner.train_epoch(self.learner.cross_entropy, batches, after_step=after_step)

    def score(self, network: nn.Module) -> Snapshot:
        """This half's samples as `network` sees them."""
        return self.learner.score(self.tracker, self.ids, network)

    def probabilities(self, network: nn.Module) -> Tensor:
        """Softmax float32 (N/2, C) of this half's samples by `network`."""
        return probabilities(network, self.learner.data.images, self.learner.compute, self.ids)


def cross_tracking(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Train both models, track own and cross after every epoch; writes the whole experiment folder."""
    data = prepare(data_choice(args), compute, plant=args.plant)
    if len(data) < 4:
        raise UserError(f"{len(data)} samples make no two halves to train on", "give at least four")
    why = why_epochs(args.epoch_1st is not None, len(data))
    args.epoch_1st = args.epoch_1st or epochs_for(len(data), PARALLEL.epochs)
    evidence = Evidence(PARALLEL.prefixes[0], data, args.choose, args.epoch_1st)
    own_evidence = Evidence(OWN, data, "last", args.epoch_1st)  # to compare: nothing is chosen from it
    scores = [CROSS_LOSS, OWN_LOSS, CROSS_CE, OWN_CE] if args.track_CE else [CROSS_LOSS, OWN_LOSS]
    experiment.require_space_for_tracks(len(scores) * args.epoch_1st, len(data))
    expected = foresee(experiment, data, expectation_of(args, data, compute), compute, args.estimate)
    announce(experiment, data, compute, epochs=[args.epoch_1st], why=why, expected=expected)
    permutation, halves_ids = split_in_halves(len(data), args.seed)
    experiment.save_array("permutation", permutation)
    halves = []
    groups = compute.ranks.halves(compute.device) if compute.ranks.several else [ALONE, ALONE]
    for k, (ids, ranks) in enumerate(zip(halves_ids, groups, strict=True)):
        network = new_network(
            models.PREACT_RESNET18, data.num_classes, compute, width=args.width, seed=args.seed, counter=k
        )
        optimisation = optimisation_of(args, schedule_of(args, args.epoch_1st))
        learner = Learner(network, data, compute, optimisation, 1 + k, ranks=ranks)
        halves.append(Half(learner, ids, tracking_of(args)))
    tracks = ScoreTracks(experiment, scores, args.epoch_1st, len(data), data.is_noisy)
    train_and_track(halves, tracks, evidence, own_evidence, experiment)
    if args.keep_models:
        for k, half in enumerate(halves):
            save_model(experiment, data, half.network, models.PREACT_RESNET18, args.width, f"model_{k}.pt")
    if compute.ranks.leads:
        write_results(data, tracks, evidence, own_evidence, experiment)


def expectation_of(args: argparse.Namespace, data: NoisyData, compute: Compute) -> partial[Expectation | None]:
    """What the run will take: an epoch of both models is one of all samples, and both score all of them after it."""
    epochs, name = args.epoch_1st, models.PREACT_RESNET18
    passes = 2 * images_of_a_pass(data)
    searches = epochs if args.track_CE else 0  # own and cross, among either half: four quarters of a whole one
    work = [Work(name, epochs * len(data), epochs * passes, searches, networks=2)]
    optimisation, tracking = optimisation_of(args, schedule_of(args, epochs)), tracking_of(args)
    return partial(
        expect, work, (4 if args.track_CE else 2) * epochs, data, compute, optimisation, args.width, tracking
    )


def split_in_halves(n: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A seeded permutation int64 (N,) and the two halves it makes: the sorted first and last sample ids of it."""
    permutation = stream_generator(seed, "halves").permutation(n)
    return permutation, [np.sort(permutation[: n - n // 2]), np.sort(permutation[n - n // 2 :])]


def train_and_track(
    halves: list[Half], tracks: ScoreTracks, evidence: Evidence, own_evidence: Evidence, experiment: Experiment
) -> None:
    """Both models, epoch by epoch; after each, every half as its own and as the other model sees it."""
    first, second = halves
    data = first.learner.data
    parts = first.learner.parts(0) | second.learner.parts(1) | {"evidence": evidence, "own_evidence": own_evidence}
    experiment.log.quietly(f"{PHASE}: {first.learner.optimisation.schedule.in_words()}")
    with experiment.phase(PHASE, parts) as phase:
        with phase.until_divergence():
            for epoch in phase.epochs(evidence.epochs, first.learner.progress, second.learner.progress):
                if first.learner.compute.ranks.several:
                    train_losses = train_side_by_side(halves, phase)
                else:
                    train_losses = [half.train(phase.stop_if_asked) for half in halves]
                own = together(halves, [half.score(half.network) for half in halves])
                cross = together(halves, [first.score(second.network), second.score(first.network)])
                candidates = evidence.candidates(cross, CROSS_LOSS.name, CROSS_CE.name)
                of_own = evidence.observed(own).scores(data.device_labels, OWN_CE.name, OWN_LOSS.name)
                tracks.append({name: candidate.observed for name, candidate in candidates.items()} | of_own)
                test_accuracies = [half.learner.test_accuracy() for half in halves]
                phase.add_epoch(
                    epoch=epoch + 1,
                    lr=first.learner.rate,
                    train_loss=mean(train_losses),
                    train_accuracy=own.accuracy,
                    cross_accuracy=cross.accuracy,
                    test_accuracy=None if None in test_accuracies else mean(test_accuracies),
                    **tracks.aucs(),
                    **evidence.add(cross.logits, f"epoch {epoch + 1}", candidates),
                    **own_evidence.add(own.logits, f"epoch {epoch + 1}"),
                )
        evidence.conclude()
        probs = [first.probabilities(second.network), second.probabilities(first.network)]
        experiment.save_array("cross_probs", in_order(halves, probs).cpu().numpy())


def train_side_by_side(halves: list[Half], phase: Phase) -> list[float]:
    """Finish the current epoch of each half on its own ranks, at the same time; their mean losses."""
    learners = [half.learner for half in halves]
    all_ranks = learners[0].compute.ranks
    own = int(all_ranks.rank >= learners[1].ranks.first)
    left = [half.learner.steps_left(half.ids) for half in halves]

    def exchange() -> None:
        """Put both learners on all ranks."""
        for k, learner in enumerate(learners):
            parts = learner.parts()
            states = {name: part.state_dict() for name, part in parts.items()} if k == own else None
            states = all_ranks.told(on_host(states), learner.ranks.first)
            if k != own:
                for name, part in parts.items():
                    part.load_state_dict(states[name])

    def stop_if_asked() -> None:
        phase.stop_if_asked(before=exchange)

    learner = learners[own]
    learner.run_steps(learner.cross_entropy, learner.batches(halves[own].ids), after_step=stop_if_asked)
    for _ in range(left[own], max(left)):  # while the other half is at its last step
        stop_if_asked()
    exchange()
    return [learner.mean_loss() for learner in learners]


def on_host(states: dict | None) -> dict | None:
    """On its way to other processes a tensor keeps the number of its GPU, which is not theirs."""
    return tree_map(lambda value: value.cpu() if isinstance(value, Tensor) else value, states)


def together(halves: list[Half], parts: list[Snapshot]) -> Snapshot:
    """Two snapshots of the halves as one of all samples, in the data set's order."""
    votes = None if parts[0].votes is None else in_order(halves, [part.votes for part in parts])
    accuracy = float(np.average([part.accuracy for part in parts], weights=[len(half.ids) for half in halves]))
    return Snapshot(in_order(halves, [part.logits for part in parts]), votes, accuracy)


def in_order(halves: list[Half], parts: list[Tensor]) -> Tensor:
    """Those of the halves (N/2, C) as one (N, C), in the data set's order."""
    whole = parts[0].new_empty(sum(map(len, parts)), parts[0].shape[1])
    for half, part in zip(halves, parts, strict=True):
        whole[half.ids] = part
    return whole


def write_results(
    data: NoisyData, tracks: ScoreTracks, evidence: Evidence, own_evidence: Evidence, experiment: Experiment
) -> None:
    """Scores, figures and final numbers, from what the training left in the folder."""
    rows = experiment.history.rows
    draw_tracks(
        experiment,
        data,
        "tracking.png",
        "Each half scored by the model that never saw it, and by its own",
        sorted(tracks.scores, key=lambda score: score is not CROSS_CE),  # the one that ranks the suspects on top
        tracks.read(),
        rows,
    )
    write_accuracy_figure(
        experiment,
        data,
        rows,
        {
            "own half (labels trained on)": "train_accuracy",
            "test": "test_accuracy",
            "other half (labels trained on)": "cross_accuracy",
        },
    )
    scores = tracks.last()
    figures = save_scores(experiment, data, PARALLEL, evidence, scores)
    write_dynamics(experiment, data, evidence)
    figures |= own_evidence.save(experiment)
    for own in (OWN_LOSS, OWN_CE):
        if own.name in scores:
            figures |= aucs(own.name, scores[own.name], data.labels, data.clean_labels)
    experiment.finish(figures | accuracy_numbers(rows))

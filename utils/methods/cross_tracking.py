"""Parallel cross tracking: two models, one per half of the data; each half is scored by the model that never saw it.

After that they exchange their halves (--exchange): each goes on with the half that it never saw, not from the
labels there but from what it thinks of them, and both together score all samples.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

import models
from utils.compute import Compute
from utils.data.choice import data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import Diverged, UserError
from utils.experiments.artifacts import load_torch
from utils.experiments.experiment import Experiment
from utils.methods.halves import Half, in_order, mean_of, mean_test_accuracy, split_in_halves, together, train_both
from utils.ranks import ALONE
from utils.results.dynamics_file import write_dynamics
from utils.results.evidence import Evidence
from utils.results.reporting import accuracy_numbers, announce, foresee, save_model, write_accuracy_figure
from utils.results.score_tracks import ScoreTracks, TrackedScore, draw_tracks
from utils.results.separation_results import log_posterior, save_scores
from utils.scoring.metrics import aucs
from utils.scoring.tracking import LOSS_ALONE, tracking_of
from utils.separations import PARALLEL
from utils.training.expectation import Expectation, Work, expect, images_of_a_pass
from utils.training.learner import Learner, new_network
from utils.training.losses import LossWeights, joint_loss
from utils.training.optimisation import Optimisation, epochs_for, optimisation_of, schedule_of, why_epochs

TRAINING, EXCHANGE = "training", "exchange"  # phases; the second is also the prefix of its scores
OWN = "own"  # prefix of the scores by the model that was trained on the sample
HALVES = "halves.pt"  # what the exchange begins with

CROSS_LOSS = TrackedScore("parallel_loss", "loss_track", "cross loss (nats)")
OWN_LOSS = TrackedScore(f"{OWN}_loss", "own_loss_track", "own loss (nats)")
CROSS_CE = TrackedScore("parallel_ce", "ce_track", "cross neighbour cross-entropy")
OWN_CE = TrackedScore(f"{OWN}_ce", "own_ce_track", None)


def cross_tracking(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Train both models, track own and cross after every epoch, exchange; writes the whole experiment folder."""
    data = prepare(data_choice(args), compute, plant=args.plant)
    if len(data) < 4:
        raise UserError(f"{len(data)} samples make no two halves to train on", "give at least four")
    why = why_epochs(args.epoch_1st is not None, len(data))
    args.epoch_1st = args.epoch_1st or epochs_for(len(data), PARALLEL.epochs)
    args.exchange = exchange_epochs_of(args)
    evidence = Evidence(PARALLEL.prefixes[0], data, args.choose, args.epoch_1st)
    own_evidence = Evidence(OWN, data, "last", args.epoch_1st)  # to compare: nothing is chosen from it
    scores = [CROSS_LOSS, OWN_LOSS, CROSS_CE, OWN_CE] if args.track_CE else [CROSS_LOSS, OWN_LOSS]
    experiment.require_space_for_tracks(len(scores) * args.epoch_1st, len(data))
    expected = foresee(experiment, data, expectation_of(args, data, compute), compute, args.estimate)
    epochs = [args.epoch_1st, args.exchange] if args.exchange else [args.epoch_1st]
    announce(experiment, data, compute, epochs=epochs, why=why, expected=expected)
    permutation, halves_ids = split_in_halves(len(data), args.seed)
    experiment.save_array("permutation", permutation)
    groups = compute.ranks.halves(compute.device) if compute.ranks.several else [ALONE, ALONE]

    def learner(number: int, optimisation: Optimisation) -> Learner:
        """Of the first model 0 and, in the exchange, 2, of the second one 1 and 3."""
        network = new_network(
            models.PREACT_RESNET18, data.num_classes, compute, width=args.width, seed=args.seed, counter=number
        )
        return Learner(network, data, compute, optimisation, 1 + number, ranks=groups[number % 2])

    ids = [torch.from_numpy(half).to(compute.device) for half in halves_ids]
    optimisation = optimisation_of(args, schedule_of(args, args.epoch_1st))
    halves = [Half(learner(k, optimisation), ids[k], tracking_of(args)) for k in (0, 1)]
    tracks = ScoreTracks(experiment, scores, args.epoch_1st, len(data), data.is_noisy)
    if args.exchange and experiment.done(TRAINING):
        take_up(halves, evidence, own_evidence, experiment)
    else:
        train_and_track(halves, tracks, evidence, own_evidence, experiment, followed=args.exchange > 0)
    of_halves = evidence
    if args.exchange:
        schedule = schedule_of(args, args.exchange, counted=args.epoch_1st)
        augment = "strong" if args.augment == "standard" else args.augment
        optimisation = replace(optimisation, schedule=schedule, augment=augment)
        followers = [learner(2 + k, optimisation) for k in (0, 1)]
        halves, evidence = exchange(
            halves, followers, args.exchange, LossWeights(args.balance, 0.0), evidence, experiment
        )
    if args.keep_models:
        for k, half in enumerate(halves):
            save_model(experiment, data, half.network, models.PREACT_RESNET18, args.width, f"model_{k}.pt")
    if compute.ranks.leads:
        write_results(data, tracks, evidence, of_halves, own_evidence, experiment)


def exchange_epochs_of(args: argparse.Namespace) -> int:
    """As they were given, else as many as before the exchange."""
    return args.epoch_1st if args.exchange is None else args.exchange


def expectation_of(args: argparse.Namespace, data: NoisyData, compute: Compute) -> partial[Expectation | None]:
    """What the run will take: an epoch of both models is one of all samples, and both score all of them after it."""
    epochs, name = args.epoch_1st, models.PREACT_RESNET18
    passes = 2 * images_of_a_pass(data)
    searches = epochs if args.track_CE else 0  # own and cross, among either half: four quarters of a whole one
    work = [
        Work(name, of_phase * len(data), of_phase * passes, searches_of_phase, networks=2)
        for of_phase, searches_of_phase in ((epochs, searches), (args.exchange, 0))
    ]
    optimisation, tracking = optimisation_of(args, schedule_of(args, epochs)), tracking_of(args)
    return partial(
        expect, work, (4 if args.track_CE else 2) * epochs, data, compute, optimisation, args.width, tracking
    )


# -- 1. each model on its half -----------------------------------------------------------------------------------------


def train_and_track(
    halves: list[Half],
    tracks: ScoreTracks,
    evidence: Evidence,
    own_evidence: Evidence,
    experiment: Experiment,
    followed: bool,
) -> None:
    """Both models, epoch by epoch; after each, every half as its own and as the other model sees it."""
    first, second = halves
    data = first.learner.data
    parts = first.learner.parts(0) | second.learner.parts(1) | {"evidence": evidence, "own_evidence": own_evidence}
    experiment.log.quietly(f"{TRAINING}: {first.learner.optimisation.schedule.in_words()}")
    with experiment.phase(TRAINING, parts) as phase:
        with phase.until_divergence():
            for epoch in phase.epochs(evidence.epochs, first.learner.progress, second.learner.progress):
                train_loss = train_both(halves, phase)
                own = together(halves, [half.score(half.network) for half in halves])
                cross = together(halves, [first.score(second.network), second.score(first.network)])
                candidates = evidence.candidates(cross, CROSS_LOSS.name, CROSS_CE.name)
                of_own = evidence.observed(own).scores(data.device_labels, OWN_CE.name, OWN_LOSS.name)
                tracks.append({name: candidate.observed for name, candidate in candidates.items()} | of_own)
                phase.add_epoch(
                    epoch=epoch + 1,
                    lr=first.learner.rate,
                    train_loss=train_loss,
                    train_accuracy=own.accuracy,
                    cross_accuracy=cross.accuracy,
                    test_accuracy=mean_test_accuracy(halves),
                    **tracks.aucs(),
                    **evidence.add(cross.logits, f"epoch {epoch + 1}", candidates),
                    **own_evidence.add(own.logits, f"epoch {epoch + 1}"),
                )
        evidence.conclude()
        probs = [first.probabilities(second.network), second.probabilities(first.network)]
        experiment.save_array("cross_probs", in_order(halves, probs).cpu().numpy())
        if followed:
            kept = {"evidence": evidence.state_dict(), "own_evidence": own_evidence.state_dict()}
            experiment.save_torch(HALVES, kept | {"networks": [half.network.state_dict() for half in halves]})


def take_up(halves: list[Half], evidence: Evidence, own_evidence: Evidence, experiment: Experiment) -> None:
    """What another process has left of the halves' training."""
    kinds = {"evidence": dict, "own_evidence": dict, "networks": list}
    kept = load_torch(experiment.path / HALVES, kinds, "use --overwrite to start anew")
    evidence.load_state_dict(kept["evidence"])
    own_evidence.load_state_dict(kept["own_evidence"])
    for half, weights in zip(halves, kept["networks"], strict=True):
        half.network.load_state_dict(weights)


# -- 2. the exchange ---------------------------------------------------------------------------------------------------


def exchange(
    halves: list[Half], learners: list[Learner], epochs: int, weights: LossWeights, of_halves: Evidence,
    experiment: Experiment,
) -> tuple[list[Half], Evidence]:  # fmt: skip
    """Each model goes on, as one of `learners`, on the half that it never saw; (the halves now, what both say).

    It learns from the posterior of the true classes there, given the labels and what it predicted itself, not having
    been trained on any of them. The planted errors stay in that, as in relabel.py.
    """
    posterior = of_halves.posterior()
    log_posterior(f"after {of_halves.epochs} epochs", posterior, of_halves, experiment)
    data, compute = learners[0].data, learners[0].compute
    targets = torch.from_numpy(posterior.trained_).to(compute.device)
    evidence = of_halves.following(epochs, EXCHANGE)

    def loss_of(learner: Learner, ids: Tensor) -> Tensor:
        logits, mixed_targets = learner.mixed(ids, targets[ids])
        return joint_loss(logits, mixed_targets, weights)

    for half, learner in zip(halves, learners, strict=True):
        for network in (learner.network, learner.judge):
            network.load_state_dict(half.network.state_dict())
    exchanged = [
        Half(learner, other.ids, LOSS_ALONE, partial(loss_of, learner))
        for learner, other in zip(learners, reversed(halves), strict=True)
    ]
    parts = learners[0].parts(0) | learners[1].parts(1) | {"evidence": evidence}
    experiment.log.quietly(f"{EXCHANGE}: {learners[0].optimisation.schedule.in_words()}")
    try:
        with experiment.phase(EXCHANGE, parts) as phase:
            with phase.until_divergence():
                progresses = [learner.progress for learner in learners]
                for epoch in phase.epochs(epochs, *progresses, before=evidence.before):
                    train_loss = train_both(exchanged, phase)
                    seen = [together(exchanged, [half.score(by.network) for half in exchanged]) for by in exchanged]
                    both = mean_of(seen, data.training_labels)
                    number = evidence.before + epoch + 1
                    phase.add_epoch(
                        epoch=number,
                        lr=learners[0].rate,
                        train_loss=train_loss,
                        train_accuracy=both.accuracy,
                        test_accuracy=mean_test_accuracy(exchanged),
                        **evidence.add(both.logits, f"epoch {number}"),
                    )
            evidence.conclude()
        evidence.require_half("the halves")
    except Diverged as error:  # in its first half: what the halves found is whole
        experiment.log(f"{EXCHANGE}: {error.what}: going on with what the halves found")
        return halves, of_halves
    return exchanged, evidence


# -- what is left behind -----------------------------------------------------------------------------------------------


def write_results(
    data: NoisyData,
    tracks: ScoreTracks,
    evidence: Evidence,
    of_halves: Evidence,
    own_evidence: Evidence,
    experiment: Experiment,
) -> None:
    """Scores, figures and final numbers, from what the trainings left in the folder."""
    rows, exchanged = experiment.history.until(evidence.last_epoch), evidence is not of_halves
    draw_tracks(
        experiment,
        data,
        "tracking.png",
        "Each half scored by the model that never saw it, and by its own",
        sorted(tracks.scores, key=lambda score: score is not CROSS_CE),  # the one that ranks the suspects on top
        tracks.read(),
        rows[: tracks.rows],
    )
    own = "own half, then all (labels trained on)" if exchanged else "own half (labels trained on)"
    write_accuracy_figure(
        experiment,
        data,
        rows,
        {own: "train_accuracy", "test": "test_accuracy", "other half (labels trained on)": "cross_accuracy"},
        marks={"exchange begins": evidence.before} if exchanged else None,
    )
    scores = tracks.last()
    figures = save_scores(experiment, data, PARALLEL, evidence, scores)
    write_dynamics(experiment, data, of_halves)
    for kept in (of_halves, own_evidence) if exchanged else (own_evidence,):
        figures |= kept.save(experiment)
    for of_own in (OWN_LOSS, OWN_CE):
        if of_own.name in scores:
            figures |= aucs(of_own.name, scores[of_own.name], data.labels, data.clean_labels)
    experiment.finish(figures | accuracy_numbers(rows))

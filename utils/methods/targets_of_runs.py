"""What makes the targets of each run of ssl.py: posteriors, or clean sets."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial

import numpy as np

from utils.data.noisy_data import NoisyData
from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.methods.clean_set import CleanSet, Selector, report_selection, select, select_again
from utils.methods.targets import PosteriorTargets, SplitTargets
from utils.results.found_scores import Found
from utils.scoring.accumulated import SMALLEST
from utils.scoring.label_posterior import relabelled, wrong
from utils.scoring.planted import in_the_order_of
from utils.scoring.selection import select_clean


class Posterior:
    """Targets of each run by the separations' posteriors, then by that of the run before.

    `data` is given the errors that were planted for the separations: their posteriors have been misled by them as by
    the wrong labels that nobody knows, and so they calibrate those of the runs. `agree`: a label counts as far as all
    separations trust it, not as far as they do on average. Raises UserError where a separation left no posterior.
    """

    def __init__(self, agree: bool, found: dict[str, Found], data: NoisyData) -> None:
        self.agree = agree
        for of in found.values():
            if of.posterior is None or of.transition is None:
                raise UserError(f"{of.source} comes without a posterior", "add --targets split")
        self.found = [(of.posterior, of.transition) for of in found.values()]
        trained = [data.labels if of.trained is None else of.trained for of in found.values()]
        alike = all(np.array_equal(labels, trained[0]) for labels in trained)
        self.data = data.with_planted(trained[0] if alike else data.labels)

    def targets(self, number: int, experiment: Experiment) -> PosteriorTargets:
        given, run, data = self.found, f"run{number}", self.data
        if number > 1:
            names = (f"{name}_run{number - 1}" for name in ("pseudo_labels", "transition"))
            given = [tuple(experiment.record.read_array(name) for name in names)]
        wrong_labels = wrong(self.together([posterior for posterior, _ in given], data.labels), data.labels)
        experiment.log(f"{run}: posterior targets; estimated share of wrong labels {wrong_labels.mean():.3f}")
        trained = data.trained
        targets = [relabelled(posterior, transition, data.labels, trained) for posterior, transition in given]
        return PosteriorTargets(self.together(targets, trained), data)

    def together(self, posteriors: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
        """One posterior, float32 (N, C), of those of the separations, of samples with these labels (N,)."""
        return agreed_posterior(posteriors, labels) if self.agree else mean_posterior(posteriors)


def mean_posterior(posteriors: list[np.ndarray]) -> np.ndarray:
    """The mean of posteriors (N, C), float32, rows sum to 1."""
    mean = np.stack(posteriors).mean(0)
    return (mean / mean.sum(axis=1, keepdims=True)).astype(np.float32)


def agreed_posterior(posteriors: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Posteriors (N, C) put together so that a label, of int64 (N,), is right only as far as all of them trust it.

    float32 (N, C), rows sum to 1. Its probability is the smallest of all; what that leaves the other classes share as
    in the mean.
    """
    rows = np.arange(len(labels))
    trust = np.stack([posterior[rows, labels] for posterior in posteriors]).min(0)
    others = mean_posterior(posteriors)
    others[rows, labels] = 0
    others *= ((1 - trust) / np.maximum(others.sum(axis=1), SMALLEST))[:, None]
    others[rows, labels] = trust
    return others / others.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Split:
    """Targets of each run by a clean set, chosen from the separations' scores, then from the loss of the run before."""

    data: NoisyData
    first: CleanSet  # of the first run
    later: Selector  # of the clean sets of the others
    estimated: np.ndarray | None  # p_noisy (N,), the mean of those of the separations that have one
    veto: float | None  # of the forgetting scores: p_noisy above which they take a sample out
    begin: list[int]  # of each run, the epochs on the clean set alone
    epoch_update: int  # epochs whose pseudo-labels are averaged
    label_noise: float  # the share of them that is uniform
    seed: int

    @classmethod
    def from_flags(cls, args: argparse.Namespace, epochs: list[int], found: dict[str, Found], data: NoisyData) -> Split:
        """For runs of so many `epochs`, by the scores that were found. Raises UserError for an unusable clean set."""
        selector = partial(select_clean, labels=data.labels, use_bmm=args.use_bmm, balanced=args.balanced_set)
        first = partial(selector, bmm_th=args.bmm_th, threshold=args.threshold)
        veto = args.fn_th if args.f_FND else None
        scores = {key: of.scores for key, of in found.items()}
        estimated = {
            key: None if of.posterior is None else in_the_order_of(of.scores, wrong(of.posterior, data.labels))
            for key, of in found.items()
        }
        known = [p_noisy for p_noisy in estimated.values() if p_noisy is not None]
        return cls(
            data=data,
            first=select(first, scores, estimated, args.agree_on_clean, veto, data),
            later=partial(selector, bmm_th=args.bmm_th_2nd, threshold=args.threshold_2nd),
            estimated=np.mean(known, axis=0) if known else None,
            veto=veto,
            begin=[max(1, args.epoch_begin * of_run // args.epoch) for of_run in epochs],
            epoch_update=args.epoch_update,
            label_noise=args.label_noise,
            seed=args.seed,
        )

    def targets(self, number: int, experiment: Experiment) -> SplitTargets:
        run = f"run{number}"
        chosen, figure = self.first, "scores.png"
        if number > 1:
            loss = experiment.record.read_array(f"ssl_loss_run{number - 1}")
            chosen, figure = select_again(self.later, loss, self.estimated, self.data), f"scores_{run}.png"
        report_selection(run, chosen, self.veto, self.data, experiment, figure)
        experiment.save_array(f"p_noisy_{run}", chosen.p_noisy)
        return SplitTargets(
            self.data, chosen.clean, self.begin[number - 1], epochs=self.epoch_update, uniform=self.label_noise,
            seed=self.seed, run=number,
        )  # fmt: skip

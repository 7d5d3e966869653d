"""From scores to a robust classifier: select a clean set, learn the rest from the network's own predictions.

Pseudo-labelling against confirmation bias (Arazo et al. 2020: mixup and two regularisers), on a clean set found by a
separation, optionally run twice (DRPL, Ortego et al. 2020): the first run's losses make the second run's clean set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from utils.compute import Compute, seed_torch
from utils.data.choice import SSL, data_choice
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.results.figures import histogram_figure
from utils.results.found_scores import read_score_file, read_scores
from utils.results.reporting import accuracy_numbers, announce, write_accuracy_figure
from utils.scoring.metrics import auc
from utils.scoring.selection import Selected, combine, require_usable, select_clean, summary, veto
from utils.scoring.tracker import Tracker
from utils.scoring.tracking import LOSS_ALONE
from utils.separations import SEPARATIONS
from utils.training.learner import Learner, new_network
from utils.training.losses import joint_loss
from utils.training.optimisation import optimisation_of
from utils.training.passes import accuracy_on_test, score_samples
from utils.training.soft_labels import SoftLabels

RUNS = ("run1", "run2")
Selector = Callable[[np.ndarray], Selected]  # from scores (N,)


def pseudo_labelling(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Read scores, select, train; with --double_run select and train again; writes the whole experiment folder."""
    data = prepare(data_choice(args, SSL), compute)
    asked = {key: vars(args)[key] for key in (*SEPARATIONS, "scores") if vars(args)[key] is not None}
    sources = find_scores(asked, args.experiments_root, args.f_l, data, experiment)
    announce(experiment, data, compute)
    keep_scores(sources, experiment)

    selector = partial(
        select_clean, labels=data.labels, num_classes=data.num_classes, use_bmm=args.use_bmm, balanced=args.balanced_set
    )
    first = partial(selector, bmm_th=args.bmm_th, threshold=args.threshold)
    second = partial(selector, bmm_th=args.bmm_th_2nd, threshold=args.threshold_2nd)
    settings = RunSettings.from_flags(args, data)

    def train(number: int, clean: np.ndarray) -> nn.Module:
        network = new_network(
            args.network, data.num_classes, compute, width=args.width, dropout=args.dropout, seed=args.seed,
            counter=number,
        )  # fmt: skip
        learner = Learner(network, data, compute, optimisation_of(args), number, name=RUNS[number - 1])
        return train_run(learner, settings, clean, experiment)

    scores = {key: values for key, (values, _) in sources.items()}
    veto_share = args.fn_th if args.f_FND else None
    clean, p_noisy = select(first, scores, args.agree_on_clean, veto_share, data, experiment)
    if not (args.double_run and experiment.done(RUNS[0])):
        network = train(1, clean)
    if args.double_run:
        clean, p_noisy = select_again(second, experiment.record.read_array("ssl_loss_run1"), data, experiment)
        network = train(2, clean)
    save_model(network, args.network, args.width, data, experiment)
    figures = write_results(2 if args.double_run else 1, p_noisy, data, experiment)
    if args.swa:
        figures["test_accuracy_swa"] = accuracy_on_test(network, data, compute)
    experiment.finish(figures | {"noise_ratio_realised": data.noise_ratio})


# -- 1. scores -----------------------------------------------------------------------------------------------------


def find_scores(
    asked: dict[str, str], root: str, forget_loss: bool, data: NoisyData, experiment: Experiment
) -> dict[str, tuple[np.ndarray, str]]:
    """{key: (scores float32 (N,), where from)} of every separation in `asked`, {key: experiment} or {"scores": file}.

    An interrupted run goes on with the copies it began with, whatever has finished since. `forget_loss`: of the
    forgetting scores the loss.
    """
    resuming = experiment.resuming
    scores = {}
    for key, name in asked.items():
        copy = f"input_{key}"
        if resuming and experiment.record.holds(copy):
            scores[key] = experiment.record.read_array(copy), str(experiment.path / f"{copy}.npy")
        elif key == "scores":
            scores[key] = read_score_file(name, len(data))
        else:
            names = ("forget_loss",) if key == "forget" and forget_loss else None
            scores[key] = read_scores(root, SEPARATIONS[key], name, data.choice, data.fingerprint(), names)
        if not resuming and Path(scores[key][1]).resolve().parent == experiment.path.resolve():
            what = f"{scores[key][1]} lies in this experiment's own folder"
            raise UserError(what, "take another --experiment_name")
    return scores


def keep_scores(scores: dict[str, tuple[np.ndarray, str]], experiment: Experiment) -> None:
    """Copies of the scores in the experiment, and where they came from in its log."""
    for key, (values, source) in scores.items():
        if not experiment.record.holds(f"input_{key}"):
            experiment.log(f"{key} scores: {source}")
            experiment.save_array(f"input_{key}", values)


# -- 2. the clean set ------------------------------------------------------------------------------------------------


def select(
    selector: Selector,
    scores: dict[str, np.ndarray],
    agree: bool,
    veto_share: float | None,
    data: NoisyData,
    experiment: Experiment,
) -> tuple[np.ndarray, np.ndarray]:
    """Clean set bool (N,) and p_noisy float32 (N,) of the first run: union, intersection or veto of the scores.

    `veto_share`: the forgetting scores only veto this share of the samples; None = they select like the others.
    """
    voting = {key: values for key, values in scores.items() if veto_share is None or key != "forget"}
    selected = {key: selector(values) for key, values in voting.items()}
    clean = combine([s.clean for s in selected.values()], agree)
    smallest = min(int(s.clean.sum()) for s in selected.values())
    if clean.sum() < smallest / 2:
        experiment.log(f"sets of {smallest} samples or more agree on {clean.sum()}: a higher threshold keeps more")
    # In the union the most confident score speaks for a sample, in the intersection the least confident one.
    together = np.max if agree else np.min
    p_noisy = together([probability(s) for s in selected.values()], axis=0)
    if veto_share is not None:
        trusted = veto(np.ones_like(clean), scores["forget"], veto_share)
        clean, p_noisy = clean & trusted, np.where(trusted, p_noisy, 1).astype(np.float32)
    mixtures = {key: s.mixture for key, s in selected.items() if s.mixture is not None}
    histogram_figure(experiment.record.own("scores.png"), scores, data.is_noisy, mixtures)
    announce_selection(RUNS[0], selected, clean, data, experiment)
    return clean, p_noisy


def select_again(
    selector: Selector, loss: np.ndarray, data: NoisyData, experiment: Experiment
) -> tuple[np.ndarray, np.ndarray]:
    """The same from the first run's loss (N,) against the original labels, for the second run."""
    selected = selector(loss)
    mixtures = {} if selected.mixture is None else {"ssl_loss": selected.mixture}
    histogram_figure(experiment.record.own("scores_run2.png"), {"ssl_loss": loss}, data.is_noisy, mixtures)
    announce_selection(RUNS[1], {"ssl_loss": selected}, selected.clean, data, experiment)
    return selected.clean, probability(selected)


def probability(selected: Selected) -> np.ndarray:
    """p_noisy float32 (N,); where a threshold rule chose, 0 for the clean set and 1 for the rest."""
    return (~selected.clean).astype(np.float32) if selected.p_noisy is None else selected.p_noisy


def announce_selection(
    run: str, selected: dict[str, Selected], clean: np.ndarray, data: NoisyData, experiment: Experiment
) -> None:
    """Say, check and save what was selected."""
    for key, s in selected.items():
        experiment.log(f"{run}: {key}: {s.rule}: {s.clean.sum()} of {len(data)} samples")
        if s.note:
            experiment.log(f"{run}: {key}: {s.note}")
    require_usable(clean, data.labels, data.num_classes)
    facts = summary(clean, data.labels, data.clean_labels, data.class_names)
    purity = "unknown" if facts["clean_set_purity"] is None else f"{facts['clean_set_purity']:.4f}"
    experiment.log(f"{run}: clean set: {facts['clean_set_size']} of {len(data)} samples, purity {purity}")
    experiment.log(f"{run}: per class: " + ", ".join(f"{name} {n}" for name, n in facts["per_class"].items()))
    if facts["empty_classes"]:
        experiment.log(f"{run}: no clean sample of {', '.join(facts['empty_classes'])}")
    experiment.save_array(f"clean_set_{run}", clean)
    experiment.record.update(selection=experiment.record.get("selection", {}) | {run: facts})


# -- 3. training -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunSettings:
    """How each run trains."""

    epochs: int
    epoch_begin: int  # epochs on the clean set alone
    labeled_batch_size: int | None  # clean samples in every batch; None = as they come
    prior_weight: float  # of L_p
    entropy_weight: float  # of L_e
    colour_jitter: float
    swa_start: int | None  # epochs before the averaging of weights; None = no averaging
    swa_freq: int | None  # epochs between two averaged ones

    @classmethod
    def from_flags(cls, args: argparse.Namespace, data: NoisyData) -> RunSettings:
        return cls(
            epochs=args.epoch,
            epoch_begin=args.epoch_begin,
            labeled_batch_size=args.labeled_batch_size,
            prior_weight=args.alpha,
            entropy_weight=args.beta,
            colour_jitter=args.colour_jitter if data.images.coloured else 0.0,
            swa_start=args.swa_start,
            swa_freq=args.swa_freq,
        )

    def averages(self, epoch: int) -> bool:
        """Whether the weights after an epoch, counted from 0, take part in the average."""
        return epoch >= self.swa_start and (epoch - self.swa_start) % self.swa_freq == 0


def train_run(learner: Learner, settings: RunSettings, clean: np.ndarray, experiment: Experiment) -> nn.Module:
    """Train a fresh network on the split: clean samples keep their labels, the others get the network's predictions."""
    data, run, number = learner.data, learner.name, learner.stream
    is_clean = torch.from_numpy(clean).to(learner.compute.device)
    soft_labels = SoftLabels(data.device_labels, data.num_classes)
    tracker = Tracker(data.device_labels, data.num_classes, LOSS_ALONE)
    average = None if settings.swa_start is None else AveragedModel(learner.network)
    parts = learner.parts() | {"soft_labels": soft_labels} | ({} if average is None else {"average": average})

    def loss_of(ids: Tensor) -> Tensor:
        mixed, partner, lam = mixup(data.images.augmented_batch(ids, settings.colour_jitter))
        with learner.compute.autocast():
            logits = learner.network(mixed)
        targets = lam * soft_labels[ids] + (1 - lam) * soft_labels[ids[partner]]
        return joint_loss(logits, targets, settings.prior_weight, settings.entropy_weight)

    with experiment.phase(run, parts) as phase:
        for epoch in phase.epochs(settings.epochs, learner.progress):
            batches = batches_of_epoch(learner, is_clean, settings.epoch_begin, settings.labeled_batch_size)
            train_loss = learner.train_epoch(loss_of, batches, after_step=phase.stop_if_asked)
            now = learner.score(tracker)
            pseudo_labelled = epoch + 1 >= settings.epoch_begin
            if pseudo_labelled:  # the next epoch learns from these predictions, made without dropout
                soft_labels.record(data.ids, now.logits)
                soft_labels.commit(replace=~is_clean)
            if average is not None and settings.averages(epoch):
                average.update_parameters(learner.network)
            phase.add_epoch(
                run=number,
                epoch=epoch + 1,
                lr=learner.rate,
                train_loss=train_loss,
                train_accuracy=now.accuracy,
                test_accuracy=learner.test_accuracy(),
                pseudo_label_accuracy=pseudo_label_accuracy(soft_labels, clean, data) if pseudo_labelled else None,
                auc_ssl_loss=auc(now.loss, data.is_noisy),
            )
        network = learner.network if average is None else averaged(average, learner)
        loss = score_samples(network, data.images, tracker, learner.compute, where=f"the end of {run}").loss
        experiment.save_array(f"ssl_loss_{run}", loss)
        experiment.save_array(f"pseudo_labels_{run}", soft_labels.current.cpu().numpy())
    return network


def mixup(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """mixup with alpha = 1 (Zhang et al. 2018): (λ·x + (1−λ)·x[partner], partner (B,), λ), one λ ~ U(0, 1) a batch."""
    partner = torch.randperm(len(images), device=images.device)
    lam = torch.rand((), device=images.device)
    return lam * images + (1 - lam) * images[partner], partner, lam


def batches_of_epoch(
    learner: Learner, is_clean: Tensor, epoch_begin: int, labeled_batch_size: int | None
) -> list[Tensor]:
    """Shuffled batches: the clean set before `epoch_begin`, then all, with `labeled_batch_size` clean ones in each."""
    ids = learner.data.ids
    clean, rest = ids[is_clean], ids[~is_clean]
    if learner.progress.epoch < epoch_begin or len(rest) == 0:
        return learner.batches(clean)
    if labeled_batch_size is None:
        return learner.batches(ids)
    noisy_batches = learner.batches(rest, 0, batch_size=learner.optimisation.batch_size - labeled_batch_size)
    # The clean set is gone through again and again, each time in a new order, until every batch has its share.
    rounds, needed = [], len(noisy_batches) * labeled_batch_size
    while len(rounds) * len(clean) < needed:
        rounds.append(torch.cat(learner.batches(clean, 1 + len(rounds))))
    clean_batches = torch.cat(rounds)[:needed].split(labeled_batch_size)
    return [torch.cat(pair) for pair in zip(clean_batches, noisy_batches, strict=True)]


def averaged(average: AveragedModel, learner: Learner) -> nn.Module:
    """The weight-averaged network (Izmailov et al. 2018), batch-norm statistics recomputed over the training images."""
    batches = learner.batches()  # shuffled: sorted classes would bias
    seed_torch(learner.optimisation.seed, "averaging", learner.stream)
    with learner.compute.autocast():
        update_bn((learner.data.images.batch(ids) for ids in batches), average)
    return average.module


def pseudo_label_accuracy(soft_labels: SoftLabels, clean: np.ndarray, data: NoisyData) -> float | None:
    """Share of the samples outside the clean set whose likeliest label is the true class; None where it is unknown."""
    if data.clean_labels is None or clean.all():
        return None
    right = soft_labels.current.argmax(1).cpu().numpy() == data.clean_labels
    return float(right[~clean].mean())


# -- what is left behind ---------------------------------------------------------------------------------------------


def save_model(network: nn.Module, name: str, width: float, data: NoisyData, experiment: Experiment) -> None:
    """model.pt: all that utils/classifier.py needs."""
    mean, std = (statistic.cpu() for statistic in data.images.statistics)
    experiment.save_torch(
        "model.pt",
        {
            "network": name,
            "width": width,
            "class_names": list(data.class_names),
            "side": list(data.images.side),
            "mean": mean,
            "std": std,
            "weights": network.state_dict(),
        },
    )


def write_results(runs: int, p_noisy: np.ndarray, data: NoisyData, experiment: Experiment) -> dict[str, float | None]:
    """The final per-sample files, a figure of each run, and the numbers of all runs."""
    last = RUNS[runs - 1]
    experiment.save_array("p_noisy", p_noisy)
    for name in ("ssl_loss", "pseudo_labels"):
        experiment.save_array(name, experiment.record.read_array(f"{name}_{last}"))
    figures = {}
    for number, run in enumerate(RUNS[:runs], start=1):
        rows = [row for row in experiment.history.rows if row["run"] == number]
        suffix = "" if run == last else f"_{run}"
        write_accuracy_figure(
            experiment,
            rows,
            {
                "test": "test_accuracy",
                "pseudo-labels (truth)": "pseudo_label_accuracy",
                "train (observed labels)": "train_accuracy",
            },
            f"accuracy{suffix}.png",
        )
        facts = experiment.record["selection"][run]
        numbers = accuracy_numbers(rows) | {
            "clean_set_size": facts["clean_set_size"],
            "clean_set_purity": facts["clean_set_purity"],
            "pseudo_label_accuracy": rows[-1]["pseudo_label_accuracy"],
            "auc_ssl_loss": auc(experiment.record.read_array(f"ssl_loss_{run}"), data.is_noisy),
        }
        figures |= {f"{key}{suffix}": value for key, value in numbers.items()}
    return figures

"""From scores to a robust classifier: select a clean set, learn the rest from the network's own predictions.

Pseudo-labelling against confirmation bias (Arazo et al. 2020: mixup and two regularisers), on a clean set found by a
separation, optionally run twice (DRPL, Ortego et al. 2020): the first run's losses make the second run's clean set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

import models
from utils.batches import epoch_batches
from utils.cli import data_choice
from utils.commands import SEPARATIONS
from utils.compute import Compute, seed_torch
from utils.errors import UserError
from utils.experiment import Experiment
from utils.figures import histogram_figure
from utils.losses import joint_loss
from utils.metrics import auc
from utils.noisy_data import NoisyData, prepare
from utils.reporting import accuracy_figures, accuracy_numbers, accuracy_on_test, start
from utils.scores import read_score_file, read_scores
from utils.selection import Selected, combine, require_usable, select_clean, summary, veto
from utils.soft_labels import SoftLabels
from utils.tracker import Tracker
from utils.training import Progress, learning_rate, make_optimizer, set_learning_rate, track, train_one_epoch

RUNS = ("run1", "run2")


def pseudo_labelling(args: argparse.Namespace, compute: Compute, experiment: Experiment) -> None:
    """Read scores, select, train; with --double_run select and train again; writes the whole experiment folder."""
    data = prepare(data_choice(args, ""), compute)
    scores = find_scores(args, data, experiment)
    start(experiment, data, compute)
    keep_scores(scores, experiment)
    clean, p_noisy = select(args, data, {method: values for method, (values, _) in scores.items()}, experiment)
    if not (args.double_run and experiment.done(RUNS[0])):
        model = train_run(RUNS[0], args, data, clean, compute, experiment)
    if args.double_run:
        second = {"ssl_loss": experiment.load_own("ssl_loss_run1")}
        clean, p_noisy = select_again(args, data, second, experiment)
        model = train_run(RUNS[1], args, data, clean, compute, experiment)
    report(args, data, model, p_noisy, compute, experiment)


# -- 1. scores -----------------------------------------------------------------------------------------------------


def find_scores(args: argparse.Namespace, data: NoisyData, experiment: Experiment) -> dict[str, tuple[np.ndarray, str]]:
    """{method: (scores float32 (N,), where from)} of every separation that was asked for.

    An interrupted run goes on with the copies it began with, whatever has finished since.
    """
    names = {method: separation.scores for method, separation in SEPARATIONS.items()}
    if args.f_l:
        names["forget"] = ("forget_loss",)
    resuming = experiment.record["data"] is not None
    scores = {}
    for method in (*names, "scores"):
        asked, copy = vars(args)[method], experiment.path / f"input_{method}.npy"
        if asked is None:
            continue
        if resuming and copy.exists():
            scores[method] = experiment.load_own(copy.stem), str(copy)
        elif method == "scores":
            scores[method] = read_score_file(asked, len(data))
        else:
            scores[method] = read_scores(
                args.experiments_root, method, asked, names[method], data.choice, data.fingerprint()
            )
        if not resuming and Path(scores[method][1]).resolve().parent == experiment.path.resolve():
            what = f"{scores[method][1]} lies in this experiment's own folder"
            raise UserError(what, "take another --experiment_name")
    return scores


def keep_scores(scores: dict[str, tuple[np.ndarray, str]], experiment: Experiment) -> None:
    """Copies of the scores in the experiment, and where they came from in its log."""
    for method, (values, source) in scores.items():
        if not (experiment.path / f"input_{method}.npy").exists():
            experiment.log(f"{method} scores: {source}")
            experiment.save_array(f"input_{method}", values)


# -- 2. the clean set ------------------------------------------------------------------------------------------------


def select(
    args: argparse.Namespace, data: NoisyData, scores: dict[str, np.ndarray], experiment: Experiment
) -> tuple[np.ndarray, np.ndarray]:
    """Clean set bool (N,) and p_noisy float32 (N,) of the first run: union, intersection or veto of the scores."""
    voting = {method: values for method, values in scores.items() if not (args.f_FND and method == "forget")}
    selected = {
        method: select_one(args, data, values, args.bmm_th, args.threshold) for method, values in voting.items()
    }
    clean = combine([s.clean for s in selected.values()], args.agree_on_clean)
    smallest = min(int(s.clean.sum()) for s in selected.values())
    if clean.sum() < smallest / 2:
        experiment.log(f"sets of {smallest} samples or more agree on {clean.sum()}: a higher threshold keeps more")
    # In the union the most confident score speaks for a sample, in the intersection the least confident one.
    together = np.max if args.agree_on_clean else np.min
    p_noisy = together([probability(s) for s in selected.values()], axis=0)
    if args.f_FND:
        trusted = veto(np.ones_like(clean), scores["forget"], args.fn_th)
        clean, p_noisy = clean & trusted, np.where(trusted, p_noisy, 1).astype(np.float32)
    mixtures = {method: s.mixture for method, s in selected.items() if s.mixture is not None}
    histogram_figure(experiment.path / "scores.png", scores, data.is_noisy, mixtures)
    announce(RUNS[0], selected, clean, data, experiment)
    return clean, p_noisy


def select_again(
    args: argparse.Namespace, data: NoisyData, scores: dict[str, np.ndarray], experiment: Experiment
) -> tuple[np.ndarray, np.ndarray]:
    """The same from the first run's loss against the original labels, for the second run."""
    selected = select_one(args, data, scores["ssl_loss"], args.bmm_th_2nd, args.threshold_2nd)
    mixtures = {} if selected.mixture is None else {"ssl_loss": selected.mixture}
    histogram_figure(experiment.path / "scores_run2.png", scores, data.is_noisy, mixtures)
    announce(RUNS[1], {"ssl_loss": selected}, selected.clean, data, experiment)
    return selected.clean, probability(selected)


def select_one(
    args: argparse.Namespace, data: NoisyData, scores: np.ndarray, bmm_th: float, threshold: float
) -> Selected:
    return select_clean(
        scores,
        data.labels,
        num_classes=data.num_classes,
        use_bmm=args.use_bmm,
        bmm_th=bmm_th,
        threshold=threshold,
        balanced=args.balanced_set,
    )


def probability(selected: Selected) -> np.ndarray:
    """p_noisy float32 (N,); where a threshold rule chose, 0 for the clean set and 1 for the rest."""
    return (~selected.clean).astype(np.float32) if selected.p_noisy is None else selected.p_noisy


def announce(
    run: str, selected: dict[str, Selected], clean: np.ndarray, data: NoisyData, experiment: Experiment
) -> None:
    """Say, check and save what was selected."""
    for method, s in selected.items():
        experiment.log(f"{run}: {method}: {s.rule}: {s.clean.sum()} of {len(data)} samples")
        if s.note:
            experiment.log(f"{run}: {method}: {s.note}")
    require_usable(clean, data.labels, data.num_classes)
    facts = summary(clean, data.labels, data.clean_labels, data.class_names)
    purity = "unknown" if facts["clean_set_purity"] is None else f"{facts['clean_set_purity']:.4f}"
    experiment.log(f"{run}: clean set: {facts['clean_set_size']} of {len(data)} samples, purity {purity}")
    experiment.log(f"{run}: per class: " + ", ".join(f"{name} {n}" for name, n in facts["per_class"].items()))
    if facts["empty_classes"]:
        experiment.log(f"{run}: no clean sample of {', '.join(facts['empty_classes'])}")
    experiment.save_array(f"clean_set_{run}", clean)
    experiment.update(selection=experiment.record.get("selection", {}) | {run: facts})


# -- 3. training -----------------------------------------------------------------------------------------------------


def train_run(
    run: str, args: argparse.Namespace, data: NoisyData, clean: np.ndarray, compute: Compute, experiment: Experiment
) -> nn.Module:
    """Train a fresh network on the split: clean samples keep their labels, the others get the network's predictions."""
    number = RUNS.index(run) + 1
    is_clean = torch.from_numpy(clean).to(compute.device)
    seed_torch(args.seed, "init", number)
    network = models.build(args.network, data.num_classes, width=args.width, dropout=args.dropout)
    model = compute.prepare(network)
    optimizer = make_optimizer(model.parameters(), args.lr, args.momentum, args.wd)
    soft_labels = SoftLabels(data.device_labels, data.num_classes)
    progress = Progress()
    tracker = Tracker(data.device_labels, data.num_classes, with_ce=False)
    parts = {"model": model, "optimizer": optimizer, "progress": progress, "soft_labels": soft_labels}
    average = None
    if args.swa:
        average = parts["average"] = AveragedModel(model)
    jitter = args.colour_jitter if data.images.coloured else 0.0

    def loss_of(ids: Tensor) -> Tensor:
        images = data.images.augmented_batch(ids, jitter)
        mixed, partner, lam = mixup(images)
        with compute.autocast():
            logits = model(mixed)
        targets = lam * soft_labels[ids] + (1 - lam) * soft_labels[ids[partner]]
        return joint_loss(logits, targets, args.alpha, args.beta)

    with experiment.phase(run, parts) as phase:
        for epoch in phase.epochs(args.epoch, progress):
            lr = learning_rate(epoch, args.lr, args.M, args.gamma_scheduler)
            set_learning_rate(optimizer, lr)
            model.train()
            batches = batches_of_epoch(args, data.ids, is_clean, number, epoch)
            train_loss = train_one_epoch(
                batches, loss_of, optimizer, progress, seed=args.seed, phase=number, after_step=phase.stop_if_asked
            )
            where = f"{run}, epoch {epoch + 1}"
            tracked = track(model, data.images, tracker, compute, args.eval_batch_size, where=where)
            pseudo_labelled = epoch + 1 >= args.epoch_begin
            if pseudo_labelled:  # the next epoch learns from these predictions, made without dropout
                soft_labels.record(data.ids, tracked.logits)
                soft_labels.commit(replace=~is_clean)
            if average is not None and epoch >= args.swa_start and (epoch - args.swa_start) % args.swa_freq == 0:
                average.update_parameters(model)
            phase.add_epoch(
                run=number,
                epoch=epoch + 1,
                lr=lr,
                train_loss=train_loss,
                train_accuracy=tracked.accuracy,
                test_accuracy=accuracy_on_test(model, data, compute, args.eval_batch_size),
                pseudo_label_accuracy=pseudo_label_accuracy(soft_labels, clean, data) if pseudo_labelled else None,
                auc_ssl_loss=auc(tracked.loss, data.is_noisy),
            )
        if average is not None:
            model = averaged(average, number, args, data, compute)
        loss = track(model, data.images, tracker, compute, args.eval_batch_size, where=f"the end of {run}").loss
        experiment.save_array(f"ssl_loss_{run}", loss)
        experiment.save_array(f"pseudo_labels_{run}", soft_labels.current.cpu().numpy())
    return model


def mixup(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """mixup with alpha = 1 (Zhang et al. 2018): (λ·x + (1−λ)·x[partner], partner (B,), λ), one λ ~ U(0, 1) a batch."""
    partner = torch.randperm(len(images), device=images.device)
    lam = torch.rand((), device=images.device)
    return lam * images + (1 - lam) * images[partner], partner, lam


def batches_of_epoch(args: argparse.Namespace, ids: Tensor, is_clean: Tensor, run: int, epoch: int) -> list[Tensor]:
    """Shuffled batches: the clean set before --epoch_begin, then all, with --labeled_batch_size clean ones in each."""
    clean, rest = ids[is_clean], ids[~is_clean]
    if epoch < args.epoch_begin or len(rest) == 0:
        return epoch_batches(clean, args.batch_size, args.seed, run, epoch)
    if args.labeled_batch_size is None:
        return epoch_batches(ids, args.batch_size, args.seed, run, epoch)
    noisy_batches = epoch_batches(rest, args.batch_size - args.labeled_batch_size, args.seed, run, epoch, 0)
    # The clean set is gone through again and again, each time in a new order, until every batch has its share.
    rounds, needed = [], len(noisy_batches) * args.labeled_batch_size
    while len(rounds) * len(clean) < needed:
        rounds.append(torch.cat(epoch_batches(clean, args.batch_size, args.seed, run, epoch, 1 + len(rounds))))
    clean_batches = torch.cat(rounds)[:needed].split(args.labeled_batch_size)
    return [torch.cat(pair) for pair in zip(clean_batches, noisy_batches, strict=True)]


def averaged(
    average: AveragedModel, run: int, args: argparse.Namespace, data: NoisyData, compute: Compute
) -> nn.Module:
    """The weight-averaged network (Izmailov et al. 2018), batch-norm statistics recomputed over the training images."""
    batches = epoch_batches(
        data.ids, args.batch_size, args.seed, run, args.epoch
    )  # shuffled: sorted classes would bias
    seed_torch(args.seed, "averaging", run)
    with compute.autocast():
        update_bn((data.images.batch(ids) for ids in batches), average)
    return average.module


def pseudo_label_accuracy(soft_labels: SoftLabels, clean: np.ndarray, data: NoisyData) -> float | None:
    """Share of the samples outside the clean set whose likeliest label is the true class; None where it is unknown."""
    if data.clean_labels is None or clean.all():
        return None
    right = soft_labels.current.argmax(1).cpu().numpy() == data.clean_labels
    return float(right[~clean].mean())


# -- what is left behind ---------------------------------------------------------------------------------------------


def report(
    args: argparse.Namespace,
    data: NoisyData,
    model: nn.Module,
    p_noisy: np.ndarray,
    compute: Compute,
    experiment: Experiment,
) -> None:
    """The model, the final per-sample files, figures and numbers of each run."""
    last = RUNS[1] if args.double_run else RUNS[0]
    experiment.save_array("p_noisy", p_noisy)
    for name in ("ssl_loss", "pseudo_labels"):
        experiment.save_array(name, experiment.load_own(f"{name}_{last}"))
    mean, std = (statistic.cpu() for statistic in data.images.statistics)
    experiment.save_torch(
        "model.pt",
        {
            "network": args.network,
            "width": args.width,
            "class_names": list(data.class_names),
            "side": list(data.images.side),
            "mean": mean,
            "std": std,
            "weights": model.state_dict(),
        },
    )
    figures = {}
    for number, run in enumerate(RUNS[: 2 if args.double_run else 1], start=1):
        rows = [row for row in experiment.history if row["run"] == number]
        suffix = "" if run == last else f"_{run}"
        accuracy_figures(
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
            "auc_ssl_loss": auc(experiment.load_own(f"ssl_loss_{run}"), data.is_noisy),
        }
        figures |= {f"{key}{suffix}": value for key, value in numbers.items()}
    if args.swa:
        figures["test_accuracy_swa"] = accuracy_on_test(model, data, compute, args.eval_batch_size)
    experiment.finish(figures | {"noise_ratio_realised": data.noise_ratio})

#!/usr/bin/env python3
"""The peers that a separation's default score is compared with, at equal compute: what does plain training tell?

    python3 -m tests.benchmarks.peers                                        digits, 40 epochs, three seeds
    python3 -m tests.benchmarks.peers --first_stage_data_name folder --train_root R --width 0.25 --epochs 60 \\
        --first_stage_noise_type random_in_noise --seeds 11 12 13 --ceiling --save peers_photographs

plain   one training of E epochs under cross-entropy, looked at after each epoch without augmentation: the last loss,
        the best epoch's (ORACLE, chosen with the truth), the mean loss over epochs, and AUM (Pleiss et al. 2020,
        https://arxiv.org/abs/2001.10528): minus the mean over epochs of the label's logit less the largest other one,
        of the training batches, as its package takes it, and of the same looks
folds   cleanlab's self-confidence and normalised margin, 1 - quality each, on out-of-sample probabilities of k folds
        (stratified by observed label), whose networks share the E·N images of the plain training: E / (k - 1) epochs
        on the other folds each. Needs pip install cleanlab
true    with --ceiling: the plain training on the true labels; and how well that network would find labels made wrong
        uniformly among test images, which it never saw: what a network that knows the truth would rank

A crop and flips where allowed, the network's usual dropout, SGD with momentum 0.9. Compute is images through the
network in training; those of evaluations are told apart. Results are kept under --root, one file for each of these and
each seed, and are used again where every setting and the data are the same: a run that was cut off goes on when
repeated.
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import models
from tests.benchmarks import measuring
from tests.benchmarks.measuring import Report, compute_of
from tests.benchmarks.over_seeds import choices, parser_over_seeds
from utils.command_line import running
from utils.command_line.flags import DIGITS_WIDTH, add_network_width
from utils.command_line.parser import COUNT, RATE, WEIGHT, Parser, number
from utils.compute import Compute
from utils.data.choice import DataChoice
from utils.data.noisy_data import NoisyData, prepare
from utils.errors import UserError
from utils.scoring.metrics import auc
from utils.training.learner import Learner, new_network
from utils.training.optimisation import Optimisation, Schedule
from utils.training.passes import accuracy_on_test, infer, probabilities

MOMENTUM = 0.9
STEPS = (1 / 2, 3 / 4)  # of the epochs, after which --schedule steps divides the rate by ten
AUM, AUM_OF_LOOKS = "AUM", "AUM of a pass after every epoch"
QUALITIES = ("self_confidence", "normalized_margin")


@dataclass(frozen=True)
class Settings:
    """What results depend on, beside the data; `device` and `precision` are those that were used."""

    epochs: int
    schedule: str
    lr: float
    wd: float
    batch_size: int
    network: str
    width: float
    folds: int
    device: str
    precision: str
    compiled: bool

    @property
    def fold_epochs(self) -> int:
        """Of each fold's network: k folds of it show about as many images as `epochs` on all of them."""
        return max(1, round(self.epochs / (self.folds - 1)))

    def optimisation(self, epochs: int, seed: int) -> Optimisation:
        milestones = [max(1, round(share * epochs)) for share in STEPS]
        schedule = Schedule(self.lr, kind=self.schedule, milestones=milestones, epochs=epochs)
        return Optimisation(schedule, self.batch_size, momentum=MOMENTUM, weight_decay=self.wd, seed=seed)


# -- training --------------------------------------------------------------------------------------------------------


def train(
    data: NoisyData,
    compute: Compute,
    settings: Settings,
    seed: int,
    *,
    epochs: int,
    ids: Tensor | None = None,
    number: int = 0,
    see: Callable[[Tensor, Tensor], None] = lambda batch, logits: None,
    after_epoch: Callable[[torch.nn.Module], None] = lambda network: None,
) -> torch.nn.Module:
    """A fresh network after `epochs` of cross-entropy on the samples `ids` (None = all); `number` sets its draws.

    see(sample_ids, logits) is called in each step, with the logits that are trained on.
    """
    network = new_network(settings.network, data.num_classes, compute, width=settings.width, seed=seed, counter=number)
    learner = Learner(network, data, compute, settings.optimisation(epochs, seed), stream=1 + number)

    def loss_of(batch: Tensor) -> Tensor:
        with compute.autocast():
            logits = network(data.images.augmented_batch(batch))
        see(batch, logits.detach().float())
        return F.cross_entropy(logits, data.device_labels[batch])

    for _ in range(epochs):
        learner.train_epoch(loss_of, learner.batches(ids))
        learner.progress.next_epoch()
        after_epoch(network)
    return network


def outputs(network: torch.nn.Module, data: NoisyData, compute: Compute, ids: Tensor | None = None) -> Tensor:
    """Logits float32 (N, C) of the samples `ids` (None = all), without augmentation."""
    logits = torch.cat([batch[1].float() for batch in infer(network, data.images, compute, ids=ids)])
    if not logits.isfinite().all():
        raise UserError("the network's outputs are no longer finite", "lower --lr")
    return logits


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """float32 (N,): the label's logit less the largest other one."""
    own = logits.gather(1, labels[:, None])
    return (own - logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)).squeeze(1)


# -- the peers -------------------------------------------------------------------------------------------------------


def plain(data: NoisyData, compute: Compute, settings: Settings, seed: int) -> dict:
    """AUCs and test accuracies after every epoch of the plain training."""
    labels, losses = data.device_labels, []
    in_batches, in_looks = torch.zeros(2, len(data), device=compute.device)  # sums of margins
    found = {"last loss": [], "mean loss": [], AUM: [], AUM_OF_LOOKS: [], "test": []}

    def see(batch: Tensor, logits: Tensor) -> None:
        in_batches[batch] += margins(logits, labels[batch])

    def look(network: torch.nn.Module) -> None:
        logits = outputs(network, data, compute)
        losses.append(F.cross_entropy(logits, labels, reduction="none").cpu().numpy())
        in_looks.add_(margins(logits, labels))
        found["last loss"].append(auc(losses[-1], data.is_noisy))
        found["mean loss"].append(auc(np.mean(losses, axis=0), data.is_noisy))
        for name, sums in ((AUM, in_batches), (AUM_OF_LOOKS, in_looks)):
            found[name].append(auc(-sums.cpu().numpy(), data.is_noisy))
        found["test"].append(accuracy_on_test(network, data, compute))

    train(data, compute, settings, seed, epochs=settings.epochs, see=see, after_epoch=look)
    return found | images(data, settings.epochs * len(data), settings.epochs * len(data), settings.epochs)


def true(data: NoisyData, compute: Compute, settings: Settings, seed: int) -> dict:
    """Test accuracies after every epoch of the same training on the true labels, and what its network would find."""
    data, found = replace(data, labels=data.clean_labels), []

    def look(network: torch.nn.Module) -> None:
        found.append(accuracy_on_test(network, data, compute))

    network = train(data, compute, settings, seed, epochs=settings.epochs, after_epoch=look)
    result = {"test": found} | images(data, settings.epochs * len(data), 0, settings.epochs)
    if data.test_images is not None:
        probs = probabilities(network, data.test_images, compute).cpu().numpy()
        result["AUC of uniform errors"] = auc_of_uniform_errors(probs, data.test_labels)
    return result


def auc_of_uniform_errors(probs: np.ndarray, labels: np.ndarray) -> float:
    """How well probabilities (N, C) tell the labels (N,) from any other class, by the loss; the share has no say."""
    is_wrong = np.arange(probs.shape[1]) != labels[:, None]
    return auc(-probs.ravel(), is_wrong.ravel())


def folds(data: NoisyData, compute: Compute, settings: Settings, seed: int) -> dict:
    """AUCs of cleanlab's scores on out-of-sample probabilities."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.model_selection import StratifiedKFold

    probabilities, trained = np.zeros((len(data), data.num_classes)), 0
    split = StratifiedKFold(settings.folds, shuffle=True, random_state=seed).split(data.labels, data.labels)
    for fold, (others, held_out) in enumerate(split, 1):
        ids = torch.from_numpy(others).to(compute.device)
        network = train(data, compute, settings, seed, epochs=settings.fold_epochs, ids=ids, number=fold)
        logits = outputs(network, data, compute, torch.from_numpy(held_out).to(compute.device))
        probabilities[held_out] = logits.double().softmax(1).cpu().numpy()
        trained += settings.fold_epochs * len(others)
    quality = {name: get_label_quality_scores(data.labels, probabilities, method=name) for name in QUALITIES}
    found = {name: auc(1 - values, data.is_noisy) for name, values in quality.items()}
    accuracy = float(np.mean(probabilities.argmax(1) == data.clean_labels))
    return found | {"out-of-sample accuracy": accuracy} | images(data, trained, len(data), 0)


def images(data: NoisyData, trained: int, looked_at: int, tests: int) -> dict[str, int]:
    """How many images went through the network, and of which kind."""
    tested = 0 if data.test_images is None else tests * len(data.test_images)
    return {"images trained": trained, "images looked at": looked_at, "images tested": tested}


def has_cleanlab() -> bool:
    return importlib.util.find_spec("cleanlab") is not None


VERSION = 2  # of what a peer keeps: 2 = AUM of the training batches, too
PEERS = {"plain": plain, "folds": folds, "true": true}
OF_NOISE = ("noise_type", "noise_ratio", "labels")  # entries of a fingerprint
UNUSED = {"plain": ("folds",), "true": ("folds",), "folds": ()}  # settings that do not change a peer


def kept(peer: str, data: NoisyData, compute: Compute, settings: Settings, seed: int, root: Path) -> dict:
    """The result of a peer, from its file where there is one made alike; else made now and written."""
    relevant = {name: value for name, value in vars(settings).items() if name not in UNUSED[peer]}
    relevant |= {"version": VERSION, "mirror": data.choice.mirror}
    fingerprint, noise = data.fingerprint(), f"{data.choice.noise_type}_{data.choice.noise_ratio:g}"
    if peer == "true":  # whatever the noise
        fingerprint, noise = {k: v for k, v in fingerprint.items() if k not in OF_NOISE}, "no_noise"
    key = {"peer": peer, "seed": seed, **relevant, "data": fingerprint}
    name = f"{peer}_{data.choice.name}_{noise}_seed{seed}"
    return measuring.kept(root, name, key, partial(PEERS[peer], data, compute, settings, seed))


# -- the report ------------------------------------------------------------------------------------------------------


class PeersReport(Report):
    """With a head that speaks of no plain loop."""

    arithmetic, package = "{}", "cleanlab"

    def __init__(self, compute: Compute, title: str = "Peers of the separations at equal compute") -> None:
        super().__init__(title, compute)


def one_seed(
    args: argparse.Namespace, settings: Settings, choice: DataChoice, compute: Compute, report: Report
) -> dict[str, float]:
    """{row: AUC or test accuracy} for one seed; rows without a value are left out."""
    data = prepare(choice, compute)
    if choice.seed == args.seeds[0]:
        report(data.describe() + "\n")
    if args.ceiling and (data.clean_labels is None or (data.clean_labels < 0).any()):
        raise UserError("--ceiling needs the true class of every image, which is not known here", "leave it out")
    return rows_of(data, compute, settings, choice.seed, args.root, args.ceiling, report)


def rows_of(
    data: NoisyData, compute: Compute, settings: Settings, seed: int, root: Path, ceiling: bool, report: Report
) -> dict[str, float]:
    """The same of data that are ready; `ceiling`: also by the true labels, where these are others."""
    make = partial(kept, data=data, compute=compute, settings=settings, seed=seed, root=root)

    result = make("plain")
    aucs = {
        "last loss": result["last loss"][-1],
        "best-epoch loss, ORACLE": best_of(result["last loss"]),
        "mean loss over epochs": result["mean loss"][-1],
        AUM: result[AUM][-1],
        AUM_OF_LOOKS: result[AUM_OF_LOOKS][-1],
    }
    test = {
        "cross-entropy, last epoch": result["test"][-1],
        "cross-entropy, best epoch, ORACLE": best_of(result["test"]),
    }
    rows = say(f"seed {seed}: plain, {settings.epochs} epochs", {"AUC": aucs, "test": test}, result, report)

    if has_cleanlab() and aucs["last loss"] is not None:
        result = make("folds")
        aucs = {f"cleanlab {name}, {settings.folds} folds": result[name] for name in QUALITIES}
        what = f"seed {seed}: folds, {settings.folds} times {settings.fold_epochs} epochs on the others"
        rows |= say(what, {"AUC": aucs}, result, report)
        against = result["images trained"] / (settings.epochs * len(data)) - 1
        right = result["out-of-sample accuracy"]
        report(f"    training images against plain {against:+.1%}; out-of-sample accuracy {right:.4f} (true labels)")

    if ceiling:
        result = make("true")
        test = {
            "true labels, last epoch": result["test"][-1],
            "true labels, best epoch, ORACLE": best_of(result["test"]),
        }
        groups = {"test": test}
        if data.choice.noise_type == "random_in_noise":
            groups["ORACLE"] = {
                "AUC of uniform errors, by true labels, on images never seen": result.get("AUC of uniform errors")
            }
        rows |= say(f"seed {seed}: true labels, {settings.epochs} epochs", groups, result, report)
    return rows


def best_of(values: list[float | None]) -> float | None:
    return None if None in values else max(values)


def say(what: str, groups: dict[str, dict[str, float | None]], result: dict, report: Report) -> dict[str, float]:
    """Report a peer of a seed; {"group: row": value} of the values there are."""
    report(f"{what}, {images_in_words(result)} ({result['seconds']:.0f} s)")
    for group, rows in groups.items():
        found = [f"{row} {value:.4f}" for row, value in rows.items() if value is not None]
        report(f"    {group}: {'; '.join(found) or 'not known'}")
    return {f"{group}: {row}": v for group, rows in groups.items() for row, v in rows.items() if v is not None}


def images_in_words(result: dict) -> str:
    evaluated = f"{result['images looked at']:,} + {result['images tested']:,}"
    return f"{result['images trained']:,} images trained on, {evaluated} test images evaluated"


def table(seeds: list[dict[str, float]], report: Report) -> None:
    """Mean, standard deviation (over n - 1) and number of seeds of each row, AUCs first."""
    report(f"\n{'':<48}{'mean':>8}{'sd':>8}{'n':>4}")
    names = dict.fromkeys(row for seed in seeds for row in seed)
    for row in sorted(names, key=lambda name: not name.startswith("AUC")):
        values = np.array([seed[row] for seed in seeds if row in seed])
        spread = f"{values.std(ddof=1):8.4f}" if len(values) > 1 else " " * 8
        report(f"{row:<48}{values.mean():8.4f}{spread}{len(values):4d}")


def make_parser() -> Parser:
    parser = parser_over_seeds("peers", __doc__)
    group = parser.add_argument_group("peers")
    group.add_argument("--epochs", type=COUNT, default=40, help="E: of the plain training; E times N images for each")
    group.add_argument("--folds", type=number(int, 2), default=4, metavar="K", help="folds of the two cleanlab rows")
    group.add_argument("--ceiling", action="store_true", help="also the same training on the true labels")
    group.add_argument("--schedule", choices=("cosine", "steps"), default="cosine", help="of the rate")
    group.add_argument("--lr", type=RATE, default=0.1, help="learning rate at the start")
    group.add_argument("--wd", type=WEIGHT, default=5e-4, metavar="DECAY", help="weight decay")
    group.add_argument("--batch_size", type=number(int, 2), default=100, metavar="B", help="of the training")
    group.add_argument("--network", choices=list(models.MODELS), default=models.PREACT_RESNET18, help="of every peer")
    add_network_width(group)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    width = args.width or (DIGITS_WIDTH if of_seeds[0].name == "digits" else 1.0)
    compute = compute_of(args)
    settings = Settings(
        epochs=args.epochs,
        schedule=args.schedule,
        lr=args.lr,
        wd=args.wd,
        batch_size=args.batch_size,
        network=args.network,
        width=width,
        folds=args.folds,
        device=compute.device.type,
        precision=compute.precision,
        compiled=compute.compile,
    )
    report = PeersReport(compute)
    if not has_cleanlab():
        report("cleanlab is not installed, so its two rows are left out: pip install cleanlab")
    table([one_seed(args, settings, choice, compute, report) for choice in of_seeds], report)
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

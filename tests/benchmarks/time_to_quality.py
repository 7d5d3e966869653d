"""Time to quality: how many seconds each way takes on this machine, and how good what it finds is.

    python3 -m tests.benchmarks.time_to_quality
    python3 -m tests.benchmarks.time_to_quality --first_stage_data_name folder --train_root ROOT \\
        --first_stage_noise_type random_in_noise --save time_photos

ours    relabel.py, then ssl.py --relabel, as a user types them but for the width: the whole commands, from reading the
        images to the figures. And the AUC of relabel.py's running score (the loss under the mean prediction so far,
        which begins anew with its second network) after each epoch, with the seconds until then: when does it reach a
        peer's?
usual   the usual loop (tests/benchmarks/plain.py): DataLoader over PIL images, float32, cross-entropy, relabel.py's
        first network, with as many images in training as relabel.py. One training serves four rows, each with the time
        of what it needs: the last loss, a pass at the end; AUM (Pleiss et al. 2020), the margins of the training
        batches, by the package aum where it is installed; the test accuracy of the last epoch; that of the best one, a
        test after each
folds   the same loop on k folds, E / (k - 1) epochs each, and cleanlab's self-confidence of out-of-sample probabilities

Reading the images counts for ours alone, importing for none. Where the truth is unknown there are no AUCs. Finished
parts under --root are used again, on this machine alone; one that was cut off starts anew, since its time is a result.
"""

import argparse
import csv
import importlib.util
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

import models
from tests.benchmarks import peers, plain, rows
from tests.benchmarks.measuring import compute_of, kept, machine, run_script, timed
from tests.benchmarks.over_seeds import choices, parser_over_seeds
from utils.command_line import running
from utils.command_line.parser import WHOLE, Parser, number
from utils.compute import Compute
from utils.data.choice import DataChoice
from utils.data.device_images import DeviceImages
from utils.data.noisy_data import NoisyData, prepare
from utils.results.tables import Row, Spread, Table, as_text
from utils.scoring.metrics import auc

LR, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
SHOWN = 12  # points of a curve
RELABEL, CHAIN = "relabel.py", "relabel.py, then ssl.py"
Point = tuple[int, float, float | None]  # epoch, seconds from the start until it was over, AUC
BEST = "cross-entropy, best epoch, ORACLE"


@dataclass(frozen=True)
class Found:
    """A row for one seed; None = not known, or not of this way."""

    seconds: float
    auc: float | None = None
    test: float | None = None


# -- ours --------------------------------------------------------------------------------------------------------------


def ours(script: str, flags: list[str], root: Path, experiment: str) -> dict:
    """The whole command's seconds, its figures, and what its log says of every epoch."""
    start = time.perf_counter()
    record = run_script(script, [*flags, "--overwrite"], root, experiment)
    result = {"seconds": time.perf_counter() - start, "figures": record["figures"], "epochs": record["epochs"]}
    if script == RELABEL:
        result["curve"] = curve(root / experiment)
    return result


def curve(experiment: Path) -> list[Point]:
    """Of relabel.py's running score after every epoch, from history and log.

    Log lines and the start carry whole seconds.
    """
    start = datetime.fromisoformat(json.loads((experiment / "run.json").read_text())["started"])
    lines = [line for line in (experiment / "log.txt").read_text().splitlines() if ": epoch " in line]
    times = [(datetime.fromisoformat(line.split(" ", 1)[0]) - start).total_seconds() for line in lines]
    with open(experiment / "history.csv", newline="") as handle:
        history = list(csv.DictReader(handle))
    aucs = [float(row["auc_relabel_prediction"] or "nan") for row in history]
    return [
        (int(row["epoch"]), seconds, None if np.isnan(value) else value)
        for row, seconds, value in zip(history, times, aucs, strict=True)
    ]


# -- the usual loop ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loop:
    """How the usual loop trains one network."""

    width: float
    epochs: int
    workers: int
    seed: int


def batches(
    images: DeviceImages, labels: np.ndarray, workers: int, *, augmented: bool, ids: np.ndarray | slice = slice(None)
) -> DataLoader:
    """Of the samples `ids`: shuffled, with the crop and the flips that the suite has too; or in order, as they are."""
    pixels = images.pixels[ids].cpu().numpy().transpose(0, 3, 1, 2)  # (N, 3, H, W)
    steps = [transforms.ToTensor(), transforms.Normalize(images.mean.tolist(), images.std.tolist())]
    if augmented and images.mirrored:
        steps.insert(0, transforms.RandomHorizontalFlip())
    if augmented and images.padding:
        steps.insert(0, transforms.RandomCrop(images.side, padding=images.padding))
    return plain.loader(pixels, labels[ids], steps, images.pixels.device, workers, shuffle=augmented)


def train(
    loader: DataLoader, num_classes: int, loop: Loop, compute: Compute, see=lambda *batch: None
) -> Iterator[tuple[nn.Module, float]]:
    """(The network, seconds of the epoch) after each epoch of SGD with a cosine schedule."""
    torch.manual_seed(loop.seed)
    network = models.build(models.CNN13, num_classes, loop.width, models.DROPOUT[models.CNN13]).to(compute.device)
    optimizer = torch.optim.SGD(network.parameters(), LR, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, loop.epochs)
    for _ in range(loop.epochs):
        _, seconds = timed(compute, plain.train_epoch, network, optimizer, loader, compute.device, see)
        schedule.step()
        yield network, seconds


class Aum:
    """Area under the margin over training batches, by the package where it is installed, else by the same formula."""

    def __init__(self, samples: int) -> None:
        self.package, self.seconds = importlib.util.find_spec("aum") is not None, 0.0
        self.sums = torch.zeros(samples)
        if self.package:
            from aum import AUMCalculator

            self.calculator = AUMCalculator(tempfile.gettempdir(), compressed=True)

    @property
    def name(self) -> str:
        return f"AUM, package aum {metadata.version('aum')}" if self.package else "AUM, our own code"

    def __call__(self, logits: Tensor, labels: Tensor, ids: Tensor) -> None:
        start = time.perf_counter()
        if self.package:
            self.calculator.update(logits, labels, ids.tolist())
        else:
            self.sums[ids] += peers.margins(logits, labels).cpu()
        self.seconds += time.perf_counter() - start

    def scores(self) -> np.ndarray:
        """(N,), higher = more likely mislabelled; every sample was seen equally often."""
        if self.package:
            return -np.array([self.calculator.sums[sample] for sample in range(len(self.sums))])
        return -self.sums.numpy()


def usual(data: NoisyData, compute: Compute, loop: Loop) -> dict:
    """Seconds of the training's parts, AUCs of the last loss and of AUM, test accuracies after every epoch."""
    loader = batches(data.images, data.labels, loop.workers, augmented=True)
    in_order = batches(data.images, data.labels, loop.workers, augmented=False)
    tests = None
    if data.test_images is not None:
        tests = batches(data.test_images, data.test_labels, loop.workers, augmented=False)
    aum = Aum(len(data))
    found = {"train": 0.0, "tests": 0.0, "test": []}
    with plain.usual_settings():
        for network, seconds in train(loader, data.num_classes, loop, compute, aum):
            found["train"] += seconds
            if tests is not None:
                (_, logits, _), seconds = timed(compute, plain.evaluate, network, tests, compute.device)
                found["tests"] += seconds
                found["test"].append(float(np.mean(logits.argmax(1) == data.test_labels)))
        (losses, _, _), found["pass"] = timed(compute, plain.evaluate, network, in_order, compute.device)
    found["train"] -= aum.seconds
    found |= {"aum": aum.seconds, "AUM": aum.name}
    return found | {"auc of loss": auc(losses, data.is_noisy), "auc of AUM": auc(aum.scores(), data.is_noisy)}


def folds(data: NoisyData, compute: Compute, loop: Loop, k: int) -> dict:
    """The AUC of cleanlab's self-confidence on out-of-sample probabilities of k networks."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.model_selection import StratifiedKFold

    probabilities = np.zeros((len(data), data.num_classes))
    split = StratifiedKFold(k, shuffle=True, random_state=loop.seed).split(data.labels, data.labels)
    with plain.usual_settings():
        for others, held_out in split:
            loader = batches(data.images, data.labels, loop.workers, augmented=True, ids=others)
            held = batches(data.images, data.labels, loop.workers, augmented=False, ids=held_out)
            for network, _ in train(loader, data.num_classes, loop, compute):  # noqa: B007
                pass
            _, logits, _ = plain.evaluate(network, held, compute.device)
            probabilities[held_out] = torch.from_numpy(logits).double().softmax(1).numpy()
    quality = get_label_quality_scores(data.labels, probabilities, method="self_confidence")
    return {"auc": auc(1 - quality, data.is_noisy)}


# -- the report --------------------------------------------------------------------------------------------------------


def one_seed(args: argparse.Namespace, choice: DataChoice, compute: Compute, report: peers.PeersReport) -> dict:
    """{way: what it found} for one seed."""
    seed = choice.seed
    name, separation, training = rows.typed(choice, args)
    separation += args.separation.split()
    training += [*args.training.split(), "--relabel", f"relabel_{name}"]
    data = prepare(choice, compute)
    if seed == args.seeds[0]:
        report(data.describe() + "\n")
    of_run = {"data": data.fingerprint(), "mirror": choice.mirror, "machine": machine(), "compute": str(compute)}
    make = partial(kept, args.root / "parts")
    experiment = f"relabel_{name}"
    key = of_run | {"flags": separation}
    relabel = make(experiment, key, partial(ours, RELABEL, separation, args.root, experiment))
    of_relabel = relabel["figures"]
    quality = of_relabel.get("auc_relabel_score"), of_relabel.get("test_accuracy")
    found = {RELABEL: Found(relabel["seconds"], *quality)}
    loop = Loop(args.width, args.epochs or sum(relabel["epochs"]), args.workers, seed)
    key = of_run | vars(loop) | {"aum": Aum(0).name}
    found |= of_usual(make(f"usual_{name}", key, partial(usual, data, compute, loop)))
    if peers.has_cleanlab() and data.is_noisy is not None:
        shorter = replace(loop, epochs=max(1, round(loop.epochs / (args.folds - 1))))
        key = of_run | vars(shorter) | {"folds": args.folds}
        of_folds = make(f"folds_{name}", key, partial(folds, data, compute, shorter, args.folds))
        found[f"{args.folds} folds and cleanlab"] = Found(of_folds["seconds"], of_folds["auc"])
    if not args.ranking_alone:
        experiment = f"ssl_{name}"
        key = of_run | {"flags": [separation, training]}
        ssl = make(experiment, key, partial(ours, "ssl.py", training, args.root, experiment))
        seconds, figures = relabel["seconds"] + ssl["seconds"], ssl["figures"]
        found[CHAIN] = Found(seconds, figures.get("auc_ssl_score"), figures.get("test_accuracy"))
    report(f"seed {seed}, {loop.epochs} epochs of the usual loop")
    for way, of in found.items():
        quality = [f"{what} {value:.4f}" for what, value in (("AUC", of.auc), ("test", of.test)) if value is not None]
        report(f"    {way}: {of.seconds:.0f} s; {', '.join(quality)}")
    say_curve(relabel["curve"], found, report)
    return found


def of_usual(result: dict) -> dict[str, Found]:
    """The rows of one training, each with the time of what it needs."""
    seconds, test = result["train"], result["test"]
    found = {
        "usual loop, last loss": Found(seconds + result["pass"], result["auc of loss"]),
        f"usual loop, {result['AUM']}": Found(seconds + result["aum"], result["auc of AUM"]),
    }
    if test:
        found["cross-entropy, last epoch"] = Found(seconds + result["tests"] / len(test), test=test[-1])
        found[BEST] = Found(seconds + result["tests"], test=max(test))
    return found


def say_curve(points: list[Point], found: dict[str, Found], report: peers.PeersReport) -> None:
    """When the running score reaches each peer's AUC, and a few points of its curve."""
    if points[0][2] is None:
        return
    every = -(-len(points) // SHOWN)
    shown = [f"{epoch}: {value:.4f} ({seconds:.0f} s)" for epoch, seconds, value in points[every - 1 :: every]]
    report(f"    {RELABEL}'s running score after epoch: {', '.join(shown)}")
    for way, of in found.items():
        if way not in (RELABEL, CHAIN) and of.auc is not None:
            report(f"    {way}: {of.auc:.4f} after {of.seconds:.0f} s; {reached(points, of)}")
            whole = found[RELABEL]
            report(f"        the whole of {RELABEL}: {whole.auc:.4f} in {whole.seconds / of.seconds:.2f} of that time")


def reached(points: list[Point], peer: Found) -> str:
    for epoch, seconds, now in points:
        if now >= peer.auc:
            share = f"{seconds / peer.seconds:.2f} of that time"
            return f"{RELABEL}'s running score reaches it after {seconds:.0f} s, {share} (epoch {epoch})"
    return f"{RELABEL}'s running score does not reach it"


def table(seeds: list[dict[str, Found]]) -> Table:
    """Over seeds."""
    lines = []
    for way in dict.fromkeys(way for seed in seeds for way in seed):
        found = [seed[way] for seed in seeds if way in seed]
        columns = [[vars(of)[column] for of in found] for column in ("seconds", "auc", "test")]
        lines.append(Row([way], [Spread.of(v for v in values if v is not None) for values in columns]))
    return Table(["way"], ["seconds", "AUC", "test accuracy"], lines)


def make_parser() -> Parser:
    parser = parser_over_seeds("time_to_quality", __doc__, seeds=(1,))
    group = parser.add_argument_group("time to quality")
    rows.add_ours_and_epochs(group)
    group.add_argument("--ranking_alone", action="store_true", help="without ssl.py")
    group.add_argument("--folds", type=number(int, 2), default=rows.FOLDS, metavar="K", help="of the cleanlab row")
    group.add_argument("--workers", type=WHOLE, default=2, help="processes of a DataLoader")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    compute = compute_of(args)
    report = peers.PeersReport(compute, "Time to quality: seconds, AUC and test accuracy of each way on one machine")
    if not peers.has_cleanlab():
        report("cleanlab is not installed, so its row is left out: pip install cleanlab")
    seeds = [one_seed(args, choice, compute, report) for choice in of_seeds]
    report("\nmean ± sd (n)\n" + as_text(table(seeds)))
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

"""Training, evaluation and pseudo-labelling of 32x32 images at batch 100: this suite beside the plain loop.

    python3 -m tests.benchmarks.training
    python3 -m tests.benchmarks.training --compile

A pseudo-labelling epoch is the training steps (mixup, L_p, L_e, colour jitter) and one more forward pass of every
image for the next pseudo-labels and losses: the plain loop makes it in every step, the suite after the last.
"""

import argparse
import statistics

import numpy as np
import torch
import torch.nn.functional as F

import models
from tests.benchmarks import plain
from tests.benchmarks.measuring import Report, add_compute_flags, chosen_compute, ratio, side_by_side
from utils.data.choice import DataChoice
from utils.data.device_images import DeviceImages
from utils.data.noisy_data import NoisyData
from utils.scoring.tracker import Tracker
from utils.scoring.tracking import LOSS_ALONE
from utils.training.learner import Learner, Progress
from utils.training.losses import LossWeights, joint_loss
from utils.training.mixing import mixup
from utils.training.optimisation import Optimisation, Schedule
from utils.training.passes import infer
from utils.training.soft_labels import SoftLabels

CLASSES, JITTER = 10, 0.4


def evaluate(model, images: DeviceImages, labels, compute):
    """Losses (N,), logits (N, C) and features (N, D) on the device, as the plain loop's `evaluate` gives arrays."""
    _, logits, features = zip(*infer(model, images, compute, features=True), strict=True)
    logits = torch.cat(logits)
    return F.cross_entropy(logits, labels, reduction="none"), logits, torch.cat(features)


class Ours:
    """The suite's own parts on the images of an epoch."""

    def __init__(self, name: str, pixels: np.ndarray, labels: np.ndarray, width: float, compute) -> None:
        self.images = DeviceImages(pixels, compute, mirrored=True)
        choice, ids = DataChoice("folder", None, None, CLASSES, None, "none", 0.0, 0), np.arange(len(pixels))
        data = NoisyData(choice, self.images, labels, None, tuple("0123456789"), ids, None, None, None, "")
        optimisation = Optimisation(Schedule(0.01), plain.BATCH, momentum=0.9, weight_decay=1e-4, seed=0)
        self.learner = Learner(compute.prepare(fresh(name, width)), data, compute, optimisation, stream=1)
        self.ids, self.labels = data.ids, data.device_labels
        self.soft_labels = SoftLabels(self.labels, CLASSES)
        self.tracker = Tracker(self.labels, CLASSES, LOSS_ALONE)

    def train(self, loss_of=None) -> None:
        self.learner.progress = Progress()
        self.learner.train_epoch(loss_of or self.learner.cross_entropy, self.learner.batches(self.ids))

    def evaluate(self):
        return evaluate(self.learner.network, self.images, self.labels, self.learner.compute)

    def pseudo_label(self) -> None:
        self.train(self.mixed_loss_of)
        self.soft_labels.record(self.ids, self.learner.score(self.tracker).logits)
        self.soft_labels.commit()

    def mixed_loss_of(self, ids):
        images = self.images.augmented_batch(ids, colour_jitter=JITTER)
        images, targets, _ = mixup(images, self.soft_labels[ids], alpha=1.0)
        return joint_loss(self.learner.logits(images), targets, LossWeights(0.8, 0.4))


class Plain:
    """The plain loop on the same images."""

    def __init__(self, name: str, pixels: np.ndarray, labels: np.ndarray, width: float, compute, workers: int) -> None:
        self.device = compute.device
        self.model = fresh(name, width).to(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        self.soft_labels = F.one_hot(torch.from_numpy(labels), CLASSES).float()
        self.batches = {
            steps: plain.loader(pixels, labels, getattr(plain, steps), self.device, workers, shuffle=steps != "PLAIN")
            for steps in ("AUGMENTED", "JITTERED", "PLAIN")
        }

    def train(self) -> None:
        with plain.usual_settings():
            plain.train_epoch(self.model, self.optimizer, self.batches["AUGMENTED"], self.device)

    def evaluate(self) -> None:
        with plain.usual_settings():
            plain.evaluate(self.model, self.batches["PLAIN"], self.device)

    def pseudo_label(self) -> None:
        with plain.usual_settings():
            plain.ssl_epoch(self.model, self.optimizer, self.batches["JITTERED"], self.soft_labels, self.device)


def fresh(name: str, width: float):
    torch.manual_seed(0)
    return models.build(name, CLASSES, width=width, dropout=0.1 if name == models.CNN13 else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="images of an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=float, default=1.0)
    add_compute_flags(parser)
    args = parser.parse_args()
    compute = chosen_compute(args)
    report = Report("Images per second (median), plain seconds ÷ our seconds (median, min-max of the rounds)", compute)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (args.images, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, args.images)
    for network, jobs in ((models.PREACT_RESNET18, ("train", "evaluate")), (models.CNN13, ("train", "pseudo_label"))):
        loops = {"ours": Ours(network, pixels, labels, args.width, compute)}
        for workers in (0, 2):
            loops[f"plain, {workers} workers"] = Plain(network, pixels, labels, args.width, compute, workers)
        for job in jobs:
            times = side_by_side({name: getattr(loop, job) for name, loop in loops.items()}, args.rounds, compute)
            for name, values in times.items():
                rate = args.images / statistics.median(values)
                against = "" if name == "ours" else ratio(values, times["ours"])
                report(f"{network:<15} {job:<13} {name:<17} {rate:7.0f} images/s  {against}")
    kind = ("_compiled" if args.compile else "") + ("" if compute.bf16 else "_fp32")
    report.save(f"training{kind}_{compute.device.type}", args)


if __name__ == "__main__":
    main()

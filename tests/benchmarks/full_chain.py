"""How long the README's CIFAR commands take on this machine, projected from the measured rate of every phase.

    python3 -m tests.benchmarks.full_chain --compile                  a GPU, one call of a few minutes
    python3 -m tests.benchmarks.full_chain --images 1000 --samples 10000    a trial on a CPU

Training is measured on --steps batches of 100 random images, evaluation on --images and scaled, the neighbour
cross-entropy on --samples and scaled by the square to 50,000. Shares of the peak are of dense bf16, where the chip
is known.
"""

import argparse

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import models
from tests.benchmarks.measuring import Report, add_compute_flags, chosen_compute, documented, timed
from tests.benchmarks.tracked_step import random_outputs
from tests.benchmarks.training import Ours
from tests.tiny import load_script
from utils.methods.cross_tracking import exchange_epochs_of
from utils.scoring.tracker import neighbour_cross_entropy
from utils.training.batches import batches_per_epoch

TRAIN, TEST, PER_CLASS_100 = 50_000, 10_000, 500  # images of CIFAR; of a class of CIFAR-100
BF16_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # FLOP/s, dense, NVIDIA's data sheets (SXM)


class Rates:
    """Measured: images per second of training and evaluating each network; seconds of neighbour scoring 50,000."""

    def __init__(self, args: argparse.Namespace, compute, report: Report) -> None:
        self.train, self.evaluate = {}, {}
        for network in (models.PREACT_RESNET18, models.CNN13):
            self._network(network, args, compute, report)
        with torch.inference_mode():
            outputs = [tensor.to(compute.device) for tensor in random_outputs(args.samples)]
            neighbour_cross_entropy(*outputs, 10)
            measured = timed(compute, neighbour_cross_entropy, *outputs, 10)[1]
        self.neighbours = measured * (TRAIN / args.samples) ** 2
        report(f"neighbour cross-entropy: N = {args.samples} {measured:.2f} s, N = {TRAIN} {self.neighbours:.2f} s")
        step = TRAIN / self.evaluate[models.PREACT_RESNET18] + self.neighbours
        report(f"a tracked step at N = {TRAIN}: {step:.2f} s")

    def _network(self, network: str, args: argparse.Namespace, compute, report: Report) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (args.images, 3, 32, 32), dtype=np.uint8)
        part = Ours(network, pixels, np.arange(args.images) % 10, args.width, compute)
        loss_of = part.learner.cross_entropy if network == models.PREACT_RESNET18 else part.mixed_loss_of
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            part.learner.network.eval()
            part.learner.network(part.images.batch(part.ids[:2]))
        flops = counter.get_total_flops() / 2
        part.ids = part.ids[: 100 * args.steps]
        part.train(loss_of)
        part.evaluate()
        self.train[network] = len(part.ids) / timed(compute, part.train, loss_of)[1]
        self.evaluate[network] = args.images / timed(compute, part.evaluate)[1]
        name = torch.cuda.get_device_name(compute.device) if compute.device.type == "cuda" else ""
        peak = next((flop for chip, flop in BF16_PEAKS.items() if chip in name), None)
        for what, rates, work in (("train", self.train, 3 * flops), ("evaluate", self.evaluate, flops)):
            rate = rates[network]
            share = f", {rate * work / peak:.1%} of the bf16 peak" if peak else ""
            report(f"{network:<15} {what:<9} {rate:10.0f} images/s, {rate * work / 1e12:8.2f} TFLOP/s{share}")


def epoch(rates: Rates, network: str, evaluations: float = TRAIN + TEST) -> float:
    """Seconds of training on all images once and evaluating some."""
    return TRAIN / rates.train[network] + evaluations / rates.evaluate[network]


def projected(script: str, args: argparse.Namespace, rates: Rates) -> dict[str, float]:
    """{phase: seconds} of a documented command on CIFAR."""
    resnet, cnn13 = models.PREACT_RESNET18, models.CNN13
    if script == "main.py":
        per_epoch = batches_per_epoch(PER_CLASS_100 * len(args.second_stage_subset), args.batch_size)
        steps = args.epoch_2nd * min(args.step_number, per_epoch)
        step = args.batch_size / rates.train[resnet] + TRAIN / rates.evaluate[resnet] + rates.neighbours
        return {
            f"{args.epoch_1st} epochs": args.epoch_1st * epoch(rates, resnet, TEST),  # batches are scored as it learns
            f"{steps} tracked steps": steps * step,
        }
    if script == "parallel.py":  # each half is scored by both models; four searches among half of the samples
        one = epoch(rates, resnet, 2 * TRAIN + 2 * TEST)
        exchange = exchange_epochs_of(args)
        return {
            f"{args.epoch_1st} epochs": args.epoch_1st * (one + 4 * rates.neighbours / 4),
            f"{exchange} epochs of the exchange": exchange * one,
        }
    if script == "relabel.py":
        return {f"{args.epoch_1st} epochs": args.epoch_1st * epoch(rates, cnn13)}
    runs = args.runs or (2 if args.double_run else 1)
    return {f"{runs} runs of {args.epoch} epochs": runs * args.epoch * epoch(rates, cnn13)}


def duration(spent: float) -> str:
    if spent < 7200:
        return f"{spent / 60:.1f} min"
    return f"{spent / 3600:.1f} h" if spent < 172800 else f"{spent / 86400:.1f} days"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=TRAIN)
    parser.add_argument("--samples", type=int, default=TRAIN)
    parser.add_argument("--steps", type=int, default=100, help="batches of 100")
    parser.add_argument("--width", type=float, default=1.0)
    add_compute_flags(parser)
    args = parser.parse_args()
    args.steps = min(args.steps, args.images // 100)
    if args.samples < 5000:
        parser.error("--samples under 5000 cannot be scaled: fixed costs would be squared")
    compute = chosen_compute(args)
    report = Report("The README's commands for CIFAR, projected from measured rates", compute)
    rates = Rates(args, compute, report)
    for script, words in documented().items():
        phases = projected(script, load_script(script).parser().parse_args(words), rates)
        parts = ", ".join(f"{name} {duration(spent)}" for name, spent in phases.items())
        report(f"{script:<12} {duration(sum(phases.values())):>9}  ({parts})")
    report.save(f"full_chain_{compute.device.type}", args)


if __name__ == "__main__":
    main()

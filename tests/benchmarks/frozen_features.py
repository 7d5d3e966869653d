"""Frozen features beside a training from scratch: wrong labels in five classes, by a network that learnt five others.

    python3 -m tests.benchmarks.frozen_features --train_root R      R/train/<class>/*, R/test/<class>/*: CIFAR-10's

A resnet18 of torchvision learns every other class of R, by the labels of its pictures, which the rest never sees again:
on small pictures first, which is cheap, then at the size at which parallel.py shows it pictures (about four minutes on
two cores for 2,500 of them). Of the other classes 40 % of the labels are made wrong at random, and `parallel.py
--features resnet18 --weights FILE` looks for them, beside `parallel.py` from scratch. Finished parts under --root are
used again: other flags need another --root.
"""

import argparse
import math
import shlex
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import get_model, get_model_weights

import datasets
from tests.benchmarks.measuring import run_script
from utils.compute import Compute, choose, keep_freed_memory, seed_torch
from utils.data.device_images import DeviceImages

NAME = "resnet18"
LEARNT, JUDGED = (1, 3, 5, 7, 9), (0, 2, 4, 6, 8)  # classes in the order of their names
BATCH_SIZE = 50
SMALL, FULL = 64, 224  # sides, pixels
RATES = {SMALL: 0.05, FULL: 0.01}
FIGURES = ("auc_parallel_score", "auc_parallel_loss", "auc_parallel_ce", "noise_ratio_estimated", "test_accuracy")


def learn(args: argparse.Namespace, compute: Compute, file: Path) -> None:
    """Train the backbone on the classes LEARNT; its state dict into a file."""
    learnt = datasets.load("folder", args.train_root, classes=LEARNT)
    transforms = get_model_weights(NAME).DEFAULT.transforms()
    statistics = (
        torch.tensor(transforms.mean, device=compute.device),
        torch.tensor(transforms.std, device=compute.device),
    )
    images = DeviceImages(learnt.images, compute, mirrored=True, statistics=statistics)
    labels = torch.from_numpy(learnt.labels).to(compute.device)
    seed_torch(args.seed, "init")
    network = compute.prepare(get_model(NAME, num_classes=len(LEARNT))).train()
    for side, epochs in ((SMALL, args.small_epochs), (FULL, args.full_epochs)):
        optimizer = torch.optim.SGD(network.parameters(), lr=RATES[side], momentum=0.9, weight_decay=5e-4)
        steps = epochs * math.ceil(len(images) / BATCH_SIZE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        for epoch in range(epochs):
            start, right = time.monotonic(), 0
            for ids in torch.randperm(len(images), device=compute.device).split(BATCH_SIZE):
                with compute.autocast():
                    logits = network(enlarged(images.augmented_batch(ids), side)).float()
                optimizer.zero_grad()
                F.cross_entropy(logits, labels[ids]).backward()
                optimizer.step()
                schedule.step()
                right += int((logits.argmax(1) == labels[ids]).sum())
            seconds = time.monotonic() - start
            print(f"{side} pixels, epoch {epoch + 1}: {right / len(images):.3f} right, {seconds:.0f} s", flush=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)  # like weights from elsewhere


def enlarged(images: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) to `side` x `side` as the transforms do it, which cut 224 pixels out of 256."""
    edge = images.shape[2] // 16
    inner = images[..., edge:-edge, edge:-edge]
    return F.interpolate(inner, size=(side, side), mode="bilinear").contiguous(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_root", required=True, help="CIFAR-10 as an image folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small_epochs", type=int, default=20, help=f"of the backbone, on {SMALL} pixels")
    parser.add_argument("--full_epochs", type=int, default=2, help=f"and on {FULL}")
    scratch = "--width 0.25 --exchange 0"  # one training there as here
    parser.add_argument("--scratch", default=scratch, metavar="FLAGS", help="of parallel.py from scratch")
    parser.add_argument("--cuda_dev", type=int, default=0, help="GPU; -1 = CPU")
    parser.add_argument("--root", type=Path, default=Path("experiments/frozen_features"), help="where results are kept")
    args = parser.parse_args()
    keep_freed_memory()
    file, start = args.root / f"{NAME}_{args.seed}.pt", time.monotonic()
    if not file.exists():
        learn(args, choose(args.cuda_dev), file)
        print(f"backbone: {time.monotonic() - start:.0f} s, once for any number of sets", flush=True)
    flags = ["--first_stage_data_name", "folder", "--train_root", args.train_root]
    flags += ["--first_stage_subset", *map(str, JUDGED), "--first_stage_noise_type", "random_in_noise"]
    flags += ["--seed", str(args.seed), "--cuda_dev", str(args.cuda_dev)]
    ways = {"frozen features": ["--features", NAME, "--weights", str(file)], "from scratch": shlex.split(args.scratch)}
    for way, more in ways.items():
        record = run_script("parallel.py", flags + more, args.root, f"{way.replace(' ', '_')}_{args.seed}")
        found = [f"{name} {record['figures'][name]:.4f}" for name in FIGURES if name in record["figures"]]
        seconds = ", ".join(f"{phase} {of:.0f} s" for phase, of in record["seconds"].items())
        print(f"{way}: {', '.join(found)}; {seconds}", flush=True)


if __name__ == "__main__":
    main()

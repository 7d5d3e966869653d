"""A set that is larger than the memory: a training epoch and a tracked pass of images that stay in the file of a cache.

    python3 -m tests.benchmarks.large_set                                    100,000 images of 96 pixels, 2.8 GB
    python3 -m tests.benchmarks.large_set --trained 4000 --scored 10000      a part of the epoch, drawn from all of them

Three processes, one after the other: the images on the host under a limit that is smaller than the set (RLIMIT_DATA,
which counts what a process allocates and no maps of files), the images on the device without it, and on the device
under the limit, which is to be refused. A limit on a container is not set: that takes the rights of its owner. The
images are made, not decoded: colours of their class and noise. Peak memory is ru_maxrss, which counts the pages of maps
that a process holds at a time, too.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import models
from datasets import image_cache
from datasets.folder import load_folder
from tests.benchmarks.measuring import Report, add_save_flag
from tests.tiny import ROOT
from utils.compute import choose, keep_freed_memory
from utils.data.choice import DataChoice
from utils.data.noisy_data import prepare
from utils.errors import UserError
from utils.memory import peak_memory
from utils.scoring.tracker import Tracker
from utils.scoring.tracking import LOSS_ALONE
from utils.training.learner import Learner, new_network
from utils.training.optimisation import Optimisation, Schedule

CLASSES, BATCH = 10, 50


def make_set(root: Path, images: int, side: int) -> None:
    """Empty files of so many images, and the cache that is made of them, as if they had been decoded."""
    for label in range(CLASSES):
        folder = root / f"class_{label}"
        folder.mkdir(parents=True)
        for number in range(label, images, CLASSES):
            (folder / f"{number:07d}.png").touch()
    noise = np.random.default_rng(0).integers(0, 156, 2 * 3 * side**2, dtype=np.uint8)

    def made(folder: Path, file: image_cache.ImageFile, image_size: int) -> np.ndarray:
        start = zlib.crc32(file.name.encode()) % (3 * side**2)
        return noise[start:][: 3 * side**2].reshape(3, side, side) + np.uint8(10 * int(file.name[len("class_")]))

    with mock.patch.object(image_cache, "decode_or_reason", made):
        load_folder(root, "train", side)


def work(args: argparse.Namespace) -> None:
    """Of one process: an epoch and a pass; prints what it measured, or why it was refused."""
    if args.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (args.limit, args.limit))
    keep_freed_memory()  # as every script does
    compute = choose(-1, eval_batch_size=BATCH, images_on=args.images_on)
    choice = DataChoice("folder", str(args.root), None, None, args.side, "none", 0.0, 1)
    try:
        start = time.perf_counter()
        data = prepare(choice, compute)
        loaded = time.perf_counter() - start
        found = {"host": data.images.on_host, "load": loaded} | measure(args, data, compute)
    except (UserError, MemoryError, RuntimeError) as error:  # torch raises the last where it gets no memory
        found = {"refused": str(error).splitlines()[0]}
    print(json.dumps(found | {"peak": peak_memory(compute) / 1e9}))


def measure(args: argparse.Namespace, data, compute) -> dict[str, float]:
    network = new_network(models.PREACT_RESNET18, CLASSES, compute, width=args.width, seed=1)
    optimisation = Optimisation(Schedule(0.1), batch_size=BATCH, momentum=0.9, weight_decay=1e-4, seed=1)
    learner = Learner(network, data, compute, optimisation, stream=1)
    batches = learner.batches()
    learner.train_epoch(learner.cross_entropy, batches[:2])  # warms up
    learner.progress.next_epoch()
    batches = learner.batches()[: -(-args.trained // BATCH)]
    start = time.perf_counter()
    loss = learner.train_epoch(learner.cross_entropy, batches)
    trained = time.perf_counter() - start
    ids = data.ids[torch.randperm(len(data))[: args.scored].sort().values]  # spread over the set, in its order
    tracker = Tracker(data.training_labels[ids], CLASSES, LOSS_ALONE)
    start = time.perf_counter()
    losses = learner.score(tracker, ids).loss(data.device_labels[ids])
    scored = time.perf_counter() - start
    same = zlib.crc32(losses.tobytes(), zlib.crc32(np.float32(loss).tobytes()))
    return {"train": sum(map(len, batches)) / trained, "score": len(ids) / scored, "same": f"{same:08x}"}


def row(args: argparse.Namespace, root: Path, images_on: str, limit: int) -> dict:
    flags = [f"--{name}={vars(args)[name]}" for name in ("side", "width", "trained", "scored")]
    command = [sys.executable, "-m", "tests.benchmarks.large_set", *flags]
    command += ["--root", str(root), "--images_on", images_on, "--limit", str(limit)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if lines and not done.returncode:
        return json.loads(lines[-1])
    said = done.stderr.splitlines() or [f"ended with status {done.returncode}"]  # killed for memory it says nothing
    return {"refused": said[-1]}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, metavar="N")
    parser.add_argument("--side", type=int, default=96, help="pixels")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--trained", type=int, help="images of the epoch (default: all)")
    parser.add_argument("--scored", type=int, help="images of the pass (default: all)")
    parser.add_argument("--share", type=float, default=0.6, help="the limit, as a share of the set's bytes")
    parser.add_argument("--folder", type=Path, help="where the set is made, stays and is used again (default: it goes)")
    add_save_flag(parser)
    for name, kind in (("root", Path), ("images_on", str), ("limit", int)):  # of the processes that this one starts
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.root is not None:
        work(args)
        return
    args.trained, args.scored = args.trained or args.images, args.scored or args.images
    size = 3 * args.side**2 * args.images
    report = Report("A set that is larger than the memory: images per second", choose(-1))
    with tempfile.TemporaryDirectory() as temporary:
        root = (args.folder or Path(temporary)) / f"{args.images}_images_of_{args.side}"
        if not root.exists():
            make_set(root, args.images, args.side)
        limit = round(args.share * size)
        report(
            f"{args.images} images of {args.side} pixels, {size / 1e9:.2f} GB; an epoch of {args.trained} and a pass "
            f"of {args.scored} of them, PreAct-ResNet-18 of width {args.width:g}; limit {limit / 1e9:.2f} GB"
        )
        report(f"{'images':<10} {'limit':<8} {'load, s':>8} {'train':>8} {'pass':>8} {'peak, GB':>9}  results")
        for images_on, bound in (("auto", limit), ("host", 0), ("device", 0), ("device", limit)):
            report(line(images_on, bound, row(args, root, images_on, bound)))
    report.save("large_set", args)


def line(images_on: str, limit: int, found: dict) -> str:
    place = "auto: " + ("host" if found["host"] else "device") if images_on == "auto" and "host" in found else images_on
    start = f"{place:<10} {f'{limit / 1e9:.2f} GB' if limit else 'none':<8}"
    if "refused" in found:
        return f"{start} refused: {found['refused']}"
    return (
        f"{start} {found['load']:8.1f} {found['train']:8.0f} {found['score']:8.0f} {found['peak']:9.2f}  "
        f"{found['same']}"
    )


if __name__ == "__main__":
    main()

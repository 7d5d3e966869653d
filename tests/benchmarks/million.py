"""Many samples: peak memory and seconds of every phase of all four scripts, with tiny networks and tiny images.

    python3 -m tests.benchmarks.million --samples 1000000
    python3 -m tests.benchmarks.million --samples 50000 --scripts relabel.py ssl.py

Each script is a process of its own; its peak is ru_maxrss. The images, colours of their class and noise, take the place
of svhn. Without --track_CE nothing is searched for neighbours, whose time grows with the square of the samples; their
memory is that of `tracked_step --memory`. What is printed was measured, at this number of samples.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import datasets
from datasets.image_set import ImageSet
from tests.benchmarks.measuring import Report, add_save_flag
from tests.tiny import ROOT, load_script
from utils.compute import choose
from utils.memory import peak_memory

CLASSES, TEST = 10, 1000
TRAININGS = {"main.py": 1, "parallel.py": 1, "relabel.py": 2, "ssl.py": 1}  # that share --epoch_1st or --epoch


def load_synthetic(root: Path, split: str) -> ImageSet:
    """As many images as the last part of `root` says; of the test split TEST."""
    count, side = (int(number) for number in root.name.split("x"))
    count = count if split == "train" else TEST
    labels = np.arange(count) % CLASSES
    images = np.random.default_rng(len(split)).integers(0, 200, (count, 3, side, side), dtype=np.uint8)
    images[:, 0] += (5 * labels).astype(np.uint8)[:, None, None]
    return ImageSet("svhn", split, images, labels, tuple("0123456789"), np.arange(count), mirrored=False)


def work(script: str, flags: list[str]) -> None:
    """Of one process: the script on synthetic images; its peak comes last."""
    datasets.DATASETS["svhn"] = replace(datasets.DATASETS["svhn"], loader="tests.benchmarks.million:load_synthetic")
    load_script(script).main(flags)
    print(json.dumps({"peak": peak_memory(choose(-1))}))


def flags_of(script: str, args: argparse.Namespace) -> list[str]:
    """A short run of the script with its usual passes, scores and tables."""
    data, epochs = f"{args.samples}x{args.side}", str(args.epochs * TRAININGS[script])
    flags = ["--dataset", "svhn", "--train_root", data, "--width", "0.05", "--batch_size", str(args.batch_size)]
    flags += ["--cuda_dev", "-1", "--images_on", args.images_on, "--eval_batch_size", "1000"]
    if script == "ssl.py":
        return [*flags, "--epoch", epochs, "--relabel", "relabel", "--runs", "2", "--network", "PR18", "PR18"]
    flags += ["--epoch_1st", epochs]
    if script == "relabel.py":
        return [*flags, "--model_type", "preactResNet18", "preactResNet18"]
    flags.append("--track_CE" if args.track_CE else "--no-track_CE")
    if script == "main.py":
        flags += ["--steps_total", "4", "--track_every", "2", "--second_stage_data_name", "digits"]
    return flags


def row(script: str, args: argparse.Namespace, root: Path) -> tuple[float, dict[str, float]]:
    """(Peak in GB, seconds of each phase) of a script; Raises CalledProcessError where it failed."""
    name = script.removesuffix(".py")
    flags = [*flags_of(script, args), "--experiments_root", str(root), "--experiment_name", name]
    command = [sys.executable, "-m", "tests.benchmarks.million", "--run", script, *flags]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    record = json.loads((root / name / "run.json").read_text())
    return json.loads(done.stdout.splitlines()[-1])["peak"] / 1e9, record["seconds"]


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        work(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000, metavar="N")
    parser.add_argument("--side", type=int, default=8, help="pixels")
    parser.add_argument("--batch_size", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=2, help="of each training")
    parser.add_argument("--images_on", default="auto", choices=["auto", "device", "host"])
    parser.add_argument("--track_CE", action="store_true", help="search for the neighbours of all samples, too")
    parser.add_argument("--scripts", nargs="+", default=list(TRAININGS), choices=list(TRAININGS), metavar="SCRIPT")
    parser.add_argument("--root", type=Path, help="where experiments stay; ssl.py needs that of relabel.py")
    add_save_flag(parser)
    args = parser.parse_args()
    report = Report(f"{args.samples} samples of {CLASSES} classes: peak memory and seconds of each phase", choose(-1))
    size = 3 * args.side**2 * args.samples
    report(
        f"images of {args.side} pixels, {size / 1e9:.2f} GB; the thinnest PreAct-ResNet-18; "
        f"epochs of each training: {args.epochs} (all but main.py train twice)"
    )
    report(f"{'script':<12} {'peak, GB':>9} {'whole, s':>9}  phases, s")
    with tempfile.TemporaryDirectory() as temporary:
        for script in args.scripts:
            start = time.perf_counter()
            peak, seconds = row(script, args, args.root or Path(temporary))
            whole = time.perf_counter() - start
            phases = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
            report(f"{script:<12} {peak:9.2f} {whole:9.1f}  {phases}")
    report.save(f"million_{args.samples}", args)


if __name__ == "__main__":
    main()

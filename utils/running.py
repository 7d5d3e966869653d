"""What every script does with its flags: open the experiment, choose the device, work, print the result."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from utils.cli import default_name
from utils.compute import Compute, choose
from utils.experiment import Experiment
from utils.separation import compare


def run(
    script: str,
    method: str,
    work: Callable[[argparse.Namespace, Compute, Experiment], None],
    args: argparse.Namespace,
) -> None:
    """A script from its flags to its result table; a finished experiment only prints its figures again."""
    name = args.experiment_name or default_name(script, args)
    experiment = Experiment(args.experiments_root, name)
    with experiment.open(script, method, vars(args), args.overwrite):
        if experiment.finished:
            print(f"{experiment.path} is finished; --overwrite would start anew")
        else:
            work(args, choose(args.cuda_dev, args.precision, args.compile, args.threads), experiment)
        print_result(experiment)
        if vars(args).get("compare"):
            print(compare(experiment, args.compare))


def print_result(experiment: Experiment) -> None:
    """The short table a run ends with: figures, paths, what to type next."""
    record = experiment.record
    lines = [f"\n{experiment.name}: {record['method']}, {sum(record['seconds'].values()):.0f} s"]
    lines += [
        f"  {name:<28} {value:.4f}" if isinstance(value, float) else f"  {name:<28} {value}"
        for name, value in record["figures"].items()
    ]
    lines.append(f"written to {experiment.path}/")
    lines += [f"  {', '.join(group)}" for group in written(experiment.path)]
    lines.append(f"next: {next_command(experiment)}")
    print("\n".join(lines))


def written(path: Path) -> list[list[str]]:
    """The names of a folder's files, grouped by kind."""
    names = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    kinds = [[name for name in names if name.endswith(suffix)] for suffix in (".npy", ".csv", ".png", ".pt")]
    rest = [name for name in names if not any(name in kind for kind in kinds)]
    return [kind for kind in (*kinds, rest) if kind]


def next_command(experiment: Experiment) -> str:
    """After a separation: train on it. After training: classify images."""
    settings, method = experiment.record["settings"], experiment.record["method"]
    if method == "ssl":
        return shlex.join(["python3", "-m", "utils.classifier", str(experiment.path / "model.pt"), "FOLDER_OF_IMAGES"])
    parts = ["python3", "ssl.py", f"--{method}", experiment.name]
    renamed = {
        "--dataset": settings["first_stage_data_name"],
        "--train_root": settings["train_root"],
        "--subset": settings["first_stage_subset"],
        "--image_size": settings["image_size"],
        "--noise_type": settings["first_stage_noise_type"],
        "--noise_ratio": settings["first_stage_noise_ratio"],
        "--seed": settings["seed"],
    }
    if settings["first_stage_noise_type"] == "none":
        del renamed["--noise_ratio"]
    for flag, value in renamed.items():
        if value is not None:
            parts += [flag, *map(str, value if isinstance(value, list) else [value])]
    if experiment.path.parent != Path("experiments"):
        parts += ["--experiments_root", str(experiment.path.parent)]
    return shlex.join(parts)

"""What every script does with its flags: open the experiment, choose the device, work, print the result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from utils.cli import data_choice, default_name
from utils.commands import SEPARATIONS, classify_command, ssl_command
from utils.compare import compare_experiments
from utils.compute import Compute, choose, keep_freed_memory
from utils.errors import UserError
from utils.experiment import Experiment, read_finished


def run(
    script: str,
    method: str,
    work: Callable[[argparse.Namespace, Compute, Experiment], None],
    args: argparse.Namespace,
) -> None:
    """A script from its flags to its result table; a finished experiment only prints its figures again."""
    name = args.experiment_name or default_name(script, args)
    experiment = Experiment(args.experiments_root, name)
    if vars(args).get("compare") not in (None, name):
        other = read_finished(args.experiments_root, args.compare)  # a slip of the pen shows now, not after hours
        if other["method"] not in SEPARATIONS:
            raise UserError(f"{args.compare} holds no scores of a separation", "name one of main, parallel or relabel")
    with experiment.open(script, method, vars(args), args.overwrite):
        if experiment.finished:
            print(f"{experiment.path} is finished; --overwrite would start anew")
        else:
            keep_freed_memory()
            work(args, choose(args.cuda_dev, args.precision, args.compile, args.threads), experiment)
        print_result(experiment, next_command(args, experiment))
        if vars(args).get("compare"):
            print(compare_experiments(experiment, args.compare))


def print_result(experiment: Experiment, next_command: str) -> None:
    """The short table a run ends with: figures, paths, what to type next."""
    record = experiment.record
    lines = [f"\n{experiment.name}: {record['method']}, {sum(record['seconds'].values()):.0f} s"]
    lines += [
        f"  {name:<28} {value:.4f}" if isinstance(value, float) else f"  {name:<28} {value}"
        for name, value in record["figures"].items()
    ]
    lines.append(f"written to {experiment.path}/")
    lines += [f"  {', '.join(group)}" for group in written(experiment.path)]
    lines.append(f"next: {next_command}")
    print("\n".join(lines))


def written(path: Path) -> list[list[str]]:
    """The names of a folder's files, grouped by kind."""
    names = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    kinds = [[name for name in names if name.endswith(suffix)] for suffix in (".npy", ".csv", ".png", ".pt")]
    rest = [name for name in names if not any(name in kind for kind in kinds)]
    return [kind for kind in (*kinds, rest) if kind]


def next_command(args: argparse.Namespace, experiment: Experiment) -> str:
    """After a separation: train on it. After training: classify images."""
    method = experiment.record["method"]
    if method == "ssl":
        return classify_command(experiment.path / "model.pt")
    return ssl_command(method, experiment.name, data_choice(args), args.experiments_root)

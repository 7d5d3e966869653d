"""Side-by-side timings, and result files that say where they come from."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from tests.tiny import ROOT, load_script
from utils.command_line.flags import add_device
from utils.command_line.parser import Parser
from utils.compute import Compute, choose, keep_freed_memory
from utils.experiments.record import versions
from utils.files import write_atomically

RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


def add_compute_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cuda_dev", type=int, default=0, help="GPU; -1 = CPU")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    add_save_flag(parser)


def add_save_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--save", action="store_true", help="keep what is printed under tests/benchmarks/results/")


def chosen_compute(args: argparse.Namespace) -> Compute:
    keep_freed_memory()  # as every script does
    return choose(args.cuda_dev, args.precision, args.compile)


def compute_of(args: argparse.Namespace) -> Compute:
    """What the flags of `add_device` choose, with the memory kept as in every script."""
    keep_freed_memory()
    return choose(args.cuda_dev, args.precision, args.compile, args.threads, args.eval_batch_size, args.images_on)


def device_flags(args: argparse.Namespace) -> list[str]:
    """The flags of `add_device` that were given, as they are typed, for the scripts that a benchmark runs."""
    parser = Parser("", "")
    add_device(parser)
    defaults = vars(parser.parse_args([]))
    return parser.words({name: vars(args)[name] for name in defaults if vars(args)[name] != defaults[name]})


def timed(compute: Compute, work: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """What `work` returns and how many seconds it takes, the device's queue emptied on both ends."""
    wait(compute)
    start = time.perf_counter()
    result = work(*arguments)
    wait(compute)
    return result, time.perf_counter() - start


def wait(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)


def side_by_side(works: dict[str, Callable[[], object]], rounds: int, compute: Compute) -> dict[str, list[float]]:
    """{name: seconds of each round}: all of them in turn, round after round, after a round that does not count."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(timed(compute, work)[1])
    return times


def ratio(slow: list[float], fast: list[float]) -> str:
    """How many times as fast: the median of the rounds' ratios, with the smallest and the largest."""
    ratios = [s / f for s, f in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


class Report:
    """Lines that are printed as they come and, with --save, kept under results/ once the benchmark is done."""

    arithmetic = "the suite on {}; the plain loop in float32"
    package = "faiss-cpu"  # whose version matters, beside those of the suite

    def __init__(self, title: str, compute: Compute) -> None:
        self.lines: list[str] = []
        self(title)
        spec = sys.modules["__main__"].__spec__  # None where another program calls this one
        module = "unknown" if spec is None else spec.name
        self(f"command: {shlex.join(['python3', '-m', module, *sys.argv[1:]])}")
        self(f"machine: {machine()}; {self.arithmetic.format(compute)}")
        self(", ".join(f"{name} {version}" for name, version in versions(self.package).items()) + "\n")

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def save(self, name: str, args: argparse.Namespace) -> None:
        if args.save:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.txt").write_text("\n".join(self.lines) + "\n")


def kept(root: Path, name: str, settings: dict, work: Callable[[], dict]) -> dict:
    """What `work` found, from its file under `root` where there is one of the same settings; else made now and written.

    With "seconds", the time that the work took, where it does not say so itself.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    file = root / f"{name}_{digest}.json"
    if file.exists():
        return json.loads(file.read_text())["result"]
    start = time.perf_counter()
    result = work()
    result.setdefault("seconds", time.perf_counter() - start)
    entries = {"settings": settings, "machine": machine(), "versions": versions("cleanlab"), "result": result}
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda handle: handle.write((json.dumps(entries, indent=1) + "\n").encode()))
    return result


def run_script(script: str, flags: list[str], root: Path, experiment: str) -> dict:
    """run.json of a script's run, in this process and without its output; it resumes or repeats like any experiment."""
    with contextlib.redirect_stdout(io.StringIO()):
        load_script(script).main([*flags, "--experiments_root", str(root), "--experiment_name", experiment])
    return json.loads((root / experiment / "run.json").read_text())


def documented() -> dict[str, list[str]]:
    """{script: words} of the README's commands for CIFAR."""
    lines = re.findall(r"^python3 (\S+\.py) (.*cifar.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return {script: shlex.split(flags) for script, flags in lines}


def machine() -> str:
    """The processor, as it calls itself, and its cores that this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        model = next((value.strip() for key, value in lines.items() if key.strip() == "model name"), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"

"""Start-up: seconds of --help, and from typing main.py to its first training step on digits.

python3 -m tests.benchmarks.startup
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from tests.benchmarks.measuring import Report, add_save_flag
from tests.tiny import ROOT
from utils.compute import choose

UNTIL_THE_FIRST_STEP = """
import os, sys, time
from torch.optim.optimizer import register_optimizer_step_post_hook
def done(*_):
    print(time.time() - float(os.environ["STARTED"]))
    sys.stdout.flush()
    os._exit(0)
register_optimizer_step_post_hook(done)
import main
main.main(["--experiments_root", sys.argv[1]])
"""


def seconds_of_help(script: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, script, "--help"], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_to_the_first_step() -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", UNTIL_THE_FIRST_STEP, folder]
        environment = os.environ | {"STARTED": str(time.time())}
        printed = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    return float(printed.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    add_save_flag(parser)
    args = parser.parse_args()
    report = Report("Start-up: seconds, median (min-max of the rounds)", choose(-1))
    works = {f"python3 {script} --help": lambda script=script: seconds_of_help(script)
             for script in ("main.py", "parallel.py", "relabel.py", "ssl.py")}  # fmt: skip
    works["python3 main.py, to the first training step"] = seconds_to_the_first_step
    works["python3 -c 'import torch, torch._dynamo'"] = lambda: seconds_of_import("torch, torch._dynamo")
    for name, work in works.items():
        work()
        times = [work() for _ in range(args.rounds)]
        report(f"{name:<46} {statistics.median(times):6.2f} ({min(times):.2f}-{max(times):.2f})")
    report.save("startup", args)


def seconds_of_import(modules: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {modules}"], cwd=ROOT, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

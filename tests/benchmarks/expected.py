"""What a script expects of its run before the work, beside what the run then takes: seconds, memory and disk.

    python3 -m tests.benchmarks.expected                    digits
    python3 -m tests.benchmarks.expected --shorter --data="--dataset folder --train_root ROOT --width 0.25"

Each script is typed twice, once with --estimate. Seconds are those from the moment that it names its epochs, which is
when the work begins, until the process ends; memory is ru_maxrss of the process; disk is the most that lay in the
folder, which is looked at a hundred times a second. ssl.py takes the scores of relabel.py.
--shorter: fewer epochs, with which an estimate is as hard, and a try is shorter.
"""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import compute_of, device_flags
from tests.benchmarks.peers import PeersReport
from tests.tiny import ROOT
from utils.command_line import running
from utils.command_line.flags import add_device
from utils.command_line.parser import Parser

SCRIPTS = {  # with fewer epochs
    "main.py": ["--epoch_1st", "10", "--steps_total", "60"],
    "parallel.py": ["--epoch_1st", "10"],
    "relabel.py": ["--epoch_1st", "20"],
    "ssl.py": ["--epoch", "20"],
}
EXPECTED = re.compile(r"expected: about ([\d.]+) (s|min|h|days), ([\d.]+) GB of memory, ([\d.]+) (MB|GB) of disk")
SECONDS = {"s": 1, "min": 60, "h": 3600, "days": 86400}
BYTES = {"MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Cost:
    seconds: float
    memory: float  # bytes
    disk: float  # bytes


def expected(printed: str) -> Cost:
    """What --estimate says, rounded as it is."""
    seconds, unit, memory, disk, of_disk = EXPECTED.search(printed).groups()
    return Cost(float(seconds) * SECONDS[unit], float(memory) * 1e9, float(disk) * BYTES[of_disk])


def taken(command: list[str], folder: Path) -> Cost:
    """By the command, from the moment that it names its epochs."""
    start, most, ended = time.perf_counter(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, bytes_in(folder))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    process = subprocess.Popen([sys.executable, "-u", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epochs: "):
            start = time.perf_counter()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    ended.set()
    watcher.join()
    if status:  # it has said why
        sys.exit(f"{command} ended with status {os.waitstatus_to_exitcode(status)}")
    return Cost(seconds, 1024 * usage.ru_maxrss, max(most, bytes_in(folder)))


def bytes_in(folder: Path) -> int:
    """What its files take on the disk; of those that vanish meanwhile, as they are written anew, some are missed."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                total += 512 * file.stat().st_blocks
    return total


def main(argv: list[str] | None = None) -> None:
    parser = Parser("-m tests.benchmarks.expected", __doc__, epilog=None)
    parser.add_argument("--data", default="", metavar="FLAGS", help="of the data and the width, for each script")
    parser.add_argument("--shorter", action="store_true", help="with fewer epochs")
    parser.add_argument("--scripts", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS), help="ssl.py last")
    parser.add_argument("--save", metavar="NAME", help="keep what is printed as tests/benchmarks/results/NAME.txt")
    add_device(parser)
    args = parser.parse_args(argv)
    report = PeersReport(compute_of(args), "Expected before the work, and taken")
    report(f"{'':12}{'seconds':>24}{'memory, GB':>20}{'disk, MB':>20}")
    report(f"{'':12}{'expected  taken  ratio':>24}{'expected  taken':>20}{'expected  taken':>20}")
    with tempfile.TemporaryDirectory() as root:
        for script in args.scripts:
            flags = [*shlex.split(args.data), *device_flags(args), "--experiments_root", root]
            flags += SCRIPTS[script] if args.shorter else []
            flags += ["--relabel"] if script == "ssl.py" else []
            estimate = [sys.executable, script, *flags, "--estimate"]
            said = expected(subprocess.run(estimate, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
            was = taken([script, *flags, "--experiment_name", script], Path(root) / script)
            report(
                f"{script:12}{said.seconds:10.0f}{was.seconds:7.0f}{was.seconds / said.seconds:7.2f}"
                f"{said.memory / 1e9:13.1f}{was.memory / 1e9:7.1f}{said.disk / 1e6:13.0f}{was.disk / 1e6:7.0f}"
            )
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

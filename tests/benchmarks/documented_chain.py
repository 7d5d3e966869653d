#!/usr/bin/env python3
"""The README's first and fourth command in full, on folders of images, in one call: times and accuracies of each phase.

    python3 -m tests.benchmarks.documented_chain --train_root CIFAR10_AS_FOLDERS               a GPU, hours
    python3 -m tests.benchmarks.documented_chain --train_root SMALL_FOLDER --shrink 100        a trial on a CPU

The schedules are the README's, divided by --shrink (each count at least 1); the data are `folder` sets instead of
downloads. The second stage is `patches` unless --second_root names another folder.
"""

import argparse
import shlex
from pathlib import Path

from tests.benchmarks.measuring import documented, run_script
from utils.command_line import running

COUNTS = {"--epoch_1st", "--epoch_2nd", "--step_number", "--epoch", "--epoch_begin", "--M"}
DATA = {
    "--first_stage_data_name", "--first_stage_num_classes", "--second_stage_data_name", "--second_stage_num_classes",
    "--second_stage_subset", "--dataset", "--num_classes", "--train_root", "--experiment_name",
}  # fmt: skip


def schedule(script: str) -> dict[str, list[str]]:
    """{flag: values} of the README's command for a script, without what says where the data are."""
    flags: dict[str, list[str]] = {}
    for word in documented()[script]:
        if word.startswith("--"):
            flags.setdefault(word, [])
            latest = word
        else:
            flags[latest].append(word)
    return {flag: values for flag, values in flags.items() if flag not in DATA}


def as_arguments(flags: dict[str, list[str]], shrink: float) -> list[str]:
    words = []
    for flag, values in flags.items():
        if flag in COUNTS:
            for value in values:  # --M comes several times
                words += [flag, str(max(1, round(int(value) / shrink)))]
        else:
            words += [flag, *values]
    return words


def run_and_report(script: str, flags: list[str], root: Path, name: str) -> None:
    record = run_script(script, flags, root, name)
    print(f"\n{script} on {record['device']}: {record['command']}")
    for phase, seconds in record["seconds"].items():
        print(f"  {phase:<28} {seconds:10.1f} s")
    for key, value in record["figures"].items():
        print(f"  {key:<28} {value:10.4f}" if isinstance(value, float) else f"  {key:<28} {value:>10}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_root", required=True, help="folder with train/CLASS/* and test/CLASS/*")
    parser.add_argument("--second_root", help="such a folder for the second stage")
    parser.add_argument("--shrink", type=float, default=1.0, help="divide every epoch and step count by this")
    parser.add_argument("--more", default="", metavar="FLAGS", help="more flags for both scripts, such as --compile")
    parser.add_argument("--root", type=Path, default=Path("experiments/documented"), help="where experiments are kept")
    args = parser.parse_args()
    more = shlex.split(args.more)
    second = ["--second_stage_data_name", "patches"]
    if args.second_root:
        second = ["--second_stage_data_name", "folder", "--second_stage_root", args.second_root]
    first = ["--first_stage_data_name", "folder", "--train_root", args.train_root]
    run_and_report(
        "main.py", [*as_arguments(schedule("main.py"), args.shrink), *first, *second, *more], args.root, "forget"
    )
    training = ["--dataset", "folder", "--train_root", args.train_root]
    run_and_report("ssl.py", [*as_arguments(schedule("ssl.py"), args.shrink), *training, *more], args.root, "ssl")


if __name__ == "__main__":
    running.run_script(lambda _: main())

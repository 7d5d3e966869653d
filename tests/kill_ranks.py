#!/usr/bin/env python3
"""Kill one of the processes of a script under torchrun, start it again until it finishes, and compare all bytes.

python3 -m tests.kill_ranks --kills 10             ten kills over the four scripts, two processes each; exit status 1
                                                   on any difference, and where the others do not end as they should
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.kill_and_resume import (
    NEEDED,
    Calm,
    Watch,
    differences,
    finish,
    folders,
    inputs,
    killed_at_the_end,
    start,
    undisturbed,
)
from utils.experiments.experiment import is_finished

CASES = ("main.py", "parallel.py", "relabel.py", "ssl.py", "ssl.py-posterior")
WITHIN = 30.0  # seconds for the others to end
LINE = "has ended"  # in what one of them says


def workers(torchrun: int) -> dict[int, int]:
    """{rank: process} of those that it has started."""
    found = {}
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
            with contextlib.suppress(OSError, KeyError):
                entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found[int(dict(e.partition(b"=")[::2] for e in entries)[b"RANK"])] = int(pid)
    return found


def running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def ended_at_the_end(process: subprocess.Popen):
    """As killed_at_the_end, and none of the processes that it has started is left behind."""
    with killed_at_the_end(process):
        try:
            yield process
        finally:
            for pid in workers(process.pid).values():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


def kill_one(case: str, root: Path, ranks: int, within: float, chance: random.Random) -> tuple[int | None, list[str]]:
    """Go on with a run and kill a random process of it, so many seconds after its first write at most.

    (Which, None where it came too late; what went wrong).
    """
    name = f"{case}-killed"
    watch = Watch(root, name)
    with ended_at_the_end(start(case, root, name, ranks)) as process:
        watch.wait(process, 1)
        time.sleep(chance.uniform(0, within))
        pids, victim = workers(process.pid), chance.randrange(ranks)
        if len(pids) < ranks or not running(pids[victim]):
            return None, []
        os.kill(pids.pop(victim), signal.SIGKILL)
        killed = time.monotonic()
        while any(map(running, pids.values())) and time.monotonic() < killed + WITHIN:
            time.sleep(0.02)
        took, wrong = time.monotonic() - killed, []
        if any(map(running, pids.values())):
            return victim, [f"{case}: others still run {WITHIN:.0f} s after process {victim} was killed"]
        _, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    if not lines and victim and is_finished(root / name):  # all had met at the end but rank 0, which then came too
        print(f"  process {victim} killed while it waited for the end, which came after {took:.1f} s", flush=True)
        return victim, []
    if len(lines) != 1 or LINE not in lines[0] or "Traceback" in errors.partition("torch/distributed/elastic")[0]:
        wrong.append(f"{case}: process {victim} was killed, and the others said: {errors}")
    print(f"  process {victim} killed, the others ended after {took:.1f} s: {'; '.join(lines)}", flush=True)
    return victim, wrong


def life(case: str, root: Path, ranks: int, kills: int, calm: Calm, chance: random.Random) -> tuple[int, list[str]]:
    """A run from its beginning to its end, one of its processes killed so often; (kills met, what went wrong)."""
    met, wrong = 0, []
    for _ in range(kills):
        victim, found = kill_one(case, root, ranks, 0.8 * calm.seconds / kills, chance)  # few come too late
        met, wrong = met + (victim is not None), wrong + found
    try:
        with ended_at_the_end(start(case, root, f"{case}-killed", ranks)) as process:
            finish(process)
        wrong += differences(case, root)
    except SystemExit as error:
        wrong.append(f"{case}: {error}")
    for folder in folders(root, f"{case}-killed"):
        if folder.exists() and not wrong:
            shutil.rmtree(folder)
    return met, wrong


def kill_ranks(kills: int, seed: int, root: Path, ranks: int = 2, cases: tuple[str, ...] = CASES) -> tuple[int, list]:
    """(Kills that met a running process, what went wrong); prints a line for each."""
    chance, calm, met, wrong = random.Random(seed), {}, 0, []
    inputs(root)
    for number, case in enumerate(cases):
        of_case = len(range(number, kills, len(cases)))
        for one in (NEEDED.get(case, case), case):
            if one not in calm and of_case:
                calm[one] = undisturbed(one, root, ranks)
                print(f"{one}: {calm[one].seconds:.1f} s of work undisturbed", flush=True)
        if of_case:
            met_here, wrong_here = life(case, root, ranks, of_case, calm[case], chance)
            met, wrong = met + met_here, wrong + wrong_here
            said = "; ".join(wrong_here) or "same bytes"
            print(f"{case}: {met_here} of {of_case} kills met it running, {said}", flush=True)
    return met, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="over all cases")
    parser.add_argument("--ranks", type=int, default=2, help="processes of each run")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="kill_ranks_"))
    met, wrong = kill_ranks(args.kills, args.seed, root, args.ranks, tuple(args.cases))
    print(f"seed {args.seed}: {met} of {args.kills} kills met a running process, {len(wrong)} went wrong")
    if wrong:
        print(f"the runs are kept in {root}", "\n".join(wrong), sep="\n")
    else:
        shutil.rmtree(root)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Kill the scripts at random moments, start them again until they finish, and compare all they leave byte by byte.

python3 -m tests.kill_and_resume --kills 25        25 kills over the scripts; exit status 1 on any difference
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.tiny import ROOT, TINY_ARGS

MORE = {  # what else has a state of its own
    "main.py": [
        *("--checkpoint_every", "2", "--save_best_AUC_model"),
        *("--freeze_earlySecondStage", "--unfreeze_secondStage", "2"),
    ],
    "ssl.py": ["--double_run", "--swa", "--swa_start", "1", "--labeled_batch_size", "20", "--epoch_begin", "2"],
    "main.py-auto": ["--checkpoint_every", "2", "--track_every", "auto", "--lr_2nd", "0.001"],
    "relabel.py-prediction": ["--relabel_by", "prediction"],
    "relabel.py-batches": ["--track_from", "batches"],
    "ssl.py-posterior": ["--runs", "2", "--relabel", "relabel.py-calm"],  # that of the undisturbed run
}
CASES = (*TINY_ARGS, *(case for case in MORE if case not in TINY_ARGS))  # a script, or SCRIPT-WAY


def command(case: str, root: Path, name: str) -> list[str]:
    script = case.partition("-")[0]
    flags = [*TINY_ARGS[script], *MORE.get(case, [])]
    if case == "ssl.py":
        flags += ["--scores", str(root / "scores.npy")]
    return [sys.executable, str(ROOT / script), *flags, "--experiments_root", str(root), "--experiment_name", name]


def start(case: str, root: Path, name: str) -> subprocess.Popen:
    return subprocess.Popen(command(case, root, name), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {errors}")


def undisturbed(case: str, root: Path) -> float:
    """Run a case to its end; the seconds between the appearance of its run.json and the end."""
    process = start(case, root, f"{case}-calm")
    begun = wait_for(root / f"{case}-calm" / "run.json", process)
    finish(process)
    return time.monotonic() - begun


def wait_for(file: Path, process: subprocess.Popen) -> float:
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    return time.monotonic()


def disturbed(case: str, root: Path, kills: int, seconds: float, chance: random.Random) -> int:
    """The same with `kills` SIGKILLs at random moments of the work; how many met a process that was still running."""
    met = 0
    for _ in range(kills):
        process = start(case, root, f"{case}-killed")
        wait_for(root / f"{case}-killed" / "run.json", process)
        time.sleep(chance.uniform(0, seconds))
        met += process.poll() is None
        process.kill()
        process.communicate()
    finish(start(case, root, f"{case}-killed"))
    return met


def differences(case: str, root: Path) -> list[str]:
    """Every array, weight and history file that is not byte for byte the undisturbed run's."""
    calm, killed = root / f"{case}-calm", root / f"{case}-killed"
    names = [file.name for pattern in ("*.npy", "*.pt", "history.csv", "dynamics.csv") for file in calm.glob(pattern)]
    return [
        f"{case}: {name}"
        for name in names
        if not (killed / name).exists() or (calm / name).read_bytes() != (killed / name).read_bytes()
    ]


def kill_and_resume(kills: int, seed: int, root: Path) -> tuple[int, list[str]]:
    """Spread `kills` over the cases; (kills that met a running process, files that differ)."""
    import numpy as np

    chance = random.Random(seed)
    np.save(root / "scores.npy", np.random.default_rng(seed).random(455))
    met, different = 0, []
    for k, case in enumerate(CASES):
        seconds = undisturbed(case, root)
        share = len(range(k, kills, len(CASES)))
        met += disturbed(case, root, share, seconds, chance)
        different += differences(case, root)
        print(f"{case}: {share} kills within {seconds:.1f} s of work each", flush=True)
    return met, different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        met, different = kill_and_resume(args.kills, args.seed, Path(root))
    print(
        f"seed {args.seed}: {met} of {args.kills} kills met a running process; files that differ: {different or 'none'}"
    )
    sys.exit(bool(different))


if __name__ == "__main__":
    main()

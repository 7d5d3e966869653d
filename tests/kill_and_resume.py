#!/usr/bin/env python3
"""Kill the scripts at random moments, start them again until they finish, and compare all they leave byte by byte.

python3 -m tests.kill_and_resume --kills 25        25 kills over the four scripts; exit status 1 on any difference
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
        "--checkpoint_every",
        "2",
        "--save_best_AUC_model",
        "--freeze_earlySecondStage",
        "--unfreeze_secondStage",
        "2",
    ],  # fmt: skip
    "ssl.py": ["--double_run", "--swa", "--swa_start", "1", "--labeled_batch_size", "20"],
}


def command(script: str, root: Path, name: str) -> list[str]:
    flags = [*TINY_ARGS[script], *MORE.get(script, [])]
    if script == "ssl.py":
        flags += ["--scores", str(root / "scores.npy")]
    return [sys.executable, str(ROOT / script), *flags, "--experiments_root", str(root), "--experiment_name", name]


def start(script: str, root: Path, name: str) -> subprocess.Popen:
    return subprocess.Popen(command(script, root, name), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {errors}")


def undisturbed(script: str, root: Path) -> float:
    """Run a script to its end; the seconds between the appearance of its run.json and the end."""
    process = start(script, root, f"{script}-calm")
    begun = wait_for(root / f"{script}-calm" / "run.json", process)
    finish(process)
    return time.monotonic() - begun


def wait_for(file: Path, process: subprocess.Popen) -> float:
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    return time.monotonic()


def disturbed(script: str, root: Path, kills: int, seconds: float, chance: random.Random) -> int:
    """The same with `kills` SIGKILLs at random moments of the work; how many met a process that was still running."""
    met = 0
    for _ in range(kills):
        process = start(script, root, f"{script}-killed")
        wait_for(root / f"{script}-killed" / "run.json", process)
        time.sleep(chance.uniform(0, seconds))
        met += process.poll() is None
        process.kill()
        process.communicate()
    finish(start(script, root, f"{script}-killed"))
    return met


def differences(script: str, root: Path) -> list[str]:
    """Every array, weight and history file that is not byte for byte the undisturbed run's."""
    calm, killed = root / f"{script}-calm", root / f"{script}-killed"
    names = [file.name for pattern in ("*.npy", "*.pt", "history.csv") for file in calm.glob(pattern)]
    return [
        f"{script}: {name}"
        for name in names
        if not (killed / name).exists() or (calm / name).read_bytes() != (killed / name).read_bytes()
    ]


def kill_and_resume(kills: int, seed: int, root: Path) -> tuple[int, list[str]]:
    """Spread `kills` over the scripts; (kills that met a running process, files that differ)."""
    import numpy as np

    chance = random.Random(seed)
    np.save(root / "scores.npy", np.random.default_rng(seed).random(455))
    met, different = 0, []
    for k, script in enumerate(TINY_ARGS):
        seconds = undisturbed(script, root)
        share = len(range(k, kills, len(TINY_ARGS)))
        met += disturbed(script, root, share, seconds, chance)
        different += differences(script, root)
        print(f"{script}: {share} kills within {seconds:.1f} s of work each", flush=True)
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

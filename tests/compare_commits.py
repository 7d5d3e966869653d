#!/usr/bin/env python3
"""Small forms of all four scripts at two commits, on this machine: does every array, weight and history file agree?

python3 -m tests.compare_commits OLD NEW        exit status 1 where a file differs or is there on one side only

Each commit is checked out into a work tree of its own and runs the very same commands. Arrays, histories and .pt files
are compared byte for byte; of a .pt file that differs the entries are named that do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests.tiny import ROOT

COMMON = "--width 0.1 --batch_size 50 --cuda_dev -1 --threads 2 --experiments_root {root}"
FIRST = "--first_stage_subset 0 1 2"
COMMANDS = {  # experiment: its command, in the order in which later ones read earlier ones
    "forget": f"main.py {FIRST} --epoch_1st 3 --steps_total 30 --M 2",
    "forget_options": "main.py --first_stage_subset 1 2 7 --epoch_1st 2 --steps_total 9 --track_every 4 "
    "--second_stage_data_name digits --second_stage_subset 5 6 --save_best_AUC_model --M_2nd 1 "
    "--first_stage_noise_type real_in_noise",
    "forget_reused": f"main.py {FIRST} --epoch_1st 3 --M 2 --steps_total 5 --lr_2nd 0.01 --no-track_CE "
    "--first_stage_from forget",
    "forget_stopped": f"main.py {FIRST} --epoch_1st 3 --steps_total 30 --second_stg_max_median_loss 1.0",
    "parallel": f"parallel.py {FIRST} --epoch_1st 3 --M 2",
    "parallel_loss": f"parallel.py {FIRST} --epoch_1st 2 --no-track_CE --seed 2",
    "relabel": f"relabel.py {FIRST} --epoch_1st 5 --warmup_e 2 --M 4 --lr_2nd 0.05",
    "relabel_resnet": f"relabel.py {FIRST} --epoch_1st 3 --warmup_e 2 --ce_loss_inWarmup --model_type preactResNet18",
    "ssl": "ssl.py --subset 0 1 2 --forget forget --parallel parallel --epoch 5 --epoch_begin 2 --M 4",
    "ssl_options": "ssl.py --subset 0 1 2 --relabel relabel --forget forget --f_FND --use_bmm --double_run --swa "
    "--swa_start 2 --labeled_batch_size 20 --epoch 4 --epoch_begin 1 --network PR18",
}


def run_all(tree: Path, root: Path) -> None:
    for name, command in COMMANDS.items():
        words = [*command.split(), *COMMON.format(root=root).split(), "--experiment_name", name]
        done = subprocess.run([sys.executable, *words], cwd=tree, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr}")


def differing(old: Path, new: Path) -> tuple[list[str], int]:
    """(What differs between two folders of experiments, how many files were compared)."""
    files = {
        side: {
            str(f.relative_to(side)) for pattern in ("*/*.npy", "*/*.pt", "*/history.csv") for f in side.glob(pattern)
        }
        for side in (old, new)
    }
    found = [f"{name}: only at one commit" for name in sorted(files[old] ^ files[new])]
    both = sorted(files[old] & files[new])
    for name in both:
        if (old / name).read_bytes() != (new / name).read_bytes():
            found.append(f"{name}: {entries_that_differ(old / name, new / name)}")
    return found, len(both)


def entries_that_differ(old: Path, new: Path) -> str:
    if old.suffix != ".pt":
        return "differs"
    ours, theirs = (torch.load(file, weights_only=True) for file in (old, new))
    keys = [key for key in ours.keys() | theirs.keys() if not same(ours.get(key), theirs.get(key))]
    return "only its entries " + ", ".join(
        f"{key} {difference(ours.get(key), theirs.get(key))}" for key in sorted(keys)
    )


def difference(old: object, new: object) -> str:
    if not isinstance(old, dict):
        return f"({old!r}, now {new!r})"
    return str(
        {key: (old.get(key), new.get(key)) for key in old.keys() | new.keys() if not same(old.get(key), new.get(key))}
    )


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        roots = []
        for side, commit in (("old", args.old), ("new", args.new)):
            tree, root = Path(folder) / side, Path(folder) / f"{side}_experiments"
            subprocess.run(["git", "worktree", "add", "-q", "--detach", str(tree), commit], cwd=ROOT, check=True)
            try:
                run_all(tree, root)
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
            roots.append(root)
        found, compared = differing(*roots)
    print(f"{args.old} and {args.new}: {len(COMMANDS)} commands, {compared} files compared, differing: {len(found)}")
    print("\n".join(found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

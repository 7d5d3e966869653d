"""Whether bf16 moves AUC or accuracy beyond the noise between seeds: the separations on digits in both precisions.

python3 -m tests.benchmarks.precision --seeds 1 2 3
"""

import argparse
import shlex
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import Report, add_save_flag, run_script
from utils.compute import choose

FIGURES = {
    "main.py": ["auc_stage1_loss", "auc_stage1_ce", "auc_forget_ce", "train_accuracy", "test_accuracy"],
    "parallel.py": ["auc_parallel_loss", "auc_parallel_ce", "auc_parallel_score", "test_accuracy"],
    "relabel.py": ["auc_relabel_loss", "test_accuracy"],
}


def figures(script: str, precision: str, seed: int, more: list[str], root: Path) -> dict:
    name = f"{script.removesuffix('.py')}_{precision}_{seed}"
    return run_script(script, ["--precision", precision, "--seed", str(seed), *more], root, name)["figures"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--scripts", nargs="+", default=list(FIGURES), choices=list(FIGURES))
    parser.add_argument("--more", default="", metavar="FLAGS", help="more flags of the scripts")
    add_save_flag(parser)
    args = parser.parse_args()
    report = Report("fp32 and bf16: mean and standard deviation over seeds, and bf16 - fp32 of each seed", choose(0))
    with tempfile.TemporaryDirectory() as root:
        for script in args.scripts:
            found = {
                precision: [figures(script, precision, seed, shlex.split(args.more), Path(root)) for seed in args.seeds]
                for precision in ("fp32", "bf16")
            }
            for key in FIGURES[script]:
                values = {precision: np.array([run[key] for run in runs]) for precision, runs in found.items()}
                spreads = " ".join(f"{kind} {v.mean():.4f} ± {v.std(ddof=1):.4f}" for kind, v in values.items())
                differences = " ".join(f"{d:+.4f}" for d in values["bf16"] - values["fp32"])
                report(f"{script:<12} {key:<18} {spreads}  differences {differences}")
    report.save("precision", args)


if __name__ == "__main__":
    main()

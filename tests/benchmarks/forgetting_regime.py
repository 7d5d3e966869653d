"""Forgetting where it should work: on a network that has memorised its labels. What does each second set and rate add?

    python3 -m tests.benchmarks.forgetting_regime                                   digits, three seeds
    python3 -m tests.benchmarks.forgetting_regime --first_stage_data_name folder --train_root ROOT \\
        --first_stage_noise_type random_in_noise --second patches digits OTHER_ROOT --save forgetting_photos

main.py memorises (no augmentation, no mixup, no averaged weights, no L_p, until 99 % of the labels are fitted) once per
seed; then each second set (a bundled one, or the root of an image folder) and each rate fine-tunes that same network.
AUCs of loss and neighbour cross-entropy before, at their best step (ORACLE, by the truth) and at the end of stage 2;
of stage 1's default score, of the mean rank of both at the end, and of the score that main.py chose without the truth.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np

import datasets
from tests.benchmarks import rows
from tests.benchmarks.measuring import compute_of, run_script
from tests.benchmarks.over_seeds import choices, parser_over_seeds
from tests.benchmarks.peers import PeersReport
from tests.benchmarks.tracked_steps import MEMORISE
from utils.command_line import running
from utils.command_line.parser import COUNT, RATE, Parser
from utils.data.choice import DataChoice

UNTIL_FITTED = [*MEMORISE, "--memorise_until", "0.99"]


def one_seed(args: argparse.Namespace, choice: DataChoice, report: PeersReport) -> dict[tuple[str, float], dict]:
    """{(second set, rate): {column: AUC}} for one seed."""
    stage1, found = None, {}
    for second in args.second:
        for rate in args.rates:
            name, flags = forgetting(args, choice, second, rate)
            run = f"memorised_{name}"
            if stage1 not in (None, run):
                flags += ["--first_stage_from", stage1]
            record = run_script("main.py", flags, args.root, run)
            stage1 = stage1 or run
            found[second, rate] = row = columns(args.root / run / "history.csv", record["figures"])
            what = ", ".join(f"{column} {value:.4f}" for column, value in row.items())
            report(f"seed {choice.seed}: {Path(second).name}, rate {rate:g}: {what}")
    return found


def forgetting(args: argparse.Namespace, choice: DataChoice, second: str, rate: float) -> tuple[str, list[str]]:
    """(A name of data, second set and rate, flags of a main.py that has memorised before it forgets)."""
    name, flags, _ = rows.typed(choice, args)
    flags += ["--epoch_1st", str(args.epochs), *UNTIL_FITTED, *second_set(second), "--lr_2nd", f"{rate:g}"]
    flags += ["--steps_total", str(args.steps), "--track_every", str(args.track_every)]
    return f"{name}_{Path(second).name}_{rate:g}", flags


def second_set(second: str) -> list[str]:
    if second in datasets.DATASETS:
        return ["--second_stage_data_name", second, "--second_stage_noise_type", "none"]
    return ["--second_stage_data_name", "folder", "--second_stage_root", second, "--second_stage_noise_type", "none"]


def columns(history: Path, figures: dict) -> dict[str, float]:
    """What a run found."""
    with open(history, newline="") as handle:
        rows = list(csv.DictReader(handle))
    stage1, stage2 = ([row for row in rows if row["stage"] == stage] for stage in "12")
    found = {
        "epochs of stage 1": int(stage1[-1]["epoch"]),
        "labels fitted": float(stage1[-1]["train_accuracy"]),
        "stage 1's score": float(stage1[-1]["auc_stage1_prediction"]),
        "its mean loss": float(stage1[-1]["auc_stage1_mean_loss"]),
    }
    for name in ("loss", "ce"):
        track = [float(row[f"auc_forget_{name}"]) for row in stage2]
        found |= {f"{name} before": track[0], f"{name} best, ORACLE": max(track), f"{name} at the end": track[-1]}
    return found | {"steps": int(stage2[-1]["step"]), "chosen": figures["auc_forget_score"]}


def table(seeds: list[dict[tuple[str, float], dict]], report: PeersReport) -> None:
    """Mean and, with several seeds, standard deviation of every column, a row for each second set and rate."""
    names = list(next(iter(seeds[0].values())))
    report("\nmean over seeds (standard deviation)\nsecond set, rate: " + "; ".join(names))
    for key in seeds[0]:
        values = np.array([[seed[key][name] for name in names] for seed in seeds])
        spread = values.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(len(names), math.nan)
        cells = [f"{mean:.4f} ({sd:.4f})" for mean, sd in zip(values.mean(axis=0), spread, strict=True)]
        report(f"{Path(key[0]).name}, {key[1]:g}: " + "; ".join(cells))


def make_parser() -> Parser:
    parser = parser_over_seeds("forgetting_regime", __doc__)
    group = parser.add_argument_group("forgetting")
    group.add_argument("--second", nargs="+", default=["patches"], help="bundled sets, or roots of folders")
    group.add_argument("--rates", type=RATE, nargs="+", default=[0.001, 0.003, 0.01, 0.05], help="of stage 2")
    add_stages(group, track_every=5)
    return parser


def add_stages(group: argparse._ArgumentGroup, track_every: int) -> None:
    group.add_argument("--epochs", type=COUNT, default=80, help="of stage 1, at most")
    group.add_argument("--steps", type=COUNT, default=100, help="of stage 2")
    group.add_argument("--track_every", type=COUNT, default=track_every, metavar="STEPS", help="as in main.py")
    rows.add_width(group)


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    compute = compute_of(args)
    report = PeersReport(compute, "Forgetting on a network that has memorised its labels")
    table([one_seed(args, choice, report) for choice in of_seeds], report)
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

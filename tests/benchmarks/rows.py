"""One row of the results table: a separation, its peers at equal compute, and the classifier that is trained after it.

    python3 -m tests.benchmarks.rows --seeds 11 12 13
    python3 -m tests.benchmarks.rows --first_stage_data_name folder --train_root ROOT \\
        --first_stage_noise_type random_in_noise --seeds 11 12 13 --save photos_random_0.4

Ours is what a user types, `relabel.py` and `ssl.py --relabel`, with default flags but for the width. The peers
(tests/benchmarks/peers.py) are plain cross-entropy, with the same network and as many images in training as relabel.py,
and the ceiling is the same on the true labels. gap closed = (ours − cross-entropy) / (ceiling − cross-entropy), last
epochs; ORACLE is chosen with the truth. Finished parts under --root are used again, and one that was cut off goes on:
repeat the command.
"""

import argparse
import shlex
from pathlib import Path

import numpy as np

import models
from tests.benchmarks import peers
from tests.benchmarks.measuring import compute_of, device_flags, run_script
from tests.benchmarks.over_seeds import choices, parser_over_seeds
from utils.command_line import running
from utils.command_line.parser import COUNT, Parser, number
from utils.compute import Compute
from utils.data.choice import DataChoice
from utils.data.noisy_data import prepare

WIDTH = 0.25
FOLDS = 4
OURS = "test: ssl.py, last epoch"
CROSS_ENTROPY, BEST = "test: cross-entropy, last epoch", "test: cross-entropy, best epoch, ORACLE"
CEILING = "test: true labels, last epoch"


def one_seed(args: argparse.Namespace, choice: DataChoice, compute: Compute, report: peers.PeersReport) -> dict:
    """{row: AUC, test accuracy or share} for one seed; rows without a value are left out."""
    seed = choice.seed
    name, separation, training = typed(choice, args)
    relabel = run_script("relabel.py", separation + shlex.split(args.separation), args.root, f"relabel_{name}")
    training += [*shlex.split(args.training), "--relabel", f"relabel_{name}"]
    ssl = run_script("ssl.py", training, args.root, f"ssl_{name}")
    rows = {
        "AUC: relabel.py, default score": relabel["figures"].get("auc_relabel_score"),
        "AUC: ssl.py, its score": ssl["figures"].get("auc_ssl_score"),
        OURS: ssl["figures"]["test_accuracy"],
        "share wrong: estimated by relabel.py": relabel["figures"]["noise_ratio_estimated"],
        "share wrong: truth": relabel["figures"].get("noise_ratio_realised"),
        "p_noisy of relabel.py: calibration error": relabel["figures"].get("p_noisy_calibration_error"),
    }
    rows |= called(args.root / f"relabel_{name}")
    rows = {row: value for row, value in rows.items() if value is not None}
    took = ", ".join(f"{s} {sum(r['seconds'].values()):.0f} s" for s, r in (("relabel.py", relabel), ("ssl.py", ssl)))
    report(f"seed {seed}: " + "; ".join(f"{row} {value:.4f}" for row, value in rows.items()) + f" ({took})")

    settings = peers.Settings(
        epochs=args.epochs or sum(relabel["epochs"]), schedule="cosine", lr=0.1, wd=5e-4, batch_size=100,
        network=models.CNN13, width=args.width, folds=FOLDS, device=compute.device.type, precision=compute.precision,
        compiled=compute.compile,
    )  # fmt: skip
    data = prepare(choice, compute)
    ceiling = bool(data.noise_ratio)  # without noise the true labels are those of the plain training
    rows |= peers.rows_of(data, compute, settings, seed, args.root / "peers", ceiling, report)
    if ceiling:
        rows["gap closed by ssl.py"] = (rows[OURS] - rows[CROSS_ENTROPY]) / (rows[CEILING] - rows[CROSS_ENTROPY])
    return rows


def typed(choice: DataChoice, args: argparse.Namespace) -> tuple[str, list[str], list[str]]:
    """(A name of the data, flags of relabel.py for them, and of ssl.py): default ones but for width and device."""
    name = f"{choice.name}_{choice.noise_type}_{choice.noise_ratio:g}_{choice.seed}"
    usual = ["--width", f"{args.width:g}", "--seed", str(choice.seed), *device_flags(args)]
    usual += [] if choice.root is None else ["--train_root", str(choice.root)]
    of_data = {"noise_type": [choice.noise_type]}
    if choice.noise_type != "none":
        of_data["noise_ratio"] = [f"{choice.noise_ratio:g}"]
    if choice.subset is not None:
        of_data["subset"] = [str(number) for number in choice.subset]
        name += "_classes" + "-".join(of_data["subset"])
    separation = ["--first_stage_data_name", choice.name, *flags(of_data, "first_stage_"), *usual]
    return name, separation, ["--dataset", choice.name, *flags(of_data), *usual]


def called(experiment: Path) -> dict[str, float]:
    """Of the labels that p_noisy calls wrong, or right, with some probability, the share that is wrong."""
    if not (experiment / "clean_labels.npy").exists():
        return {}
    p_noisy, labels, clean = (np.load(experiment / f"{name}.npy") for name in ("p_noisy", "labels", "clean_labels"))
    ranges = {"called wrong with 0.9 or more": p_noisy >= 0.9, "with less than 0.05": p_noisy < 0.05}
    return {f"share wrong: {name}": float(np.mean((labels != clean)[of])) for name, of in ranges.items() if of.any()}


def flags(values: dict[str, list[str]], prefix: str = "") -> list[str]:
    return [word for name, words in values.items() for word in (f"--{prefix}{name}", *words)]


def compare(seeds: list[dict[str, float]], report: peers.PeersReport) -> None:
    """Seed by seed: how far above the best peer the ranking is, and the classifier above cross-entropy's best epoch."""
    ours = ("AUC: relabel.py, default score", "AUC: ssl.py, its score")
    margins = []
    for seed in seeds:
        others = [value for row, value in seed.items() if row.startswith("AUC") and row not in ours]
        if others:
            margins.append(seed[ours[0]] - max(others))
    if margins:
        report(f"relabel.py's AUC above the best peer's: {np.mean(margins):+.4f}, worst seed {min(margins):+.4f}")
    margins = [seed[OURS] - seed[BEST] for seed in seeds]
    report(f"ssl.py's test above cross-entropy's best epoch: {np.mean(margins):+.4f}, worst seed {min(margins):+.4f}")


def make_parser() -> Parser:
    parser = parser_over_seeds("rows", __doc__)
    add_ours_and_epochs(parser.add_argument_group("row"))
    return parser


def add_ours_and_epochs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--separation", default="", metavar="FLAGS", help="more flags of relabel.py, for a search")
    group.add_argument("--training", default="", metavar="FLAGS", help="more flags of ssl.py, for a search")
    group.add_argument("--epochs", type=COUNT, help="of the peers (default: as many as relabel.py's)")
    add_width(group)


def add_width(group: argparse._ArgumentGroup) -> None:
    """Of all networks; not that of the scripts, which is another one for digits and for photographs."""
    group.add_argument("--width", type=number(float, 0, 8, low_open=True), default=WIDTH, metavar="FACTOR")


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    compute = compute_of(args)
    report = peers.PeersReport(compute, "A row of the results table: relabel.py, ssl.py after it, and their peers")
    seeds = [one_seed(args, choice, compute, report) for choice in of_seeds]
    peers.table(seeds, report)
    compare(seeds, report)
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

"""Which layers forget? Stage 2 of main.py with some of the layers frozen, and with all the others frozen.

    python3 -m tests.benchmarks.frozen_layers                     digits, three seeds; a figure and a table
    python3 -m tests.benchmarks.frozen_layers --first_stage_data_name folder --train_root ROOT \\
        --first_stage_noise_type random_in_noise --second OTHER_ROOT --lr_2nd 0.05 --save frozen_layers_photographs

main.py memorises once per seed (tests/benchmarks/forgetting_regime.py); the same network is then fine-tuned on the
second set again and again, each time with other layers frozen. AUC of the loss on the first set along stage 2, mean
over seeds; before, highest and last one in the table. Finished runs under --root are used again.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from tests.benchmarks import forgetting_regime
from tests.benchmarks.measuring import compute_of, run_script
from tests.benchmarks.over_seeds import choices, parser_over_seeds
from tests.benchmarks.peers import PeersReport
from utils.command_line import running
from utils.command_line.parser import RATE, Parser
from utils.data.choice import DataChoice
from utils.results.drawing import curve_style, finish, stacked_panels

PARTS = {  # of PreAct-ResNet-18, from the image to the classes
    "stem, blocks 0-1": ["stem.*", "blocks.[01].*"],
    "blocks 2-3": ["blocks.[23].*"],
    "blocks 4-5": ["blocks.[45].*"],
    "blocks 6-7": ["blocks.[67].*", "bn.*"],
}
WAYS = {"nothing frozen": []} | {f"{part} frozen": patterns for part, patterns in PARTS.items()}
ALONE = {
    f"{part} alone moves": [pattern for other, patterns in PARTS.items() if other != part for pattern in patterns]
    for part in PARTS
}


def one_seed(args: argparse.Namespace, choice: DataChoice) -> dict[str, dict[int, float]]:
    """{way: {tracked step: AUC of the loss}} for one seed."""
    stage1, found = None, {}
    for way, patterns in (WAYS | ALONE).items():
        name, flags = forgetting_regime.forgetting(args, choice, args.second, args.lr_2nd)
        run = f"{way.replace(' ', '_').replace(',', '')}_{name}"
        flags += ["--freeze_layers", *patterns] if patterns else []
        run_script("main.py", flags + (["--first_stage_from", stage1] if stage1 else []), args.root, run)
        stage1 = stage1 or run
        with open(args.root / run / "history.csv", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["stage"] == "2"]
        found[way] = {int(row["step"]): float(row["auc_forget_loss"]) for row in rows}
    return found


def at_steps(curve: dict[int, float], steps: list[int]) -> np.ndarray:
    """One that diverged, and so ended early, stays where it was."""
    return np.interp(steps, list(curve), list(curve.values()))


def in_words(args: argparse.Namespace, choice: DataChoice) -> str:
    """What the figure is of; roots of folders by the ends of their paths."""
    places = (choice.root or choice.name, args.second)
    first, second = ("/".join(Path(place).resolve().parts[-2:]) if "/" in place else place for place in places)
    seeds = " ".join(map(str, args.seeds))
    noise = f"{choice.noise_type} {choice.noise_ratio:g}"
    return f"{first}, {noise}, then {second}, rate {args.lr_2nd:g}, mean of seeds {seeds}"


def draw(path: Path, curves: dict[str, np.ndarray], steps: list[int], subject: str) -> None:
    """Above: layers frozen; below: all the others."""
    figure, panels = stacked_panels([2.6, 2.6], share_x=True)
    everything = next(iter(WAYS))
    for panel, ways, title in zip(
        panels, (WAYS, ALONE), ("these layers are frozen", "these layers alone move"), strict=True
    ):
        panel.plot(steps, curves[everything], label=everything, **curve_style(0))
        for place, (way, part) in enumerate(zip([way for way in ways if way != everything], PARTS, strict=True), 1):
            panel.plot(steps, curves[way], label=part, **curve_style(place))
        panel.set(ylabel="AUC of the loss", title=title)
    panels[-1].set_xlabel("step of stage 2")
    handles = {line.get_label(): line for line in panels[0].get_lines()}
    finish(figure, path, "Which layers forget the wrong labels first?", subject, handles, columns=3)


def make_parser() -> Parser:
    parser = parser_over_seeds("frozen_layers", __doc__)
    group = parser.add_argument_group("forgetting")
    group.add_argument("--second", default="patches", help="a bundled set, or the root of a folder")
    group.add_argument("--lr_2nd", type=RATE, default=0.01, metavar="LR", help="of stage 2")
    forgetting_regime.add_stages(group, track_every=2)
    group.add_argument("--figure", type=Path, metavar="FILE", help="where to draw it (default: ROOT/frozen_layers.png)")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    compute = compute_of(args)
    report = PeersReport(compute, "Which layers forget: stage 2 of main.py with layers frozen")
    seeds = [one_seed(args, choice) for choice in of_seeds]
    steps = list(max((curve for seed in seeds for curve in seed.values()), key=len))
    aucs = {way: np.array([at_steps(seed[way], steps) for seed in seeds]) for way in seeds[0]}
    report("AUC of the loss (mean ± sd over seeds): before stage 2, the highest (ORACLE), at its end")
    for way, of in aucs.items():
        ends = (of[:, 0], of.max(axis=1), of[:, -1])
        cells = (f"{end.mean():.4f} ± {end.std(ddof=1) if len(end) > 1 else 0:.4f}" for end in ends)
        report(f"{way:<32}" + "   ".join(cells))
    path = args.figure or args.root / "frozen_layers.png"
    draw(path, {way: of.mean(axis=0) for way, of in aucs.items()}, steps, in_words(args, of_seeds[0]))
    report(f"figure: {path.name}")
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

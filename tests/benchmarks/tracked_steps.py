"""Which steps of stage 2 need tracking: fewer of them, fixed and --track_every auto, beside all of them.

    python3 -m tests.benchmarks.tracked_steps                               digits, memorised, three seeds
    python3 -m tests.benchmarks.tracked_steps --main "--lr_2nd 0.001"       more flags of main.py

main.py memorises and tracks every step of stage 2, once per seed; then each other way of --every takes that stage 1
over. A way's curve of AUCs is drawn straight between its tracked steps: how far is it from the dense one, over all
steps? The scores of the last step must be the same. The chosen score may be another one: it is chosen among what was
tracked. --save keeps the table, and the curves of the neighbour cross-entropy as a figure beside it.
"""

import argparse
import csv
import shlex
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from tests.benchmarks import rows
from tests.benchmarks.measuring import RESULTS, compute_of, run_script
from tests.benchmarks.over_seeds import choices, parser_over_seeds
from tests.benchmarks.peers import PeersReport
from utils.command_line import running
from utils.command_line.parser import Parser
from utils.data.choice import DataChoice
from utils.methods.forgetting_flags import AUTO, count_or_auto
from utils.results.drawing import LINES, STYLE, curve_style, finish, stacked_panels
from utils.results.tables import Row, Spread, Table, as_text

MEMORISE = ["--augment", "none", "--mixup", "0", "--ema", "0", "--balance", "0"]
SCORES = ("ce", "loss")


@dataclass(frozen=True)
class Run:
    """What main.py left of one seed."""

    steps: list[int]  # tracked
    aucs: dict[str, list[float]]  # of SCORES, at those steps
    last: dict[str, np.ndarray]  # of SCORES, float32 (N,)
    chosen: float  # AUC of the default score
    seconds: float  # of stage 2

    def curve(self, score: str, steps: int) -> np.ndarray:
        """AUC at each of `steps` + 1 steps, from 0."""
        return np.interp(np.arange(steps + 1), self.steps, self.aucs[score])


def one_seed(args: argparse.Namespace, choice: DataChoice) -> dict[int | str, Run]:
    """{way: its run}; the first tracks every step."""
    name, flags, _ = rows.typed(choice, args)
    flags += [*MEMORISE, *shlex.split(args.main)]
    found = {}
    for every in [1, *args.every]:
        more = [] if every == 1 else ["--first_stage_from", f"tracked_{name}_1"]
        run = f"tracked_{name}_{every}"
        record = run_script("main.py", [*flags, "--track_every", str(every), *more], args.root, run)
        found[every] = read(args.root / run, record)
    return found


def read(folder: Path, record: dict) -> Run:
    with open(folder / "history.csv", newline="") as handle:
        history = [row for row in csv.DictReader(handle) if row["stage"] == "2"]
    aucs = {score: [float(row[f"auc_forget_{score}"]) for row in history] for score in SCORES}
    last = {score: np.load(folder / f"forget_{score}.npy") for score in SCORES}
    steps = [int(row["step"]) for row in history]
    return Run(steps, aucs, last, record["figures"]["auc_forget_score"], record["seconds"]["stage2"])


def columns(run: Run, dense: Run) -> dict[str, float]:
    """A run beside that of the same seed which tracked every step."""
    found = {"tracked": len(run.steps), "of all": len(run.steps) / len(dense.steps), "seconds": run.seconds}
    for score in SCORES:
        away = np.abs(run.curve(score, dense.steps[-1]) - dense.aucs[score])
        found |= {f"auc_{score}, mean": away.mean(), f"auc_{score}, max": away.max()}
    found["last scores, max"] = max(float(np.abs(run.last[score] - dense.last[score]).max()) for score in SCORES)
    return found | {"auc_forget_score": run.chosen}


def table(seeds: list[dict[int | str, Run]]) -> Table:
    """Over seeds; mean and max are of how far a curve is from the dense one."""
    lines = []
    for way in seeds[0]:
        found = [columns(seed[way], seed[1]) for seed in seeds]
        lines.append(Row([str(way)], [Spread.of(of[name] for of in found) for name in found[0]]))
    return Table(["--track_every"], list(found[0]), lines)


@matplotlib.rc_context(STYLE)
def draw(path: Path, seeds: dict[int, dict[int | str, Run]], subject: str) -> None:
    """The curves of auto on the dense ones, a panel per seed."""
    figure, panels = stacked_panels([2.0] * len(seeds), share_x=True)
    handles = {}
    for panel, (seed, runs) in zip(panels, seeds.items(), strict=True):
        dense, auto = runs[1], runs[AUTO]
        handles["every step"] = panel.plot(dense.steps, dense.aucs["ce"], lw=1.2, **curve_style(2))[0]
        style = curve_style(0) | {"ls": LINES[1], "marker": "o", "ms": 4}
        handles["--track_every auto"] = panel.plot(auto.steps, auto.aucs["ce"], lw=1.2, **style)[0]
        panel.set_ylabel(f"AUC, seed {seed}")
    panels[-1].set_xlabel("step of stage 2")
    finish(figure, path, "Neighbour cross-entropy over stage 2, and the steps that auto tracks", subject, handles)


def make_parser() -> Parser:
    parser = parser_over_seeds("tracked_steps", __doc__)
    group = parser.add_argument_group("tracked steps")
    rows.add_width(group)
    group.add_argument(
        "--every", type=count_or_auto, nargs="+", default=[4, AUTO], metavar="STEPS", help="as main.py's --track_every"
    )
    group.add_argument("--main", default="", metavar="FLAGS", help="more flags of main.py")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    compute = compute_of(args)
    report = PeersReport(compute, "Stage 2 with fewer tracked steps, beside the same with all of them: mean ± sd (n)")
    report("auc_ce and auc_loss: how far the curve is from that of all steps, mean and max over the steps\n")
    seeds = {choice.seed: one_seed(args, choice) for choice in of_seeds}
    report(as_text(table(list(seeds.values()))))
    if AUTO in args.every:
        for seed, runs in seeds.items():
            report(f"seed {seed}, steps that auto tracked: {' '.join(map(str, runs[AUTO].steps))}")
    report.save(args.save, args)
    if args.save and AUTO in args.every:
        draw(RESULTS / f"{args.save}.png", seeds, of_seeds[0].in_words().rpartition(", seed")[0])


if __name__ == "__main__":
    running.run_script(main)

"""Scores of the training batches (--track_from batches) beside those of a pass after every epoch: AUC and seconds.

    python3 -m tests.benchmarks.track_from                                  digits, three seeds
    python3 -m tests.benchmarks.track_from --ways "main.py, memorising" --epochs 80

main.py's stage 1 with default flags and with those that memorise (where nothing is mixed), relabel.py, and ssl.py after
a relabel.py with default flags; the AUC of the scores that are accumulated over the epochs, of the default ones, test
accuracy, and the seconds of the trainings.
Finished runs under --root are used again, and one that was cut off goes on: repeat the command.
"""

import argparse
import re

from tests.benchmarks import rows
from tests.benchmarks.measuring import compute_of, run_script
from tests.benchmarks.over_seeds import choices, parser_over_seeds, table_over_seeds
from tests.benchmarks.peers import PeersReport
from tests.benchmarks.tracked_steps import MEMORISE
from utils.command_line import running
from utils.command_line.parser import COUNT, Parser
from utils.data.choice import DataChoice
from utils.scoring.accumulated import NAMES
from utils.scoring.tracking import BATCHES, PASSES
from utils.separations import FORGET

STAGE1_ALONE = ["--steps_total", "1", "--no-track_CE"]
RELABEL, SSL = "relabel.py", "ssl.py after relabel.py"
WAYS = {  # script, prefix of its accumulated scores, phases, more flags
    "main.py, default flags": ("main.py", "stage1", ["stage1"], STAGE1_ALONE),
    "main.py, memorising": ("main.py", "stage1", ["stage1"], [*STAGE1_ALONE, *MEMORISE]),
    RELABEL: ("relabel.py", "relabel", ["warm_up", "relabelling"], []),
    SSL: ("ssl.py", "ssl", ["run1"], []),
}


def one_seed(args: argparse.Namespace, choice: DataChoice) -> dict[tuple[str, str], dict[str, float]]:
    """{(way, where the scores are from): {column: value}} for one seed."""
    name, separation, training = rows.typed(choice, args)
    separation += [] if args.epochs is None else ["--epoch_1st", str(args.epochs)]
    training += [] if args.epochs is None else ["--epoch", str(args.epochs)]
    found = {}
    for way in args.ways:
        script, prefix, phases, more = WAYS[way]
        flags = separation
        if way == SSL:
            run_script(RELABEL, separation, args.root, f"relabel_{name}")
            flags = [*training, "--relabel", f"relabel_{name}"]
        for source in (PASSES, BATCHES):
            words = [*flags, *more, "--track_from", source]
            record = run_script(script, words, args.root, f"{re.sub('[^a-z0-9]+', '_', way)}_{source}_{name}")
            figures = record["figures"]
            columns = {score: figures[f"auc_{prefix}_{score}"] for score in NAMES}
            columns["default score"] = figures.get(f"auc_{FORGET.key if script == FORGET.script else prefix}_score")
            columns["share wrong"] = figures["noise_ratio_estimated"]
            columns["test accuracy"] = figures.get("test_accuracy")
            found[way, source] = columns | {"seconds": sum(record["seconds"][phase] for phase in phases)}
    return found


def make_parser() -> Parser:
    parser = parser_over_seeds("track_from", __doc__)
    group = parser.add_argument_group("where scores are from")
    rows.add_width(group)
    group.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    group.add_argument("--epochs", type=COUNT, help="of each training (default: the scripts')")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    compute = compute_of(args)
    report = PeersReport(compute, "Scores of training batches beside those of passes: AUC, mean ± sd (n)")
    report(table_over_seeds([one_seed(args, choice) for choice in of_seeds], ["training", "--track_from"]))
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

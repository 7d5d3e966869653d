"""What is each thing worth that keeps a network from memorising wrong labels? Each alone, and all but each.

    python3 -m tests.benchmarks.resisting                                    digits, three seeds
    python3 -m tests.benchmarks.resisting --first_stage_data_name folder --train_root ROOT \\
        --first_stage_noise_type random_in_noise --save resisting_photographs

Stage 1 of main.py, with default flags but for those that take things away: AUC of the last loss, of the scores that are
accumulated over the epochs and of the default one; the share of the (wrong and right) labels that the network agrees
with in the end, on training images as they are augmented and mixed; test accuracy.
Finished runs under --root are used again, and one that was cut off goes on: repeat the command.
"""

import argparse

from tests.benchmarks import rows
from tests.benchmarks.measuring import compute_of, run_script
from tests.benchmarks.over_seeds import choices, parser_over_seeds, table_over_seeds
from tests.benchmarks.peers import PeersReport
from tests.benchmarks.track_from import STAGE1_ALONE
from utils.command_line import running
from utils.command_line.parser import COUNT, Parser
from utils.data.choice import DataChoice
from utils.scoring.accumulated import NAMES

WITHOUT = {  # what takes each of them away
    "mixup": ["--mixup", "0"],
    "averaged weights": ["--ema", "0"],
    "L_p": ["--balance", "0"],
    "cosine rate": ["--schedule", "steps"],
    "augmentation": ["--augment", "none"],
}


def without(*names: str) -> list[str]:
    return [word for name in names for word in WITHOUT[name]]


WAYS = (
    {"none of them": without(*WITHOUT)}
    | {f"{name} alone": without(*(other for other in WITHOUT if other != name)) for name in WITHOUT}
    | {"all of them (default)": []}
    | {f"all but {name}": without(name) for name in WITHOUT}
    | {"all, standard augmentation": ["--augment", "standard"]}
)


def one_seed(args: argparse.Namespace, choice: DataChoice) -> dict[tuple[str], dict[str, float | None]]:
    """{(way,): {column: value}} for one seed."""
    name, separation, _ = rows.typed(choice, args)
    separation += [*STAGE1_ALONE, *([] if args.epochs is None else ["--epoch_1st", str(args.epochs)])]
    found = {}
    for place, (way, flags) in enumerate(WAYS.items()):
        figures = run_script("main.py", [*separation, *flags], args.root, f"way{place}_{name}")["figures"]
        columns = {score: figures[f"auc_stage1_{score}"] for score in ("loss", *NAMES)}
        columns |= {"default score": figures["auc_forget_score"], "labels agreed with": figures["train_accuracy"]}
        found[way,] = columns | {"test accuracy": figures.get("test_accuracy")}
    return found


def make_parser() -> Parser:
    parser = parser_over_seeds("resisting", __doc__)
    group = parser.add_argument_group("resisting")
    rows.add_width(group)
    group.add_argument("--epochs", type=COUNT, help="of stage 1 (default: main.py's)")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    of_seeds = choices(args)
    compute = compute_of(args)
    report = PeersReport(compute, "What keeps a network from memorising, each alone and all but each: mean ± sd (n)")
    report(table_over_seeds([one_seed(args, choice) for choice in of_seeds], ["stage 1 of main.py"]))
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

"""Tables over seeds: mean ± sd (n) of the figures of finished experiments that differ by nothing but the seed.

python3 -m utils.summary experiments                                        a row for each setting that was tried
python3 -m utils.summary experiments --by noise_ratio --figures test_accuracy --format latex --out table.tex

The sd is that of a sample, over n - 1. Chosen with the true labels, the best of a run's test accuracies is an oracle.
"""

from __future__ import annotations

from pathlib import Path

from utils.command_line.parser import Parser
from utils.command_line.running import run_script
from utils.errors import UserError
from utils.files import write_atomically
from utils.results.tables import FORMATS


def parser() -> Parser:
    parser = Parser("-m utils.summary", __doc__, epilog=None)
    parser.add_argument("experiments_root", metavar="EXPERIMENTS_ROOT", help="where experiments are kept")
    parser.add_argument(
        "--by",
        nargs="+",
        metavar="FLAG",
        help="group by these settings only, named like flags without dashes; relabel.FLAG is that of the relabel.py "
        "run that an ssl.py run read (default: by every setting but seed, name and device)",
    )
    parser.add_argument(
        "--figures",
        nargs="+",
        metavar="NAME",
        help="as in run.json; auc_score: the AUC of each script's default score "
        "(default: test_accuracy auc_score noise_ratio_estimated)",
    )
    parser.add_argument("--format", choices=list(FORMATS), default="text", help="of the table")
    parser.add_argument("--out", metavar="FILE", help="write it there instead of printing it")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)

    from utils.experiments.record import finished_records
    from utils.results.seed_groups import seed_table, setting_name

    records = finished_records(Path(args.experiments_root))
    if not records:
        raise UserError(f"there is no finished experiment under {args.experiments_root}", "name another folder")
    table = seed_table(records, args.by and [setting_name(flag) for flag in args.by], args.figures)
    text = FORMATS[args.format](table)
    if args.out is None:
        print(text)
    else:
        write_atomically(args.out, lambda handle: handle.write(f"{text}\n".encode(errors="surrogateescape")))
        print(args.out)


if __name__ == "__main__":
    run_script(main, remedy="free some")

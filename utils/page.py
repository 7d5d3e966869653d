"""suspects.html of a finished experiment once more: with more pictures, or of a set that has no page by default.

python3 -m utils.page NAME --report 5000             without --report as many as relabel.py shows by default

Nothing is trained. Decisions stay: the browser keeps them under the experiment's name and data.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from utils.command_line.parser import COUNT, Parser, add_finished_experiment
from utils.command_line.running import run_script
from utils.errors import UserError

if TYPE_CHECKING:
    from utils.data.noisy_data import NoisyData
    from utils.experiments.record import Record


def parser() -> Parser:
    parser = Parser("-m utils.page", __doc__, epilog=None)
    add_finished_experiment(parser)
    shown = "samples, the worst first (default: all suspects, at least 1000 samples)"
    parser.add_argument("--report", type=COUNT, metavar="N", help=shown)
    parser.add_argument("--train_root", metavar="FOLDER", help="where the originals lie now (default: where they lay)")
    return parser


def write(args: argparse.Namespace) -> None:
    """The page, in place of the one that is there. Raises UserError where the data are no longer those of the run."""
    from utils.experiments.experiment import locked
    from utils.experiments.record import finished_named

    path = finished_named(args.experiment, args.experiments_root).path
    with locked(path, may_only_read=False):  # whoever overwrites it now is to have it alone
        write_of(finished_named(str(path), args.experiments_root), args)


def write_of(record: Record, args: argparse.Namespace) -> None:
    """What `write` does, once nobody else can work in the folder."""
    from utils.results.suspect_files import posterior_of, suspects_of, write_page
    from utils.results.twin_files import contradicting, twins_of

    data = data_of(record, args.train_root)
    key = record["method"]
    p_noisy, score = (record.read_array(name) for name in ("p_noisy", f"{key}_score"))
    twins = contradicting(twins_of(data), data)
    suspects = suspects_of(data, {f"{key}_score": score}, p_noisy, posterior_of(record), twins)
    write_page(record, data, suspects, args.report, twins, print)


def data_of(record: Record, train_root: str | None) -> NoisyData:
    """What an experiment judged, its files perhaps in another folder now."""
    from utils.compute import choose
    from utils.data.choice import check_root, first_choice
    from utils.data.noisy_data import prepare
    from utils.experiments.record import require_same_data

    try:
        choice = first_choice(argparse.Namespace(**record["settings"]))
        if train_root is not None:
            check_root(choice.name, train_root, "--train_root")
            choice = replace(choice, root=train_root)
        data = prepare(choice, choose(-1), with_test=False)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # lacks a flag, or has what none takes
        what = f"{record.path / 'run.json'} is of another version, or damaged ({error})"
        raise UserError(what, "run it again with --overwrite") from error
    require_same_data(data.fingerprint(), record["data"], record.path.name)
    return data


def main(argv: list[str] | None = None) -> None:
    write(parser().parse_args(argv))


if __name__ == "__main__":
    run_script(main)

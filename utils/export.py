"""Taking a cleaned set away: what is suspected, or what was decided in suspects.html, as a folder or a file of labels.

python3 -m utils.export NAME --p_noisy 0.9 --suspects drop --to FOLDER       without the 90 % sure suspects
python3 -m utils.export NAME --review review.csv --labels_csv labels.csv     exactly as it was decided

Originals are never touched. FOLDER/<class>/<file> holds the training images as hard links, which take no room and share
their bytes with the originals, so do not edit them in place; --copy makes copies.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from utils.command_line.parser import Parser, add_finished_experiment, number, refuse
from utils.command_line.running import run_script
from utils.errors import UserError

if TYPE_CHECKING:
    from utils.experiments.record import Record
    from utils.results.decisions import Decided


def parser() -> Parser:
    parser = Parser("-m utils.export", __doc__, epilog=None)
    add_finished_experiment(parser)
    what = parser.add_argument_group("what becomes of the suspects")
    what.add_argument("--review", metavar="CSV", help="review.csv of suspects.html; what it does not name stays")
    what.add_argument(
        "--p_noisy", type=number(float, 0, 1), metavar="P", help="without a review: samples with p_noisy from P on"
    )
    what.add_argument(
        "--suspects", choices=("drop", "relabel"), help="are left out, or get the label suggested in suspects.csv"
    )
    where = parser.add_argument_group("where it goes")
    where.add_argument("--to", metavar="FOLDER", help="FOLDER/<class>/<file>; must not exist, or be empty")
    where.add_argument("--labels_csv", metavar="FILE", help="file and label, empty = removed, as --labels reads it")
    where.add_argument(
        "--format",
        choices=("csv", "labelstudio"),
        default="csv",
        help="of that file; labelstudio: JSON that Label Studio imports, the labels as predictions with scores",
    )
    where.add_argument("--copy", action="store_true", help="copies in FOLDER in place of hard links")
    where.add_argument("--train_root", metavar="FOLDER", help="where the originals lie now (default: where they lay)")
    return parser


def check(args: argparse.Namespace) -> None:
    """Raises UserError for flags that are missing or do nothing."""
    if args.to is None and args.labels_csv is None:
        raise UserError("nothing would be written", "add --to FOLDER or --labels_csv FILE")
    if args.review is not None:
        for flag in ("p_noisy", "suspects"):
            if vars(args)[flag] is not None:
                raise UserError(f"--{flag} does nothing beside --review, which says it all", "leave one of them out")
    elif args.p_noisy is None or args.suspects is None:
        raise UserError(
            "what becomes of the suspects is not said", "add --p_noisy P --suspects drop|relabel, or --review CSV"
        )
    if args.to is None:
        refuse(args, "copy", without="--to")
        if args.format == "csv":
            refuse(args, "train_root", without="--to or --format labelstudio")
    if args.format != "csv" and args.labels_csv is None:
        raise UserError(f"--format {args.format} does nothing without --labels_csv", "add that flag")


def export(args: argparse.Namespace) -> str:
    """Writes what the flags ask for; what was done, in printable lines. Everything is checked before it is written."""
    from utils.experiments.record import finished_named
    from utils.results import cleaned_set, decisions
    from utils.results.commands import honest_command
    from utils.results.found_scores import chosen_by_truth

    record = finished_named(args.experiment, args.experiments_root)
    if chosen_by_truth(record):
        what = f"{record.path.name} chose its score by the true labels"
        raise UserError(what, f"use an experiment without --choose oracle: {honest_command(record)}")
    samples = decisions.read_suspects(record)
    if args.review is not None:
        decided = decisions.by_review(samples, Path(args.review))
    else:
        decided = decisions.by_p_noisy(samples, args.p_noisy, args.suspects == "relabel")
    class_names = decisions.classes_of(samples)
    cleaned_set.require_all_classes(decided, class_names)

    lines = summary(record, decided)
    highest = max(sample.p_noisy for sample in samples)
    if args.review is None and highest < args.p_noisy:
        lines.append(f"no label has a p_noisy of {args.p_noisy:g} or more, the highest is {highest:.4f}: give less")
    if args.to is not None or args.format != "csv":
        require_files(record)
        images = originals_of(record, args.train_root)
    if args.labels_csv is not None:
        cleaned_set.require_new(Path(args.labels_csv))
    if args.to is not None:
        to = Path(os.path.abspath(args.to))
        cleaned_set.require_free(to, images)
        linked = cleaned_set.write_folder(decided, images, to, args.copy)
        kept = sum(one.label is not None for one in decided)
        lines.append(f"{args.to}/: {linked} hard links, {kept - linked} copies")
    if args.labels_csv is not None:
        file = Path(args.labels_csv)
        lines.append(str(file))
        if args.format == "csv":
            cleaned_set.write_labels(decided, decisions.unlabelled(record), file)
        else:
            lines += cleaned_set.write_label_studio(decided, class_names, images, file, record.path.name)
    return "\n".join(lines)


def require_files(record: Record) -> None:
    """Raises UserError where the images of an experiment are no files of the user's own."""
    data_set = record["data"].get("data_set")
    if data_set != "folder":
        raise UserError(
            f"{record.path.name} is of {data_set}, whose images are no files",
            "take --labels_csv FILE, with --format csv, alone",
        )


def originals_of(record: Record, given: str | None) -> Path:
    """The folder of an experiment's images. Raises UserError where neither the flag nor the record says it."""
    root = given or record["settings"].get("train_root")
    if not isinstance(root, str):
        raise UserError(f"{record.path / 'run.json'} does not say where the images lay", "add --train_root FOLDER")
    return Path(root)


def summary(record: Record, decided: list[Decided]) -> list[str]:
    """How many samples keep their label, get another, are removed."""
    removed = sum(one.label is None for one in decided)
    relabelled = sum(one.relabelled for one in decided)
    judged = sum(one.judged for one in decided)
    kept = len(decided) - removed - relabelled
    lines = [
        f"{len(decided)} samples{f', {judged} of them judged' if judged else ''}: {kept} with the label they had, "
        f"{relabelled} with another one, {removed} removed"
    ]
    noise = record["data"].get("noise_type")
    if noise != "none":
        lines.append(f"the labels are those of the run, some of which it made wrong on purpose ({noise})")
    if "ood" in record["data"]:
        lines.append("the run put images of another set in place of some, and judged those under their file names")
    return lines


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    check(args)
    print(export(args))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was begun is taken away
    run_script(main, remedy="free some")

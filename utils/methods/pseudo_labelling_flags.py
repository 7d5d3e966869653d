"""The flags of ssl.py alone: which scores it reads, how it selects the clean set, how it trains. Imports no torch."""

from __future__ import annotations

import argparse

from utils.command_line.parser import COUNT, RATIO, SHARE, WEIGHT, Parser, default_with, refuse
from utils.errors import UserError
from utils.separations import SEPARATIONS


def add_scores(parser: Parser) -> None:
    scores = parser.add_argument_group(
        "scores, of one or more separations (bare: the newest finished one on the same data)"
    )
    for separation in SEPARATIONS.values():
        scores.add_argument(
            f"--{separation.key}",
            nargs="?",
            const="",
            metavar="EXPERIMENT",
            help=f"the scores that {separation.script} left",
        )
    scores.add_argument(
        "--f_l", action="store_true", help="of --forget, take the loss instead of the neighbour cross-entropy"
    )
    scores.add_argument("--scores", metavar="FILE", help="any .npy of N numbers, higher = more likely mislabelled")


def add_clean_set(parser: Parser) -> None:
    clean = parser.add_argument_group("clean set")
    clean.add_argument("--use_bmm", action="store_true", help="by a beta mixture instead of the threshold rule")
    clean.add_argument("--bmm_th", type=SHARE, metavar="P", help="clean = p_noisy below this (default: 0.05)")
    clean.add_argument(
        "--threshold", type=SHARE, default=0.20, metavar="SHARE", help="without --use_bmm: the SHARE lowest scores"
    )
    clean.add_argument("--balanced_set", action="store_true", help="as many samples of every class")
    clean.add_argument("--agree_on_clean", action="store_true", help="several scores: intersection instead of union")
    clean.add_argument("--f_FND", action="store_true", help="the forgetting scores only veto, beside another score")
    clean.add_argument(
        "--fn_th", type=SHARE, metavar="SHARE", help="share of samples that --f_FND vetoes (default: 0.05)"
    )
    second = parser.add_argument_group("second run")
    second.add_argument(
        "--double_run", action="store_true", help="select again by the trained network's loss, and train once more"
    )
    second.add_argument("--bmm_th_2nd", type=SHARE, metavar="P", help="--bmm_th of the second run (default: 0.5)")
    second.add_argument(
        "--threshold_2nd", type=SHARE, metavar="SHARE", help="--threshold of the second run (default: 0.2)"
    )


def add_training(group: argparse._ArgumentGroup) -> None:
    """What pseudo-labelling adds to the flags of optimisation."""
    group.add_argument("--epoch_begin", type=COUNT, default=30, metavar="EPOCHS", help="epochs on the clean set alone")
    group.add_argument(
        "--labeled_batch_size", type=COUNT, metavar="B", help="clean samples in every batch (default: as they come)"
    )
    group.add_argument("--alpha", type=WEIGHT, default=0.8, metavar="WEIGHT", help="weight of L_p; 0 switches it off")
    group.add_argument("--beta", type=WEIGHT, default=0.4, metavar="WEIGHT", help="weight of L_e; 0 switches it off")
    group.add_argument(
        "--colour_jitter",
        type=RATIO,
        default=0.4,
        metavar="STRENGTH",
        help="brightness, contrast and saturation of colour images; 0 switches it off",
    )
    group.add_argument("--swa", action="store_true", help="average the weights of the last epochs")
    group.add_argument(
        "--swa_start", type=COUNT, metavar="EPOCH", help="epochs before the averaging (default: 3/4 of them)"
    )
    group.add_argument("--swa_freq", type=COUNT, metavar="EPOCHS", help="epochs between two averaged ones (default: 1)")


def resolve_pseudo_labelling(args: argparse.Namespace) -> None:
    """The defaults of flags that belong to another flag. Raises UserError where flags contradict each other."""
    default_with(args, "f_FND", fn_th=0.05)
    default_with(args, "swa", swa_start=args.epoch * 3 // 4, swa_freq=1)
    default_with(args, "use_bmm", bmm_th=0.05)
    if not args.use_bmm:
        refuse(args, "bmm_th_2nd", without="--use_bmm")
    default_with(args, "double_run", bmm_th_2nd=0.5, threshold_2nd=0.2)
    _check_scores(args)
    _check_training(args)


def _check_scores(args: argparse.Namespace) -> None:
    voting = [key for key in (*SEPARATIONS, "scores") if vars(args)[key] is not None]
    if not voting:
        raise UserError("no scores are named", "add --forget, --parallel, --relabel or --scores FILE")
    if args.f_FND and (args.forget is None or len(voting) < 2):
        raise UserError("--f_FND needs --forget to veto and another score to select", "add them")
    if args.agree_on_clean and len(voting) - args.f_FND < 2:
        raise UserError("--agree_on_clean needs two scores to agree", "name another one")
    if args.f_l and args.forget is None:
        raise UserError("--f_l chooses among the forgetting scores", "add --forget")


def _check_training(args: argparse.Namespace) -> None:
    if args.swa and args.swa_start >= args.epoch:
        raise UserError(f"--swa_start {args.swa_start} is not before the end of --epoch {args.epoch}", "lower it")
    if args.epoch_begin >= args.epoch:
        raise UserError(f"--epoch_begin {args.epoch_begin} leaves no epoch of --epoch {args.epoch}", "lower it")
    if args.labeled_batch_size is not None and args.labeled_batch_size >= args.batch_size:
        raise UserError(
            f"--labeled_batch_size {args.labeled_batch_size} fills --batch_size {args.batch_size}", "lower it"
        )

"""The flags of main.py alone: its two stages, and what of the second is tracked. Imports no torch."""

from __future__ import annotations

import argparse

from utils.command_line.parser import COUNT, RATE, SHARE, Parser, default_with, idle
from utils.scoring.tracking import BATCHES, LONGEST, PASSES

STEPS, EPOCHS = 150, 10  # of stage 2, at most
AUTO = "auto"


def add_stages(group: argparse._ArgumentGroup) -> None:
    """When stage 1 ends, and how stage 2 trains."""
    group.add_argument(
        "--memorise_until",
        type=SHARE,
        default=1.0,
        metavar="SHARE",
        help="end stage 1 once that share of the labels is fitted",
    )
    group.add_argument(
        "--epoch_2nd",
        type=COUNT,
        metavar="EPOCHS",
        help=f"epochs of stage 2, at most (default: {EPOCHS}; with --steps_total no bound)",
    )
    group.add_argument("--lr_2nd", type=RATE, default=0.01, metavar="LR", help="learning rate of stage 2")
    group.add_argument(
        "--M_2nd", type=COUNT, action="append", metavar="EPOCH", help="like --M, for stage 2 (default: none)"
    )
    group.add_argument(
        "--freeze_layers",
        nargs="+",
        metavar="PATTERN",
        help="layers that keep in stage 2 what stage 1 left, batch-norm statistics too: parameter names as shell "
        "patterns in quotes, such as 'stem.*' 'blocks.[01].*'; a wrong one names those there are (default: none)",
    )


def count_or_auto(text: str) -> int | str:
    """An argparse type."""
    return AUTO if text == AUTO else COUNT(text)


def add_tracked_steps(tracking: argparse._ArgumentGroup) -> None:
    """When stage 2 ends and which of its steps are tracked."""
    tracking.add_argument(
        "--steps_total",
        type=COUNT,
        metavar="STEPS",
        help=f"steps of stage 2 in all, at most (default: {STEPS}; with --epoch_2nd or --step_number no bound)",
    )
    tracking.add_argument(
        "--step_number",
        type=COUNT,
        metavar="STEPS",
        help="steps of an epoch of stage 2, at most (default: a whole one)",
    )
    tracking.add_argument(
        "--track_every",
        type=count_or_auto,
        default=1,
        metavar="STEPS",
        help="track after every STEPS steps of stage 2 and after the last; auto: after every one while the ranks of "
        f"the score move, up to {LONGEST} apart while they hardly do",
    )
    tracking.add_argument(
        "--second_stg_max_median_loss",
        type=RATE,
        metavar="NATS",
        help="end stage 2 once the MEAN first-stage loss passes this (the name is historical; default: never)",
    )
    tracking.add_argument(
        "--save_best_AUC_model",
        action="store_true",
        help="ORACLE, uses the true labels: also keep model and scores of the step with the best AUC",
    )


def add_steps_kept(output: argparse._ArgumentGroup) -> None:
    """What a run takes over from another one, and keeps of itself while it lasts."""
    output.add_argument(
        "--first_stage_from", metavar="EXPERIMENT", help="take stage 1 from a finished experiment made alike"
    )
    output.add_argument(
        "--checkpoint_every", type=COUNT, default=50, metavar="STEPS", help="steps of stage 2 between checkpoints"
    )


def add_early_second_stage(parser: Parser) -> None:
    early = parser.add_argument_group("early second stage")
    early.add_argument("--freeze_earlySecondStage", action="store_true", help="train head 2 alone at first")
    early.add_argument(
        "--unfreeze_secondStage",
        type=COUNT,
        metavar="K",
        help="the step, counted from 1, at which the rest begins to move too (default: 11)",
    )
    early.add_argument("--freeze_epochWise", action="store_true", help="--unfreeze_secondStage is an epoch, not a step")
    early.add_argument(
        "--batch_eval_preUnfreeze_only",
        action="store_true",
        help="batch norm in evaluation mode only until the unfreezing (default: throughout stage 2)",
    )


def resolve_first_stage(args: argparse.Namespace) -> None:
    """Where its scores are from: a network that is to stop at what it has fitted is looked at as it is."""
    if args.track_from is None:
        args.track_from = BATCHES if args.memorise_until == 1 else PASSES


def resolve_second_stage(args: argparse.Namespace) -> None:
    """Its defaults. A flag that does nothing is said."""
    if args.steps_total is None and args.step_number is None and args.epoch_2nd is None:
        args.steps_total = STEPS
    if args.steps_total is None and args.epoch_2nd is None:
        args.epoch_2nd = EPOCHS
    if not args.freeze_earlySecondStage:
        belonging = ("unfreeze_secondStage", "freeze_epochWise", "batch_eval_preUnfreeze_only")
        idle(args, *belonging, without="--freeze_earlySecondStage")
    default_with(args, "freeze_earlySecondStage", unfreeze_secondStage=11)

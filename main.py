"""Forgetting: fit the noisy labels, fine-tune on another data set, and rank the samples by how they are forgotten.

    python3 main.py                                             the whole method on scikit-learn's digits, offline
    python3 main.py --dataset folder --train_root my_images     which labels of my_images/CLASS/* are wrong?

Writes forget_score.npy (the default), forget_ce.npy and forget_loss.npy, float32 (N,), higher = more likely
mislabelled, and p_noisy.npy, the probability that a label is wrong.
"""

import argparse

from utils.command_line.flags import USUAL, add_compare, add_device, add_network_width, add_output, resolve
from utils.command_line.original import INEFFECTIVE
from utils.command_line.parser import COUNT, RATE, SHARE, Parser, default_with, refuse
from utils.command_line.running import run_experiment, run_script
from utils.data.choice import add_data, add_second_stage_data
from utils.scoring.tracking import add_choosing, add_tracking
from utils.separations import FORGET
from utils.training.optimisation import add_optimisation

STEPS = 150  # of stage 2


def parser() -> Parser:
    parser = Parser(FORGET.script, __doc__, usual=USUAL)
    add_data(parser)
    add_second_stage_data(parser)
    group = add_optimisation(parser, epochs_flag="--epoch_1st", epochs=40, epochs_help="epochs of stage 1")
    group.add_argument(
        "--memorise_until",
        type=SHARE,
        default=1.0,
        metavar="SHARE",
        help="end stage 1 once that share of the labels is fitted",
    )
    group.add_argument("--epoch_2nd", type=COUNT, default=10, metavar="EPOCHS", help="epochs of stage 2, at most")
    group.add_argument("--lr_2nd", type=RATE, default=0.05, metavar="LR", help="learning rate of stage 2")
    group.add_argument(
        "--M_2nd", type=COUNT, action="append", metavar="EPOCH", help="like --M, for stage 2 (default: none)"
    )
    add_network_width(group)
    tracking = add_tracking(parser)
    tracking.add_argument(
        "--steps_total",
        type=COUNT,
        metavar="STEPS",
        help=f"steps of stage 2 in all, at most (default: {STEPS}; with --step_number no bound)",
    )
    tracking.add_argument(
        "--step_number",
        type=COUNT,
        metavar="STEPS",
        help="steps of an epoch of stage 2, at most (default: a whole one)",
    )
    tracking.add_argument(
        "--track_every", type=COUNT, default=1, metavar="STEPS", help="track after every STEPS steps of stage 2"
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
    add_choosing(tracking)
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
    output = add_output(parser)
    output.add_argument(
        "--first_stage_from", metavar="EXPERIMENT", help="take stage 1 from a finished experiment made alike"
    )
    output.add_argument(
        "--checkpoint_every", type=COUNT, default=50, metavar="STEPS", help="steps of stage 2 between checkpoints"
    )
    add_compare(output)
    add_device(parser)
    parser.add_ineffective(INEFFECTIVE[FORGET.script])
    return parser


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, with their defaults and checked."""
    args = resolve(parser().parse_args(argv))
    if args.steps_total is None and args.step_number is None:
        args.steps_total = STEPS
    default_with(args, "freeze_earlySecondStage", unfreeze_secondStage=11)
    if not args.freeze_earlySecondStage:
        refuse(args, "freeze_epochWise", "batch_eval_preUnfreeze_only", without="--freeze_earlySecondStage")
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)

    from utils.methods.forgetting import forgetting  # here, not above: --help answers without torch

    run_experiment(FORGET.script, FORGET.key, forgetting, args)


if __name__ == "__main__":
    run_script(main)

"""Forgetting: fit the noisy labels, fine-tune on another data set, and rank the samples by how they are forgotten.

    python3 main.py                                             the whole method on scikit-learn's digits, offline
    python3 main.py --dataset folder --train_root my_images     which labels of my_images/CLASS/* are wrong?

Writes forget_score.npy (the default), forget_ce.npy and forget_loss.npy, float32 (N,), higher = more likely
mislabelled, and p_noisy.npy, the probability that a label is wrong.
"""

import argparse

from utils.command_line.flags import (
    USUAL,
    add_compare,
    add_device,
    add_network_width,
    add_output,
    add_repetition,
    resolve,
)
from utils.command_line.original import INEFFECTIVE, NO_EFFECT
from utils.command_line.parser import COUNT, Parser
from utils.command_line.repetition import run_each
from utils.command_line.running import run_experiment, run_script
from utils.data.choice import add_data, add_second_stage_data
from utils.methods.forgetting_flags import (
    add_early_second_stage,
    add_stages,
    add_tracked_steps,
    resolve_second_stage,
)
from utils.scoring.tracking import add_choosing, add_track_from, add_tracking
from utils.separations import FORGET
from utils.training.optimisation import FEWER, add_optimisation


def parser() -> Parser:
    parser = Parser(FORGET.script, __doc__, usual=USUAL)
    add_data(parser)
    add_second_stage_data(parser)
    group = add_optimisation(
        parser, epochs_flag="--epoch_1st", epochs_help=f"epochs of stage 1 (default: {FORGET.epochs}; {FEWER})"
    )
    add_stages(group)
    add_network_width(group)
    tracking = add_tracking(parser)
    add_track_from(tracking, "stage 1")
    add_tracked_steps(tracking)
    add_choosing(tracking)
    add_early_second_stage(parser)
    output = add_output(parser)
    output.add_argument(
        "--first_stage_from", metavar="EXPERIMENT", help="take stage 1 from a finished experiment made alike"
    )
    output.add_argument(
        "--checkpoint_every", type=COUNT, default=50, metavar="STEPS", help="steps of stage 2 between checkpoints"
    )
    add_compare(output)
    add_repetition(parser)
    add_device(parser)
    parser.add_ineffective(INEFFECTIVE[FORGET.script], NO_EFFECT)
    return parser


def resolved(args: argparse.Namespace) -> argparse.Namespace:
    """The flags with what they leave open filled in, and checked."""
    args = resolve(args)
    resolve_second_stage(args)
    return args


def run(args: argparse.Namespace) -> None:
    given = parser().given(args)
    args = resolved(args)

    from utils.methods.forgetting import forgetting  # here, not above: --help answers without torch

    run_experiment(FORGET.script, FORGET.key, forgetting, args, given)


def main(argv: list[str] | None = None) -> None:
    run_each(parser(), run, argv)


if __name__ == "__main__":
    run_script(main)

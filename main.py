"""Forgetting: fit the noisy labels, fine-tune on another data set, and rank the samples by how they are forgotten.

    python3 main.py                                             the whole method on scikit-learn's digits, offline
    python3 main.py --dataset folder --train_root my_images     on my_images/CLASS/*

For studying how networks memorise and forget; relabel.py finds wrong labels better.
Writes forget_score.npy (the default), forget_ce.npy and forget_loss.npy, float32 (N,), higher = more likely
mislabelled, and p_noisy.npy, the probability that a label is wrong.
"""

import argparse

from utils.command_line.flags import add_compare, add_network_width, add_output, resolve
from utils.command_line.parser import Parser
from utils.command_line.running import Method, run_script
from utils.command_line.script import Script
from utils.data.choice import add_data, add_second_stage_data
from utils.methods.forgetting_flags import (
    add_early_second_stage,
    add_stages,
    add_steps_kept,
    add_tracked_steps,
    resolve_first_stage,
    resolve_second_stage,
)
from utils.scoring.tracking import BATCHES, PASSES, add_choosing, add_track_from, add_tracking
from utils.separations import FORGET
from utils.training.optimisation import FEWER, add_optimisation


def declare(parser: Parser) -> None:
    add_data(parser)
    add_second_stage_data(parser)
    epochs_help = f"epochs of stage 1 (default: {FORGET.epochs}; {FEWER})"
    group = add_optimisation(parser, epochs_flag="--epoch_1st", epochs_help=epochs_help, augment="strong")
    add_stages(group)
    add_network_width(group)
    tracking = add_tracking(parser)
    add_track_from(tracking, "stage 1", f"{BATCHES}; with --memorise_until {PASSES}")
    add_tracked_steps(tracking)
    add_choosing(tracking)
    add_early_second_stage(parser)
    output = add_output(parser)
    add_steps_kept(output)
    add_compare(output)


def resolved(args: argparse.Namespace) -> argparse.Namespace:
    """The flags with what they leave open filled in, and checked."""
    args = resolve(args)
    resolve_first_stage(args)
    resolve_second_stage(args)
    return args


def method(args: argparse.Namespace) -> Method:
    from utils.methods.forgetting import forgetting  # here, not above: --help answers without torch

    return forgetting


SCRIPT = Script(FORGET.script, FORGET.key, __doc__, declare, resolved, method)
parser, main = SCRIPT.parser, SCRIPT.main

if __name__ == "__main__":
    run_script(main)

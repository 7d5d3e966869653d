"""Soft relabelling: what a network has learnt replaces the labels, and a score says how little it thinks of them.

    python3 relabel.py                                              on scikit-learn's digits, offline
    python3 relabel.py --dataset folder --train_root my_images --width 0.25
                                                                    which labels of my_images/CLASS/* are wrong?

Writes relabel_score.npy (the default) and relabel_loss.npy, float32 (N,), higher = more likely mislabelled,
p_noisy.npy, and soft_labels.npy, float32 (N, C): the labels that it would put instead, with their probabilities.
"""

import argparse

from utils.command_line.flags import add_compare, add_network_width, add_output, resolve
from utils.command_line.parser import Parser
from utils.command_line.running import Method, run_script
from utils.command_line.script import Script
from utils.data.choice import add_data
from utils.methods.relabelling_flags import (
    EPOCHS,
    add_by_prediction,
    add_compare_to_forgetting,
    add_networks,
    add_relabelling,
    resolve_way,
)
from utils.scoring.tracking import BATCHES, PASSES, add_choosing, add_track_from
from utils.separations import RELABEL
from utils.training.optimisation import add_optimisation


def declare(parser: Parser) -> None:
    add_data(parser)
    add_network_width(add_networks(parser))
    add_optimisation(
        parser, epochs_flag="--epoch_1st", epochs_help=EPOCHS, schedule=None, mixup=None, ema=None, augment=None
    )
    add_relabelling(parser)
    add_by_prediction(parser)
    tracking = parser.add_argument_group("tracking")
    add_track_from(tracking, "either training", f"{BATCHES}; by prediction {PASSES}")
    add_choosing(tracking)
    output = add_output(parser)
    add_compare(output)
    add_compare_to_forgetting(output)


def resolved(args: argparse.Namespace) -> argparse.Namespace:
    """The flags with what they leave open filled in, and checked."""
    resolve_way(args)
    return resolve(args)


def method(args: argparse.Namespace) -> Method:
    from utils.methods.relabelling import relabelling  # here, not above: --help answers without torch

    return relabelling


SCRIPT = Script(RELABEL.script, RELABEL.key, __doc__, declare, resolved, method)
parser, main = SCRIPT.parser, SCRIPT.main

if __name__ == "__main__":
    run_script(main)

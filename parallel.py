"""Parallel cross tracking: two models, one per half; each scores the half that it never saw, then learns from it.

    python3 parallel.py                                 on scikit-learn's digits, offline
    python3 parallel.py --exchange 0                    the two models on their halves, and no more
    python3 parallel.py --features resnet50 --dataset folder --train_root my_images
                                                        no training: regressions on a pretrained network's features

Writes parallel_score.npy (the default), parallel_ce.npy and parallel_loss.npy, float32 (N,), higher = more likely
mislabelled, p_noisy.npy, and cross_probs.npy, float32 (N, C), out-of-sample class probabilities.
"""

import argparse

from utils.command_line.flags import add_compare, add_network_width, add_output, resolve
from utils.command_line.parser import WHOLE, Parser, truth
from utils.command_line.running import Method, run_script
from utils.command_line.script import Script
from utils.data.choice import add_data
from utils.methods.frozen_features_flags import add_frozen_features, check_frozen_features
from utils.scoring.tracking import add_choosing, add_tracking
from utils.separations import PARALLEL
from utils.training.optimisation import FEWER, add_optimisation


def declare(parser: Parser) -> None:
    add_data(parser)
    add_frozen_features(parser)
    epochs_help = f"epochs of either model on its half (default: {PARALLEL.epochs}; {FEWER})"
    group = add_optimisation(parser, epochs_flag="--epoch_1st", epochs_help=epochs_help)
    group.add_argument(
        "--exchange",
        type=WHOLE,
        metavar="EPOCHS",
        help="afterwards each model goes on for so many epochs on the half that it never saw, from what it thinks of "
        "the labels there (augmented strongly unless --augment none), and both together score all images; 0 = do not "
        "(default: as many as --epoch_1st)",
    )
    add_network_width(group)
    add_choosing(add_tracking(parser))
    output = add_output(parser)
    output.add_argument(
        "--keep_models",
        action="store_true",
        help="keep both networks, as they are in the end: model_0.pt and model_1.pt, which python3 -m utils.classifier "
        "reads",
    )
    output.add_argument(
        "--repeat", dest="overwrite", nargs="?", const=True, default=False, type=truth, help="the same as --overwrite"
    )
    add_compare(output)


def resolved(args: argparse.Namespace) -> argparse.Namespace:
    """The flags with what they leave open filled in, and checked."""
    check_frozen_features(args, parser())
    return resolve(args)


def method(args: argparse.Namespace) -> Method:
    if args.features is None:  # imported here, not above: --help answers without torch
        from utils.methods.cross_tracking import cross_tracking

        return cross_tracking
    from utils.methods.frozen_features import frozen_features

    return frozen_features


SCRIPT = Script(PARALLEL.script, PARALLEL.key, __doc__, declare, resolved, method)
parser, main = SCRIPT.parser, SCRIPT.main

if __name__ == "__main__":
    run_script(main)

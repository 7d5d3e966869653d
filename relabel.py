"""Soft relabelling: what a network has learnt replaces the labels, and a score says how little it thinks of them.

    python3 relabel.py                                  on scikit-learn's digits, offline

Writes relabel_score.npy (the default) and relabel_loss.npy, float32 (N,), higher = more likely mislabelled,
p_noisy.npy, and soft_labels.npy, float32 (N, C): the labels that it would put instead, with their probabilities.
"""

import argparse

import models
from utils.command_line.flags import (
    USUAL,
    add_compare,
    add_device,
    add_dropout,
    add_input_noise,
    add_network_width,
    add_output,
    add_repetition,
    resolve,
)
from utils.command_line.original import INEFFECTIVE, NO_EFFECT
from utils.command_line.parser import COUNT, RATE, WEIGHT, Parser, truth
from utils.command_line.repetition import run_each
from utils.command_line.running import run_experiment, run_script
from utils.data.choice import add_data
from utils.methods.relabelling_flags import EPOCHS_BY_PREDICTION, NETWORKS, resolve_way
from utils.scoring.tracking import add_choosing, add_track_from
from utils.separations import RELABEL
from utils.training.optimisation import FEWER, add_optimisation


def parser() -> Parser:
    parser = Parser(RELABEL.script, __doc__, usual=USUAL)
    add_data(parser)
    network = parser.add_argument_group("network")
    network.add_argument(
        "--model_type",
        nargs="+",
        choices=list(models.MODELS),
        help="network, or two of them: of the warm-up and of what follows "
        f"(default: {' '.join(NETWORKS)}; by prediction {models.CNN13})",
    )
    add_dropout(network, off="by prediction")
    add_input_noise(network, off="by prediction")
    add_network_width(network)
    add_optimisation(
        parser,
        epochs_flag="--epoch_1st",
        epochs_help="epochs, warm-up included "
        f"(default: {RELABEL.epochs}; by prediction {EPOCHS_BY_PREDICTION}; {FEWER})",
        schedule=None,
        mixup=None,
        ema=None,
        augment=None,
    )
    relabelling = parser.add_argument_group("relabelling")
    relabelling.add_argument(
        "--relabel_by",
        choices=("posterior", "prediction"),
        help="posterior: of the true class, given label and predictions, once, for a fresh network; prediction: the "
        "network's own, after every epoch (default: posterior; prediction with any flag that belongs to it)",
    )
    relabelling.add_argument(
        "--warmup_e", type=COUNT, metavar="EPOCHS", help="epochs on the observed labels (default: half of all)"
    )
    relabelling.add_argument(
        "--reg_term2", type=WEIGHT, metavar="WEIGHT", help="weight of L_e; 0 = off (default: 0; by prediction 0.4)"
    )
    by_prediction = parser.add_argument_group("by prediction")
    by_prediction.add_argument(
        "--lr_2nd", type=RATE, metavar="LR", help="learning rate once relabelling has begun (default: --lr)"
    )
    by_prediction.add_argument("--ce_loss_inWarmup", action="store_true", help="plain cross-entropy during the warm-up")
    by_prediction.add_argument(
        "--reg_term1", type=WEIGHT, metavar="WEIGHT", help="weight of L_p; 0 switches it off (default: 0.8)"
    )
    by_prediction.add_argument(
        "--epoch_update",
        type=COUNT,
        metavar="EPOCHS",
        help="the labels are the mean of the predictions of so many last epochs (default: 1)",
    )
    tracking = parser.add_argument_group("tracking")
    add_track_from(tracking, "either training")
    add_choosing(tracking)
    output = add_output(parser)
    add_compare(output)
    output.add_argument(
        "--compare_to_forgetting",
        nargs="?",
        const=True,
        default=False,
        type=truth,
        help="--compare with the newest finished experiment of main.py on the same data",
    )
    add_repetition(parser)
    add_device(parser)
    parser.add_ineffective(INEFFECTIVE[RELABEL.script], NO_EFFECT)
    return parser


def resolved(args: argparse.Namespace) -> argparse.Namespace:
    """The flags with what they leave open filled in, and checked."""
    resolve_way(args)
    return resolve(args)


def run(args: argparse.Namespace) -> None:
    given = parser().given(args)
    args = resolved(args)

    from utils.methods.relabelling import relabelling  # here, not above: --help answers without torch

    run_experiment(RELABEL.script, RELABEL.key, relabelling, args, given)


def main(argv: list[str] | None = None) -> None:
    run_each(parser(), run, argv)


if __name__ == "__main__":
    run_script(main)

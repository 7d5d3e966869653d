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
    check_input_noise,
    resolve,
)
from utils.command_line.original import INEFFECTIVE
from utils.command_line.parser import COUNT, RATE, WEIGHT, Parser, truth
from utils.command_line.running import run_experiment, run_script
from utils.data.choice import add_data
from utils.errors import UserError
from utils.scoring.tracking import add_choosing
from utils.separations import RELABEL
from utils.training.optimisation import BALANCE, add_optimisation

NETWORKS = [models.CNN13, models.PREACT_RESNET18]  # two that err in different ways
BY_PREDICTION = ("lr_2nd", "ce_loss_inWarmup", "reg_term1", "epoch_update", "M")  # flags that belong to that way


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
        parser, epochs_flag="--epoch_1st", epochs=None, epochs_help="epochs, warm-up included "
        "(default: 120; by prediction 40)", schedule=None, mixup=None, ema=None, augment=None,
    )  # fmt: skip
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
        "--lr_2nd", type=RATE, metavar="LR", help="learning rate once relabelling has begun (default: 0.1)"
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
    add_choosing(parser.add_argument_group("tracking"))
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
    add_device(parser)
    parser.add_ineffective(INEFFECTIVE[RELABEL.script])
    return parser


def resolve_way(args: argparse.Namespace) -> None:
    """Which way it is, and the defaults that belong to it."""
    belonging = [flag for flag in BY_PREDICTION if vars(args)[flag] not in (None, False)]
    if args.relabel_by is None:
        args.relabel_by = "prediction" if belonging else "posterior"
    if args.relabel_by == "posterior" and belonging:
        raise UserError(f"--{belonging[0]} does nothing with --relabel_by posterior", "leave one of them out")
    if args.relabel_by == "prediction" and args.balance != BALANCE:
        raise UserError("--balance does nothing by prediction, whose weight of L_p is --reg_term1", "leave it out")
    defaults = {"model_type": NETWORKS, "epoch_1st": 120, "default_schedule": "cosine"}
    defaults |= {"mixup": 1.0, "ema": 0.99, "reg_term2": 0.0}
    if args.relabel_by == "prediction":
        defaults = {"epoch_1st": 40, "default_schedule": "steps", "mixup": 0.0, "ema": 0.0, "reg_term2": 0.4}
        defaults |= {"model_type": [models.CNN13], "lr_2nd": 0.1, "reg_term1": 0.8, "augment": "standard"}
        # The predictions that replace the labels are of the training passes themselves: nothing is to blur them.
        defaults |= {"epoch_update": 1, "dropout": 0.0, "input_noise": 0.0}
    for name, value in defaults.items():
        if vars(args)[name] is None:
            setattr(args, name, value)
    check_input_noise(args, args.model_type)
    if args.compare and args.compare_to_forgetting:
        raise UserError("--compare and --compare_to_forgetting name two experiments", "leave one of them out")
    most = 2 if args.relabel_by == "posterior" else 1
    if len(args.model_type) > most:
        raise UserError(f"--model_type names {len(args.model_type)} networks, and {most} can be trained", "name fewer")
    if args.warmup_e is None:
        args.warmup_e = max(1, args.epoch_1st // 2)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, with their defaults and checked."""
    args = parser().parse_args(argv)
    resolve_way(args)
    args = resolve(args)
    if args.warmup_e >= args.epoch_1st:
        raise UserError(
            f"--warmup_e {args.warmup_e} leaves no epoch of --epoch_1st {args.epoch_1st} to relabel in",
            "lower the warm-up",
        )
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)

    from utils.methods.relabelling import relabelling  # here, not above: --help answers without torch

    run_experiment(RELABEL.script, RELABEL.key, relabelling, args)


if __name__ == "__main__":
    run_script(main)

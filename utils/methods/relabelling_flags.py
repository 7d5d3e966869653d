"""The flags of relabel.py alone, and their defaults, which depend on the way that labels are replaced and on the data.

Imports no torch.
"""

from __future__ import annotations

import argparse

import models
from utils.command_line.flags import add_dropout, add_input_noise, check_input_noise
from utils.command_line.parser import COUNT, RATE, WEIGHT, Parser, given, truth
from utils.errors import UserError
from utils.scoring.tracking import BATCHES
from utils.separations import RELABEL
from utils.training.optimisation import BALANCE, FEWER, epochs_for

NETWORKS = [models.CNN13, models.PREACT_RESNET18]  # two that err in different ways
BY_PREDICTION = ("lr_2nd", "ce_loss_inWarmup", "reg_term1", "epoch_update", "M")  # flags that belong to that way
EPOCHS_BY_PREDICTION = 40
EPOCHS = f"epochs, warm-up included (default: {RELABEL.epochs}; by prediction {EPOCHS_BY_PREDICTION}; {FEWER})"


def add_networks(parser: Parser) -> argparse._ArgumentGroup:
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
    return network


def add_relabelling(parser: Parser) -> None:
    relabelling = parser.add_argument_group("relabelling")
    relabelling.add_argument(
        "--relabel_by",
        choices=("posterior", "prediction"),
        help="posterior: of the true class, given label and predictions, once, for a fresh network; prediction: the "
        "network's own, after every epoch (default: posterior; prediction with any flag that belongs to it)",
    )
    relabelling.add_argument(
        "--warmup_e", type=COUNT, metavar="EPOCHS", help="epochs on the labels as they are (default: half of all)"
    )
    relabelling.add_argument(
        "--reg_term2", type=WEIGHT, metavar="WEIGHT", help="weight of L_e; 0 = off (default: 0; by prediction 0.4)"
    )


def add_by_prediction(parser: Parser) -> None:
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


def add_compare_to_forgetting(output: argparse._ArgumentGroup) -> None:
    output.add_argument(
        "--compare_to_forgetting",
        nargs="?",
        const=True,
        default=False,
        type=truth,
        help="--compare with the newest finished experiment of main.py on the same data",
    )


def resolve_way(args: argparse.Namespace) -> None:
    """Which way it is, and the defaults that belong to it."""
    belonging = given(args, BY_PREDICTION)
    if args.relabel_by is None:
        args.relabel_by = "prediction" if belonging else "posterior"
    if args.relabel_by == "posterior" and belonging:
        raise UserError(f"--{belonging[0]} does nothing with --relabel_by posterior", "leave one of them out")
    if args.relabel_by == "prediction" and args.balance != BALANCE:
        raise UserError("--balance does nothing by prediction, whose weight of L_p is --reg_term1", "leave it out")
    defaults = {"model_type": NETWORKS, "default_schedule": "cosine"}
    defaults |= {"mixup": 1.0, "ema": 0.99, "reg_term2": 0.0, "track_from": BATCHES}
    if args.relabel_by == "prediction":
        defaults = {"default_schedule": "steps", "mixup": 0.0, "ema": 0.0, "reg_term2": 0.4}
        defaults |= {"model_type": [models.CNN13], "lr_2nd": args.lr, "reg_term1": 0.8, "augment": "standard"}
        # The predictions that replace the labels are of the training passes themselves: nothing is to blur them.
        defaults |= {"epoch_update": 1, "dropout": 0.0, "input_noise": 0.0}
    for name, value in defaults.items():
        if vars(args)[name] is None:
            setattr(args, name, value)
    if args.relabel_by == "prediction" and args.mixup and args.track_from == BATCHES:
        # The predictions of the batches are of mixed images, and would become labels.
        raise UserError(f"by prediction --track_from {BATCHES} goes without --mixup", "leave one of them out")
    check_input_noise(args, args.model_type)
    if args.compare and args.compare_to_forgetting:
        raise UserError("--compare and --compare_to_forgetting name two experiments", "leave one of them out")
    most = 2 if args.relabel_by == "posterior" else 1
    if len(args.model_type) > most:
        raise UserError(f"--model_type names {len(args.model_type)} networks, and {most} can be trained", "name fewer")
    if args.epoch_1st is not None:
        resolve_epochs(args)


def resolve_epochs(args: argparse.Namespace, samples: int | None = None) -> None:
    """The epochs, and those of the warm-up; without --epoch_1st once `samples` are known."""
    if args.epoch_1st is None:
        usual = RELABEL.epochs if args.relabel_by == "posterior" else EPOCHS_BY_PREDICTION
        args.epoch_1st = epochs_for(samples, usual)
    if args.warmup_e is None:
        args.warmup_e = max(1, args.epoch_1st // 2)
    if args.epoch_1st < 2:
        raise UserError("--epoch_1st 1 leaves no epoch to relabel in", "give 2 or more")
    if args.warmup_e >= args.epoch_1st:
        raise UserError(
            f"--warmup_e {args.warmup_e} leaves no epoch of --epoch_1st {args.epoch_1st} to relabel in",
            "lower the warm-up",
        )

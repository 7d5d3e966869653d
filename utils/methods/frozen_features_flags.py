"""The flags of frozen features, parallel.py's way without a training. Imports no torch."""

from __future__ import annotations

import argparse

from utils.command_line.parser import Parser, refuse
from utils.errors import UserError

TRAINING_FLAGS = (  # what belongs to a training alone
    "epoch_1st", "lr", "M", "schedule", "gamma_scheduler", "batch_size", "momentum", "wd", "width", "mixup", "ema",
    "augment", "balance", "exchange", "keep_models",
)  # fmt: skip


def add_frozen_features(parser: Parser) -> None:
    group = parser.add_argument_group("frozen features, in place of a training")
    group.add_argument(
        "--features",
        metavar="NAME",
        help="a pretrained network of torchvision, such as resnet50, looks at every image once, at its own resolution "
        "and of 'folder' from the files themselves; regressions on its features take the place of the two models",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="state dict of that network (default: torchvision's, downloaded once into torch's cache)",
    )


def check_frozen_features(args: argparse.Namespace, parser: Parser) -> None:
    """Raises UserError for a flag that does nothing; `args` as the parser gave them, with nothing resolved."""
    if args.features is None:
        refuse(args, "weights", without="--features")
        return
    for flag in TRAINING_FLAGS:
        if vars(args)[flag] != parser.get_default(flag):
            raise UserError(f"--{flag} does nothing with --features, which trains no network", "leave it out")

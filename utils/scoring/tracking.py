"""What is tracked of every sample, and how the score that counts is chosen: settings with their flags.

Imports no torch.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from utils.command_line.parser import COUNT, RATE, RATIO, Parser
from utils.errors import UserError

NN_K, MEMORY_GB = 100, 1.0
PASSES, BATCHES = "passes", "batches"  # of --track_from
CHOOSE = ("proxy", "last", "oracle")  # what each means: utils/scoring/choosing.py
STILL, LONGEST = 0.1, 16  # mean change of the ranks, and steps, of --track_every auto: utils/scoring/pace.py


@dataclass(frozen=True)
class Tracking:
    """Settings of a tracker."""

    with_ce: bool = True  # also the neighbour cross-entropy
    nn_k: int = NN_K  # nearest neighbours
    memory_gb: float = MEMORY_GB  # bound on the scratch memory of the neighbour search, in gigabytes


LOSS_ALONE = Tracking(with_ce=False)


def add_tracking(parser: Parser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("tracking")
    group.add_argument(
        "--track_CE",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also track the neighbour cross-entropy (needs a neighbour search at every tracked moment)",
    )
    group.add_argument(
        "--NN_k", type=COUNT, default=NN_K, metavar="K", help="nearest neighbours; clamped to the number of samples"
    )
    group.add_argument(
        "--nn_memory_gb", type=RATE, default=MEMORY_GB, metavar="GB", help="scratch memory of the neighbour search"
    )
    return group


def add_track_from(group: argparse._ArgumentGroup, where: str, default: str) -> None:
    """`where`: the trainings that it is about; `default`, in words: None is PASSES, as before there was such a flag."""
    group.add_argument(
        "--track_from",
        choices=(PASSES, BATCHES),
        help=f"what {where} says of every sample after an epoch: passes, the network (or its average) looks at all of "
        "them once more, as they are; batches, what it said while it learnt from them, augmented, with dropout and at "
        "different weights: saves that pass. With mixup a mixed image counts as the one that it is for the larger part "
        f"(default: {default})",
    )


def add_choosing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--choose",
        choices=CHOOSE,
        default=CHOOSE[0],
        help="the score that ranks the suspects: proxy, the one and the moment that find planted errors best, where "
        "wrong labels are like these; last, the default score at the end, whatever finds them; oracle, by the true "
        "labels: to study, never a result",
    )
    group.add_argument(
        "--plant",
        type=RATIO,
        metavar="SHARE",
        help="share of the labels changed on purpose before the training, to choose and calibrate by; 0 = none "
        "(default: by the size of the set, from 0.1 of a small one to 0.03 from 5,000 images on; below 95 none)",
    )


def tracking_of(args: argparse.Namespace) -> Tracking:
    """What the flags of `add_tracking` say. Raises UserError where they contradict each other."""
    if not args.track_CE and (args.NN_k, args.nn_memory_gb) != (NN_K, MEMORY_GB):
        raise UserError("--NN_k and --nn_memory_gb do nothing with --no-track_CE", "leave them out")
    return Tracking(args.track_CE, args.NN_k, args.nn_memory_gb)

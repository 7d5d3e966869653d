"""How a network is trained: the schedule of the rate and the settings of SGD, with their flags. Imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from utils.command_line.parser import COUNT, RATE, SEED, WEIGHT, Parser, number


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each epoch, counted from 0: a base, times `gamma` for each milestone reached."""

    base: float
    milestones: Sequence[int] = ()
    gamma: float = 0.1
    later_base: float | None = None  # takes the place of `base` ...
    later_from: int = 0  # ... from this epoch on

    def rate(self, epoch: int) -> float:
        base = self.base if self.later_base is None or epoch < self.later_from else self.later_base
        return base * self.gamma ** sum(epoch >= m for m in self.milestones)


@dataclass(frozen=True)
class Optimisation:
    """SGD with its schedule, the size of its batches and the seed of its random streams."""

    schedule: Schedule
    batch_size: int
    momentum: float
    weight_decay: float
    seed: int


def optimisation_of(args: argparse.Namespace, schedule: Schedule | None = None) -> Optimisation:
    """What the flags of `add_optimisation` say; `schedule`: another one than theirs."""
    if schedule is None:
        schedule = Schedule(args.lr, args.M, args.gamma_scheduler)
    return Optimisation(schedule, args.batch_size, args.momentum, args.wd, args.seed)


def add_optimisation(
    parser: Parser, *, epochs_flag: str, epochs: int, milestones: list[int], epochs_help: str
) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("optimisation (SGD)")
    group.add_argument(epochs_flag, type=COUNT, default=epochs, metavar="EPOCHS", help=epochs_help)
    group.add_argument("--lr", type=RATE, default=0.1, help="learning rate")
    group.add_argument(
        "--M",
        type=COUNT,
        action="append",
        metavar="EPOCH",
        help=f"epoch after which the rate is multiplied by GAMMA; repeatable (default: {milestones})",
    )
    group.add_argument("--gamma_scheduler", type=RATE, default=0.1, metavar="GAMMA", help="factor at each --M")
    group.add_argument(
        "--batch_size", type=number(int, 2), default=100, metavar="B", help="images in a training batch, at most"
    )
    group.add_argument("--momentum", type=number(float, 0, 1, high_open=True), default=0.9, help="0 switches it off")
    group.add_argument("--wd", type=WEIGHT, default=1e-4, metavar="DECAY", help="weight decay; 0 switches it off")
    group.add_argument(
        "--seed", type=SEED, default=1, help="seed of label noise, initialisation, order and augmentation"
    )
    group.set_defaults(default_milestones=milestones)
    return group


def resolve_optimisation(args: argparse.Namespace) -> None:
    """Put the default milestones in place where none were given."""
    milestones = vars(args).pop("default_milestones")
    args.M = sorted(args.M) if args.M else milestones

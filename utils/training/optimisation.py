"""How a network is trained: the schedule of the rate and the settings of SGD, with their flags. Imports no torch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

from utils.command_line.parser import COUNT, RATE, RATIO, SEED, WEIGHT, Parser, number
from utils.errors import UserError

GAMMA = 0.1  # factor of the rate at each milestone
BALANCE = 0.8  # weight of L_p, the paper's
STEPS = (3 / 4, 7 / 8)  # of the epochs, where --schedule steps lowers the rate unless --M says otherwise
FINAL_EPOCHS, EARLIER_EPOCHS = 160, 60  # of the run whose classifier is kept; of those that make the next one's targets
LARGE = 50_000  # samples, up to which the default epochs stay as they are
FEWER = f"fewer above {LARGE:,} images"
SCHEDULES = ("cosine", "steps", "constant")
AUGMENT = ("none", "standard", "strong")  # what each does: utils/data/device_images.py


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each epoch, counted from 0."""

    base: float
    kind: str = "steps"  # of SCHEDULES
    milestones: Sequence[int] = ()  # steps: epochs at which ...
    gamma: float = GAMMA  # ... the rate is multiplied by this
    epochs: int = 1  # cosine: falls from `base` to nearly 0 over so many
    later_base: float | None = None  # takes the place of `base` ...
    later_from: int = 0  # ... from this epoch on

    def rate(self, epoch: int) -> float:
        base = self.base if self.later_base is None or epoch < self.later_from else self.later_base
        if self.kind == "cosine":
            return base * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return base * self.gamma ** sum(epoch >= m for m in self.milestones)

    def in_words(self) -> str:
        """For the log: "steps, rate 0.1, times 0.1 after epochs 30 and 35"."""
        words = f"{self.kind}, rate {self.base:g}"
        if self.later_base is not None:
            words += f" and from epoch {self.later_from + 1} on {self.later_base:g}"
        if self.kind == "cosine":
            words += f", falling to 0 over {self.epochs} epochs"
        elif self.milestones:
            words += f", times {self.gamma:g} after epochs {' and '.join(map(str, self.milestones))}"
        return words


@dataclass(frozen=True)
class Optimisation:
    """SGD with its schedule, what keeps the network from memorising, and the seed of its random streams."""

    schedule: Schedule
    batch_size: int
    momentum: float
    weight_decay: float
    seed: int
    mixup: float = 0.0  # alpha; 0 = off
    ema: float = 0.0  # decay per step of the averaged weights, see `Learner.judge`; 0 = off
    augment: str = "standard"  # of AUGMENT
    colour_jitter: float = 0.0
    balance: float = 0.0  # weight of L_p in the plain loss


def optimisation_of(args: argparse.Namespace, schedule: Schedule, colour_jitter: float = 0.0) -> Optimisation:
    """What the flags of `add_optimisation` say, with a schedule of `schedule_of`."""
    return Optimisation(
        schedule,
        args.batch_size,
        args.momentum,
        args.wd,
        args.seed,
        args.mixup,
        args.ema,
        args.augment,
        colour_jitter,
        vars(args).get("balance", 0.0),
    )


def schedule_of(args: argparse.Namespace, epochs: int, counted: int | None = None, **later: float) -> Schedule:
    """What the flags say of the rate over so many epochs; `later`: later_base and later_from.

    `counted`: the epochs that --M counts, where they are others: its milestones come at the same shares of these.
    """
    milestones = args.M if counted in (None, epochs) else [max(1, round(m * epochs / counted)) for m in args.M]
    if args.schedule == "steps" and not milestones:
        milestones = [max(1, round(share * epochs)) for share in STEPS]
    return Schedule(args.lr, args.schedule, milestones, args.gamma_scheduler, epochs, **later)


def epochs_for(samples: int, usual: int) -> int:
    """The default epochs: of a large set down to a quarter of the usual ones, since it makes more steps of each.

    A small set gets no more of them: with 300 digits instead of 1,437 more epochs only memorise more.
    """
    return max(1, round(usual * max(min(1, LARGE / samples), 1 / 4)))


def why_epochs(given: bool, samples: int, *, memorises: bool = True) -> str:
    """Where a number of epochs comes from, for the log; `memorises`: in more of them it would."""
    if given:
        return "as given"
    if samples > LARGE:
        return f"by default: scaled down above {LARGE:,} images, since each epoch has more steps"
    return f"by default, {FEWER}{'; more of them would memorise a small set' if memorises else ''}"


def add_optimisation(
    parser: Parser,
    *,
    epochs_flag: str,
    epochs_help: str,
    schedule: str | None = "cosine",
    mixup: float | None = 1.0,
    ema: float | None = 0.99,
    augment: str | None = "standard",
    balance: float | None = BALANCE,
) -> argparse._ArgumentGroup:
    """The flags of SGD and of what keeps a network from memorising, with a script's defaults."""
    group = parser.add_argument_group("optimisation (SGD)")
    group.add_argument(epochs_flag, type=COUNT, metavar="EPOCHS", help=epochs_help)
    group.add_argument("--lr", type=RATE, default=0.1, help="learning rate")
    group.add_argument(
        "--M",
        type=COUNT,
        action="append",
        metavar="EPOCH",
        help="epoch after which the rate is multiplied by GAMMA; repeatable (--schedule steps: 3/4 and 7/8 of them)",
    )
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        help=f"cosine: the rate falls to 0 over all epochs; steps: at each --M; constant: never "
        f"(default: {schedule or 'cosine; by prediction steps'}; steps with --M)",
    )
    group.add_argument("--gamma_scheduler", type=RATE, default=GAMMA, metavar="GAMMA", help="factor at each --M")
    group.add_argument(
        "--batch_size", type=number(int, 2), default=100, metavar="B", help="images in a training batch, at most"
    )
    group.add_argument("--momentum", type=number(float, 0, 1, high_open=True), default=0.9, help="0 switches it off")
    group.add_argument("--wd", type=WEIGHT, default=5e-4, metavar="DECAY", help="weight decay; 0 switches it off")
    group.add_argument(
        "--seed", type=SEED, default=1, help="seed of label noise, initialisation, order and augmentation"
    )
    group.set_defaults(default_schedule=schedule)
    _add_resisting(parser, mixup, ema, augment, balance)
    return group


def _add_resisting(
    parser: Parser, mixup: float | None, ema: float | None, augment: str | None, balance: float | None
) -> None:
    resisting = parser.add_argument_group("what keeps the network from memorising")
    resisting.add_argument(
        "--mixup",
        "--Mixup_Alpha",
        type=WEIGHT,
        default=mixup,
        metavar="ALPHA",
        help="mix images and labels by Beta(ALPHA, ALPHA); 0 = off"
        + ("" if mixup is not None else " (default: 1; by prediction 0)"),
    )
    resisting.add_argument(
        "--ema",
        type=RATIO,
        default=ema,
        metavar="DECAY",
        help="average the weights with this decay a step; the average is tracked (but with --track_from batches), "
        "tested and kept; 0 = off" + ("" if ema is not None else " (default: 0.99; by prediction 0)"),
    )
    resisting.add_argument(
        "--augment",
        choices=AUGMENT,
        default=augment,
        help="standard: padded crop and flip; strong: reflected crop, flip and cut-out; none: memorises fast"
        + ("" if augment is not None else " (default: standard in the warm-up, then strong; by prediction standard)"),
    )
    if balance is not None:  # ssl.py has a flag of its paper's for it
        resisting.add_argument(
            "--balance",
            type=WEIGHT,
            default=balance,
            metavar="WEIGHT",
            help="weight of L_p, which keeps the predictions of a batch from favouring some classes: they are to be as "
            "frequent as their labels (in the second training of relabel.py and parallel.py all alike); 0 = off",
        )


def resolve_optimisation(args: argparse.Namespace) -> None:
    """Put the schedule and its milestones in place. Raises UserError for milestones of another schedule."""
    schedule = vars(args).pop("default_schedule")
    if args.schedule is None:
        args.schedule = "steps" if args.M else schedule
    if args.M and args.schedule != "steps":
        raise UserError(f"--M does nothing with --schedule {args.schedule}", "leave one of them out")
    if args.gamma_scheduler != GAMMA and args.schedule != "steps" and not vars(args).get("M_2nd"):
        raise UserError(f"--gamma_scheduler does nothing with --schedule {args.schedule}", "add --M or leave it out")
    args.M = sorted(args.M or [])

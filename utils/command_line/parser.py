"""The parser of every script: bounded values, help with defaults, errors in one line. Imports no torch."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import NoReturn

from utils.errors import UserError

# -- values ----------------------------------------------------------------------------------------------------------


def number(
    kind: type, low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = False
) -> Callable:
    """An argparse type: an int or float within bounds, with an error that states them."""
    interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open or high == math.inf else ']'}"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {'a whole number' if kind is int else 'a number'}"
            ) from None
        if not low <= value <= high or (low_open and value == low) or (high_open and value == high):
            raise argparse.ArgumentTypeError(f"{text} is outside {interval}")
        return value

    return parse


COUNT = number(int, 1)  # 1, 2, 3 ...
WHOLE = number(int, 0)  # 0, 1, 2 ...
SEED = number(int, 0, 2**32 - 1)
RATE = number(float, 0, math.inf, low_open=True, high_open=True)  # learning rates and other positive factors
WEIGHT = number(float, 0, math.inf, high_open=True)  # a factor where 0 switches something off
RATIO = number(float, 0, 1, high_open=True)
SHARE = number(float, 0, 1, low_open=True)


# -- the parser ------------------------------------------------------------------------------------------------------

EPILOG = "Results go to EXPERIMENTS_ROOT/EXPERIMENT_NAME; utils/README.md says what is what."


class Parser(argparse.ArgumentParser):
    """Defaults in the help text, no abbreviated flags, and errors in one line with exit status 2."""

    def __init__(self, script: str, doc: str, epilog: str | None = EPILOG) -> None:
        super().__init__(
            prog=script,
            usage=f"python3 {script} [--flag VALUE ...]",
            description=doc,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
            epilog=epilog,
        )

    def left_at_defaults(self, args: argparse.Namespace) -> set[str]:
        """The flags that were not given, or given as they are by default; call before other flags fill them in."""
        return {name for name, value in vars(args).items() if value == self.get_default(name)}

    def error(self, message: str) -> NoReturn:
        raise UserError(re.sub(r"^argument ", "", message), f"see python3 {self.prog} --help")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Prints the defaults, but not the meaningless ones (None, False)."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default is None or action.default is False:  # not ==, which would hide a default of 0
            return action.help
        return super()._get_help_string(action)


# -- flags that belong to other flags --------------------------------------------------------------------------------


def refuse(args: argparse.Namespace, *flags: str, without: str) -> None:
    """Raises UserError for flags that do nothing without another one."""
    for flag in flags:
        if vars(args)[flag]:
            raise UserError(f"--{flag} does nothing without {without}", "add that flag or leave this one out")


def default_with(args: argparse.Namespace, flag: str, **defaults: object) -> None:
    """Defaults of flags that belong to `flag`; without it they stay None, and naming one is a UserError."""
    if not vars(args)[flag]:
        refuse(args, *defaults, without=f"--{flag}")
        return
    for name, value in defaults.items():
        if vars(args)[name] is None:
            setattr(args, name, value)

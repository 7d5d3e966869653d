"""The parser of every script: bounded values, help with defaults, errors in one line. Imports no torch."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn

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


def truth(text: str) -> bool:
    """An argparse type: True or False, in words. For switches that the original gives a value, with const=True."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() == "true"


# -- the parser ------------------------------------------------------------------------------------------------------

WIDTH = 120  # of lines of help
EPILOG = "Results go to EXPERIMENTS_ROOT/EXPERIMENT_NAME; utils/README.md says what is what."


class Parser(argparse.ArgumentParser):
    """Defaults in the help text, no abbreviated flags, and errors in one line with exit status 2.

    `usual`: the flags that --help shows, by their first name, --help_all showing all of them; None = --help shows all.
    """

    def __init__(
        self, script: str, doc: str, epilog: str | None = EPILOG, usual: Collection[str] | None = None
    ) -> None:
        super().__init__(
            prog=script,
            usage=f"python3 {script} [--flag VALUE ...]",
            description=doc,
            allow_abbrev=False,
            epilog=epilog,
            add_help=usual is None,
        )
        self.usual = usual
        if usual is not None:
            group = self.add_argument_group("help")
            group.add_argument("-h", "--help", action=ShowHelp, usual=usual, help="these flags")
            group.add_argument("--help_all", action=ShowHelp, usual=None, help="all flags, with their other names")

    def add_ineffective(self, flags: Sequence[str], why: str) -> None:
        """Flags that are taken with any values, and do nothing but be named in one line, after `why`."""
        for flag in flags:
            self.add_argument(
                flag, action=Ineffective, const=why, nargs="*", dest="ineffective", help=argparse.SUPPRESS
            )

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> Any:
        parsed = super().parse_args(args, namespace)
        for why, flags in vars(parsed).pop("ineffective", {}).items():
            print(f"{why}: {', '.join(flags)}")
        return parsed

    def help_on(self, usual: Collection[str] | None) -> str:
        """The help text on the flags `usual`, by their first name; None = on all, with their other names."""
        formatter = HelpFormatter(self.prog, brief=usual is not None)
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        sections = {group.title: group._group_actions for group in self._action_groups}
        if usual is not None:
            actions = [action for actions in sections.values() for action in actions]
            sections = {"the flags that most people need": [a for a in actions if usual & set(a.option_strings)]}
        for title, actions in sections.items():
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def format_help(self) -> str:
        return self.help_on(self.usual)

    def given(self, args: argparse.Namespace) -> dict[str, Any]:
        """{name: value} of the flags that are not as they are by default; call before others fill any in."""
        return {name: value for name, value in vars(args).items() if value != self.get_default(name)}

    def words(self, given: Mapping[str, Any]) -> list[str]:
        """The command line, without the script, that gives them. Raises KeyError for a flag that there is not."""
        actions = {action.dest: action for action in reversed(self._actions)}  # of two names the first
        return [word for name, value in given.items() for word in _words_of(actions[name], value)]

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--\w+)", message)
        close = difflib.get_close_matches(unknown[1], self._option_string_actions, 1) if unknown else []
        meant = f"did you mean {close[0]}? " if close else ""
        raise UserError(re.sub(r"^argument ", "", message), f"{meant}see python3 {self.prog} --help")


class ShowHelp(argparse.Action):
    """Prints the help on some flags, or on all, and ends."""

    def __init__(self, option_strings: Sequence[str], usual: Collection[str] | None, help: str, dest: str) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)
        self.usual = usual

    def __call__(self, parser: Parser, *_: Any) -> NoReturn:
        print(parser.help_on(self.usual), end="")
        parser.exit()


class Ineffective(argparse.Action):
    """Notes that its flag was given."""

    def __init__(self, option_strings: Sequence[str], **options: Any) -> None:
        super().__init__(option_strings, default=argparse.SUPPRESS, **options)  # `const`: why it does nothing

    def __call__(self, parser: Parser, namespace: argparse.Namespace, values: Any, option_string: str) -> None:
        given = vars(namespace).setdefault("ineffective", {}).setdefault(self.const, [])
        given += [option_string] if option_string not in given else []


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Prints the defaults, but not the meaningless ones (None, False).

    `brief`: as wide as the descriptions are, whatever the terminal, without the other names of a flag.
    """

    def __init__(self, prog: str, brief: bool = False) -> None:
        super().__init__(prog, max_help_position=32, width=WIDTH if brief else None)
        self.brief = brief

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """--name, --other_name VALUE."""
        names = action.option_strings
        if self.brief:
            names = [next(name for name in names if name.startswith("--"))]
        if action.nargs == 0:
            return ", ".join(names)
        metavar = self._get_default_metavar_for_optional(action)
        value = self._format_args(action, metavar)
        if self.brief:
            value = action.metavar or ("NAME" if action.choices else metavar)
            value = {"?": f"[{value}]", "+": f"{value} ..."}.get(action.nargs, value)
        return f"{', '.join(names)} {value}"

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default is None or action.default is False:  # not ==, which would hide a default of 0
            return action.help
        return super()._get_help_string(action)


def _words_of(action: argparse.Action, value: Any) -> list[str]:
    """A flag as it is typed to have the value."""
    flag = action.option_strings[0]
    if value in (None, []):  # not given
        return []
    if action.nargs == 0:
        return [flag] if value else [other for other in action.option_strings if other.startswith("--no-")]
    if action.nargs == "?" and value == action.const:
        return [flag]
    values = value if isinstance(value, list) else [value]
    return [flag, *map(str, values)] if action.nargs == "+" else [f"{flag}={one}" for one in values]


def add_finished_experiment(parser: Parser) -> None:
    """What a command reads that trains nothing: see `finished_named`."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help="name or folder of a finished experiment")
    parser.add_argument(
        "--experiments_root", default="experiments", metavar="FOLDER", help="where experiments are kept"
    )


# -- flags that belong to other flags --------------------------------------------------------------------------------


def given(args: argparse.Namespace, flags: Iterable[str]) -> list[str]:
    """Of flags that are None or False where nobody typed them, those that were typed, with 0 perhaps."""
    return [flag for flag in flags if vars(args)[flag] is not None and vars(args)[flag] is not False]


def refuse(args: argparse.Namespace, *flags: str, without: str) -> None:
    """Raises UserError for flags that do nothing without another one."""
    for flag in given(args, flags):
        raise UserError(f"--{flag} does nothing without {without}", "add that flag or leave this one out")


def idle(args: argparse.Namespace, *flags: str, without: str) -> None:
    """Take flags back that do nothing without another one, and say so: the original's commands hold such."""
    if typed := given(args, flags):
        print(f"does nothing without {without}: {', '.join(f'--{flag}' for flag in typed)}")
        vars(args).update({flag: False if vars(args)[flag] is True else None for flag in typed})


def default_with(args: argparse.Namespace, flag: str, **defaults: object) -> None:
    """Defaults of flags that belong to `flag`; without it they stay None, and naming one is a UserError."""
    if not vars(args)[flag]:
        refuse(args, *defaults, without=f"--{flag}")
        return
    for name, value in defaults.items():
        if vars(args)[name] is None:
            setattr(args, name, value)

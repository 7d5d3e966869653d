"""What the four scripts have in common: the flags of all, and the way from a command line to a method."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from utils.command_line.flags import USUAL, add_device, add_repetition
from utils.command_line.original import INEFFECTIVE, NO_EFFECT
from utils.command_line.parser import Parser
from utils.command_line.repetition import run_each
from utils.command_line.running import Method, run_experiment


@dataclass(frozen=True)
class Script:
    """One of the four. `method` imports what it returns, and torch with it: --help answers without."""

    name: str  # of its file
    key: str  # of its method, in run.json
    doc: str
    declare: Callable[[Parser], None]  # its own flags
    resolved: Callable[[argparse.Namespace], argparse.Namespace]  # the flags with what they leave open filled in
    method: Callable[[argparse.Namespace], Method]

    def parser(self) -> Parser:
        parser = Parser(self.name, self.doc, usual=USUAL)
        self.declare(parser)
        add_repetition(parser)
        add_device(parser)
        parser.add_ineffective(INEFFECTIVE[self.name], NO_EFFECT)
        return parser

    def main(self, argv: list[str] | None = None) -> None:
        """The runs that a command line (None = this process's) asks for. Raises UserError for what a user can mend."""
        run_each(self.parser(), self._run, argv)

    def _run(self, args: argparse.Namespace) -> None:
        given = self.parser().given(args)  # before others are filled in
        args = self.resolved(args)
        run_experiment(self.name, self.key, self.method(args), args, given)

"""What the benchmarks that compare trainings have in common: data, seeds, a folder of results, a report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from utils.command_line.flags import add_device
from utils.command_line.parser import SEED, Parser
from utils.data.choice import DataChoice, add_data, data_choice, resolve_data
from utils.results.tables import Row, Spread, Table, as_text


def parser_over_seeds(name: str, doc: str, seeds: tuple[int, ...] = (1, 2, 3), with_data: bool = True) -> Parser:
    """Of `python3 -m tests.benchmarks.NAME`, to which it adds its own flags; results lie in experiments/NAME."""
    parser = Parser(f"-m tests.benchmarks.{name}", doc, epilog=None)
    if with_data:
        add_data(parser)
    group = parser.add_argument_group("seeds and results")
    group.add_argument("--seeds", type=SEED, nargs="+", default=list(seeds), help="of noise and training")
    group.add_argument("--root", type=Path, default=Path("experiments") / name, help="where results are kept")
    group.add_argument("--save", metavar="NAME", help="keep what is printed as tests/benchmarks/results/NAME.txt")
    add_device(parser)
    return parser


def choices(args: argparse.Namespace) -> list[DataChoice]:
    """The data of each seed, in order. Raises UserError for data that there are not."""
    args.seed = args.seeds[0]
    resolve_data(args)
    return [replace(data_choice(args), seed=seed) for seed in args.seeds]


def table_over_seeds(seeds: Sequence[Mapping[tuple[str, ...], Mapping[str, float | None]]], groups: list[str]) -> str:
    """Mean ± sd (n) of {row: {column: value}} of each seed; `groups` heads the parts of a row's name."""
    columns = list(next(iter(seeds[0].values())))
    rows = []
    for name in seeds[0]:
        values = [[seed[name][column] for seed in seeds if seed[name][column] is not None] for column in columns]
        rows.append(Row(list(name), [Spread.of(of) for of in values]))
    return as_text(Table(groups, columns, rows))

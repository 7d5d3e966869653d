"""From a script's command line to its runs: one, or one for each of --seeds; with --settings from an earlier run's.

Imports no torch before a run does.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import launch, ranks
from utils.command_line.flags import SPREAD, experiment_name
from utils.command_line.parser import Parser
from utils.errors import Diverged, Stopped, UserError
from utils.separations import SEPARATIONS

if TYPE_CHECKING:
    from utils.experiments.stop_request import StopRequest

Run = Callable[[argparse.Namespace], None]
NOT_TAKEN = {"experiment_name", "overwrite"}  # of an earlier run: they say where to write, not what
EXPERIMENTS = (*SEPARATIONS, "first_stage_from", "compare")  # flags that name one


def run_each(parser: Parser, run: Run, argv: list[str] | None = None) -> None:
    """Call `run` with the flags, or with those of each seed; it may fill in what they leave open.

    Raises UserError for flags that are wrong or contradict each other.
    """
    words = sys.argv[1:] if argv is None else argv
    args = parse(parser, words)
    seeds, spread = (vars(args).pop(name) for name in ("seeds", "spread"))
    if spread is not None and (seeds is None or not launch.launched()):
        needed = "--seeds" if seeds is None else "torchrun"
        raise UserError(f"--spread does nothing without {needed}", "add that or leave this flag out")
    if seeds is None:
        run(args)
        return
    if named(parser, "seed", words):
        raise UserError("--seed and --seeds contradict each other", "leave one of them out")
    if len(set(seeds)) < len(seeds):
        raise UserError("--seeds names a seed more than once", "name each seed once")
    if vars(args).get("scores") is not None and len(seeds) > 1 and args.noise_seed is None:
        remedy = "run the seeds one by one, each with its own scores, or hold the labels still with --noise_seed"
        raise UserError("--scores are of the labels of one seed", remedy)
    if args.estimate:
        at_once = f"{launch.number_of_processes()} at a time" if spread == SPREAD[1] else "which follow one another"
        print(f"one of {len(seeds)} runs, {at_once}:", flush=True)
        ranks.open_ranks()
        with ranks.alone() if spread == SPREAD[1] else nullcontext():
            run(with_seed(args, seeds[0]))
        return
    if spread == SPREAD[1]:
        spread_seeds(parser.prog, args, seeds, run)
        return
    run_seeds(parser.prog, args, seeds, run)


# -- seeds -------------------------------------------------------------------------------------------------------------


def run_seeds(script: str, args: argparse.Namespace, seeds: list[int], run: Run) -> None:
    """One run after the other, and the table of all. A finished one only prints, one that was cut off goes on.

    Raises UserError once all others are done where some diverged.
    """
    from utils.experiments.record import typed_command
    from utils.experiments.stop_request import StopRequest

    ranks.open_ranks()
    with StopRequest(typed_command(script)) as stop:  # one that comes too late to stop a run stops those after it
        names = one_after_the_other(script, args, seeds, seeds, run, stop)
    if ranks.current().leads:
        print_table(script, args, names)
    refuse_missing(seeds, names)


def spread_seeds(script: str, args: argparse.Namespace, seeds: list[int], run: Run) -> None:
    """Each process runs some of the seeds, as if it were alone, on a device of its own; the table of all comes last."""
    from utils.experiments.record import typed_command
    from utils.experiments.stop_request import StopRequest

    everyone, stop = ranks.open_ranks(), StopRequest(typed_command(script))
    try:
        with ranks.alone(), stop:
            names = one_after_the_other(script, args, seeds[everyone.rank :: everyone.size], seeds, run, stop)
            launch.meet("seeds", stop.raise_if_asked)  # however long the others take
    except Stopped:
        if stop.after_a_loss:
            raise launch.lost() from None
        raise
    shared = everyone.in_turns(names.get, seeds)
    names = {seed: name for seed, name in zip(seeds, shared, strict=True) if name is not None}
    if everyone.leads:
        print_table(script, args, names)
    refuse_missing(seeds, names)


def one_after_the_other(
    script: str, args: argparse.Namespace, own: list[int], seeds: list[int], run: Run, stop: StopRequest
) -> dict[int, str]:
    """The runs of the seeds `own` among all; {seed: name of its experiment}, but for those that diverged."""
    names, command = {}, stop.command
    for number, seed in enumerate(own, 1):
        stop.raise_if_asked()
        print(f"\nseed {seed}, {1 + seeds.index(seed)} of {len(seeds)}", flush=True)
        if args.overwrite and own == seeds:
            stop.command = command_to_go_on(command, seeds[:number], seeds[number:])
        elif args.overwrite:  # how far the other processes are is not known here
            stop.command = f"{command}  (older runs of seeds that had not begun stay: --overwrite those)"
        of_seed = with_seed(args, seed)
        try:
            run(of_seed)
            names[seed] = experiment_name(script, of_seed)
        except Diverged as error:  # as it would each time; the other seeds are worth having
            print(f"seed {seed}: {error}", flush=True)
    return names


def command_to_go_on(command: str, begun: list[int], others: list[int]) -> str:
    """What to type where --overwrite may meet runs that are there from before, of the seeds not yet begun."""
    words = shlex.split(command)
    start = next((place for place, word in enumerate(words) if word.partition("=")[0] == "--seeds"), None)
    if not others or start is None:  # the flags may come from another program
        return command
    end = next((place for place in range(start + 1, len(words)) if words[place].startswith("-")), len(words))
    first = shlex.join([*words[:start], "--seeds", *map(str, begun), *words[end:]])
    return f"{first}, then the same with --seeds {' '.join(map(str, others))} --overwrite"


def refuse_missing(seeds: list[int], names: dict[int, str]) -> None:
    missing = [str(seed) for seed in seeds if seed not in names]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(seeds)} seeds diverged: {' '.join(missing)}", "lower the learning rate"
        )


def print_table(script: str, args: argparse.Namespace, names: dict[int, str]) -> None:
    """Of the seeds that ended."""
    if not names:
        return
    from utils.experiments.record import read_finished
    from utils.results.seed_groups import seed_table
    from utils.results.tables import as_text

    print(f"\n{script}, seeds {' '.join(map(str, names))}: mean ± sd (n)")
    print(as_text(seed_table([read_finished(args.experiments_root, name) for name in names.values()])))


def with_seed(args: argparse.Namespace, seed: int) -> argparse.Namespace:
    """The flags of one of several runs: its seed, its name, and its own of the experiments that it reads."""
    one = argparse.Namespace(**vars(args) | {"seed": seed})
    if args.experiment_name is not None:  # the default name holds the seed
        one.experiment_name = f"{args.experiment_name}_{seed}"
    for flag in EXPERIMENTS:
        if vars(args).get(flag):
            setattr(one, flag, beside(args.experiments_root, vars(args)[flag], seed))
    return one


def beside(root: str, name: str, seed: int) -> str:
    """The experiment of that seed beside `name`: NAME_SEED, or a default name with that seed in it; else `name`."""
    default = re.sub(r"_seed\d+(?=(_noiseseed\d+)?$)", f"_seed{seed}", name)
    return next((one for one in (f"{name}_{seed}", default) if (Path(root) / one).is_dir()), name)


# -- settings of an earlier run ----------------------------------------------------------------------------------------


def parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """The flags in `words`, and with --settings FILE those that its run was given and that `words` do not name."""
    only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    only.add_argument("--settings", nargs="?")
    file = only.parse_known_args(words)[0].settings
    taken = [] if file is None else recorded_words(parser, file, words)
    args = parser.parse_args([*taken, *words])
    del args.settings
    return args


def recorded_words(parser: Parser, file: str, words: list[str]) -> list[str]:
    """The flags that the run of a run.json was given, as they are typed, but for those that `words` name.

    Raises UserError where the file is missing or damaged, of another script or version, or holds flags there are none
    of.
    """
    given = read_given(file, parser.prog)
    left_out = NOT_TAKEN | {action.dest for action in parser._actions if named(parser, action.dest, words)}
    if named(parser, "seeds", words):
        of_one = f"_{given.get('seed', parser.get_default('seed'))}"  # NAME_SEED, of which each seed has its own
        given |= {flag: str(given[flag]).removesuffix(of_one) for flag in EXPERIMENTS if given.get(flag)}
        left_out.add("seed")
    try:
        taken = parser.words({name: value for name, value in given.items() if name not in left_out})
        parser.parse_args(taken)
    except KeyError as error:
        what = f"{file} holds a flag that {parser.prog} does not know: {error.args[0]}"
        raise UserError(what, "it is of another version: give the flags one by one") from error
    except UserError as error:
        raise UserError(f"{file}: {error.what}", f"give that flag here, or {error.remedy}") from error
    return taken


def read_given(file: str, script: str) -> dict[str, Any]:
    """{name: value} of the flags that a run of `script` was given."""
    from utils.experiments.record import read_entries

    try:
        record = read_entries(Path(file))
        of_script, given = record["script"], record.get("given")
        if given is not None and not isinstance(given, dict):
            raise TypeError("the flags that were given are none")
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror})", "name the run.json of an experiment") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is no run.json ({error!r})", "name the run.json of an experiment") from error
    if of_script != script:
        raise UserError(f"{file} is of {of_script}, not of {script}", f"name a run of {script}")
    if given is None:
        what = f"{file} does not say which flags its run was given: an earlier version wrote it"
        raise UserError(what, "give the flags one by one")
    return given


def named(parser: Parser, dest: str, words: list[str]) -> bool:
    """Whether `words` name a flag; values never look like one, and flags are not abbreviated."""
    flags = {flag for action in parser._actions if action.dest == dest for flag in action.option_strings}
    return not flags.isdisjoint(word.partition("=")[0] for word in words)

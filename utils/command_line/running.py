"""What every script does with its flags: open the experiment, choose the device, work, print the result, end."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from utils import launch, ranks
from utils.command_line.flags import experiment_name
from utils.data.choice import data_choice, first_choice
from utils.errors import Foreseen, Stopped, UserError
from utils.results.commands import classify_command, honest_command, ssl_command, training_flags
from utils.results.tables import figure_label
from utils.separations import FORGET, SEPARATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from utils.compute import Compute
    from utils.experiments.experiment import Experiment

Method = Callable[[argparse.Namespace, "Compute", "Experiment"], None]

LESS_MEMORY = "lower --batch_size or --eval_batch_size, or leave the images with --images_on host"


def run_experiment(script: str, key: str, method: Method, args: argparse.Namespace, given: dict[str, Any]) -> None:
    """A script from its flags to its result table; a finished experiment only prints its figures again.

    `given`: {name: value} of the flags that were asked for, before others were filled in.
    """
    from utils.experiments.record import typed_command
    from utils.experiments.stop_request import StopRequest

    ranks.open_ranks()
    # Of several processes one may be asked to stop, or lose another one, before its experiment is open.
    with StopRequest(typed_command(script)) if launch.launched() else nullcontext():
        _run(script, key, method, args, given)


def _run(script: str, key: str, method: Method, args: argparse.Namespace, given: dict[str, Any]) -> None:
    from utils.compute import choose, keep_freed_memory, return_freed_memory
    from utils.experiments.experiment import Experiment
    from utils.results.comparison import compare_experiments, draw_comparison, read_comparable
    from utils.results.found_scores import newest

    sharing, name = ranks.current(), experiment_name(script, args)
    compare = vars(args).get("compare")
    if vars(args).get("compare_to_forgetting"):
        compare = sharing.from_first(lambda: newest(args.experiments_root, FORGET, data_choice(args)).path.name)
    # A slip of the pen in --compare shows now, not after hours.
    other = read_comparable(args.experiments_root, compare) if compare not in (None, name) else None
    folder = f"{name}_{sharing.from_first(os.getpid)}" if args.estimate else name
    experiment = Experiment(args.experiments_root, folder, other)
    with (
        temporary(experiment.path, sharing.leads) if args.estimate else nullcontext(),
        experiment.open(script, key, vars(args), args.overwrite, given),
    ):
        if experiment.finished:
            print(f"{experiment.path} is finished; --overwrite would start anew")
        else:
            return_freed_memory()
            keep_freed_memory()
            precision = args.precision
            if precision == "auto" and experiment.resuming:  # on another machine it may come to another one
                precision = experiment.record.get("resolved_precision", precision)
            compute = choose(args.cuda_dev, precision, args.compile, args.threads, args.eval_batch_size, args.images_on)
            method(args, compute, experiment)
        if not sharing.leads:
            return
        print_result(experiment, next_command(args, experiment))
        if compare:
            print(compare_experiments(experiment, compare))
            try:
                draw_comparison(experiment, compare, first_choice(args).in_words())
            except UserError as error:  # a finished experiment may lie where nothing can be written
                print(f"compare.png is left out: {error}")


@contextmanager
def temporary(folder: Path, own: bool = True) -> Iterator[None]:
    """A folder that does not stay, whose run ends as soon as it is foreseen; `own`: made by this process."""
    made = [path for path in (folder, folder.parent) if own and not path.exists()]
    try:
        yield
    except Foreseen:
        return
    finally:
        if folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        if folder.parent in made:
            with suppress(OSError):
                folder.parent.rmdir()


def print_result(experiment: Experiment, next_command: str) -> None:
    """The short table a run ends with: figures, paths, what to type next."""
    from utils.results.found_scores import chosen_by_truth

    record = experiment.record
    lines = [f"\n{experiment.name}: {record['method']}, {sum(record['seconds'].values()):.0f} s"]
    if chosen_by_truth(record):
        lines.append("  ORACLE: score and moment were chosen by the true labels: to study, never a result")
    figures = {figure_label(name): value for name, value in record["figures"].items()}
    width = max([28, *map(len, figures)])
    lines += [
        f"  {name:<{width}} {value:.4f}" if isinstance(value, float) else f"  {name:<{width}} {value}"
        for name, value in figures.items()
    ]
    lines.append(f"written to {experiment.path}/")
    lines += [f"  {', '.join(group)}" for group in by_kind(record.own_files())]
    lines.append(f"next: {next_command}")
    print("\n".join(lines))


def by_kind(files: list[Path]) -> list[list[str]]:
    """The names of files, grouped by kind; the record itself is among the last."""
    names = sorted({"run.json", *(file.name for file in files)})
    kinds = [[name for name in names if name.endswith(suffix)] for suffix in (".npy", ".csv", ".png", ".pt")]
    rest = [name for name in names if not any(name in kind for kind in kinds)]
    return [kind for kind in (*kinds, rest) if kind]


def next_command(args: argparse.Namespace, experiment: Experiment) -> str:
    """After a separation: train on it, or separate again where ssl.py refuses it. After training: classify images."""
    from utils.methods.pseudo_labelling_flags import usual_epochs
    from utils.methods.relabelling_flags import EPOCHS_BY_PREDICTION
    from utils.results.found_scores import chosen_by_truth

    key = experiment.record["method"]
    if key not in SEPARATIONS:
        return classify_command(experiment.path / "model.pt")
    if chosen_by_truth(experiment.record):
        return honest_command(experiment.record)
    separation = SEPARATIONS[key]
    by_prediction = experiment.record["settings"].get("relabel_by") == "prediction"
    usual = EPOCHS_BY_PREDICTION if by_prediction else separation.epochs
    training = training_flags(experiment.record, usual, usual_epochs(separation.runs))
    if args.experiment_name is not None:
        training["--experiment_name"] = f"{experiment.name}_ssl"
    return ssl_command(separation, experiment.name, data_choice(args), training, args.experiments_root)


def run_script(
    main: Callable[[list[str] | None], Any], argv: list[str] | None = None, remedy: str = LESS_MEMORY
) -> NoReturn:
    """Call a script's main and end the process: one line and status 2 for what a user can mend.

    Of several processes one alone says why they end. `remedy`: where memory is short.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what a terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with launch.quiet():
            main(argv)
            sys.stdout.flush()  # whose reader may have gone
    except UserError as error:
        _fail(str(error), 2)
    except Stopped as stopped:
        _fail(str(stopped), stopped.exit_status, prefix="")
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:  # whoever read what is printed has gone, as head does
        _end(141)  # 128 + SIGPIPE, as the shell says it
    except MemoryError:
        _fail(f"out of memory — {remedy}", 2)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; torch is not imported here
            _fail(f"the GPU is out of memory — {remedy}", 2)
        if isinstance(error, RuntimeError | OSError) and "allocate memory" in str(error):  # torch's on a CPU, ENOMEM
            _fail(f"out of memory — {remedy}", 2)
        if not launch.launched():
            raise
        if launch.speaks():
            traceback.print_exc()
        _end(1)
    _end(0)


def _fail(line: str, status: int, prefix: str = "error: ") -> NoReturn:
    if launch.speaks():
        print(f"{prefix}{line}", file=sys.stderr)
    _end(status)


def _end(status: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would fail again as Python ends
    if launch.launched():
        launch.leave(status)
    sys.exit(status)

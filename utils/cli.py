"""The command line of the four scripts: every flag once, in groups, and how a script ends. Imports no torch."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import datasets
from utils import noise
from utils.errors import Stopped, UserError

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


EPILOG = "Results go to EXPERIMENTS_ROOT/EXPERIMENT_NAME; README.md says how to read them."


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

    def error(self, message: str) -> NoReturn:
        raise UserError(re.sub(r"^argument ", "", message), f"see python3 {self.prog} --help")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Prints the defaults, but not the meaningless ones (None, False)."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default is None or action.default is False:  # not ==, which would hide a default of 0
            return action.help
        return super()._get_help_string(action)


DATA_SETS = "; ".join(f"{name}: {info.description}" for name, info in datasets.DATASETS.items())


# -- groups of flags -------------------------------------------------------------------------------------------------


def add_data(parser: Parser, prefix: str = "first_stage_") -> None:
    group = parser.add_argument_group("data")
    flag = f"--{prefix}data_name" if prefix else "--dataset"
    group.add_argument(
        flag,
        dest=f"{prefix}data_name",
        choices=list(datasets.DATASETS),
        default="digits",
        help="data set whose labels are to be judged; " + DATA_SETS,
    )
    _add_data_details(group, prefix, root_flag="--train_root")
    group.add_argument(
        "--image_size",
        type=number(int, 8, 1024),
        metavar="PIXELS",
        help="side to which the images of 'folder' are resized and cropped (default: 32)",
    )


def add_second_stage_data(parser: Parser) -> None:
    group = parser.add_argument_group("second data set, which the network is fine-tuned on to make it forget")
    group.add_argument("--second_stage_data_name", choices=list(datasets.DATASETS), default="patches", help="data set")
    _add_data_details(group, prefix="second_stage_", root_flag="--second_stage_root")
    _add_noise_flags(group, prefix="second_stage_", default_ratio=0.0)


def _add_data_details(group: argparse._ArgumentGroup, prefix: str, root_flag: str) -> None:
    group.add_argument(
        root_flag,
        metavar="FOLDER",
        help="folder with its files (default: datasets/NAME/data beside the scripts; 'folder' needs one)",
    )
    group.add_argument(
        f"--{prefix}subset",
        type=WHOLE,
        nargs="+",
        metavar="CLASS",
        help="keep these classes only, relabelled to 0..k-1 in the order given (default: all)",
    )
    group.add_argument(
        f"--{prefix}num_classes",
        type=number(int, 2),
        metavar="C",
        help="number of classes, checked against the data (default: taken from it)",
    )


def add_label_noise(parser: Parser, prefix: str = "first_stage_") -> None:
    _add_noise_flags(parser.add_argument_group("label noise"), prefix, default_ratio=0.4)


def _add_noise_flags(group: argparse._ArgumentGroup, prefix: str, default_ratio: float) -> None:
    group.add_argument(
        f"--{prefix}noise_type",
        choices=noise.KINDS,
        default="random_in_noise",
        help="random_in_noise: exactly RATIO of the labels become another class, uniformly; real_in_noise: "
        "classes turn into the one they are mistaken for, each label with probability RATIO; "
        "none: labels as they are, truth unknown",
    )
    group.add_argument(
        f"--{prefix}noise_ratio",
        f"--{prefix}noise_ration",
        type=RATIO,
        metavar="RATIO",
        help=f"in [0, 1) (default: {default_ratio})",
    )
    group.set_defaults(**{f"{prefix}default_ratio": default_ratio})


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


def add_dropout(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dropout", type=RATIO, default=0.1, metavar="P", help="dropout probability; 0 switches it off")


def add_network_width(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--width",
        type=number(float, 0, 8, low_open=True),
        metavar="FACTOR",
        help="multiplies the channels of every layer (default: 1, the paper's; for digits 0.25)",
    )


def add_tracking(parser: Parser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("tracking")
    group.add_argument(
        "--track_CE",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also track the neighbour cross-entropy (needs a neighbour search at every tracked moment)",
    )
    group.add_argument(
        "--NN_k", type=COUNT, default=100, metavar="K", help="nearest neighbours; clamped to the number of samples"
    )
    group.add_argument(
        "--nn_memory_gb", type=RATE, default=1.0, metavar="GB", help="scratch memory of the neighbour search"
    )
    return group


def add_scores(parser: Parser) -> None:
    scores = parser.add_argument_group(
        "scores, of one or more separations (bare: the newest finished one on the same data)"
    )
    for method, script in (("forget", "main.py"), ("parallel", "parallel.py"), ("relabel", "relabel.py")):
        scores.add_argument(
            f"--{method}", nargs="?", const="", metavar="EXPERIMENT", help=f"the scores that {script} left"
        )
    scores.add_argument(
        "--f_l", action="store_true", help="of --forget, take the loss instead of the neighbour cross-entropy"
    )
    scores.add_argument("--scores", metavar="FILE", help="any .npy of N numbers, higher = more likely mislabelled")


def add_clean_set(parser: Parser) -> None:
    clean = parser.add_argument_group("clean set")
    clean.add_argument("--use_bmm", action="store_true", help="by a beta mixture instead of the threshold rule")
    clean.add_argument("--bmm_th", type=SHARE, metavar="P", help="clean = p_noisy below this (default: 0.05)")
    clean.add_argument(
        "--threshold", type=SHARE, default=0.20, metavar="SHARE", help="without --use_bmm: the SHARE lowest scores"
    )
    clean.add_argument("--balanced_set", action="store_true", help="as many samples of every class")
    clean.add_argument("--agree_on_clean", action="store_true", help="several scores: intersection instead of union")
    clean.add_argument("--f_FND", action="store_true", help="the forgetting scores only veto, beside another score")
    clean.add_argument(
        "--fn_th", type=SHARE, metavar="SHARE", help="share of samples that --f_FND vetoes (default: 0.05)"
    )
    second = parser.add_argument_group("second run")
    second.add_argument(
        "--double_run", action="store_true", help="select again by the trained network's loss, and train once more"
    )
    second.add_argument("--bmm_th_2nd", type=SHARE, metavar="P", help="--bmm_th of the second run (default: 0.5)")
    second.add_argument(
        "--threshold_2nd", type=SHARE, metavar="SHARE", help="--threshold of the second run (default: 0.2)"
    )


def add_output(parser: Parser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--experiment_name",
        metavar="NAME",
        help="folder under EXPERIMENTS_ROOT (default: made of script, data, noise and seed)",
    )
    group.add_argument("--experiments_root", default="experiments", metavar="FOLDER", help="where experiments are kept")
    group.add_argument(
        "--overwrite", action="store_true", help="start anew in a used folder; what a run left there is removed"
    )
    return group


def add_compare(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--compare",
        metavar="EXPERIMENT",
        help="print how these scores agree with those of a finished experiment on the same data",
    )


def add_device(parser: Parser) -> None:
    group = parser.add_argument_group("device")
    group.add_argument(
        "--cuda_dev",
        type=number(int, -1),
        default=0,
        metavar="K",
        help="GPU number; -1 = CPU, which is also taken where the machine has no GPU",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="arithmetic of the networks; auto: bf16 where the hardware multiplies it, else fp32",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the network first: faster steps after about a minute of compilation",
    )
    group.add_argument(
        "--eval_batch_size",
        type=COUNT,
        metavar="B",
        help="images in an evaluation batch (default: 2000 on a GPU, 250 on a CPU)",
    )
    group.add_argument(
        "--threads", type=COUNT, metavar="T", help="CPU threads (default: what OMP_NUM_THREADS says, else one per core)"
    )


# -- what the flags say, for the methods -----------------------------------------------------------------------------


@dataclass(frozen=True)
class DataChoice:
    """Which images, which classes and which label noise; made from the flags of a script."""

    name: str
    root: str | None
    subset: list[int] | None
    num_classes: int | None
    image_size: int | None
    noise_type: str
    noise_ratio: float
    seed: int


def data_choice(args: argparse.Namespace, prefix: str = "first_stage_") -> DataChoice:
    flags = vars(args)
    name = flags[f"{prefix}data_name"]
    return DataChoice(
        name=name,
        root=flags["second_stage_root"] if prefix == "second_stage_" else args.train_root,
        subset=flags[f"{prefix}subset"],
        num_classes=flags[f"{prefix}num_classes"],
        image_size=None if prefix == "second_stage_" else args.image_size,
        noise_type=flags[f"{prefix}noise_type"],
        noise_ratio=flags[f"{prefix}noise_ratio"],
        seed=args.seed,
    )


def resolve(args: argparse.Namespace, prefixes: tuple[str, ...] = ("first_stage_",)) -> argparse.Namespace:
    """Fill in the defaults that depend on other flags and check flags against each other."""
    for prefix in prefixes:
        choice = data_choice(args, prefix)
        default_ratio = vars(args).pop(f"{prefix}default_ratio")
        if choice.noise_type == "none":
            if choice.noise_ratio:
                raise UserError(
                    f"--{prefix}noise_ratio {choice.noise_ratio} has no effect with noise type none", "leave it out"
                )
            setattr(args, f"{prefix}noise_ratio", 0.0)
        elif choice.noise_ratio is None:
            setattr(args, f"{prefix}noise_ratio", default_ratio)
        if choice.image_size and not datasets.DATASETS[choice.name].sized:
            raise UserError(f"--image_size is for 'folder', not {choice.name}", "leave it out")
        root_flag = "--second_stage_root" if prefix == "second_stage_" else "--train_root"
        if choice.root is not None and datasets.DATASETS[choice.name].bundled:
            raise UserError(f"{choice.name} needs no files, so {root_flag} does nothing", "leave it out")
        if choice.name == "folder" and choice.root is None:
            raise UserError(
                "the data set 'folder' needs its root", f"add {root_flag} FOLDER, which holds train/CLASS/IMAGES"
            )
    milestones = vars(args).pop("default_milestones")
    args.M = sorted(args.M) if args.M else milestones
    if "nn_memory_gb" in args and not args.track_CE and (args.NN_k, args.nn_memory_gb) != (100, 1.0):
        raise UserError("--NN_k and --nn_memory_gb do nothing with --no-track_CE", "leave them out")
    if args.width is None:
        args.width = 0.25 if data_choice(args, prefixes[0]).name == "digits" else 1.0
    return args


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


def check_training(args: argparse.Namespace) -> None:
    """Flags against each other; the defaults of those that belong to another flag."""
    voting = [m for m in ("forget", "parallel", "relabel", "scores") if vars(args)[m] is not None]
    if not voting:
        raise UserError("no scores are named", "add --forget, --parallel, --relabel or --scores FILE")
    if args.f_FND and (args.forget is None or len(voting) < 2):
        raise UserError("--f_FND needs --forget to veto and another score to select", "add them")
    default_with(args, "f_FND", fn_th=0.05)
    default_with(args, "swa", swa_start=args.epoch * 3 // 4, swa_freq=1)
    default_with(args, "use_bmm", bmm_th=0.05)
    if not args.use_bmm:
        refuse(args, "bmm_th_2nd", without="--use_bmm")
    default_with(args, "double_run", bmm_th_2nd=0.5, threshold_2nd=0.2)
    if args.agree_on_clean and len(voting) - args.f_FND < 2:
        raise UserError("--agree_on_clean needs two scores to agree", "name another one")
    if args.f_l and args.forget is None:
        raise UserError("--f_l chooses among the forgetting scores", "add --forget")
    if args.swa and args.swa_start >= args.epoch:
        raise UserError(f"--swa_start {args.swa_start} is not before the end of --epoch {args.epoch}", "lower it")
    if args.epoch_begin >= args.epoch:
        raise UserError(f"--epoch_begin {args.epoch_begin} leaves no epoch of --epoch {args.epoch}", "lower it")
    if args.labeled_batch_size is not None and args.labeled_batch_size >= args.batch_size:
        raise UserError(
            f"--labeled_batch_size {args.labeled_batch_size} fills --batch_size {args.batch_size}", "lower it"
        )


def default_name(script: str, args: argparse.Namespace) -> str:
    """main_digits_random_in_noise_0.4_seed1, ssl_forget_parallel_digits_random_in_noise_0.4_seed1"""
    scores = [m for m in ("forget", "parallel", "relabel", "scores") if vars(args).get(m) is not None]
    choice = data_choice(args, "" if "data_name" in args else "first_stage_")
    noise = choice.noise_type if choice.noise_type == "none" else f"{choice.noise_type}_{choice.noise_ratio:g}"
    subset = "" if choice.subset is None else "_classes" + "-".join(map(str, choice.subset))
    return "_".join([script.removesuffix(".py"), *scores, choice.name + subset, noise, f"seed{choice.seed}"])


# -- running a script ------------------------------------------------------------------------------------------------


def run(main: Callable[[list[str] | None], Any], argv: list[str] | None = None) -> NoReturn:
    """Call a script's main and end the process: one line and status 2 for what a user can mend."""
    try:
        main(argv)
    except UserError as error:
        sys.exit(_fail(str(error), 2))
    except Stopped as stopped:
        sys.exit(_fail(str(stopped), stopped.exit_status, prefix=""))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))
    except MemoryError:
        sys.exit(_fail("out of memory — lower --batch_size, --eval_batch_size or --nn_memory_gb", 2))
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; torch is not imported here
            sys.exit(_fail("the GPU is out of memory — lower --batch_size, --eval_batch_size or --nn_memory_gb", 2))
        raise
    sys.exit(0)


def _fail(line: str, status: int, prefix: str = "error: ") -> int:
    print(f"{prefix}{line}", file=sys.stderr)
    return status

"""The flags that scripts share beside those of data, optimisation and tracking: network, output, device.

Every flag stands once, in a group, with its unit and what switches it off. Imports no torch.
"""

from __future__ import annotations

import argparse
import re
import zlib
from collections.abc import Sequence

import models
from utils.command_line.parser import COUNT, RATIO, SEED, WEIGHT, WHOLE, Parser, number
from utils.data.choice import first_choice, resolve_data
from utils.errors import UserError
from utils.scoring.tracking import tracking_of
from utils.separations import SEPARATIONS
from utils.training.optimisation import resolve_optimisation

DIGITS_WIDTH = 0.25
SPREAD = ("batch", "seeds")
USUAL = {  # what --help shows of all scripts' flags, by their first names; --help_all shows the rest
    "--help", "--help_all", "--dataset", "--train_root", "--labels", "--noise_type", "--noise_ratio", "--features",
    "--epoch_1st", "--epoch", "--lr", "--schedule", "--batch_size", "--seed", "--seeds", "--width", "--lr_2nd",
    "--steps_total", "--second_stage_data_name", "--relabel_by", "--warmup_e", "--exchange", "--forget", "--parallel",
    "--relabel", "--targets", "--runs", "--use_bmm", "--threshold", "--experiment_name", "--overwrite", "--compare",
    "--report", "--cuda_dev",
}  # fmt: skip


def add_dropout(group: argparse._ArgumentGroup, off: str | None = None) -> None:
    """`off`: the way of a script that trains without it."""
    group.add_argument(
        "--dropout",
        type=RATIO,
        metavar="P",
        help="dropout probability; 0 switches it off "
        f"(default: {models.DROPOUT[models.CNN13]} in the 13-layer CNN, else 0{'' if off is None else f'; {off} 0'})",
    )


def add_input_noise(group: argparse._ArgumentGroup, off: str) -> None:
    """`off`: the way of a script that trains without it."""
    group.add_argument(
        "--input_noise",
        type=WEIGHT,
        metavar="SIGMA",
        help="standard deviation of Gaussian noise on the normalised training images of the 13-layer CNN; "
        f"0 switches it off (default: {models.INPUT_NOISE[models.CNN13]}; {off} 0)",
    )


def check_input_noise(args: argparse.Namespace, networks: list[str]) -> None:
    """Raises UserError where noise is asked for and none of the networks has any."""
    if args.input_noise and not any(models.INPUT_NOISE[models.ALIASES.get(name, name)] for name in networks):
        raise UserError("--input_noise is of the 13-layer CNN and does nothing here", "leave it out")


def add_network_width(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--width",
        type=number(float, 0, 8, low_open=True),
        metavar="FACTOR",
        help=f"multiplies the channels of every layer (default: 1, the paper's; for digits {DIGITS_WIDTH})",
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
    group.add_argument(
        "--estimate",
        action="store_true",
        help="say what the data are and what time, memory and disk it takes, and stop",
    )
    group.add_argument(
        "--report",
        type=WHOLE,
        metavar="N",
        help="suspects.html shows the N samples that are most likely mislabelled, and up to 200 pairs of "
        "near-duplicates under different labels; 0 = no page (default: for 'folder' every suspect, at least 1000 and "
        "at most 20000; no page for other sets)",
    )
    return group


def add_repetition(parser: Parser) -> None:
    group = parser.add_argument_group("several runs, earlier runs")
    group.add_argument(
        "--seeds",
        type=SEED,
        nargs="+",
        metavar="SEED",
        help="one run after the other in place of --seed, each in an experiment NAME_SEED, then a table of mean ± sd; "
        "where a flag names an EXPERIMENT, each run takes that of its own seed: EXPERIMENT_SEED, or the default name "
        "with that seed in it",
    )
    group.add_argument(
        "--spread",
        choices=SPREAD,
        help="under torchrun, batch: all processes work on one seed after the other; seeds: each on seeds of its own "
        f"(default: {SPREAD[0]})",
    )
    group.add_argument(
        "--settings",
        metavar="FILE",
        help="run.json of an earlier run, whose flags are taken but for its name; those that are given here come first",
    )


def add_compare(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--compare",
        metavar="EXPERIMENT",
        help="print and draw how these scores agree with those of a finished experiment on the same data",
    )


def add_device(parser: Parser) -> None:
    group = parser.add_argument_group("device")
    group.add_argument(
        "--cuda_dev",
        type=number(int, -1),
        default=0,
        metavar="K",
        help="GPU number, of several processes the first one's; -1 = CPU, which is also taken where there is no GPU",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="arithmetic of the networks; auto: bf16 where the hardware multiplies it, else fp32; an interrupted run "
        "goes on in what it came to there",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the network first: faster steps after about a minute of compilation",
    )
    group.add_argument(
        "--eval_batch_size",
        "--test_batch_size",
        type=COUNT,
        metavar="B",
        help="images in an evaluation batch (default: 2000 on a GPU, 250 on a CPU; with --features 250 and 32)",
    )
    group.add_argument(
        "--images_on",
        choices=("auto", "device", "host"),
        default="auto",
        help="where the decoded images lie. host: those of a folder stay in the file of its cache, others in memory, "
        "and the next batches are copied while one trains; auto: on the device where they take at most half of its "
        "free memory, else host. Results are the same",
    )
    group.add_argument(
        "--threads", type=COUNT, metavar="T", help="CPU threads (default: what OMP_NUM_THREADS says, else one per core)"
    )


def resolve(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in the defaults that depend on other flags and check flags against each other."""
    resolve_data(args)
    resolve_optimisation(args)
    if "track_CE" in args:
        tracking_of(args)
    if args.width is None:
        args.width = DIGITS_WIDTH if first_choice(args).name == "digits" else 1.0
    return args


def experiment_name(script: str, args: argparse.Namespace) -> str:
    """As it was given, else the default one."""
    return default_name(script, args) if args.experiment_name is None else args.experiment_name


def default_name(script: str, args: argparse.Namespace) -> str:
    """main_digits_random_in_noise_0.4_seed1, ssl_forget_parallel_digits_random_in_noise_0.4_seed1,
    relabel_cifar10_labels-cifar10n.npz-worse-label_seed1, parallel_resnet50_digits_random_in_noise_0.4_seed1,
    main_digits_random_in_noise_0.4_ood0.2-patches_seed1"""
    way = [key for key in (*SEPARATIONS, "scores") if vars(args).get(key) is not None]
    if vars(args).get("features") is not None:
        way = [args.features]
    choice = first_choice(args)
    noise = choice.noise_type if choice.noise_type == "none" else f"{choice.noise_type}_{choice.noise_ratio:g}"
    if choice.labels is not None:
        noise = "labels-" + re.sub(r"[^A-Za-z0-9.]+", "-", choice.labels.rpartition("/")[2])[:60]
    if (ood := choice.ood) is not None:
        noise += "-".join([f"_ood{ood.ratio:g}", ood.name, *([listed(ood.subset)] if ood.subset else [])])
    subset = "" if choice.subset is None else f"_classes{listed(choice.subset)}"
    seed = f"seed{choice.seed}" if choice.noise_seed is None else f"seed{choice.seed}_noiseseed{choice.noise_seed}"
    return "_".join([script.removesuffix(".py"), *way, choice.name + subset, noise, seed])


def listed(classes: Sequence[int]) -> str:
    """Classes as a part of a name, which a file system takes up to 255 bytes long."""
    text = "-".join(map(str, classes))
    return text if len(text) <= 60 else f"{len(classes)}of{zlib.crc32(text.encode()):08x}"

"""Which images, classes and label noise a run works on: the choice, and its flags declared, read, checked and written.

The first set's flags have two names: --dataset and --first_stage_data_name, --subset and --first_stage_subset, and so
on; `args` and run.json hold them as first_stage_..., those of ssl.py without. --second_stage_ is the set that main.py
fine-tunes on. Imports no torch.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import datasets
from utils.command_line.parser import RATIO, SEED, WHOLE, Parser, number, refuse
from utils.data import noise
from utils.errors import UserError

FIRST, SECOND, SSL = "first_stage_", "second_stage_", ""  # prefixes of the values in `args`
DEFAULT_TYPE = "random_in_noise"  # of sets whose own labels are the truth; the others are taken as they are
DEFAULT_RATIO = {FIRST: 0.4, SECOND: 0.0, SSL: 0.4}
DATA_SETS = "; ".join(f"{name}: {info.description}" for name, info in datasets.DATASETS.items())


@dataclass(frozen=True)
class OutOfDistribution:
    """Images of another set that take the place of some of the training images."""

    ratio: float  # of the training images, in (0, 1)
    name: str
    root: str | None
    subset: list[int] | None
    skip_broken: bool = False

    def in_words(self) -> str:
        """ "20 % images of patches"; of a folder its name."""
        return f"{100 * self.ratio:g} % images of {_set_in_words(self.name, self.root, self.subset)}"

    def flags(self) -> dict[str, object]:
        """{flag: value} that make this choice again; None = not needed."""
        return {
            "--ood_ratio": self.ratio,
            "--ood_data": self.name,
            "--ood_root": self.root,
            "--ood_subset": self.subset,
        }


@dataclass(frozen=True)
class DataChoice:
    """Which images, which classes and which labels; made from the flags of a script."""

    name: str
    root: str | None
    subset: list[int] | None
    num_classes: int | None
    image_size: int | None
    noise_type: str
    noise_ratio: float
    seed: int
    mirror: bool = True  # mirror training images where their data set allows it
    labels: str | None = None  # a file with labels in place of the set's own
    skip_broken: bool = False  # leave out images that do not decode
    ood: OutOfDistribution | None = None  # images of no class among those of the set
    noise_seed: int | None = None  # of label noise, images put in and planted errors; None = seed

    @property
    def seed_of_labels(self) -> int:
        """Of label noise, images put in and planted errors, alike along a chain whatever else varies."""
        return self.seed if self.noise_seed is None else self.noise_seed

    @property
    def mirrored_by_default(self) -> bool:
        return datasets.DATASETS[self.name].mirrored

    def in_words(self) -> str:
        """For titles: data set (of a folder its name), noise and seed, as in "digits, 40 % random noise, seed 1"."""
        said = {"random_in_noise": "random noise", "real_in_noise": "class-dependent noise"}.get(self.noise_type)
        if self.labels is not None:
            labels = f"labels of {Path(self.labels).name}"
        else:
            labels = "labels as given" if said is None else f"{100 * self.noise_ratio:g} % {said}"
        foreign = "" if self.ood is None else f", {self.ood.in_words()}"
        noise_seed = "" if self.noise_seed is None else f", noise seed {self.noise_seed}"
        return f"{_set_in_words(self.name, self.root, self.subset)}, {labels}{foreign}, seed {self.seed}{noise_seed}"

    def flags(self) -> dict[str, object]:
        """{flag: value} that make this choice again on a command line; None = not needed."""
        return {
            "--dataset": self.name,
            "--train_root": self.root,
            "--subset": self.subset,
            "--image_size": self.image_size,
            "--skip_broken": [] if self.skip_broken else None,
            "--no-mirror": [] if self.mirrored_by_default and not self.mirror else None,
            "--labels": self.labels,
            "--noise_type": self.noise_type,
            "--noise_ratio": None if self.noise_type == "none" else self.noise_ratio,
            "--noise_seed": self.noise_seed,
            **({} if self.ood is None else self.ood.flags()),
            "--seed": self.seed,
        }


def _set_in_words(name: str, root: str | None, subset: list[int] | None) -> str:
    name = (Path(root).resolve().name or name) if name == "folder" else name
    return name if subset is None else f"{name} ({len(subset)} classes)"


# -- declared --------------------------------------------------------------------------------------------------------


def add_data(parser: Parser, prefix: str = FIRST) -> None:
    """The set whose labels are to be judged, and its label noise."""
    group = parser.add_argument_group("data")
    group.add_argument(
        *names_of("dataset", prefix),
        dest=f"{prefix}data_name",
        choices=list(datasets.DATASETS),
        default="digits",
        help="data set whose labels are to be judged; " + DATA_SETS,
    )
    _add_details(group, prefix, root_flag="--train_root")
    group.add_argument(
        "--image_size",
        type=number(int, 8, 1024),
        metavar="PIXELS",
        help="side to which the images of 'folder' are resized and cropped (default: 32)",
    )
    group.add_argument(
        "--skip_broken",
        action="store_true",
        help="leave out images of 'folder' that do not decode, and list them in skipped.csv",
    )
    group.add_argument(
        "--labels",
        metavar="FILE",
        help="labels in place of the set's own: a .csv (file,label for 'folder', sample_id,label for other sets), or "
        "class numbers in a .npy or FILE.npz:KEY; the own ones stay the truth, but for 'folder'",
    )
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="mirror training images at random where the data set allows it; --no-mirror is for text and for classes "
        "that differ by left and right",
    )
    noise_group = parser.add_argument_group("label noise")
    _add_noise(noise_group, prefix)
    noise_group.add_argument(
        "--noise_seed",
        type=SEED,
        metavar="SEED",
        help="seed of label noise, images put in and planted errors alone, to hold the data still while --seed varies "
        "(default: that of --seed)",
    )
    _add_out_of_distribution(parser.add_argument_group("out-of-distribution noise"))


def names_of(flag: str, prefix: str) -> list[str]:
    """The names of a flag of a data set, the one to be shown first; `prefix`: which set."""
    historical = "data_name" if flag == "dataset" else flag
    return [f"--{SECOND}{historical}"] if prefix == SECOND else [f"--{flag}", f"--{FIRST}{historical}"]


def noise_kind(name: str) -> str:
    """The name of a noise type that is kept on record, of whichever name it was given by."""
    return {"symmetric": "random_in_noise", "asymmetric": "real_in_noise"}.get(name, name)


def flag_names() -> frozenset[str]:
    """The flags of `add_data`, by the names that they have in all scripts."""
    parser = Parser("", "")
    add_data(parser, SSL)
    names = {action.dest for action in parser._actions} - {"help"}
    return frozenset("dataset" if name == "data_name" else name for name in names)


def add_second_stage_data(parser: Parser) -> None:
    """The set that makes a network forget the first one."""
    group = parser.add_argument_group("second data set, which the network is fine-tuned on to make it forget")
    group.add_argument("--second_stage_data_name", choices=list(datasets.DATASETS), default="patches", help="data set")
    _add_details(group, SECOND, root_flag="--second_stage_root")
    _add_noise(group, SECOND)


def _add_details(group: argparse._ArgumentGroup, prefix: str, root_flag: str) -> None:
    group.add_argument(
        root_flag,
        metavar="FOLDER",
        help="folder with its files (default: datasets/NAME/data beside the scripts; 'folder' needs one)",
    )
    group.add_argument(
        *names_of("subset", prefix),
        dest=f"{prefix}subset",
        type=WHOLE,
        nargs="+",
        metavar="CLASS",
        help="keep these classes only, relabelled to 0..k-1 in the order given (default: all)",
    )
    group.add_argument(
        *names_of("num_classes", prefix),
        dest=f"{prefix}num_classes",
        type=number(int, 2),
        metavar="C",
        help="number of classes, checked against the data (default: taken from it)",
    )


def _add_noise(group: argparse._ArgumentGroup, prefix: str) -> None:
    group.add_argument(
        *names_of("noise_type", prefix),
        dest=f"{prefix}noise_type",
        type=noise_kind,
        choices=noise.KINDS,
        help="random_in_noise (or symmetric): exactly RATIO of the labels become another class, uniformly; "
        "real_in_noise (or asymmetric): classes turn into the one they are mistaken for (CIFAR, digits, SVHN; of other "
        "sets the next class), each label with probability RATIO; none: labels as they are, truth unknown "
        f"(default: {DEFAULT_TYPE}; none for 'folder'" + (")" if prefix == SECOND else " and with --labels)"),
    )
    group.add_argument(
        *names_of("noise_ratio", prefix),
        *names_of("noise_ration", prefix),  # as the original spells it
        dest=f"{prefix}noise_ratio",
        type=RATIO,
        metavar="RATIO",
        help=f"in [0, 1); none with noise type none (default: {DEFAULT_RATIO[prefix]})",
    )


def _add_out_of_distribution(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ood_ratio",
        type=RATIO,
        metavar="RATIO",
        help="replace exactly that share of the training images by images of another set, whatever their labels, which "
        "stay; they belong to no class, so these labels are wrong (default: none)",
    )
    group.add_argument("--ood_data", choices=list(datasets.DATASETS), help="that other data set")
    group.add_argument(
        "--ood_root", metavar="FOLDER", help="folder with its files (default: datasets/NAME/data beside the scripts)"
    )
    group.add_argument(
        "--ood_subset", type=WHOLE, nargs="+", metavar="CLASS", help="images of these of its classes only"
    )


# -- read and checked ------------------------------------------------------------------------------------------------


def data_choice(args: argparse.Namespace, prefix: str = FIRST) -> DataChoice:
    """What the flags with this prefix say; noise type and ratio may be None before `resolve_data`."""
    flags = vars(args)
    second, name = prefix == SECOND, flags[f"{prefix}data_name"]
    return DataChoice(
        name=name,
        root=args.second_stage_root if second else args.train_root,
        subset=flags[f"{prefix}subset"],
        num_classes=flags[f"{prefix}num_classes"],
        image_size=None if second else args.image_size,
        noise_type=flags[f"{prefix}noise_type"],
        noise_ratio=flags[f"{prefix}noise_ratio"],
        seed=args.seed,
        mirror=args.mirror,
        labels=None if second else args.labels,
        skip_broken=args.skip_broken and datasets.DATASETS[name].sized,
        ood=None if second else _out_of_distribution(args),
        noise_seed=args.noise_seed,
    )


def _out_of_distribution(args: argparse.Namespace) -> OutOfDistribution | None:
    if not args.ood_ratio or args.ood_data is None:
        return None
    broken = args.skip_broken and datasets.DATASETS[args.ood_data].sized
    return OutOfDistribution(args.ood_ratio, args.ood_data, args.ood_root, args.ood_subset, broken)


def first_choice(args: argparse.Namespace) -> DataChoice:
    """The set whose labels are judged, whichever script the flags are of."""
    return data_choice(args, FIRST if f"{FIRST}data_name" in args else SSL)


def resolve_data(args: argparse.Namespace) -> None:
    """Fill in noise types and ratios that were not given. Raises UserError where flags contradict each other."""
    prefixes = [prefix for prefix in (FIRST, SECOND, SSL) if f"{prefix}data_name" in args]
    for prefix in prefixes:
        _resolve_noise(args, prefix)
        _check(data_choice(args, prefix), "--second_stage_root" if prefix == SECOND else "--train_root")
    _check_out_of_distribution(args)
    ood = first_choice(args).ood
    may_break = [data_choice(args, prefix) for prefix in prefixes] + ([] if ood is None else [ood])
    if args.skip_broken and not any(one.skip_broken for one in may_break):
        raise UserError("--skip_broken is for 'folder' and does nothing here", "leave it out")
    if not args.mirror and not any(data_choice(args, prefix).mirrored_by_default for prefix in prefixes):
        raise UserError("--no-mirror does nothing: these images are never mirrored", "leave it out")


def _resolve_noise(args: argparse.Namespace, prefix: str) -> None:
    """Noise type and ratio of one set: labels that may be wrong already are made worse only where that is asked for."""
    choice = data_choice(args, prefix)
    type_flag, ratio_flag = names_of("noise_type", prefix)[0], names_of("noise_ratio", prefix)[0]
    as_given = choice.labels is not None
    if as_given and choice.noise_type not in (None, "none"):
        raise UserError(f"{type_flag} {choice.noise_type} would change the labels of --labels", "leave one of them out")
    as_they_are = as_given or not datasets.DATASETS[choice.name].trusted
    noise_type = choice.noise_type or ("none" if as_they_are else DEFAULT_TYPE)
    if noise_type == "none" and choice.noise_ratio:
        what, remedy = "with noise type none", "leave it out"
        if choice.noise_type is None:
            what = f"on the labels of {'--labels' if as_given else repr(choice.name)}, which are taken as they are"
        if not as_given:
            remedy = f"leave it out, or make labels wrong on purpose with {type_flag} {DEFAULT_TYPE}"
        raise UserError(f"{ratio_flag} {choice.noise_ratio} has no effect {what}", remedy)
    setattr(args, f"{prefix}noise_type", noise_type)
    if choice.noise_ratio is None:
        setattr(args, f"{prefix}noise_ratio", 0.0 if noise_type == "none" else DEFAULT_RATIO[prefix])


def _check(choice: DataChoice, root_flag: str) -> None:
    info = datasets.DATASETS[choice.name]
    if choice.image_size and not info.sized:
        raise UserError(f"--image_size is for 'folder', not {choice.name}", "leave it out")
    check_root(choice.name, choice.root, root_flag)


def check_root(name: str, root: str | None, root_flag: str) -> None:
    """Raises UserError where 'folder' lacks its root, or a set that comes with scikit-learn is given one."""
    if root is not None and datasets.DATASETS[name].bundled:
        remedy = "leave it out, or name the set that it is of"
        raise UserError(f"{name} needs no files, so {root_flag} does nothing", remedy)
    if name == "folder" and root is None:
        raise UserError("the data set 'folder' needs its root", f"add {root_flag} FOLDER, which holds CLASS/IMAGES")


def _check_out_of_distribution(args: argparse.Namespace) -> None:
    if not args.ood_ratio:
        refuse(args, "ood_data", "ood_root", "ood_subset", without="--ood_ratio")
        return
    if args.ood_data is None:
        raise UserError("--ood_ratio needs images to put in", "add --ood_data NAME")
    check_root(args.ood_data, args.ood_root, "--ood_root")
    choice = first_choice(args)
    if _place(choice.name, choice.root) == _place(args.ood_data, args.ood_root):
        shared = choice.subset is None or args.ood_subset is None or set(choice.subset) & set(args.ood_subset)
        if shared:
            what = f"--ood_data {args.ood_data} would put in images of the very classes that are learnt"
            raise UserError(what, "name another set, or other classes with --ood_subset")


def _place(name: str, root: str | None) -> tuple[str, str]:
    """A data set and where its files lie, however that is written."""
    return name, os.path.realpath(datasets.default_root(name) if root is None else root)

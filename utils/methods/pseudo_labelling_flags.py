"""The flags of ssl.py alone: which scores it reads, what it learns from each label, how it trains. Imports no torch."""

from __future__ import annotations

import argparse

import models
from utils.command_line.flags import add_dropout, add_input_noise, check_input_noise
from utils.command_line.parser import COUNT, RATIO, SHARE, WEIGHT, WHOLE, Parser, default_with, given, refuse, truth
from utils.errors import UserError
from utils.scoring.tracking import BATCHES
from utils.separations import SEPARATIONS
from utils.training.optimisation import EARLIER_EPOCHS, FINAL_EPOCHS, epochs_for

TARGETS = ("posterior", "split")
BOTH_NETWORKS = ["MT_Net", "PR18"]  # of earlier runs and of the last
SPLIT_FLAGS = (  # what belongs to --targets split
    "scores", "score", "f_l", "use_bmm", "bmm_th", "threshold", "balanced_set", "f_FND", "fn_th", "bmm_th_2nd",
    "threshold_2nd", "epoch_begin", "epoch_update", "label_noise", "labeled_batch_size",
)  # fmt: skip


def add_networks(parser: Parser) -> argparse._ArgumentGroup:
    network = parser.add_argument_group("network")
    network.add_argument(
        "--network",
        nargs="+",
        choices=list(models.ALIASES),
        help="MT_Net: the 13-layer CNN; PR18: PreAct-ResNet-18; or two: of earlier runs and of the last "
        "(default: MT_Net PR18; with --targets split MT_Net)",
    )
    add_dropout(network)
    add_input_noise(network, off="with --targets split")
    return network


def add_scores(parser: Parser) -> None:
    scores = parser.add_argument_group(
        "scores, of one or more separations (bare: the newest finished one on the same data)"
    )
    for separation in SEPARATIONS.values():
        scores.add_argument(
            f"--{separation.key}",
            nargs="?",
            const="",
            metavar="EXPERIMENT",
            help=f"what {separation.script} left (bare: the newest on the same data)",
        )
    scores.add_argument("--score", metavar="NAME", help="read NAME.npy of the separation instead of its default score")
    scores.add_argument("--f_l", action="store_true", help="the same as --score forget_loss")
    scores.add_argument("--scores", metavar="FILE", help="any .npy of N numbers, higher = more likely mislabelled")
    scores.add_argument(
        "--agree_on_clean",
        action="store_true",
        help="several: a label counts only as far as all of them trust it; of clean sets, what all hold",
    )


def add_targets(parser: Parser) -> None:
    group = parser.add_argument_group("what is learnt from each label")
    group.add_argument(
        "--targets",
        choices=TARGETS,
        help="posterior: each label as far as it can be trusted, predictions for the rest; split: the labels of a "
        "clean set, predictions for all others (default: posterior; split with any flag that belongs to it)",
    )
    group.add_argument(
        "--runs",
        type=COUNT,
        metavar="K",
        help="train so often, each time from what the last run found (default: 1 where relabel.py is among the "
        "separations, else 2; with --targets split 1)",
    )
    group.add_argument("--double_run", action="store_true", help="the same as --runs 2")


def add_clean_set(parser: Parser) -> None:
    clean = parser.add_argument_group("clean set (--targets split)")
    clean.add_argument("--use_bmm", action="store_true", help="by a beta mixture instead of the threshold rule")
    clean.add_argument("--bmm_th", type=SHARE, metavar="P", help="clean = p_noisy below this (default: 0.05)")
    clean.add_argument(
        "--threshold", type=SHARE, metavar="SHARE", help="without --use_bmm: the SHARE lowest scores (default: 0.5)"
    )
    clean.add_argument("--balanced_set", action="store_true", help="the same share of every class")
    clean.add_argument("--f_FND", action="store_true", help="the forgetting scores only veto, beside another score")
    clean.add_argument(
        "--fn_th",
        type=SHARE,
        metavar="P",
        help="--f_FND vetoes where p_noisy by the beta mixture of the forgetting scores is above this (default: 0.05)",
    )
    clean.add_argument("--bmm_th_2nd", type=SHARE, metavar="P", help="--bmm_th of later runs (default: 0.5)")
    clean.add_argument("--threshold_2nd", type=SHARE, metavar="SHARE", help="--threshold of later runs (default: 0.5)")
    clean.add_argument(
        "--epoch_begin", type=COUNT, metavar="EPOCHS", help="epochs on the clean set alone (default: 3/8 of them)"
    )
    clean.add_argument(
        "--epoch_update",
        type=COUNT,
        metavar="EPOCHS",
        help="pseudo-labels are the mean of the predictions of so many last epochs (default: 1)",
    )
    clean.add_argument(
        "--label_noise",
        type=RATIO,
        metavar="SHARE",
        help="share of the pseudo-labels, drawn anew each epoch, that give every class the same probability; 0 = none "
        "(default: 0)",
    )
    clean.add_argument(
        "--labeled_batch_size",
        type=WHOLE,
        metavar="B",
        help="clean samples in every batch; 0 = as they come (default: 0)",
    )


def add_training(group: argparse._ArgumentGroup) -> None:
    """What pseudo-labelling adds to the flags of optimisation."""
    group.add_argument(
        "--alpha",
        type=WEIGHT,
        default=0.8,
        metavar="WEIGHT",
        help="weight of L_p, by which all classes are to be predicted alike often; 0 switches it off",
    )
    group.add_argument(
        "--beta", type=WEIGHT, metavar="WEIGHT", help="weight of L_e; 0 = off (default: 0; with --targets split 0.4)"
    )
    group.add_argument(
        "--colour_jitter",
        type=RATIO,
        default=0.0,
        metavar="STRENGTH",
        help="brightness, contrast and saturation of colour images; 0 switches it off",
    )
    group.add_argument(
        "--swa", nargs="?", const=True, default=False, type=truth, help="average the weights of the last epochs"
    )
    group.add_argument(
        "--swa_start", type=COUNT, metavar="EPOCH", help="epochs before the averaging (default: 3/4 of them)"
    )
    group.add_argument("--swa_freq", type=COUNT, metavar="EPOCHS", help="epochs between two averaged ones (default: 1)")


def resolve_pseudo_labelling(args: argparse.Namespace) -> None:
    """The defaults of flags that belong to another flag. Raises UserError where flags contradict each other."""
    _check_scores(args)
    belonging = given(args, SPLIT_FLAGS)
    if args.targets is None:
        args.targets = "split" if belonging else "posterior"
    if args.targets == "posterior" and belonging:
        raise UserError(f"--{belonging[0]} does nothing with --targets posterior", "leave one of them out")
    split = args.targets == "split"
    if split and args.track_from == BATCHES:
        # Some epochs learn from the clean set alone, or see its samples more often.
        raise UserError(f"--track_from {BATCHES} needs every sample once an epoch", "leave it out with --targets split")
    of_separations = [SEPARATIONS[key].runs for key in SEPARATIONS if vars(args)[key] is not None]
    args.runs = args.runs or (2 if args.double_run else 1 if split else min(of_separations))
    if args.f_l:
        args.score = "forget_loss"
    default_with(args, "f_FND", fn_th=0.05)
    default_with(args, "swa", swa_freq=1)
    if not args.swa:
        refuse(args, "swa_start", without="--swa")
    if not args.use_bmm:
        refuse(args, "bmm_th", "bmm_th_2nd", without="--use_bmm")
    if args.runs == 1:
        refuse(args, "bmm_th_2nd", "threshold_2nd", without="--runs 2")
    if args.network is not None and len(args.network) > min(args.runs, 2):
        raise UserError(f"--network names {len(args.network)} networks for --runs {args.runs}", "give one, or two")
    defaults = {"network": ["MT_Net"] if split else BOTH_NETWORKS, "beta": 0.4 if split else 0.0}
    if split:
        defaults |= {"bmm_th": 0.05, "bmm_th_2nd": 0.5, "threshold": 0.5, "threshold_2nd": 0.5}
        defaults |= {"epoch_update": 1, "label_noise": 0.0, "input_noise": 0.0}
    else:
        defaults["track_from"] = BATCHES
    vars(args).update({name: value for name, value in defaults.items() if vars(args)[name] is None})
    check_input_noise(args, args.network if args.runs > 1 else args.network[-1:])
    _check_training(args)
    if args.epoch is not None:
        resolve_epochs(args)


def usual_epochs(runs: int) -> int:
    """Of each of so many runs by default, on average: --epoch is meant for each."""
    return (EARLIER_EPOCHS * (runs - 1) + FINAL_EPOCHS) // runs


def resolve_epochs(args: argparse.Namespace, samples: int | None = None) -> None:
    """The epochs of a run, and the defaults that are shares of them; without --epoch once `samples` are known."""
    if args.epoch is None:
        args.epoch = epochs_for(samples, FINAL_EPOCHS)
    if args.swa and args.swa_start is None:
        args.swa_start = args.epoch * 3 // 4
    if args.targets == "split" and args.epoch_begin is None:
        args.epoch_begin = max(1, args.epoch * 3 // 8)
    if args.targets == "split" and args.epoch < 2:
        raise UserError("--epoch 1 leaves no epoch after those on the clean set alone", "give 2 or more")
    if args.swa and args.swa_start >= args.epoch:
        raise UserError(f"--swa_start {args.swa_start} is not before the end of --epoch {args.epoch}", "lower it")
    if args.epoch_begin is not None and args.epoch_begin >= args.epoch:
        raise UserError(f"--epoch_begin {args.epoch_begin} leaves no epoch of --epoch {args.epoch}", "lower it")


def _check_scores(args: argparse.Namespace) -> None:
    voting = [key for key in (*SEPARATIONS, "scores") if vars(args)[key] is not None]
    if not voting:
        raise UserError("no scores are named", "add --forget, --parallel, --relabel or --scores FILE")
    if args.f_FND and (args.forget is None or len(voting) < 2):
        raise UserError("--f_FND needs --forget to veto and another score to select", "add them")
    if args.agree_on_clean and len(voting) - args.f_FND < 2:
        raise UserError("--agree_on_clean needs two scores to agree", "name another one")
    if args.f_l and (args.forget is None or args.score is not None):
        raise UserError("--f_l is --score forget_loss of the forgetting scores", "add --forget and leave --score out")
    named = [SEPARATIONS[key] for key in voting if key in SEPARATIONS]
    if args.score is not None and not any(separation.leaves(args.score) for separation in named):
        raise UserError(f"--score {args.score} is none of {', '.join(voting)}", "name a score of theirs")
    if args.double_run and args.runs not in (None, 2):
        raise UserError(f"--double_run contradicts --runs {args.runs}", "leave one of them out")


def _check_training(args: argparse.Namespace) -> None:
    if args.colour_jitter and args.augment == "none":
        raise UserError("--colour_jitter does nothing with --augment none", "leave one of them out")
    if args.labeled_batch_size is not None and args.labeled_batch_size >= args.batch_size:
        raise UserError(
            f"--labeled_batch_size {args.labeled_batch_size} fills --batch_size {args.batch_size}", "lower it"
        )

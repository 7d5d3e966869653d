import contextlib

import pytest

from tests.tiny import load_script
from utils.command_line.flags import resolve
from utils.errors import UserError
from utils.methods.pseudo_labelling_flags import resolve_pseudo_labelling, usual_epochs
from utils.separations import FORGET, PARALLEL, RELABEL


def resolved(flags):
    args = resolve(load_script("ssl.py").parser().parse_args(flags.split()))
    resolve_pseudo_labelling(args)
    return args


@pytest.mark.parametrize(
    "flags, runs, networks",
    [
        ("--relabel", 1, ["MT_Net", "PR18"]),
        ("--parallel", 2, ["MT_Net", "PR18"]),
        ("--forget", 2, ["MT_Net", "PR18"]),
        ("--forget --parallel", 2, ["MT_Net", "PR18"]),
        ("--forget --relabel", 1, ["MT_Net", "PR18"]),
        ("--relabel --runs 3 --network PR18", 3, ["PR18"]),
        ("--relabel --threshold 0.3", 1, ["MT_Net"]),
        ("--parallel --use_bmm --double_run", 2, ["MT_Net"]),
    ],
)
def test_runs_follow_the_separations(flags, runs, networks):
    args = resolved(flags)
    assert args.runs == runs and args.network == networks


def test_noise_on_the_input_is_of_a_network_that_is_trained():
    assert resolved("--forget --input_noise 0.3").input_noise == 0.3
    with pytest.raises(UserError, match="--input_noise is of the 13-layer CNN and does nothing here"):
        resolved("--relabel --input_noise 0.3")  # one run, of the last network


def test_runs_after_a_separation_take_so_many_epochs_each():
    assert usual_epochs(RELABEL.runs) == 160
    assert usual_epochs(FORGET.runs) == usual_epochs(PARALLEL.runs) == (60 + 160) / 2


def test_batches_that_leave_samples_out_say_nothing_of_all():
    assert resolved("--relabel").track_from == "batches"
    assert resolved("--relabel --use_bmm").track_from is None  # passes
    with pytest.raises(UserError, match="--track_from batches needs every sample once an epoch"):
        resolved("--relabel --use_bmm --track_from batches")


@pytest.mark.parametrize(
    "flags, known",
    [
        *(("--forget --score forget_ce", True), ("--forget --score stage1_aum", True)),
        *(("--relabel --score stage1_aum", False), ("--scores a.npy --score forget_ce", False)),
        ("--forget --parallel --score parallel_loss", True),
    ],
)
def test_a_score_is_of_one_of_the_separations_that_are_named(flags, known):
    args = resolve(load_script("ssl.py").parser().parse_args(flags.split()))
    with contextlib.nullcontext() if known else pytest.raises(UserError, match="--score .* is none of"):
        resolve_pseudo_labelling(args)

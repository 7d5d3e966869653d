"""Flags whose way into a run no other test follows: with another value something comes out otherwise."""

import numpy as np
import pytest

from tests.tiny import SPLIT, TINY_ARGS

ONE_AND_ONE = ["--epoch_1st", "2", "--warmup_e", "1"]
BY_PREDICTION = [*ONE_AND_ONE, "--relabel_by", "prediction"]
ONE_EPOCH = ["--epoch_1st", "1"]
HALVES = [*ONE_EPOCH, "--exchange", "0"]
AVERAGED = [*SPLIT, "--swa", "--swa_start", "1"]
ROWS = {  # flag with its value: (script, flags beside it, file)
    "--wd 0.1": ("relabel.py", ONE_AND_ONE, "loss_track.npy"),
    "--momentum 0": ("relabel.py", ONE_AND_ONE, "loss_track.npy"),
    "--dropout 0": ("relabel.py", ONE_AND_ONE, "loss_track.npy"),
    "--input_noise 0": ("relabel.py", ONE_AND_ONE, "loss_track.npy"),
    "--mixup 0": ("relabel.py", ONE_AND_ONE, "loss_track.npy"),
    "--ema 0": ("relabel.py", [*ONE_AND_ONE, "--track_from", "passes"], "loss_track.npy"),
    "--reg_term1 0": ("relabel.py", BY_PREDICTION, "loss_track.npy"),
    "--reg_term2 0": ("relabel.py", BY_PREDICTION, "loss_track.npy"),
    "--ce_loss_inWarmup": ("relabel.py", BY_PREDICTION, "loss_track.npy"),
    "--label_noise 0.5": ("ssl.py", SPLIT, "ssl_loss.npy"),
    "--alpha 0": ("ssl.py", SPLIT, "ssl_loss.npy"),
    "--beta 0.5": ("ssl.py", SPLIT, "ssl_loss.npy"),
    "--swa_freq 2": ("ssl.py", AVERAGED, "ssl_loss.npy"),
    "--lr 0.05": ("parallel.py", HALVES, "loss_track.npy"),
    "--lr_2nd 0.5": ("relabel.py", BY_PREDICTION, "loss_track.npy"),
    "--augment strong": ("parallel.py", HALVES, "loss_track.npy"),
    "--balance 0": ("parallel.py", HALVES, "loss_track.npy"),
    "--exchange 2": ("parallel.py", ONE_EPOCH, "parallel_score.npy"),
    "--NN_k 5": ("parallel.py", HALVES, "parallel_ce.npy"),
}


def same(one, other):
    return np.array_equal(np.load(one), np.load(other), equal_nan=True)


@pytest.fixture
def with_and_without(made_once, run, tmp_path):
    """with_and_without("relabel.py", flags, file, "--wd", "0.1") -> the file of a run without and of one with them."""

    def files(script, flags, file, *more):
        scores = ["--scores", made_once("relabel.py") / "relabel_score.npy"] if script == "ssl.py" else []
        flags = [*scores, *flags]
        run(script, *TINY_ARGS[script], *flags, *more, "--experiment_name", "with")
        return made_once(script, *map(str, flags)) / file, tmp_path / "with" / file

    return files


@pytest.mark.parametrize("flag", ROWS)
def test_of_another_value_comes_something_else(with_and_without, flag):
    script, flags, file = ROWS[flag]
    assert not same(*with_and_without(script, flags, file, *flag.split()))


def test_with_less_memory_the_same_neighbours_are_found(with_and_without):
    assert same(*with_and_without("parallel.py", HALVES, "parallel_ce.npy", "--nn_memory_gb", "1e-6"))

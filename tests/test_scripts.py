"""The scripts end to end on tiny data: what they write, refuse, reuse and repeat."""

import copy
import csv
import io
import json
import re
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import rankdata, spearmanr
from torch import nn

import datasets
import models
from tests.kill_and_resume import differing
from tests.tiny import SCORE_FILES, TINY, TINY_ARGS, load_script
from utils.classifier import Classifier
from utils.command_line.flags import resolve
from utils.compute import choose
from utils.data.choice import data_choice
from utils.data.noise import share_to_plant
from utils.data.noisy_data import prepare
from utils.errors import Diverged, Stopped, UserError
from utils.experiments.artifacts import load_torch
from utils.methods import cross_tracking, forgetting, pseudo_labelling, relabelling
from utils.results import reporting
from utils.scoring.pace import Pace
from utils.training import expectation, learner, optimisation
from utils.training.batches import epoch_batches
from utils.training.losses import LossWeights

SEPARATIONS = ("main.py", "parallel.py", "relabel.py")


def record(folder):
    return json.loads((folder / "run.json").read_text())


def load(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def read_suspects(folder):
    with (folder / "suspects.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def history(folder):
    return list(csv.DictReader((folder / "history.csv").open()))


@pytest.mark.parametrize("script", SEPARATIONS)
def test_an_estimate_ends_before_the_work_and_leaves_nothing(run, tmp_path, script):
    printed = run(script, *TINY_ARGS[script], "--estimate", "--experiment_name", "e")
    assert re.search(r"expected: about \d+ (s|min), \d+\.\d GB of memory, \d+ MB of disk$", printed, re.MULTILINE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "module", "epochs"),
    [("main.py", forgetting, [10]), ("parallel.py", cross_tracking, [10, 10]), ("relabel.py", relabelling, [15, 15])],
)
def test_default_epochs_follow_the_size_of_the_set(run, monkeypatch, script, module, epochs):
    def stop(*_, epochs, why, **__):
        raise UserError(f"{epochs} {why}", "go no further")

    monkeypatch.setattr(optimisation, "LARGE", 1)  # so that any set gets a quarter
    monkeypatch.setattr(module, "announce", stop)
    flags = TINY_ARGS[script][: TINY_ARGS[script].index("--epoch_1st")]
    with pytest.raises(UserError, match=re.escape(f"{epochs} by default: scaled down above 1 images")):
        run(script, *flags)


def test_an_exchange_is_foreseen(run, monkeypatch):
    def stop(*_, epochs, **__):
        raise UserError(f"{epochs} epochs", "go no further")

    foreseen = []
    monkeypatch.setattr(cross_tracking, "expect", lambda work, *_, **__: foreseen.extend(work))
    monkeypatch.setattr(cross_tracking, "announce", stop)
    with pytest.raises(UserError, match=re.escape("[3, 2] epochs")):
        run("parallel.py", *TINY_ARGS["parallel.py"], "--exchange", "2")
    for flags, epochs in {(): [3, 3], ("--exchange", "0"): [3]}.items():
        with pytest.raises(UserError, match=re.escape(f"{epochs} epochs")):
            run("parallel.py", *TINY_ARGS["parallel.py"], *flags)
    passes = 2 * (455 + 82)  # both models look at all training and test images after an epoch
    of_phases = [(work.trained, work.scored, work.searches) for work in foreseen[:2]]
    assert of_phases == [(3 * 455, 3 * passes, 3), (2 * 455, 2 * passes, 0)]


@pytest.mark.parametrize(
    "script, module, flags, expected",
    [
        # 3 epochs, and 6 steps of batches of 50 in between 7 looks at all samples; the last one's neighbours, too
        ("main.py", forgetting, [], [("preactResNet18", 3 * 455, 3 * 82, 0), ("preactResNet18", 6 * 50, 7 * 455, 7)]),
        (
            "main.py", forgetting, ["--track_from", "passes", "--track_every", "3", "--no-track_CE"],
            [("preactResNet18", 3 * 455, 3 * (455 + 82), 0), ("preactResNet18", 6 * 50, 3 * 455, 0)],
        ),
        ("relabel.py", relabelling, [], [("13-CNN", 2 * 455, 2 * 82, 0), ("preactResNet18", 2 * 455, 2 * 82, 0)]),
        ("relabel.py", relabelling, ["--relabel_by", "prediction"], [("13-CNN", 4 * 455, 4 * (455 + 82), 0)]),
        (
            "ssl.py", pseudo_labelling, ["--relabel", "separated", "--runs", "2"],
            [("MT_Net", 4 * 455, 4 * 82, 0), ("PR18", 4 * 455, 4 * 82, 0)],
        ),
    ],
    ids=["main.py", "passes", "relabel.py", "by prediction", "ssl.py"],
)  # fmt: skip
def test_the_work_of_a_run_is_foreseen(run, finished, monkeypatch, script, module, flags, expected):
    class Stop(Exception):
        pass

    def stop(work, *_, **__):
        found.extend((part.network, part.trained, part.scored, part.searches) for part in work)
        raise Stop

    found = []
    monkeypatch.setattr(module, "expect", stop)
    if script == "ssl.py":
        finished("relabel.py", "separated")
    with pytest.raises(Stop):
        run(script, *TINY_ARGS[script], *flags)
    assert found == expected


def test_timing_changes_nothing_of_the_run(run, tmp_path, monkeypatch):
    for name, rates in {"timed": expectation.Rates, "not": NoRates}.items():
        monkeypatch.setattr(expectation, "Rates", rates)
        monkeypatch.setattr(reporting, "SHORT", 0)
        printed = run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", name)
        assert "expected: about" in printed
    np.testing.assert_array_equal(load(tmp_path / "timed", "relabel_score"), load(tmp_path / "not", "relabel_score"))


class NoRates:
    """Times nothing."""

    first_step, weights = 1.0, 0

    def __init__(self, *of):
        pass

    def seconds(self, part):
        return 1.0


@pytest.mark.figures
@pytest.mark.parametrize("script", SEPARATIONS)
def test_a_separation_leaves_what_the_design_promises(run, tmp_path, script):
    printed = run(script, *TINY_ARGS[script], "--experiment_name", "e")
    folder = tmp_path / "e"
    labels, clean_labels = load(folder, "labels"), load(folder, "clean_labels")
    n = len(labels)
    assert labels.dtype == clean_labels.dtype == load(folder, "sample_ids").dtype == np.int64
    assert (labels != clean_labels).sum() == round(0.4 * n)
    for name in SCORE_FILES[script]:
        scores = load(folder, name)
        assert scores.dtype == np.float32 and len(scores) == n and np.isfinite(scores).all()
    run_record = record(folder)
    assert run_record["status"] == "finished" and run_record["data"]["samples"] == n
    for name in [name for name in SCORE_FILES[script] if name.endswith(("score", "prediction", "mean_loss", "aum"))]:
        assert 0 <= run_record["figures"][f"auc_{name}"] <= 1
    assert {"score", "score_moment", "noise_ratio_estimated"} <= run_record["figures"].keys()
    p_noisy = load(folder, "p_noisy")
    assert 0 <= p_noisy.min() <= p_noisy.max() <= 1
    accuracies = {"train_accuracy", "test_accuracy", "test_accuracy_best"}
    assert accuracies | {"noise_ratio_realised"} <= run_record["figures"].keys()
    assert not [file for pattern in ("*.part", ".*tmp", "checkpoint.pt") for file in folder.glob(pattern)]
    for png in folder.glob("*.png"):
        with Image.open(png) as image:
            image.verify()
    assert len(list(folder.glob("*.png"))) >= 4
    with (folder / "suspects.csv").open() as handle:
        suspects = list(csv.DictReader(handle))
    order = [int(row["sample_id"]) for row in suspects]  # in digits also the position
    assert sorted(order) == sorted(load(folder, "sample_ids"))
    positions = np.argsort(load(folder, "sample_ids"))[np.argsort(np.argsort(order))]
    assert (np.diff(load(folder, SCORE_FILES[script][0])[positions]) <= 0).all()
    np.testing.assert_allclose([float(row["p_noisy"]) for row in suspects], p_noisy[positions], atol=1e-4)
    with (folder / "dynamics.csv").open(newline="") as handle:
        dynamics = list(csv.DictReader(handle))
    assert [int(row["sample_id"]) for row in dynamics] == load(folder, "sample_ids").tolist()
    learnt = {row["learnt_from_epoch"] for row in dynamics} - {""}
    assert learnt and learnt <= ({"3", "4"} if script == "relabel.py" else {"1", "2", "3"})  # after a warm-up of 2
    assert ("forgotten_from_step" in dynamics[0]) == (script == "main.py")
    assert "transition matrix" in printed and "next: python3 ssl.py" in printed


@pytest.mark.parametrize("script", SEPARATIONS)
def test_the_same_seed_repeats_every_byte_and_another_seed_does_not(run, finished, tmp_path, script):
    finished(script, "a")
    run(script, *TINY_ARGS[script], "--experiment_name", "b")
    run(script, *TINY_ARGS[script], "--experiment_name", "c", "--seed", 2, "--noise_seed", 1)
    for name in SCORE_FILES[script]:
        a, b, c = ((tmp_path / e / f"{name}.npy").read_bytes() for e in "abc")
        assert a == b and a != c


def test_a_finished_experiment_prints_its_figures_and_trains_nothing(run, tmp_path):
    first = run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "e")
    before = (tmp_path / "e" / "parallel_loss.npy").stat().st_mtime_ns
    again = run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "e")
    assert (tmp_path / "e" / "parallel_loss.npy").stat().st_mtime_ns == before
    assert "is finished" in again and first.split("e: parallel,")[1] == again.split("e: parallel,")[1]


def test_other_settings_under_a_used_name_are_refused_and_listed(run, finished, tmp_path):
    finished("relabel.py", "e")
    with pytest.raises(UserError, match=r"lr 0.1 there, 0.2 here; seed 1 there, 7 here"):
        run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e", "--lr", "0.2", "--seed", "7")
    run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e", "--lr", "0.2", "--seed", "7", "--overwrite")
    assert record(tmp_path / "e")["settings"]["seed"] == 7


def test_bad_data_leaves_no_settings_behind_for_the_corrected_command_to_trip_over(run, tmp_path):
    with pytest.raises(UserError, match="has no class 77"):
        run("main.py", *TINY_ARGS["main.py"], "--first_stage_subset", "0", "77", "--experiment_name", "e")
    assert not (tmp_path / "e" / "run.json").exists()


@pytest.mark.figures
def test_unknown_truth_leaves_out_every_figure_that_needs_it(run, tmp_path, image_folder):
    run(
        "main.py",
        "--first_stage_data_name",
        "folder",
        "--train_root",
        image_folder,
        "--image_size",
        "12",
        "--first_stage_noise_type",
        "none",
        "--second_stage_subset",
        "0",
        "1",
        "--width",
        "0.1",
        "--batch_size",
        "10",
        "--epoch_1st",
        "2",
        "--steps_total",
        "3",
        "--experiment_name",
        "mine",
    )
    folder = tmp_path / "mine"
    assert not (folder / "clean_labels.npy").exists() and not (folder / "roc.png").exists()
    figures = record(folder)["figures"]
    assert not [key for key in figures if key.startswith("auc") or key == "noise_ratio_realised"]
    assert "test_accuracy" not in figures and 0 <= figures["train_accuracy"] <= 1
    with (folder / "suspects.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["file"] for row in rows} == {f"train/{c}/{k}.png" for c in ("blue", "red") for k in range(10)}


def test_the_oracle_needs_the_truth_and_is_called_one(run, tmp_path, image_folder):
    run("main.py", *TINY_ARGS["main.py"], "--save_best_AUC_model", "--experiment_name", "e")
    figures = record(tmp_path / "e")["figures"]
    rows = [float(row["auc_forget_ce"]) for row in history(tmp_path / "e") if row["stage"] == "2"]
    assert figures["oracle_auc_forget_ce"] == pytest.approx(max(rows), abs=1e-5)
    assert figures["auc_forget_ce"] == pytest.approx(rows[-1], abs=1e-5)  # the plain figure is the last step's
    assert "oracle" not in (tmp_path / "e" / "log.txt").read_text().lower()  # it decided nothing
    assert (tmp_path / "e" / "oracle_best_auc_model.pt").exists() and (tmp_path / "e" / "oracle_forget_ce.npy").exists()
    with pytest.raises(UserError, match="needs true labels"):
        run(
            "main.py",
            "--first_stage_data_name",
            "folder",
            "--train_root",
            image_folder,
            "--first_stage_noise_type",
            "none",
            "--save_best_AUC_model",
            "--experiment_name",
            "f",
        )


def test_tracks_hold_a_row_before_the_first_step_and_one_per_tracked_step(run, tmp_path):
    run("main.py", *TINY_ARGS["main.py"], "--track_every", "4", "--experiment_name", "e")
    steps = [int(row["step"]) for row in history(tmp_path / "e") if row["stage"] == "2"]
    assert steps == [0, 4, 6]  # the last step is always tracked
    track, stage1 = load(tmp_path / "e", "loss_track"), load(tmp_path / "e", "stage1_loss_track")
    assert track.shape[0] == 3 and stage1.shape[0] == 3 and track.dtype == np.float32
    np.testing.assert_array_equal(track[-1], load(tmp_path / "e", "forget_loss"))
    # Before the first step nothing is forgotten.
    np.testing.assert_array_equal(load(tmp_path / "e", "stage1_loss"), track[0])


def paced(track):
    """The rows of a dense track (T, N) that an automatic pace would have written."""
    pace, steps = Pace(), [0]
    pace.dense(0)
    for step in range(1, len(track)):
        if step in (pace.next, len(track) - 1):
            pace.follow(step, track[steps[-1]], track[step])
            steps.append(step)
    return steps


@pytest.mark.parametrize("rate", ["0.00001", "0.5"])
def test_an_automatic_pace_tracks_fewer_steps_and_ends_with_the_same_scores(run, tmp_path, rate):
    run("main.py", *TINY_ARGS["main.py"], "--lr_2nd", rate, "--experiment_name", "dense")
    reused = ["--first_stage_from", "dense", "--lr_2nd", rate, "--track_every", "auto"]
    run("main.py", *TINY_ARGS["main.py"], *reused, "--experiment_name", "auto")
    dense, auto = tmp_path / "dense", tmp_path / "auto"
    steps = [int(row["step"]) for row in history(auto) if row["stage"] == "2"]
    assert steps == paced(load(dense, "ce_track"))
    if rate == "0.00001":
        assert steps == [0, 1, 3, 6]  # nothing moves, and the last step is always tracked
    for name in ("forget_ce", "forget_loss"):
        np.testing.assert_array_equal(load(auto, name), load(dense, name))
    for name in ("loss_track", "ce_track"):
        np.testing.assert_array_equal(load(auto, name), load(dense, name)[steps])
    assert [row for row in history(dense) if row["stage"] == "2" and int(row["step"]) in steps][1:] == [
        row for row in history(auto) if row["stage"] == "2"
    ][1:]


@pytest.mark.parametrize("step", [2, 4, 5])
def test_an_automatic_pace_goes_on_where_it_was(run, finished, tmp_path, stop_at, step):
    flags = ["--epoch_1st", "1", "--lr_2nd", "0.00001", "--track_every", "auto"]
    finished("main.py", "whole", *flags)
    stop_at(step, "stage2")
    with pytest.raises(Stopped):
        run("main.py", *TINY_ARGS["main.py"], *flags, "--experiment_name", "e")
    run("main.py", *TINY_ARGS["main.py"], *flags, "--experiment_name", "e")
    assert same_bytes(tmp_path / "whole", tmp_path / "e") == []


@pytest.mark.parametrize("script", ["main.py", "relabel.py"])
def test_scores_of_batches_are_the_same_in_a_run_that_stopped_within_an_epoch(run, finished, tmp_path, stop_at, script):
    flags = [*TINY_ARGS[script], "--track_from", "batches", "--experiment_name"]
    run(script, *flags, "whole")
    stop_at(14)  # ten batches an epoch
    with pytest.raises(Stopped):
        run(script, *flags, "e")
    run(script, *flags, "e")
    assert same_bytes(tmp_path / "whole", tmp_path / "e") == []
    finished(script, "passes", "--track_from", "passes")
    if script == "main.py":
        with pytest.raises(UserError, match="track_from 'batches' there, 'passes' here"):
            run(script, *flags, "other", "--track_from", "passes", "--first_stage_from", "whole")
    track = "stage1_loss_track" if script == "main.py" else "loss_track"
    assert not np.array_equal(load(tmp_path / "whole", track), load(tmp_path / "passes", track))


def test_an_automatic_pace_sees_the_thaw(run, tmp_path):
    flags = [*EARLY, "--unfreeze_secondStage", "4", "--track_every", "auto"]
    run("main.py", *TINY_ARGS["main.py"], *flags)
    steps = [int(row["step"]) for row in history(tmp_path / "e") if row["stage"] == "2"]
    assert steps[:5] == [0, 1, 2, 3, 4]  # nothing moves before step 4


def test_stage_2_ends_once_the_mean_loss_passes_the_limit(run, tmp_path):
    run("main.py", *TINY_ARGS["main.py"], "--second_stg_max_median_loss", "0.0001", "--experiment_name", "e")
    assert [row["step"] for row in history(tmp_path / "e") if row["stage"] == "2"] == ["0"]


def test_the_limit_counts_at_every_tracked_step(run, finished, tmp_path):
    fast = ["--lr_2nd", "0.5"]  # which raises it, whatever the machine
    finished("main.py", "whole", *fast)
    losses = [float(row["mean_loss"]) for row in history(tmp_path / "whole") if row["stage"] == "2"]
    rises = [k for k in range(2, len(losses)) if losses[k] > max(losses[:k])]
    assert rises, losses
    step = rises[0]
    flags = [*fast, "--second_stg_max_median_loss", (losses[step] + max(losses[:step])) / 2]
    run("main.py", *TINY_ARGS["main.py"], *flags, "--first_stage_from", "whole", "--experiment_name", "e")
    rows = [row for row in history(tmp_path / "e") if row["stage"] == "2"]
    assert [float(row["mean_loss"]) for row in rows] == losses[: step + 1]


@pytest.mark.parametrize("step", [2, 3])
def test_an_epoch_of_stage_2_may_have_fewer_steps_and_be_left_at_any(run, finished, tmp_path, stop_at, step):
    flags = ["--epoch_1st", "1", "--step_number", "2", "--epoch_2nd", "3", "--M_2nd", "2"]
    finished("main.py", "whole", *flags)
    rows = [row for row in history(tmp_path / "whole") if row["stage"] == "2"]
    assert [(row["epoch"], row["step"]) for row in rows] == [
        ("0", "0"), ("1", "1"), ("1", "2"), ("2", "3"), ("2", "4"), ("3", "5"), ("3", "6")
    ]  # fmt: skip
    assert [float(row["lr"]) for row in rows[1:]] == pytest.approx([0.01] * 4 + [0.001] * 2)
    assert "stage2: steps, rate 0.01, times 0.1 after epochs 2" in (tmp_path / "whole" / "log.txt").read_text()
    stop_at(step, "stage2")
    with pytest.raises(Stopped):
        run("main.py", *TINY_ARGS["main.py"], *flags, "--experiment_name", "e")
    run("main.py", *TINY_ARGS["main.py"], *flags, "--experiment_name", "e")
    assert same_bytes(tmp_path / "whole", tmp_path / "e") == []


def test_a_run_may_go_on_with_less_room_and_says_what_that_changes(run, tmp_path, stop_at):
    few = ["--epoch_1st", "1", "--steps_total", "2"]  # threads wait for one another
    flags = [*TINY_ARGS["main.py"], *few, "--experiment_name", "e"]
    threads = torch.get_num_threads()
    stop_at(1, "stage2")
    with pytest.raises(Stopped):
        run("main.py", *flags)
    try:
        run("main.py", *flags, "--threads", threads + 1, "--eval_batch_size", 7)
    finally:
        torch.set_num_threads(threads)
    log = (tmp_path / "e" / "log.txt").read_text()
    assert f"begun on CPU, {threads} threads" in log
    assert f"eval_batch_size none there, 7 here; threads none there, {threads + 1} here: the bytes will differ" in log


@pytest.mark.parametrize("began", ["fp32", "bf16"])
def test_a_run_goes_on_in_the_precision_that_it_began_in_on_another_machine(run, tmp_path, monkeypatch, stop_at, began):
    def on_a_machine_with(bf16):
        for place in ("utils.compute", "utils.results.reporting"):
            monkeypatch.setattr(f"{place}.has_bf16", lambda device: bf16)
        return run("main.py", *TINY_ARGS["main.py"], "--steps_total", "2", "--epoch_1st", "1", "--experiment_name", "e")

    stop_at(1, "stage2")
    with pytest.raises(Stopped):
        on_a_machine_with(began == "bf16")
    printed = on_a_machine_with(began != "bf16")
    assert record(tmp_path / "e")["status"] == "finished" and record(tmp_path / "e")["resolved_precision"] == began
    assert f", {began}" in printed and ("begun in bf16, which this machine is slow in" in printed) == (began == "bf16")


EARLY = ["--freeze_earlySecondStage", "--experiment_name", "e"]


@pytest.mark.parametrize("k", [1, 4])
def test_an_early_stage_is_frozen_until_the_step_of_the_thawing(run, tmp_path, k):
    run("main.py", *TINY_ARGS["main.py"], *EARLY, "--unfreeze_secondStage", k, "--batch_eval_preUnfreeze_only")
    track = load(tmp_path / "e", "loss_track")
    for step in range(1, k):
        np.testing.assert_array_equal(track[step], track[0])
    assert (track[k] != track[0]).any()  # step K, counted from 1, is the first that moves the backbone


def test_an_early_stage_may_be_counted_in_epochs(run, tmp_path):
    # A batch of 300 makes an epoch of two steps: steps 1 and 2 are frozen.
    flags = ["--freeze_epochWise", "--unfreeze_secondStage", 2, "--batch_size", 300]
    run("main.py", *TINY_ARGS["main.py"], *EARLY, *flags)
    steps = [int(row["step"]) for row in history(tmp_path / "e") if row["stage"] == "2" and row["epoch"] == "1"]
    track = load(tmp_path / "e", "loss_track")
    np.testing.assert_array_equal(track[max(steps)], track[0])
    assert (track[max(steps) + 1] != track[0]).any()


def test_a_stage_2_that_never_thaws_says_so(run, tmp_path):
    printed = run("main.py", *TINY_ARGS["main.py"], *EARLY)  # six steps, thawing at step 11 by default
    assert "stage 2 has 6 steps and none thaws the backbone: nothing will be forgotten" in printed
    track = load(tmp_path / "e", "loss_track")
    np.testing.assert_array_equal(track[6], track[0])


def test_stage_1_is_reused_where_everything_agrees_and_refused_with_the_difference_otherwise(run, finished, tmp_path):
    finished("main.py", "a")
    printed = run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "b", "--first_stage_from", "a")
    assert "stage 1 taken from a" in printed
    for name in (*SCORE_FILES["main.py"], "stage1_loss_track"):
        assert (tmp_path / "a" / f"{name}.npy").read_bytes() == (tmp_path / "b" / f"{name}.npy").read_bytes()
    assert [row for row in history(tmp_path / "b") if row["stage"] == "1"] == [
        row for row in history(tmp_path / "a") if row["stage"] == "1"
    ]
    reuse = ["--first_stage_from", "a", "--experiment_name"]
    with pytest.raises(UserError, match="noise_ratio 0.4 there, 0.2 here"):
        run("main.py", *TINY_ARGS["main.py"], *reuse, "c", "--first_stage_noise_ratio", "0.2")
    of_stage2 = ["--M_2nd", "1", "--gamma_scheduler", "0.5"]  # with a cosine in stage 1 the factor is of stage 2 alone
    assert "stage 1 taken from a" in run("main.py", *TINY_ARGS["main.py"], *reuse, "d", *of_stage2)


def test_the_share_planted_by_default_and_the_same_by_hand_are_one_setting(run, finished, tmp_path):
    finished("main.py", "a")
    reuse = [*TINY_ARGS["main.py"], "--first_stage_from", "a", "--experiment_name"]
    share = share_to_plant(len(load(tmp_path / "a", "labels")))
    assert "stage 1 taken from a" in run("main.py", *reuse, "b", "--plant", share)
    with pytest.raises(UserError, match=f"plant {share} there, 0.0 here"):
        run("main.py", *reuse, "c", "--plant", "0")


def test_a_damaged_first_stage_is_refused_before_it_is_taken_over(run, finished, tmp_path):
    finished("main.py", "a")
    table, stage1 = tmp_path / "a" / "history.csv", tmp_path / "a" / "stage1.pt"
    rows, state = table.read_bytes(), torch.load(stage1, weights_only=True)
    row = rows.splitlines(keepends=True)[1]
    damaged = [(table, rows.replace(row, other)) for other in (row.replace(b".", b"x"), b"\xff" + row, row[:4] + b"\n")]
    for entry in ("evidence", "settings"):
        buffer = io.BytesIO()
        torch.save(state | {entry: {"learnt": torch.zeros(2)} if entry == "settings" else []}, buffer)
        damaged.append((stage1, buffer.getvalue()))
    for file, content in damaged:
        whole = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"{file.name} is damaged"):
            run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "b", "--first_stage_from", "a")
        file.write_bytes(whole)


def test_stage_1_is_reused_in_the_precision_that_it_was_made_in(run, finished, tmp_path):
    reuse = [*TINY_ARGS["main.py"], "--first_stage_from", "a", "--experiment_name"]
    finished("main.py", "a")
    made = record(tmp_path / "a")["resolved_precision"]
    other = {"bf16": "fp32", "fp32": "bf16"}[made]
    run("main.py", *reuse, "b", "--precision", made)  # what auto came to
    with pytest.raises(UserError, match=f"precision '{made}' there, '{other}' here"):
        run("main.py", *reuse, "c", "--precision", other)
    run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a", "--precision", other, "--overwrite")
    with pytest.raises(UserError, match=f"precision '{other}' there, '{made}' here"):
        run("main.py", *reuse, "c")


def test_cross_probabilities_are_the_other_models(finished, tmp_path):
    finished("parallel.py", "e")
    probs, labels = load(tmp_path / "e", "cross_probs"), load(tmp_path / "e", "labels")
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    # The score is the loss under these very probabilities, of planted samples without the planted class. bf16 networks
    # repeat exactly, softmax in fp32 rounds.
    rows, planted = np.arange(len(labels)), load(tmp_path / "e", "trained_labels")
    of_others = np.where(planted == labels, 1, 1 - probs[rows, planted])
    assert (planted != labels).any()
    loss = -np.log(probs[rows, labels] / of_others)
    np.testing.assert_allclose(loss, load(tmp_path / "e", "parallel_loss"), atol=1e-4)
    assert sorted(load(tmp_path / "e", "permutation")) == list(range(len(labels)))
    cross, own = (load(tmp_path / "e", f"{name}loss_track").mean(0) for name in ("", "own_"))
    assert not np.allclose(cross, own, rtol=0.01)
    for prefix, track in (("parallel", cross), ("own", own)):
        np.testing.assert_allclose(load(tmp_path / "e", f"{prefix}_mean_loss"), track, rtol=1e-3, atol=1e-5)
    with (tmp_path / "e" / "dynamics.csv").open(newline="") as handle:
        np.testing.assert_allclose([float(row["mean_loss"]) for row in csv.DictReader(handle)], cross, rtol=1e-3)


def streak(holds, moments):
    """The first moment of the last unbroken run of True that lasts to the end, as in dynamics.csv."""
    broken = [k for k, held in enumerate(holds) if not held]
    first = broken[-1] + 1 if broken else 0
    return "" if first == len(holds) else str(moments[first])


def test_dynamics_are_those_of_the_tracks(run, tmp_path):
    flags = ["--track_every", "2", "--lr_2nd", "0.5", "--plant", "0.03"]
    run("main.py", *TINY_ARGS["main.py"], *flags, "--experiment_name", "e")
    folder = tmp_path / "e"
    with (folder / "dynamics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    stage1, stage2 = load(folder, "stage1_loss_track"), load(folder, "loss_track")
    # Of three classes the likeliest has a probability of a third at least; with more than a half it is surely that.
    sure = np.all([((of < np.log(2)) | (of > np.log(3))).all(0) for of in (stage1, stage2)], axis=0)
    planted = load(folder, "trained_labels") != load(folder, "labels")  # scored without the class planted, all of them
    assert sure.sum() > 20 and (sure & planted).any() and len(rows) == len(sure)
    for i in np.flatnonzero(sure):
        learnt, forgotten = stage1[:, i] < np.log(2), stage2[:, i] > np.log(3)
        assert rows[i]["learnt_from_epoch"] == streak(learnt, [1, 2, 3])
        assert int(rows[i]["forgetting_events"]) == np.sum(learnt[:-1] & ~learnt[1:])
        assert rows[i]["forgotten_from_step"] == streak(forgotten, [0, 2, 4, 6])
    assert len({rows[i]["forgotten_from_step"] for i in np.flatnonzero(sure)}) > 1
    np.testing.assert_allclose([float(row["mean_loss"]) for row in rows], stage1.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose([float(row["aum"]) for row in rows], -load(folder, "stage1_aum"), rtol=1e-4, atol=1e-6)


def test_kept_models_give_the_cross_probabilities_again(run, tmp_path):
    run("parallel.py", *TINY_ARGS["parallel.py"], "--exchange", "0", "--keep_models", "--experiment_name", "e")
    permutation, probs = load(tmp_path / "e", "permutation"), load(tmp_path / "e", "cross_probs")
    images, n = datasets.load("digits", split="train", classes=[0, 1, 2]).images, len(permutation)
    halves = permutation[: n - n // 2], permutation[n - n // 2 :]
    for k, other in enumerate(reversed(halves)):
        found = Classifier.load(tmp_path / "e" / f"model_{k}.pt", cuda_dev=-1).probabilities(images[other])
        np.testing.assert_allclose(found, probs[other], atol=0.02)  # bf16, in other batches


@pytest.mark.figures
def test_in_an_exchange_each_model_learns_from_the_half_that_it_never_saw(run, finished, tmp_path, monkeypatch):
    learnt_from, begins, augments, said, weighed = {}, {}, {}, [], set()
    mixed, joint_loss, log_posterior = learner.Learner.mixed, cross_tracking.joint_loss, cross_tracking.log_posterior

    def see(self, ids, targets):
        if self.stream not in begins:
            begins[self.stream] = copy.deepcopy(self.network.state_dict())
            augments[self.stream] = self.optimisation.augment
        learnt_from.setdefault(self.stream, set()).update(ids.tolist())
        if self.stream > 2:
            np.testing.assert_array_equal(targets, said[0].trained_[ids])
        return mixed(self, ids, targets)

    def weigh(logits, targets, weights):
        weighed.add(weights)
        return joint_loss(logits, targets, weights)

    monkeypatch.setattr(learner.Learner, "mixed", see)
    monkeypatch.setattr(cross_tracking, "joint_loss", weigh)
    monkeypatch.setattr(cross_tracking, "log_posterior", lambda *of: said.append(of[1]) or log_posterior(*of))
    flags = [*TINY_ARGS["parallel.py"], "--exchange", "4", "--keep_models"]
    printed = run("parallel.py", *flags, "--balance", "0.7", "--experiment_name", "e")
    folder, of_halves = tmp_path / "e", finished("parallel.py", "halves", "--exchange", "0", "--balance", "0.7")
    # Each goes on from what it was, with stronger augmentation, on what both say of the labels.
    networks = torch.load(folder / "halves.pt", weights_only=True)["networks"]
    for stream, network in zip((3, 4), networks, strict=True):
        torch.testing.assert_close(begins[stream], network, rtol=0, atol=0)
    assert augments == {1: "standard", 2: "standard", 3: "strong", 4: "strong"}
    assert weighed == {LossWeights(0.7, 0.0)}
    first, second = ({*half.tolist()} for half in np.split(load(folder, "permutation"), [228]))  # of 455
    assert learnt_from[3] == second and learnt_from[4] == first
    # What the halves found stays as it is ...
    found = {"cross_probs", "parallel_loss", "parallel_ce"}
    found |= {f"{prefix}_{name}" for prefix in ("parallel", "own") for name in ("prediction", "mean_loss", "aum")}
    for name in (*found, "loss_track", "own_ce_track"):
        np.testing.assert_array_equal(load(folder, name), load(of_halves, name))
    assert (folder / "dynamics.csv").read_bytes() == (of_halves / "dynamics.csv").read_bytes()
    # ... and what both say of all ranks the suspects.
    rows, figures = history(folder), record(folder)["figures"]
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 8)]
    assert [row["cross_accuracy"] != "" for row in rows] == 3 * [True] + 4 * [False]
    assert float(rows[-1]["auc_exchange_prediction"]) == pytest.approx(figures["auc_exchange_prediction"], abs=1e-6)
    assert figures["score"].startswith("exchange_") and "after 3 epochs: estimated share" in printed
    assert figures["auc_parallel_score"] > record(of_halves)["figures"]["auc_parallel_score"]
    images = datasets.load("digits", split="train", classes=[0, 1, 2]).images
    probs = [Classifier.load(folder / f"model_{k}.pt", cuda_dev=-1).probabilities(images) for k in (0, 1)]
    agreed = (sum(probs).argmax(1) == load(folder, "trained_labels")).mean()
    assert float(rows[-1]["train_accuracy"]) == pytest.approx(agreed, abs=0.01)  # bf16, in other batches


@pytest.mark.parametrize("whole", [0, 1])
def test_an_exchange_that_diverges_early_leaves_what_the_halves_found(run, finished, tmp_path, monkeypatch, whole):
    steps = iter(range(10 * whole))  # five an epoch and model

    def diverges(logits, targets, weights):
        if next(steps, None) is None:
            raise Diverged("the loss is nan", "lower the learning rate")
        return logits.sum() * 0

    monkeypatch.setattr("utils.methods.cross_tracking.joint_loss", diverges)
    flags = [*TINY_ARGS["parallel.py"], "--keep_models"]
    printed = run("parallel.py", *flags, "--exchange", "4", "--experiment_name", "e")
    said = ("the loss is nan", "too few epochs to say more than the halves")[whole]
    assert f"exchange: {said}: going on with what " in printed
    of_halves = finished("parallel.py", "halves", "--keep_models", "--exchange", "0")
    assert same_bytes(tmp_path / "e", of_halves, "halves.pt") == []
    assert len(history(tmp_path / "e")) == 3 + whole
    assert record(tmp_path / "e")["figures"] == record(of_halves)["figures"]


def test_an_exchange_that_was_stopped_before_it_began_ends_the_same(run, finished, tmp_path, monkeypatch):
    def stop(*_):
        raise Stopped(signal.SIGTERM, "the same command")

    flags = [*TINY_ARGS["parallel.py"], "--experiment_name", "e"]
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(cross_tracking, "exchange", stop)
        run("parallel.py", *flags)
    assert not (tmp_path / "e" / "parallel_score.npy").exists()
    run("parallel.py", *flags)
    assert same_bytes(tmp_path / "e", finished("parallel.py", "whole")) == []


@pytest.mark.parametrize("flags", [[], ["--ce_loss_inWarmup"]], ids=["posterior", "prediction"])
def test_soft_labels_sum_to_one_and_shares_are_reported(finished, tmp_path, flags):
    finished("relabel.py", "e", *flags)
    assert ("relabelling by prediction" in (tmp_path / "e" / "log.txt").read_text()) == bool(flags)
    np.testing.assert_allclose(load(tmp_path / "e", "soft_labels").sum(1), 1, atol=1e-5)
    figures = record(tmp_path / "e")["figures"]
    soft_labels, labels, clean = (load(tmp_path / "e", name) for name in ("soft_labels", "labels", "clean_labels"))
    right, wrong = soft_labels.argmax(1) == clean, labels != clean
    assert figures["wrong_labels_corrected"] == pytest.approx(right[wrong].mean())
    assert figures["right_labels_spoilt"] == pytest.approx((~right[~wrong]).mean())
    assert figures["soft_label_accuracy"] == pytest.approx(right.mean())


def test_soft_labels_sum_to_one_after_every_epoch_of_relabelling(run, monkeypatch):
    from utils.training.soft_labels import SoftLabels

    sums, recorded, commit = [], [], SoftLabels.commit

    def watched(self, replace=None):
        recorded.append(self.state_dict()["seen"].clone())
        commit(self, replace)
        sums.append(self.current.sum(1))

    monkeypatch.setattr(SoftLabels, "commit", watched)
    run("relabel.py", *TINY_ARGS["relabel.py"], "--relabel_by", "prediction", "--experiment_name", "e")
    assert len(sums) == 3  # --warmup_e 2 of 4 epochs: epochs 3 and 4 learn from predictions, and the last ones are kept
    for total, seen in zip(sums, recorded, strict=True):
        np.testing.assert_allclose(total, 1, atol=1e-5)  # a zero vector would be 0
        assert (seen == 1).all()  # every sample exactly once


def test_compare_measures_an_experiment_against_another_on_the_same_data(run, finished, tmp_path):
    finished("main.py", "a")
    printed = run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "b", "--compare", "a")
    assert "rank corr." in printed and "parallel_ce    forget_ce" in printed
    printed = run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a", "--compare", "a")
    row = next(line for line in printed.splitlines() if line.split()[:2] == ["forget_ce", "forget_ce"]).split()
    assert row[2] == row[6] == "1.0000"  # rank correlation and overlap with itself
    ends = [line.split() for line in printed.splitlines() if line.split()[:2] == ["forget_ce", "forget_ce"]][1]
    assert ends[2] == ends[5] == "1.0000" and ends[3] == ends[4] > ends[6] == ends[7]  # overlaps; purities of the ends
    assert all((tmp_path / name / "compare.png").exists() for name in "ab")
    run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "c", "--seed", "2")
    with pytest.raises(UserError, match="seed 2 there, 1 here"):
        run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a", "--compare", "c")


def test_relabelling_compares_with_the_newest_forgetting(run, tmp_path):
    flags = [*TINY_ARGS["relabel.py"], "--compare_to_forgetting", "--experiment_name", "r"]
    with pytest.raises(UserError, match="no finished main.py experiment .* run this first: python3 main.py"):
        run("relabel.py", *flags)
    assert not (tmp_path / "r").exists()
    for name in ("older", "newer"):
        run("main.py", *TINY_ARGS["main.py"], "--epoch_1st", "1", "--steps_total", "1", "--experiment_name", name)
    run("main.py", *TINY_ARGS["main.py"], "--epoch_1st", "1", "--seed", "2", "--experiment_name", "of_other_labels")
    printed = run("relabel.py", *flags)
    assert "scores of r (A) and newer (B)" in printed and "rank corr." in printed


def test_labels_hold_still_under_a_seed_of_their_own(run, tmp_path):
    flags = [*TINY_ARGS["parallel.py"], "--epoch_1st", "1", "--experiment_name"]
    run("parallel.py", *flags, "second", "--seed", "2", "--noise_seed", "1")
    run("parallel.py", *flags, "first")
    run("parallel.py", *flags, "other", "--seed", "2")
    for name in ("labels", "trained_labels"):  # the planted errors too
        np.testing.assert_array_equal(load(tmp_path / "first", name), load(tmp_path / "second", name))
        assert (load(tmp_path / "first", name) != load(tmp_path / "other", name)).any()
    assert (load(tmp_path / "first", "permutation") != load(tmp_path / "second", "permutation")).any()
    assert record(tmp_path / "first")["data"] == record(tmp_path / "second")["data"]
    for seed, found in (("2", "second"), ("3", "first")):  # that of its own seed, else the newest on these labels
        seeds = ["--seed", seed, "--noise_seed", "1", "--experiment_name", f"ssl{seed}"]
        printed = run("ssl.py", *TINY_ARGS["ssl.py"], "--parallel", "--epoch", "1", "--runs", "1", *seeds)
        assert f"parallel scores: {tmp_path / found / 'parallel_score.npy'}" in printed


def test_the_next_command_trains_as_the_separation_did_where_that_was_said_by_hand(run, monkeypatch):
    flags = [*TINY_ARGS["parallel.py"], "--epoch_1st", "2", "--M", "1", "--experiment_name", "e"]
    monkeypatch.setattr("sys.argv", ["parallel.py", *flags])
    (line,) = [line for line in run("parallel.py", *flags).splitlines() if line.startswith("next: ")]
    assert "python3 ssl.py --parallel e --dataset digits --subset 0 1 2" in line
    assert "--width 0.1 --batch_size 50 --cuda_dev -1 --epoch 2 --M 1" in line and "--schedule" not in line
    assert "--experiment_name e_ssl" in line  # that was named by hand, so is what follows


@pytest.mark.parametrize(
    "flags, of_networks, augments, weights",
    [
        (
            ["--balance", "0.7"], [("13-CNN", 0.1, 0.15), ("preactResNet18", 0, None)],
            ["standard", "strong"], LossWeights(0.7, 0.0),
        ),
        (["--relabel_by", "prediction"], [("13-CNN", 0, 0)], ["standard"], LossWeights(0.8, 0.4)),
    ],
)  # fmt: skip
def test_what_each_network_of_relabelling_learns_from_and_how(run, monkeypatch, flags, of_networks, augments, weights):
    build, built = models.build, []
    learnt, mixed, said, weighed, joint_loss = {}, learner.Learner.mixed, [], set(), relabelling.joint_loss

    def noting(name, *of, **more):
        network = build(name, *of, **more)
        dropout = next(module for module in network.modules() if isinstance(module, nn.Dropout))
        built.append((name, dropout.p, getattr(network, "input_noise", None)))
        return network

    def see(self, ids, targets):
        learnt[self.stream] = self.optimisation.augment  # before, a step was timed
        if self.stream == 2:  # what the first network thinks of the labels
            np.testing.assert_array_equal(targets, said[0].trained_[ids])
        return mixed(self, ids, targets)

    def weigh(logits, targets, weights):
        weighed.add(weights)
        return joint_loss(logits, targets, weights)

    monkeypatch.setattr(models, "build", noting)
    monkeypatch.setattr(learner.Learner, "mixed", see)
    monkeypatch.setattr(relabelling, "joint_loss", weigh)
    monkeypatch.setattr(relabelling, "log_posterior", lambda words, posterior, *_: said.append(posterior))
    run("relabel.py", *TINY_ARGS["relabel.py"], "--epoch_1st", "2", "--warmup_e", "1", *flags)
    assert built[-len(of_networks) :] == of_networks  # those before were timed, to say how long it will take
    assert learnt == dict(zip((1, 2), augments, strict=False)) and weighed == {weights}


def test_labels_by_prediction_are_the_mean_over_epochs(run, tmp_path):
    flags = [*TINY_ARGS["relabel.py"], "--relabel_by", "prediction", "--epoch_1st", "2", "--warmup_e", "1"]
    for name, epochs in (("one", 1), ("two", 2)):
        run("relabel.py", *flags, "--epoch_update", epochs, "--experiment_name", name)
    one, two = (load(tmp_path / name, "soft_labels") for name in ("one", "two"))
    np.testing.assert_array_equal(load(tmp_path / "one", "loss_track")[0], load(tmp_path / "two", "loss_track")[0])
    assert np.abs(one - two).max() > 0.01
    np.testing.assert_allclose(two.sum(1), 1, atol=1e-5)


def test_comparing_with_an_experiment_on_other_data_is_refused_before_the_training(run, tmp_path):
    run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "a")
    with pytest.raises(UserError, match="a judged other data: .*seed 1 there, 2 here"):
        run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "b", "--seed", "2", "--compare", "a")
    assert not (tmp_path / "b" / "run.json").exists()


@pytest.mark.parametrize(
    "flags, mirrored",
    [([], True), (["--no-mirror"], False), (["--augment", "none", "--exchange", "0"], None)],
    ids=["default", "--no-mirror", "not augmented"],
)
def test_images_are_mirrored_unless_that_is_switched_off(run, image_folder, monkeypatch, flags, mirrored):
    flips = []
    monkeypatch.setattr("utils.data.device_images.random_flip", lambda pixels: flips.append(1) or pixels)
    printed = run(
        "parallel.py", "--first_stage_data_name", "folder", "--train_root", image_folder, "--width", "0.1",
        "--batch_size", "10", "--epoch_1st", "1", "--experiment_name", "e", *flags,
    )  # fmt: skip
    said = f"training images are {'mirrored at random' if mirrored else 'not mirrored'}" in printed
    assert said == ("augmentation:" in printed) == (mirrored is not None)
    assert bool(flips) == bool(mirrored)


def test_class_dependent_noise_is_named_class_by_class(run):
    printed = run(
        "relabel.py",
        *TINY_ARGS["relabel.py"],
        "--first_stage_subset",
        "1",
        "2",
        "7",
        "--first_stage_noise_type",
        "real_in_noise",
        "--experiment_name",
        "e",
    )
    assert "class-dependent noise: 2→7, 7→1" in printed


def test_two_folders_of_other_sizes_serve_as_the_two_stages(run, tmp_path, image_folder):
    printed = run(
        "main.py", "--first_stage_data_name", "folder", "--train_root", image_folder, "--image_size", "16",
        "--second_stage_data_name", "folder", "--second_stage_root", image_folder,
        "--width", "0.1", "--batch_size", "10", "--epoch_1st", "2", "--steps_total", "3", "--experiment_name", "e",
    )  # fmt: skip
    assert "second data: folder, 20 training images of 16x16 pixels" in (tmp_path / "e" / "log.txt").read_text()
    assert "no test set" in printed and "test_accuracy" not in record(tmp_path / "e")["figures"]


@pytest.mark.parametrize("script", SEPARATIONS)
def test_odd_samples_are_never_left_alone_in_a_batch(run, tmp_path, image_folder, monkeypatch, script):
    """19 in pairs, or halves of 10 and 9."""
    (image_folder / "train" / "red" / "9.png").unlink()
    sizes = []

    def noted(*of):
        batches = epoch_batches(*of)
        sizes.extend(map(len, batches))
        return batches

    monkeypatch.setattr(learner, "epoch_batches", noted)
    run(
        script, *TINY, "--dataset", "folder", "--train_root", image_folder, "--image_size", "16",
        "--batch_size", "2", "--epoch_1st", "2", "--experiment_name", "e",
    )  # fmt: skip
    assert record(tmp_path / "e")["status"] == "finished" and set(sizes) == {2, 3}


def test_comparing_with_a_classifier_is_refused_before_the_training(run, finished, tmp_path):
    finished("parallel.py", "p")
    run("ssl.py", *TINY_ARGS["ssl.py"], "--epoch", "1", "--runs", "1", "--parallel", "p", "--experiment_name", "s")
    with pytest.raises(UserError, match="s holds no scores of a separation"):
        run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e", "--compare", "s")


def test_a_slip_in_compare_shows_before_the_training(run, tmp_path):
    with pytest.raises(UserError, match="no experiment folder"):
        run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "e", "--compare", "nobody")
    assert not (tmp_path / "e").exists()


# Choosing without the truth.


def same_bytes(one, other, *except_for):
    """Whether two experiments hold the same arrays, weights and suspects; the names that do not agree.

    The true labels beside the suspects are there to be looked at, like clean_labels.npy.
    """
    arrays = [name for name in differing(one, other) if not name.endswith(".csv") and name not in except_for]
    suspects = [[row | {"true_label": ""} for row in read_suspects(folder)] for folder in (one, other)]
    return arrays + ["suspects.csv"] * (suspects[0] != suspects[1])


METHODS = {"main.py": "forgetting", "parallel.py": "cross_tracking", "relabel.py": "relabelling"}


@pytest.mark.parametrize("script", SEPARATIONS)
def test_the_truth_reaches_nothing_but_evaluation(run, finished, tmp_path, monkeypatch, script):
    def with_garbage(*args, **options):
        data = prepare(*args, **options)
        data.clean_labels = np.random.default_rng(0).permutation(data.clean_labels)
        return data

    finished(script, "true")
    flag = "--" + record(tmp_path / "true")["method"]
    ssl = [*TINY_ARGS["ssl.py"], "--epoch", "2", "--runs", "2", flag]
    run("ssl.py", *ssl, "--experiment_name", "ssl_true")
    monkeypatch.setattr(f"utils.methods.{METHODS[script]}.prepare", with_garbage)
    monkeypatch.setattr("utils.methods.pseudo_labelling.prepare", with_garbage)
    run(script, *TINY_ARGS[script], "--experiment_name", "garbage")
    run("ssl.py", *ssl, "garbage", "--experiment_name", "ssl_garbage")
    for name in ("", "ssl_"):
        true, garbage = tmp_path / f"{name}true", tmp_path / f"{name}garbage"
        assert same_bytes(true, garbage, "clean_labels.npy") == []
        figures = [{k: v for k, v in record(e)["figures"].items() if k.startswith("auc")} for e in (true, garbage)]
        assert figures[0] != figures[1]  # the garbage did reach the evaluation
    log = [(tmp_path / name / "log.txt").read_text().splitlines() for name in ("true", "garbage")]
    chosen = [[line.partition("score: ")[2] for line in lines if "score: " in line] for lines in log]
    assert chosen[0] == chosen[1] != []


def planted_in(script, *flags):
    """The data as a script prepares them, planted errors included."""
    args = resolve(load_script(script).parser().parse_args([*TINY_ARGS[script], *flags]))
    return prepare(data_choice(args), choose(-1, "auto", False, None, None), plant=args.plant)


@pytest.mark.parametrize(
    "script, more, prefix",
    [
        ("main.py", [], "stage1"),
        ("parallel.py", [], "exchange"),
        ("parallel.py", ["--exchange", "0"], "parallel"),
        ("relabel.py", [], "relabel"),
    ],
)
def test_planted_samples_are_scored_by_their_own_label(finished, tmp_path, script, more, prefix):
    flags = [*more, "--choose", "last"]  # so that predictions and score are both of the last epoch
    finished(script, "e", *flags)
    data, labels = planted_in(script, *flags), load(tmp_path / "e", "labels")
    np.testing.assert_array_equal(data.labels, labels)  # the planted ones are no part of the observed labels
    trained, ids = data.training_labels.numpy(), data.planted.ids
    assert len(ids) == round(0.1 * len(labels)) and (trained[ids] != labels[ids]).all()
    probs = load(tmp_path / "e", f"{record(tmp_path / 'e')['method']}_probs")
    score, rows = load(tmp_path / "e", f"{prefix}_prediction"), np.arange(len(labels))
    # They are of all epochs, or of the half of them that speaks best for held-out labels: alike, not the same.
    assert spearmanr(score, -np.log(np.maximum(probs[rows, labels], 1e-8))).statistic > 0.7
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    assert (probs[ids, trained[ids]] == 0).all()  # what the network was taught of them is taken out
    np.testing.assert_array_equal(load(tmp_path / "e", "trained_labels"), trained)
    with (tmp_path / "e" / "suspects.csv").open() as handle:
        rows = {int(row["sample_id"]): row["label"] for row in csv.DictReader(handle)}
    assert [rows[i] for i in load(tmp_path / "e", "sample_ids")] == [data.class_names[label] for label in labels]


@pytest.mark.parametrize("script", SEPARATIONS)
def test_the_networks_learn_the_planted_errors(finished, tmp_path, script):
    with_planted, without = finished(script, "a"), finished(script, "b", "--plant", "0")
    labels = load(with_planted, "labels")
    np.testing.assert_array_equal(labels, load(without, "labels"))
    others = load(with_planted, "trained_labels") == labels
    track = "stage1_loss_track" if script == "main.py" else "loss_track"
    first_epoch = [load(folder, track)[0, others] for folder in (with_planted, without)]
    assert (~others).sum() > 0 and not np.array_equal(*first_epoch)  # of samples at which nothing was planted


@pytest.mark.parametrize(
    "flags, script, newest",
    [
        (["--choose", "last"], "main.py", "forget_ce"),
        (["--plant", "0"], "main.py", "stage1_prediction_and_p_noisy"),  # nothing speaks for what stage 2 adds
        (["--exchange", "0", "--plant", "0"], "parallel.py", "parallel_prediction_and_p_noisy"),
        *((flags, script, f"{prefix}_prediction_and_p_noisy")
          for script, prefix in (("parallel.py", "exchange"), ("relabel.py", "relabel"))
          for flags in (["--choose", "last"], ["--plant", "0"])),
    ],
)  # fmt: skip
def test_without_a_criterion_the_newest_default_is_taken(finished, tmp_path, flags, script, newest):
    finished(script, "e", *flags)
    key, labels = record(tmp_path / "e")["method"], load(tmp_path / "e", "labels")
    score = load(tmp_path / "e", SCORE_FILES[script][0])
    if newest == "forget_ce":
        np.testing.assert_array_equal(score, load(tmp_path / "e", newest))
    else:  # the mean rank of both; planted samples, of which each is asked a little otherwise, apart
        probs, posterior = (load(tmp_path / "e", f"{key}_{name}") for name in ("probs", "posterior"))
        own = np.arange(len(labels)), labels
        ranks = [rankdata(1 - values[own]) for values in (probs, posterior)]
        assert spearmanr(score, sum(ranks)).statistic > 0.98
    assert record(tmp_path / "e")["figures"]["score"] == newest
    assert not [column for column in history(tmp_path / "e")[0] if column.startswith("planted_auc")]
    assert (tmp_path / "e" / "trained_labels.npy").exists() == ("--plant" not in flags)


@pytest.mark.parametrize("script", ["parallel.py", "relabel.py"])
def test_the_oracle_choice_takes_the_best_of_all_and_is_called_one(run, tmp_path, script):
    printed = run(script, *TINY_ARGS[script], "--choose", "oracle", "--experiment_name", "e")
    name, *others = SCORE_FILES[script]
    columns = [f"auc_{other}" for other in others if not other.startswith("own_")]
    rows = history(tmp_path / "e")
    best = max(float(row[column]) for row in rows for column in columns if row.get(column))
    assert record(tmp_path / "e")["figures"][f"auc_{name}"] == pytest.approx(best, abs=1e-5)
    assert "ORACLE: true labels found with AUC" in printed


EPOCHS = {  # of each training, by the prefix of its accumulated scores
    "main.py": [("stage1", 3)],
    "parallel.py": [("parallel", 3), ("exchange", 3)],
    "relabel.py": [("relabel", 4)],
}


@pytest.mark.parametrize("script", SEPARATIONS)
def test_the_criterion_of_every_candidate_is_in_the_history(finished, tmp_path, script):
    finished(script, "e")
    rows, begun = history(tmp_path / "e"), 0
    for prefix, epochs in EPOCHS[script]:
        for row in rows[begun : begun + epochs]:
            names = [f"planted_auc_{prefix}_{name}" for name in ("prediction", "mean_loss", "aum")]
            assert all(0 <= float(row[name]) <= 1 for name in names)
        begun += epochs
    assert begun == len([row for row in rows if row.get("stage") != "2"])
    if script == "main.py":
        steps = [row for row in rows if row["stage"] == "2"]
        for name in ("forget_ce", "forget_loss", "forget_ce_and_stage1", "forget_loss_and_stage1"):
            assert all(0 <= float(row[f"planted_auc_{name}"]) <= 1 for row in steps)


# Nothing that was computed is thrown away.


@pytest.mark.parametrize("track_every", [pytest.param(1, marks=pytest.mark.figures), 4, "auto"])
def test_a_stage_2_that_diverges_ends_at_its_last_finite_step(run, tmp_path, track_every):
    printed = run(
        "main.py", *TINY_ARGS["main.py"], "--lr_2nd", "1e6", "--track_every", track_every, "--save_best_AUC_model",
        "--experiment_name", "e",
    )  # fmt: skip
    folder = tmp_path / "e"
    assert "going on with the steps before" in printed and "stage 2" in printed
    steps = [int(row["step"]) for row in history(folder) if row["stage"] == "2"]
    assert steps[0] == 0 and steps[-1] < 6 and record(folder)["figures"]["steps"] == steps[-1]
    for name in SCORE_FILES["main.py"]:
        assert np.isfinite(load(folder, name)).all()
    track = load(folder, "loss_track")
    assert len(track) == len(steps)
    np.testing.assert_array_equal(track[-1], load(folder, "forget_loss"))
    assert (folder / "suspects.csv").exists() and record(folder)["status"] == "finished"
    assert {"stage1.png", "forgetting.png", "scores.png", "roc.png"} <= {file.name for file in folder.glob("*.png")}


def of_posterior(folder):
    """Files that depend on where the second half of the epochs was to begin."""
    key = record(folder)["method"]
    files = {f"{key}_{name}.npy" for name in ("score", "probs", "posterior", "transition")}
    files |= {"history.csv"} if key == "forget" else set()  # stage 2 competes with the score of stage 1
    return files | {"p_noisy.npy", "soft_labels.npy", "suspects.csv"}


DIVERGING = ["--M", "2", "--gamma_scheduler", "1e30"]  # after two epochs (of a phase) no network stays finite
LATE = [  # script, flags, whole epochs
    ("main.py", ["--epoch_1st", "4"], 2),
    ("parallel.py", ["--epoch_1st", "4"], 2),
    ("relabel.py", ["--epoch_1st", "4", "--warmup_e", "1", "--relabel_by", "prediction"], 2),
]
LATE_IDS = ["main.py", "parallel.py", "prediction"]


@pytest.mark.parametrize("script, flags, whole", LATE, ids=LATE_IDS)
def test_a_training_that_diverges_goes_on_with_the_epoch_before(run, tmp_path, script, flags, whole):
    printed = run(script, *TINY_ARGS[script], *flags, *DIVERGING, "--experiment_name", "e")
    assert "going on with what was found until the epoch before" in printed
    calm = [*flags, "--epoch_1st", whole, "--schedule", "constant"]
    run(script, *TINY_ARGS[script], *calm, "--experiment_name", "calm")
    # stage1.pt holds the flags, halves.pt the epochs that were meant.
    others = same_bytes(tmp_path / "calm", tmp_path / "e", "stage1.pt", "halves.pt")
    assert not set(others) - of_posterior(tmp_path / "e")
    assert record(tmp_path / "e")["status"] == "finished"
    epochs = len([row for row in history(tmp_path / "e") if row.get("stage") != "2"])
    assert epochs == (2 * whole if script == "parallel.py" else whole)  # whose exchange diverges, too


@pytest.mark.parametrize("whole", [0, 1])
def test_a_second_training_that_diverges_early_leaves_what_the_warm_up_found(run, tmp_path, monkeypatch, whole):
    steps = iter(range(10 * whole))  # ten an epoch

    def diverges(logits, targets, weights):
        if next(steps, None) is None:
            raise Diverged("the loss is nan", "lower the learning rate")
        return logits.sum() * 0

    monkeypatch.setattr("utils.methods.relabelling.joint_loss", diverges)  # of the second training alone
    printed = run("relabel.py", *TINY_ARGS["relabel.py"], "--epoch_1st", "6", "--experiment_name", "e")
    folder = tmp_path / "e"
    said = ("the loss is nan", "too few epochs to say more than the warm-up")[whole]
    assert f"relabelling: {said}: going on with what " in printed
    assert record(folder)["status"] == "finished" and len(history(folder)) == 2 + whole
    for name in SCORE_FILES["relabel.py"]:
        assert np.isfinite(load(folder, name)).all()
    np.testing.assert_array_equal(load(folder, "soft_labels"), load(folder, "relabel_posterior"))
    assert load(folder, "loss_track").shape[0] == 2 + whole and (folder / "suspects.csv").exists()
    of_warm_up = load_torch(folder / "warm_up.pt", {"evidence": dict}, "")["evidence"]
    labels, sums = torch.from_numpy(load(folder, "labels")), of_warm_up["accumulated"]
    mean_loss = -sums["log_probs"].gather(1, labels[:, None])[:, 0] / 2
    others = load(folder, "trained_labels") == labels.numpy()  # nothing was planted there
    np.testing.assert_allclose(load(folder, "relabel_mean_loss")[others], mean_loss.numpy()[others], rtol=1e-5)
    np.testing.assert_array_equal(load(folder, "relabel_loss"), load(folder, "loss_track")[1])
    figures, last = record(folder)["figures"], history(folder)[1]
    for name in ("train_accuracy", "test_accuracy"):
        assert figures[name] == pytest.approx(float(last[name]), abs=1e-6)


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_training_that_was_stopped_within_the_epoch_that_diverges_ends_the_same(run, tmp_path, stop_at, epoch):
    stop_at(10 * (epoch - 1) + 1)  # ten batches an epoch: after the first step of this one
    flags = [*TINY_ARGS["main.py"], "--epoch_1st", "4", "--M", epoch - 1, "--gamma_scheduler", "1e30"]
    with pytest.raises(Stopped):
        run("main.py", *flags, "--experiment_name", "e")
    run("main.py", *flags, "--experiment_name", "e")
    run("main.py", *flags, "--experiment_name", "whole")
    assert same_bytes(tmp_path / "whole", tmp_path / "e") == []


# Memorising.


def test_stage_1_ends_once_the_labels_are_fitted(run, tmp_path):
    memorising = ["--augment", "none", "--mixup", "0", "--ema", "0", "--balance", "0", "--schedule", "constant"]
    flags = [*TINY_ARGS["main.py"], *memorising, "--epoch_1st", "30", "--steps_total", "1"]
    run("main.py", *flags, "--memorise_until", "0.62", "--experiment_name", "e")
    fitted = [float(row["train_accuracy"]) for row in history(tmp_path / "e") if row["stage"] == "1"]
    assert max(fitted[:-1]) < 0.62 <= fitted[-1] and 1 < len(fitted) < 30
    track = load(tmp_path / "e", "stage1_loss_track")
    assert len(track) == len(fitted)
    np.testing.assert_array_equal(track[-1], load(tmp_path / "e", "stage1_loss"))
    run("main.py", *flags, "--epoch_1st", len(fitted), "--track_from", "passes", "--experiment_name", "counted")
    others = same_bytes(tmp_path / "e", tmp_path / "counted", "stage1.pt")
    assert not set(others) - of_posterior(tmp_path / "e")

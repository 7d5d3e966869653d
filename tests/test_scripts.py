"""The scripts end to end on tiny data: what they write, refuse, reuse and repeat."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.tiny import SCORE_FILES, TINY_ARGS
from utils.errors import UserError

SEPARATIONS = ("main.py", "parallel.py", "relabel.py")


def record(folder):
    return json.loads((folder / "run.json").read_text())


def load(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def history(folder):
    return list(csv.DictReader((folder / "history.csv").open()))


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
    for name in SCORE_FILES[script][:1]:
        assert 0 <= run_record["figures"][f"auc_{name}"] <= 1
    accuracies = {"train_accuracy", "test_accuracy", "test_accuracy_best"}
    assert accuracies | {"noise_ratio_realised"} <= run_record["figures"].keys()
    assert not [file for pattern in ("*.part", ".*tmp", "checkpoint.pt") for file in folder.glob(pattern)]
    for png in folder.glob("*.png"):
        with Image.open(png) as image:
            image.verify()
    assert len(list(folder.glob("*.png"))) >= 4
    with (folder / "suspects.csv").open() as handle:
        suspects = list(csv.DictReader(handle))
    assert sorted(int(row["sample_id"]) for row in suspects) == sorted(load(folder, "sample_ids"))
    assert "transition matrix" in printed and "next: python3 ssl.py" in printed


@pytest.mark.parametrize("script", SEPARATIONS)
def test_the_same_seed_repeats_every_byte_and_another_seed_does_not(run, tmp_path, script):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(script, *TINY_ARGS[script], "--experiment_name", name, "--seed", seed)
    for name in SCORE_FILES[script]:
        a, b, c = ((tmp_path / e / f"{name}.npy").read_bytes() for e in "abc")
        assert a == b and a != c


def test_a_finished_experiment_prints_its_figures_and_trains_nothing(run, tmp_path):
    first = run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "e")
    before = (tmp_path / "e" / "parallel_loss.npy").stat().st_mtime_ns
    again = run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "e")
    assert (tmp_path / "e" / "parallel_loss.npy").stat().st_mtime_ns == before
    assert "is finished" in again and first.split("e: parallel")[1] == again.split("e: parallel")[1]


def test_other_settings_under_a_used_name_are_refused_and_listed(run, tmp_path):
    run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e")
    with pytest.raises(UserError, match=r"lr 0.1 there, 0.2 here; seed 1 there, 7 here"):
        run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e", "--lr", "0.2", "--seed", "7")
    run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e", "--lr", "0.2", "--seed", "7", "--overwrite")
    assert record(tmp_path / "e")["settings"]["seed"] == 7


def test_bad_data_leaves_no_settings_behind_for_the_corrected_command_to_trip_over(run, tmp_path):
    with pytest.raises(UserError, match="has no class 77"):
        run("main.py", *TINY_ARGS["main.py"], "--first_stage_subset", "0", "77", "--experiment_name", "e")
    assert not (tmp_path / "e" / "run.json").exists()


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
        "--step_number",
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
    np.testing.assert_array_equal(stage1[-1], track[0])  # nothing has been forgotten before the first step


def test_stage_2_ends_once_the_mean_loss_passes_the_limit(run, tmp_path):
    run("main.py", *TINY_ARGS["main.py"], "--second_stg_max_median_loss", "0.0001", "--experiment_name", "e")
    assert [row["step"] for row in history(tmp_path / "e") if row["stage"] == "2"] == ["0"]


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


def test_stage_1_is_reused_where_everything_agrees_and_refused_with_the_difference_otherwise(run, tmp_path):
    run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a")
    printed = run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "b", "--first_stage_from", "a")
    assert "stage 1 taken from a" in printed
    for name in ("forget_ce", "stage1_loss", "stage1_loss_track"):
        assert (tmp_path / "a" / f"{name}.npy").read_bytes() == (tmp_path / "b" / f"{name}.npy").read_bytes()
    assert [row for row in history(tmp_path / "b") if row["stage"] == "1"] == [
        row for row in history(tmp_path / "a") if row["stage"] == "1"
    ]
    with pytest.raises(UserError, match="noise_ratio 0.4 there, 0.2 here"):
        run(
            "main.py",
            *TINY_ARGS["main.py"],
            "--experiment_name",
            "c",
            "--first_stage_from",
            "a",
            "--first_stage_noise_ratio",
            "0.2",
        )


def test_stage_1_is_reused_in_the_precision_that_it_was_made_in(run, tmp_path):
    reuse = [*TINY_ARGS["main.py"], "--first_stage_from", "a", "--experiment_name"]
    run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a")
    made = record(tmp_path / "a")["resolved_precision"]
    other = {"bf16": "fp32", "fp32": "bf16"}[made]
    run("main.py", *reuse, "b", "--precision", made)  # what auto came to
    with pytest.raises(UserError, match=f"precision '{made}' there, '{other}' here"):
        run("main.py", *reuse, "c", "--precision", other)
    run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a", "--precision", other, "--overwrite")
    with pytest.raises(UserError, match=f"precision '{other}' there, '{made}' here"):
        run("main.py", *reuse, "c")


def test_cross_probabilities_are_the_other_models(run, tmp_path):
    run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "e")
    probs, labels = load(tmp_path / "e", "cross_probs"), load(tmp_path / "e", "labels")
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    # The score is the loss under these very probabilities. bf16 networks repeat exactly, softmax in fp32 rounds.
    np.testing.assert_allclose(
        -np.log(probs[np.arange(len(labels)), labels]), load(tmp_path / "e", "parallel_loss"), atol=1e-4
    )
    assert sorted(load(tmp_path / "e", "permutation")) == list(range(len(labels)))
    assert not np.array_equal(load(tmp_path / "e", "loss_track"), load(tmp_path / "e", "own_loss_track"))


def test_soft_labels_sum_to_one_and_shares_are_reported(run, tmp_path):
    run("relabel.py", *TINY_ARGS["relabel.py"], "--ce_loss_inWarmup", "--experiment_name", "e")
    np.testing.assert_allclose(load(tmp_path / "e", "soft_labels").sum(1), 1, atol=1e-5)
    figures = record(tmp_path / "e")["figures"]
    assert 0 <= figures["wrong_labels_corrected"] <= 1 and 0 <= figures["right_labels_spoilt"] <= 1


def test_soft_labels_sum_to_one_after_every_epoch_of_relabelling(run, monkeypatch):
    from utils.training.soft_labels import SoftLabels

    sums, recorded, commit = [], [], SoftLabels.commit

    def watched(self, replace=None):
        recorded.append(self.state_dict()["seen"].clone())
        commit(self, replace)
        sums.append(self.current.sum(1))

    monkeypatch.setattr(SoftLabels, "commit", watched)
    run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e")
    assert len(sums) == 3  # --warmup_e 2 of 4 epochs: epochs 3 and 4 learn from predictions, and the last ones are kept
    for total, seen in zip(sums, recorded, strict=True):
        np.testing.assert_allclose(total, 1, atol=1e-5)  # a zero vector would be 0
        assert (seen == 1).all()  # every sample exactly once


def test_compare_measures_an_experiment_against_another_on_the_same_data(run, tmp_path):
    run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a")
    printed = run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "b", "--compare", "a")
    assert "rank corr." in printed and "parallel_ce   forget_ce" in printed
    printed = run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a", "--compare", "a")
    row = next(line for line in printed.splitlines() if line.split()[:2] == ["forget_ce", "forget_ce"]).split()
    assert row[2] == row[6] == "1.0000"  # rank correlation and overlap with itself
    run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "c", "--seed", "2")
    with pytest.raises(UserError, match="seed 2 there, 1 here"):
        run("main.py", *TINY_ARGS["main.py"], "--experiment_name", "a", "--compare", "c")


def test_comparing_with_an_experiment_on_other_data_is_refused_before_the_training(run, tmp_path):
    run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "a")
    with pytest.raises(UserError, match="a judged other data: .*seed 1 there, 2 here"):
        run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "b", "--seed", "2", "--compare", "a")
    assert not (tmp_path / "b" / "run.json").exists()


@pytest.mark.parametrize("flags, mirrored", [([], True), (["--no-mirror"], False)], ids=["default", "--no-mirror"])
def test_images_are_mirrored_unless_that_is_switched_off(run, image_folder, monkeypatch, flags, mirrored):
    flips = []
    monkeypatch.setattr("utils.data.device_images.random_flip", lambda pixels: flips.append(1) or pixels)
    printed = run(
        "parallel.py", "--first_stage_data_name", "folder", "--train_root", image_folder, "--width", "0.1",
        "--batch_size", "10", "--epoch_1st", "1", "--experiment_name", "e", *flags,
    )  # fmt: skip
    assert f"training images are {'mirrored at random' if mirrored else 'not mirrored'}" in printed
    assert bool(flips) == mirrored


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
        "--width", "0.1", "--batch_size", "10", "--epoch_1st", "2", "--step_number", "3", "--experiment_name", "e",
    )  # fmt: skip
    assert "second data: folder, 20 training images of 16x16 pixels" in (tmp_path / "e" / "log.txt").read_text()
    assert "no test set" in printed and "test_accuracy" not in record(tmp_path / "e")["figures"]


@pytest.mark.parametrize("script", SEPARATIONS)
def test_odd_samples_are_never_left_alone_in_a_batch(run, tmp_path, script):
    run(script, *TINY_ARGS[script], "--batch_size", "2", "--experiment_name", "e", "--first_stage_subset", "0", "1",
        *(["--epoch_1st", "1"] if script != "relabel.py" else ["--epoch_1st", "2", "--warmup_e", "1"]))  # fmt: skip
    assert record(tmp_path / "e")["status"] == "finished"


def test_comparing_with_a_classifier_is_refused_before_the_training(run, tmp_path):
    run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "p")
    run("ssl.py", *TINY_ARGS["ssl.py"], "--parallel", "p", "--experiment_name", "s")
    with pytest.raises(UserError, match="s holds no scores of a separation"):
        run("relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e", "--compare", "s")


def test_a_slip_in_compare_shows_before_the_training(run, tmp_path):
    with pytest.raises(UserError, match="no experiment folder"):
        run("parallel.py", *TINY_ARGS["parallel.py"], "--experiment_name", "e", "--compare", "nobody")
    assert not (tmp_path / "e").exists()

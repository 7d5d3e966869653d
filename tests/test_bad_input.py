"""Every kind of bad input, by name: one line on stderr that says what to do, exit status 2, nothing half-written."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import utils.training.learner
from tests.tiny import SPLIT, TINY_ARGS, load_script, without_pixels
from tests.torchvision_files import write_cifar10
from utils.command_line.running import run_script
from utils.experiments.experiment import Experiment
from utils.results import reporting


@pytest.fixture
def refused(tmp_path, capsys):
    """refused("main.py", "--flag", ...) -> the one line; checks exit status, traceback and that no result is left."""

    def refuse(script: str, *flags: object) -> str:
        root = tmp_path / "experiments"
        before = {file for file in root.rglob("*.*") if file.is_file()}
        with pytest.raises(SystemExit) as ended:
            run_script(load_script(script).main, [*map(str, flags), "--experiments_root", str(root)])
        assert ended.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and " — " in lines[0]
        left = {file.name for file in root.rglob("*.*") if file.is_file() and file not in before}
        assert left <= {".lock"}
        return lines[0]

    return refuse


FOLDER = ["--first_stage_data_name", "folder", "--cuda_dev", "-1", "--train_root"]


@pytest.mark.parametrize(
    "flags, line",
    [
        (["--first_stage_data_name", "cifar11"], "first_stage_data_name: invalid choice: 'cifar11'"),
        (["--first_stage_noise_type", "pairwise"], "first_stage_noise_type: invalid choice: 'pairwise'"),
        (["--epochs", "3"], "unrecognized arguments: --epochs 3 — .*see python3 main.py --help"),
        (["--widht=0.5"], "unrecognized arguments: --widht=0.5 — did you mean --width"),
        (["--first_stage_from", "nowhere"], "is no experiment folder"),
        (["--experiment_name", "../outside"], "experiment name '../outside' is not usable"),
        (["--first_stage_noise_ratio", "1.0"], r"1.0 is outside \[0, 1\)"),
        (["--first_stage_noise_ratio", "-0.1"], r"-0.1 is outside \[0, 1\)"),
        (["--second_stage_noise_ratio", "nan"], r"nan is outside \[0, 1\)"),
        (["--first_stage_num_classes", "9"], "9 classes were asked for and digits gives 10"),
        (["--first_stage_subset", "0", "10"], "digits has no class 10"),
        (["--first_stage_subset", "0", "-1"], r"-1 is outside \[0, inf\)"),
        (["--first_stage_subset", "3", "4", "3"], "the class subset repeats 3"),
    ],
    ids=[
        "unknown data set", "unknown noise type", "unknown flag", "mistyped flag", "unknown experiment",
        "name outside its folder", "ratio of one", "negative ratio", "ratio that is no number",
        "class count that disagrees", "subset class out of range", "negative subset class", "repeated subset class",
    ],
)  # fmt: skip
def test_bad_flags(refused, flags, line):
    assert re.search(line, refused("main.py", *flags))


def test_unknown_network(refused):
    assert "invalid choice: 'resnet50'" in refused("relabel.py", "--model_type", "resnet50")


def test_missing_data_files(refused, tmp_path):
    assert "there is no folder" in refused("main.py", *FOLDER, tmp_path / "nowhere")


def test_empty_class_folder(refused, image_folder):
    (image_folder / "train" / "green").mkdir()
    assert "green has no images" in refused("main.py", *FOLDER, image_folder)


def test_empty_data_folder(refused, tmp_path):
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    assert "has no class folders" in refused("main.py", *FOLDER, tmp_path / "pictures")


@pytest.mark.parametrize(
    "damage, fault", [("emptied", "is damaged"), ("corrupted", "is damaged"), ("deleted", "is missing")]
)
def test_damaged_cifar_file(refused, tmp_path, monkeypatch, damage, fault):
    for name, value in write_cifar10(tmp_path).items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://localhost:9/nothing-listens-here.tar.gz")
    file = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    content = file.read_bytes()
    file.unlink()
    if damage != "deleted":
        file.write_bytes(b"" if damage == "emptied" else content[:-1] + bytes([content[-1] ^ 1]))
    line = refused("main.py", "--first_stage_data_name", "cifar10", "--train_root", tmp_path, "--cuda_dev", "-1")
    assert f"data_batch_2 {fault}" in line


def test_image_that_does_not_decode(refused, image_folder):
    broken = image_folder / "train" / "red" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert re.search("train/red/3.png does not decode", refused("main.py", *FOLDER, image_folder))


def test_all_images_that_do_not_decode_are_named_at_once(refused, image_folder):
    for name in ("train/blue/5.png", "train/red/3.png"):
        (image_folder / name).write_text("not an image")
    line = refused("relabel.py", *FOLDER, image_folder)
    assert "2 of 20 images" in line and "train/blue/5.png does" in line and "train/red/3.png does" in line
    assert line.endswith("replace or remove them, or leave them out with --skip_broken")


def test_image_that_is_a_decompression_bomb(refused, image_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow refuses twice that; the pictures have 12 x 9 pixels
    assert re.search(r"\.png is too large to decode", refused("main.py", *FOLDER, image_folder))


LABELS = {
    "missing": (None, "there is no labels file"),
    "of other images": (b"file,label\ntrain/blue/77.png,red\n", "there is no image 'train/blue/77.png'"),
    "of other classes": (b"file,label\ntrain/blue/7.png,green\n", "there is no class 'green'"),
    "of too few images": (b"file,label\ntrain/blue/7.png,red\n", "lacks 19 of 20 images"),
}


@pytest.mark.parametrize("content, line", LABELS.values(), ids=LABELS)
def test_bad_labels_file(refused, image_folder, tmp_path, content, line):
    if content is not None:
        (tmp_path / "mine.csv").write_bytes(content)
    assert line in refused("parallel.py", *FOLDER, image_folder, "--labels", tmp_path / "mine.csv")


def test_labels_of_the_wrong_length(refused, tmp_path):
    np.save(tmp_path / "mine.npy", np.zeros(1437, int))
    line = refused("ssl.py", "--forget", "--labels", tmp_path / "mine.npy")
    assert "holds 1437 labels for 1438 images" in line


SCORES = {
    "scores of the wrong length": (np.zeros(454), "454 scores for 455 samples"),
    "scores of the wrong shape": (np.zeros((455, 1)), "shape (455, 1)"),
    "scores of text": (np.array(["a"] * 455), "not real numbers"),
    "complex scores": (np.zeros(455, complex), "not real numbers"),
    "scores with NaN": (np.where(np.arange(455) == 7, np.nan, 0.0), "the first at sample 7"),
    "infinite scores": (np.where(np.arange(455) == 9, np.inf, 0.0), "the first at sample 9"),
}


@pytest.mark.parametrize("array, line", SCORES.values(), ids=SCORES)
def test_bad_scores(refused, tmp_path, array, line):
    np.save(tmp_path / "mine.npy", array)
    assert line in refused("ssl.py", *TINY_ARGS["ssl.py"], "--scores", tmp_path / "mine.npy")


def test_missing_scores(refused, tmp_path):
    assert "is missing" in refused("ssl.py", *TINY_ARGS["ssl.py"], "--scores", tmp_path / "mine.npy")


def test_pickled_scores(refused, tmp_path):
    np.save(tmp_path / "mine.npy", np.array([{}] * 455, dtype=object), allow_pickle=True)
    line = refused("ssl.py", *TINY_ARGS["ssl.py"], "--scores", tmp_path / "mine.npy")
    assert "not a readable .npy file" in line


def test_scores_that_select_a_single_class(refused, tmp_path):
    np.save(tmp_path / "mine.npy", np.arange(455.0))
    flags = [*TINY_ARGS["ssl.py"], "--scores", tmp_path / "mine.npy", "--threshold", "0.003"]  # one sample
    assert "the clean set holds class" in refused("ssl.py", *flags)


def test_scores_made_from_other_labels(refused, made_once, tmp_path):
    shutil.copytree(made_once("relabel.py"), tmp_path / "experiments" / "separated_1")
    line = refused("ssl.py", *TINY_ARGS["ssl.py"], "--seed", "2", "--relabel", "separated_1")
    assert "seed 1 there, 2 here" in line and "labels" in line


def test_no_finished_experiment_gives_a_command_that_makes_one(refused, tmp_path):
    line = refused("ssl.py", *TINY_ARGS["ssl.py"], "--relabel")
    script, *flags = shlex.split(re.search(r"run this first: python3 (.*)", line)[1])
    with without_pixels():
        load_script(script).main([*flags, *TINY_ARGS[script]])
    (record,) = (json.loads(file.read_text()) for file in (tmp_path / "experiments").glob("*/run.json"))
    assert record["method"] == "relabel" and record["status"] == "finished"


@pytest.mark.parametrize("name", ["relabel_los", "stage1_aum", "forget_loss", "p_noisy"])
def test_a_score_that_no_separation_has(refused, made_once, tmp_path, name):
    shutil.copytree(made_once("relabel.py"), tmp_path / "experiments" / "separated_1")
    line = refused("ssl.py", *TINY_ARGS["ssl.py"], "--relabel", "--score", name)
    assert re.search(rf"--score {name} is none of|holds no {name}", line), line


@pytest.mark.parametrize("script", ["main.py", "parallel.py", "relabel.py"])
def test_an_oracle_without_the_truth(refused, image_folder, script):
    flags = ["--first_stage_noise_type", "none", "--width", "0.1", "--batch_size", "10", "--epoch_1st", "2"]
    assert "true labels" in refused(script, *FOLDER, image_folder, *flags, "--choose", "oracle")


@pytest.mark.parametrize("script", ["main.py", "parallel.py", "relabel.py"])
def test_a_loss_that_stops_being_finite_names_epoch_and_step(refused, script):
    flags = [*TINY_ARGS[script], "--lr", "1e30"]
    assert re.search(r"(the loss is (nan|inf) at|finite at).*epoch \d+", refused(script, *flags))


def test_a_classifier_whose_loss_stops_being_finite_names_epoch_and_step(refused, tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random(455))
    flags = [*TINY_ARGS["ssl.py"], "--scores", tmp_path / "mine.npy", "--lr", "1e30"]
    assert re.search(r"(the loss is (nan|inf) at|finite at).*epoch 1", refused("ssl.py", *flags))


def test_full_disk(refused, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 10}))
    assert "needed and" in refused("main.py", *TINY_ARGS["main.py"])


def test_gpu_out_of_memory_names_the_batch_size(refused, monkeypatch):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(utils.training.learner, "mixup", out_of_memory)
    assert "lower --batch_size" in refused("relabel.py", *TINY_ARGS["relabel.py"])


def test_gpu_that_does_not_exist_names_those_that_do(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    line = refused("main.py", *TINY_ARGS["main.py"], "--cuda_dev", "5")
    assert "there is no GPU 5" in line and "0, 1" in line


@pytest.fixture
def refused_over(refused, tmp_path):
    """refused_over("main.py", "--flag", ...): as `refused`, over a finished run, of which no byte may be lost."""

    def refuse(script: str, *flags: object) -> str:
        with Experiment(tmp_path / "experiments", "used").open(script, "any", {}) as used:
            if not used.finished:
                used.begin({"images": "abc"})
                used.save_array("scores", np.arange(3))
                used.finish({"auc": 0.5})
        before = {file: file.read_bytes() for file in used.path.iterdir() if file.name != ".lock"}
        line = refused(script, *flags, "--experiment_name", "used", "--overwrite")
        assert before == {file: file.read_bytes() for file in used.path.iterdir() if file.name != ".lock"}
        return line

    return refuse


@pytest.mark.parametrize("script", ["main.py", "parallel.py", "relabel.py"])
def test_an_oracle_that_is_refused_overwrites_nothing(refused_over, image_folder, script):
    flags = ["--first_stage_noise_type", "none", "--batch_size", "10", "--choose", "oracle"]
    assert "true labels" in refused_over(script, *FOLDER, image_folder, *flags)


@pytest.mark.parametrize("script", TINY_ARGS)
def test_a_run_that_cannot_fit_overwrites_nothing(refused_over, tmp_path, monkeypatch, script):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random(455))
    flags = ["--scores", tmp_path / "mine.npy"] if script == "ssl.py" else []
    monkeypatch.setattr(reporting, "SHORT", 0)
    monkeypatch.setattr(reporting, "free_memory", lambda compute: 1)
    assert "of memory more" in refused_over(script, *TINY_ARGS[script], *flags)


def test_a_pattern_that_matches_no_layer_overwrites_nothing(refused_over):
    assert "matches no parameter" in refused_over("main.py", *TINY_ARGS["main.py"], "--freeze_layers", "stm.*")


@pytest.mark.parametrize("script", TINY_ARGS)
def test_a_full_disk_overwrites_nothing(refused_over, tmp_path, monkeypatch, script):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random(455))
    flags = ["--scores", tmp_path / "mine.npy"] if script == "ssl.py" else []
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 10}))
    assert "needed and" in refused_over(script, *TINY_ARGS[script], *flags)


def test_a_clean_set_that_cannot_be_used_overwrites_nothing(refused_over, tmp_path):
    np.save(tmp_path / "mine.npy", np.arange(455, dtype=float))
    flags = [*TINY_ARGS["ssl.py"], "--scores", tmp_path / "mine.npy", *SPLIT, "--threshold", "0.001"]
    assert "the clean set is empty" in refused_over("ssl.py", *flags)


def test_a_first_stage_that_is_not_whole_overwrites_nothing(refused_over, made_once, tmp_path):
    """Of the experiment that is named its tracks, the largest files, may have been deleted."""
    folder = tmp_path / "experiments" / "first"
    shutil.copytree(made_once("main.py"), folder)
    for name, said in (("stage1_loss_track.npy", "stage1_loss_track"), ("history.csv", "history.csv")):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        assert said in refused_over("main.py", *TINY_ARGS["main.py"], "--first_stage_from", "first")
        (folder / name).write_bytes(content)

"""Random command lines and damaged files: every one is accepted or refused in one line, none ends in a traceback."""

import argparse
import random

import numpy as np
import pytest
import torch
from PIL import Image

import datasets
import models
from tests.tiny import TINY_ARGS, load_script
from utils.classifier import Classifier
from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.experiments.record import finished_records, read_finished
from utils.results.found_scores import read_score_file
from utils.training.learner import Progress

CASES = 150  # per script; half as many per kind of file
VALUES = [
    "0", "1", "-1", "2", "7", "40", "1e9", "99999999999999999999", "0.5", "1.0", "-0.1", "nan", "inf", "-inf", "", " ",
    "abc", "None", "0x10", "1_000", "١", "../../etc", "a/b", ".hidden", "ok-name", "digits", "folder", "none",
    "real_in_noise", "random_in_noise", "13-CNN", "PR18", "auto", "bf16", "\n", "ü", "--", "*", "x" * 300,
]  # fmt: skip


def random_flags(parser: argparse.ArgumentParser, chance: random.Random) -> list[str]:
    words = []
    for action in chance.sample(parser._actions[2:], chance.randint(0, 6)):  # without --help and --help_all
        words.append(chance.choice(action.option_strings))
        if action.nargs != 0:
            words += chance.choices(VALUES, k=chance.choice([0, 1, 1, 1, 1, 2, 3]))
    if chance.random() < 0.1:
        words.append(chance.choice(["stray", "--no_such_flag", "--epoch", "--exp", "-h=1"]))
    return words


@pytest.mark.parametrize("script", TINY_ARGS)
def test_random_flags_are_accepted_or_refused_in_one_line(script, monkeypatch):
    seed = random.randrange(10**9)
    chance, accepted, refused = random.Random(seed), 0, 0
    module = load_script(script)
    monkeypatch.setattr(module, "run_experiment", lambda *_: None)  # what flags lead to, not the work itself
    for _ in range(CASES):
        flags = random_flags(module.parser(), chance)
        if script == "ssl.py" and chance.random() < 0.8:
            flags.append("--forget")
        try:
            module.main(flags)
            accepted += 1
        except UserError as error:
            line = str(error)
            assert " — " in line and "\n" not in line, (seed, flags)
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {script} {flags}: {error!r}") from error
    assert accepted and refused, seed  # the draw reaches both outcomes


# -- files -------------------------------------------------------------------------------------------------------------


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file as a bad disk, a broken transfer or a slip of the pen would leave it."""
    data = bytearray(content)
    start = chance.randrange(len(data))
    kind = chance.choice(["cut", "flip", "zeros", "insert", "repeat", "empty", "noise"])
    if kind == "cut":
        del data[start:]
    elif kind == "flip":
        for _ in range(chance.choice([1, 1, 8, 64])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "zeros":
        data[start : start + 100] = bytes(len(data[start : start + 100]))
    elif kind == "insert":
        data[start:start] = chance.randbytes(chance.randint(1, 40))
    elif kind == "repeat":
        data[start:start] = data[start : start + 50]
    return chance.randbytes(64) if kind == "noise" else b"" if kind == "empty" else bytes(data)


def image_reader(tmp_path, suffix):
    for c in ("a", "b"):
        (tmp_path / "pictures" / "train" / c).mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / "train" / c / f"1{suffix}")
    file = tmp_path / "pictures" / "train" / "b" / f"1{suffix}"
    return file, lambda: datasets.load("folder", tmp_path / "pictures", "train", image_size=16)


def score_reader(tmp_path):
    file = tmp_path / "scores.npy"
    np.save(file, np.random.default_rng(0).random(50))
    return file, lambda: read_score_file(str(file), 50)


def experiment_files(tmp_path):
    """A finished run with its run.json, and an unfinished one with its checkpoint."""
    with Experiment(tmp_path, "done").open("main.py", "forget", {"lr": 0.1}) as done:
        done.begin({"images": "abc"})
        done.save_array("forget_ce", np.arange(5.0))
        done.finish({"auc_forget_ce": 0.9})
    with Experiment(tmp_path, "begun").open("main.py", "forget", {"lr": 0.1}) as begun:
        begun.begin({"images": "abc"})
        with begun.phase("stage1", {"progress": Progress(3, 1, torch.zeros(4))}) as phase:
            phase.checkpoint()
    return done.path, begun.path


def record_reader(tmp_path):
    file = experiment_files(tmp_path)[0] / "run.json"

    def read():
        finished_records(tmp_path)
        read_finished(tmp_path, "done").read_array("forget_ce")

    return file, read


def checkpoint_reader(tmp_path):
    file = experiment_files(tmp_path)[1] / "checkpoint.pt"

    def read():
        with Experiment(tmp_path, "begun").open("main.py", "forget", {"lr": 0.1}) as begun:
            begun.restore("stage1", {"progress": Progress()})

    return file, read


def model_reader(tmp_path):
    file, network = tmp_path / "model.pt", models.build("13-CNN", 2, width=0.02)
    saved = {"network": "13-CNN", "width": 0.02, "class_names": ["a", "b"], "side": [16, 16]}
    torch.save(saved | {"mean": torch.zeros(3), "std": torch.ones(3), "weights": network.state_dict()}, file)
    return file, lambda: Classifier.load(file, cuda_dev=-1)


READERS = {
    "png": lambda path: image_reader(path, ".png"),
    "jpeg": lambda path: image_reader(path, ".jpg"),
    "bmp": lambda path: image_reader(path, ".bmp"),
    "scores": score_reader,
    "run.json": record_reader,
    "checkpoint.pt": checkpoint_reader,
    "model.pt": model_reader,
}


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, kind):
    seed = random.randrange(10**9)
    chance, refused = random.Random(seed), 0
    file, read = READERS[kind](tmp_path)
    read()
    whole = file.read_bytes()
    for case in range(CASES // 2):
        file.write_bytes(damaged(whole, chance))
        try:
            read()
        except UserError as error:
            assert " — " in str(error) and "\n" not in str(error), (seed, case)
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case}: {error!r}") from error
    assert refused, seed

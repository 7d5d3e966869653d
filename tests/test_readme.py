"""What the README shows works as it stands: its Python, and a newcomer's round in its commands."""

import csv
import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.tiny import ROOT, load_script, without_pixels

SHORTER = {"relabel.py": "--epoch_1st 2 --warmup_e 1", "ssl.py": "--epoch 2"}
SMALL = "--width 0.1 --image_size 16 --batch_size 6 --cuda_dev -1"  # of a flag that comes twice the last counts


def test_the_tracker_in_ones_own_loop():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    centres = 4 * torch.eye(3)
    true = torch.arange(60) % 3
    images = centres[true] + 0.1 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    labels = true.clone()
    labels[:6] = (labels[:6] + 1) % 3
    found = {
        "torch": torch,
        "labels": labels,
        "num_classes": 3,
        "epochs": 2,
        "network": nn.Identity(),  # its inputs are logits of the true class
        "train_one_epoch": lambda network: None,
        "loader_in_order": images.split(20),
    }
    exec(code, found)
    assert set(found["scores"]) == {"prediction", "mean_loss", "aum"}
    for score in found["scores"].values():
        assert set(np.argsort(-score)[:6]) == set(range(6))  # the wrong labels rank first


def typed(command, capsys):
    """What it prints. A script trains for less long."""
    words = shlex.split(command, comments=True)[1:]
    with without_pixels():
        if words[0] == "-m":
            importlib.import_module(words[1]).main(words[2:])
        else:
            load_script(words[0]).main([*words[1:], *SHORTER[words[0]].split(), *SMALL.split()])
    return capsys.readouterr().out


def test_the_round_of_ones_own_images(tmp_path, monkeypatch, image_folder, capsys):
    """Every command of "Your own images", in its order, each on what those before it have left."""
    section = (ROOT / "README.md").read_text().partition("## Your own images")[2].partition("\n## ")[0]
    separate, review, unseen, train, classify = re.findall("^python3 .*$", section, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    shutil.move(image_folder / "train", "my_images")

    assert "suspects.html" in typed(separate, capsys)
    with open("experiments/mine/suspects.csv", newline="") as handle:
        worst = next(csv.DictReader(handle))
    with open("review.csv", "w", newline="") as handle:  # as the page writes it
        file = csv.writer(handle)
        file.writerow(["sample_id", "file", "label", "decision", "new_label"])
        file.writerow([worst["sample_id"], worst["file"], worst["label"], "remove", ""])

    typed(review, capsys)
    kept = {path.relative_to("my_clean_images").as_posix() for path in Path("my_clean_images").glob("*/*.png")}
    assert len(kept) == 19 and worst["file"] not in kept
    typed(unseen, capsys)
    assert 0 < len(list(Path("my_clean_images_2").glob("*/*.png"))) <= 20
    typed(train, capsys)
    answers = typed(classify.replace("some_folder_of_images", "my_images/red"), capsys).splitlines()
    assert len(answers) == 10 and all(line.split("\t")[1] in ("blue", "red") for line in answers)
    shutil.copytree("my_images/red", "some_folder_of_images")
    exec(reference("A trained model in Python"), {})
    classes = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert classes == [line.split("\t")[1] for line in answers]


def reference(title):
    """The first block of Python after these words of utils/README.md."""
    part = (ROOT / "utils" / "README.md").read_text().partition(title)[2]
    return re.search(r"```(?:python)?\n((?:from|import) .*?)```", part, re.DOTALL)[1]


def test_human_labels_are_converted_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"worse_label": np.arange(5)}, "CIFAR-10_human.pt")
    exec(reference("**Human label noise.**"), {})
    assert np.load("human.npz")["worse_label"].tolist() == [0, 1, 2, 3, 4]

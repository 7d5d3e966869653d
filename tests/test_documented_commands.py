"""The four documented commands, in order, on tiny files in torchvision's CIFAR formats; counts are lowered, and all but
relabel.py, which trains both networks, are narrower."""

import json

import numpy as np
import pytest

from tests.benchmarks.measuring import documented
from tests.tiny import load_script, without_pixels
from tests.torchvision_files import write_cifar10, write_cifar100

IMAGES = 60
NARROW = ["--width", "0.25"]
LOWERED = {
    "--epoch_1st": "3",
    "--epoch_2nd": "1",
    "--step_number": "3",
    "--warmup_e": "1",
    "--epoch": "2",
    "--epoch_begin": "1",
}


def lowered(words: list[str]) -> list[str]:
    return [LOWERED.get(previous, word) for previous, word in zip(["", *words], words, strict=False)]


@pytest.mark.slow
def test_the_documented_commands_run_in_order_and_the_last_finds_what_the_first_left(tmp_path, monkeypatch, capsys):
    import torchvision

    import datasets

    for name, write in (("CIFAR10", write_cifar10), ("CIFAR100", write_cifar100)):
        root = tmp_path / "datasets" / name.lower() / "data"
        for attribute, value in write(root, n_train=IMAGES, n_test=20, seed=0).items():
            monkeypatch.setattr(getattr(torchvision.datasets, name), attribute, value)
    monkeypatch.setattr(datasets, "default_root", lambda name: tmp_path / "datasets" / name / "data")
    monkeypatch.chdir(tmp_path)

    commands = documented()
    assert list(commands) == ["main.py", "parallel.py", "relabel.py", "ssl.py"]
    for script, words in commands.items():
        with without_pixels():
            # at the documented width a step takes seconds
            load_script(script).main([*lowered(words), *(NARROW if script != "relabel.py" else [])])
    printed = capsys.readouterr().out
    assert "forget scores: experiments/cifar10_random_forget_4_ssl/forget_score.npy" in printed
    figures = json.loads((tmp_path / "experiments" / "ssl_cifar10ranForget" / "run.json").read_text())["figures"]
    assert 0 <= figures["test_accuracy"] <= 1
    assert len(np.load("experiments/ssl_cifar10ranForget/ssl_loss.npy")) == IMAGES

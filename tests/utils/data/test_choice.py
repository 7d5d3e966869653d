"""The choice of data as titles say it, and the set that cannot be put in since it is the one that is learnt.

Its other flags are tested with the scripts' in command_line/test_flags.py.
"""

from dataclasses import replace

import pytest

import datasets
from tests.tiny import load_script
from utils.data.choice import DataChoice, OutOfDistribution, resolve_data
from utils.errors import UserError

DIGITS = DataChoice("digits", None, None, None, None, "random_in_noise", 0.4, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "digits, 40 % random noise, seed 1"),
        ({"noise_type": "real_in_noise", "noise_ratio": 0.125}, "digits, 12.5 % class-dependent noise, seed 1"),
        ({"subset": [2, 0], "seed": 2}, "digits (2 classes), 40 % random noise, seed 2"),
        ({"noise_seed": 4, "seed": 2}, "digits, 40 % random noise, seed 2, noise seed 4"),
        ({"noise_type": "none", "noise_ratio": 0.0}, "digits, labels as given, seed 1"),
        ({"noise_type": "none", "noise_ratio": None, "labels": "x/noisy.csv"}, "digits, labels of noisy.csv, seed 1"),
        ({"name": "folder", "root": "x/photos/", "noise_ratio": 0.1}, "photos, 10 % random noise, seed 1"),
        (
            {"ood": OutOfDistribution(0.2, "svhn", None, [1, 2])},
            "digits, 40 % random noise, 20 % images of svhn (2 classes), seed 1",
        ),
        ({"name": "folder", "root": "/", "noise_ratio": 0.1}, "folder, 10 % random noise, seed 1"),
    ],
)
def test_in_words(changes, said):
    assert replace(DIGITS, **changes).in_words() == said


@pytest.mark.parametrize("script", ["main.py", "ssl.py"])
def test_images_of_the_learnt_classes_are_not_put_in_however_their_folder_is_written(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to("mine")
    ways = [("folder", "mine", other) for other in ("./mine", "mine/", str(tmp_path / "mine"), "link", "mine/../mine")]
    ways.append(("cifar10", None, str(datasets.default_root("cifar10"))))
    for name, *roots in (*ways, *((name, b, a) for name, a, b in ways)):
        flags = [words for words in zip(("--train_root", "--ood_root"), roots, strict=True) if words[1] is not None]
        words = ["--dataset", name, "--ood_ratio", "0.2", "--ood_data", name, *(word for two in flags for word in two)]
        with pytest.raises(UserError, match="would put in images of the very classes that are learnt"):
            resolve_data(load_script(script).parser().parse_args(words))
    words = ["--dataset", "folder", "--train_root", "mine", "--ood_ratio", "0.2", "--ood_data", "folder"]
    resolve_data(load_script(script).parser().parse_args([*words, "--ood_root", "others"]))


def test_the_help_says_what_class_dependent_noise_is_where_no_confusion_is_known():
    said = " ".join(load_script("main.py").parser().help_on(None).split())
    assert "the one they are mistaken for (CIFAR, digits, SVHN; of other sets the next class), each label" in said

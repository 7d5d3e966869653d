"""The choice of data as titles say it. Its flags are tested with the scripts' in command_line/test_flags.py."""

from dataclasses import replace

import pytest

from utils.data.choice import DataChoice, OutOfDistribution

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

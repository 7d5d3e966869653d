"""Which layers forget: every run shares stage 1, and freezing shows."""

from argparse import Namespace

import numpy as np
import pytest

from tests.benchmarks import frozen_layers
from tests.tiny import without_pixels


def test_a_curve_that_ended_early_stays_where_it_was():
    assert np.allclose(frozen_layers.at_steps({0: 0.5, 2: 0.7}, [0, 2, 4]), [0.5, 0.7, 0.7])


@pytest.mark.parametrize("root, first", [(None, "digits"), ("some/where/photos", "where/photos")])
def test_the_subject_names_a_folder_by_its_place(root, first):
    args = Namespace(second="some/photos/test", lr_2nd=0.05, seeds=[11, 12])
    choice = Namespace(root=root, name="digits", noise_type="random_in_noise", noise_ratio=0.4)
    said = f"{first}, random_in_noise 0.4, then photos/test, rate 0.05, mean of seeds 11 12"
    assert frozen_layers.in_words(args, choice) == said


def test_ways_share_stage_1_and_end_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(frozen_layers, "PARTS", {"stem": ["stem.*"]})
    monkeypatch.setattr(frozen_layers, "WAYS", {"nothing frozen": [], "stem frozen": ["stem.*"]})
    monkeypatch.setattr(frozen_layers, "ALONE", {"stem alone moves": ["b*"]})
    few = ["--epochs", "1", "--steps", "2", "--track_every", "2", "--lr_2nd", "0.1", "--seeds", "1"]
    few += ["--first_stage_subset", "0", "1", "2", "--width", "0.1"]
    with without_pixels():
        frozen_layers.main([*few, "--root", str(tmp_path), "--cuda_dev", "-1"])
    rows = [line.rsplit("   ", 2) for line in capsys.readouterr().out.splitlines() if "±" in line][1:]
    assert len(rows) == 3
    before, after = zip(*((row[0].split()[-3], row[2]) for row in rows), strict=True)
    assert len(set(before)) == 1 < len(set(after))
    assert (tmp_path / "frozen_layers.png").exists()

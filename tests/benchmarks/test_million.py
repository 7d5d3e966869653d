"""Memory and time of many samples, in small: all four scripts in processes of their own."""

import sys

import numpy as np
import pytest

from tests.benchmarks import million


@pytest.mark.slow
def test_peak_and_phases_of_every_script(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["million", "--samples", "400", "--epochs", "1", "--batch_size", "100"])
    million.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [line[0] for line in lines] == ["main.py", "parallel.py", "relabel.py", "ssl.py"]
    assert [line[3::2] for line in lines] == [
        ["stage1", "stage2"],
        ["training", "exchange"],
        ["warm_up", "relabelling"],
        ["run1", "run2"],
    ]
    for line in lines:
        peak, whole, *seconds = (float(word.strip(",")) for word in [*line[1:3], *line[4::2]])
        assert 0.1 < peak < 16 and 0 < sum(seconds) < whole


def test_images_are_of_their_class_and_the_same_each_time(tmp_path):
    first, again = (million.load_synthetic(tmp_path / "50x4", "train") for _ in range(2))
    assert first.images.shape == (50, 3, 4, 4) and np.array_equal(first.images, again.images)
    assert np.bincount(first.labels).tolist() == [5] * 10
    assert len(million.load_synthetic(tmp_path / "50x4", "test").images) == million.TEST

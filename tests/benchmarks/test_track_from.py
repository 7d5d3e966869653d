"""Batches beside passes: whole on a tiny set."""

import pytest

from tests.benchmarks import track_from
from tests.tiny import without_pixels


@pytest.mark.slow
def test_every_way_is_run_from_passes_and_from_batches_and_used_again(tmp_path, capsys):
    command = ["--first_stage_subset", "0", "1", "--width", "0.1", "--epochs", "2", "--seeds", "1"]
    command += ["--root", str(tmp_path), "--cuda_dev", "-1"]
    with without_pixels():
        track_from.main(command)
    first = capsys.readouterr().out
    lines = first.splitlines()[-2 * len(track_from.WAYS) :]
    assert [line.split("  ")[0] for line in lines] == [way for way in track_from.WAYS for _ in range(2)]
    assert all(source in line for line, source in zip(lines, ["passes", "batches"] * len(track_from.WAYS), strict=True))
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("run.json")}
    assert len(times) == 2 * len(track_from.WAYS) + 1  # relabel.py with default flags, before ssl.py
    track_from.main(command)
    assert capsys.readouterr().out.splitlines()[-len(lines) :] == lines
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("run.json")}

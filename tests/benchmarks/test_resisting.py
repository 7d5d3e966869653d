"""What resists memorising: the ways by their flags; whole on a tiny set."""

import pytest

from tests.benchmarks import resisting
from tests.tiny import load_script, without_pixels


def test_alone_is_without_all_others():
    assert resisting.WAYS["mixup alone"] == resisting.without("averaged weights", "L_p", "cosine rate", "augmentation")
    assert resisting.WAYS["all but mixup"] == ["--mixup", "0"]
    assert sorted(resisting.WAYS["none of them"]) == sorted(resisting.without(*resisting.WITHOUT))


@pytest.mark.parametrize("way", resisting.WAYS)
def test_every_way_is_taken(way):
    script = load_script("main.py")
    script.resolved(script.parser().parse_args(resisting.WAYS[way]))


@pytest.mark.slow
def test_ways_are_run_and_used_again(tmp_path, capsys, monkeypatch):
    few = ("none of them", "mixup alone", "all of them (default)")
    monkeypatch.setattr(resisting, "WAYS", {way: resisting.WAYS[way] for way in few})
    command = ["--first_stage_subset", "0", "1", "--width", "0.1", "--epochs", "2", "--seeds", "1", "2"]
    command += ["--root", str(tmp_path), "--cuda_dev", "-1"]
    with without_pixels():
        resisting.main(command)
    lines = capsys.readouterr().out.splitlines()[-len(resisting.WAYS) :]
    assert [line.split("  ")[0] for line in lines] == list(resisting.WAYS)
    assert all("(2)" in line for line in lines)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("run.json")}
    assert len(times) == 2 * len(resisting.WAYS)
    resisting.main(command)
    assert capsys.readouterr().out.splitlines()[-len(lines) :] == lines
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("run.json")}

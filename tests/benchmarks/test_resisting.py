"""What resists memorising: the ways by their flags; whole on a tiny set."""

import pytest

from tests.benchmarks import resisting


def test_alone_is_without_all_others():
    assert resisting.WAYS["mixup alone"] == resisting.without("averaged weights", "L_p", "cosine rate", "augmentation")
    assert resisting.WAYS["all but mixup"] == ["--mixup", "0"]
    assert sorted(resisting.WAYS["none of them"]) == sorted(resisting.without(*resisting.WITHOUT))


@pytest.mark.slow
def test_every_way_is_run_and_used_again(tmp_path, capsys):
    command = ["--first_stage_subset", "0", "1", "--width", "0.1", "--epochs", "2", "--seeds", "1", "2"]
    command += ["--root", str(tmp_path), "--cuda_dev", "-1"]
    resisting.main(command)
    lines = capsys.readouterr().out.splitlines()[-len(resisting.WAYS) :]
    assert [line.split("  ")[0] for line in lines] == list(resisting.WAYS)
    assert all("(2)" in line for line in lines)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("run.json")}
    assert len(times) == 2 * len(resisting.WAYS)
    resisting.main(command)
    assert capsys.readouterr().out.splitlines()[-len(lines) :] == lines
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("run.json")}

"""A script from its flags to its result table."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.tiny import load_script
from utils import cli
from utils.running import print_result, run, written

RECORD = {
    "method": "forget",
    "seconds": {"stage1": 10.4, "stage2": 2.0},
    "figures": {"auc_forget_ce": 0.98765, "clean": 7},
}


def test_files_are_listed_by_kind(tmp_path):
    for name in ("b.npy", "a.npy", "history.csv", "roc.png", "stage1.pt", "run.json", "log.txt", ".lock"):
        (tmp_path / name).touch()
    assert written(tmp_path) == [
        ["a.npy", "b.npy"], ["history.csv"], ["roc.png"], ["stage1.pt"], ["log.txt", "run.json"]
    ]  # fmt: skip


def test_the_table_holds_figures_paths_and_the_next_command(tmp_path, capsys):
    path = tmp_path / "run"
    path.mkdir()
    (path / "a.npy").touch()
    print_result(SimpleNamespace(path=path, name="run", record=RECORD), "python3 ssl.py --forget run")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["run:", "forget,", "12", "s"] in lines
    assert ["auc_forget_ce", "0.9877"] in lines and ["clean", "7"] in lines
    assert f"{path}/" in lines[-3] and lines[-2] == ["a.npy"]
    assert lines[-1] == ["next:", "python3", "ssl.py", "--forget", "run"]


def test_a_run_works_once_and_then_only_prints(tmp_path, capsys):
    args = cli.resolve(
        load_script("parallel.py").parser().parse_args(["--cuda_dev", "-1", "--experiments_root", str(tmp_path)])
    )
    calls = []

    def work(args, compute, experiment):
        calls.append(compute.device.type)
        experiment.save_array("parallel_loss", np.zeros(3, np.float32))
        experiment.finish({"auc_parallel_loss": 0.75})

    for already in (False, True):
        run("parallel.py", "parallel", work, args)
        printed = capsys.readouterr().out
        assert ("is finished; --overwrite would start anew" in printed) == already
        assert "0.7500" in printed and "parallel_loss.npy" in printed
    assert calls == ["cpu"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["parallel_digits_random_in_noise_0.4_seed1"]


def test_a_run_has_the_name_it_was_given(tmp_path):
    flags = ["--experiment_name", "mine", "--cuda_dev", "-1", "--experiments_root", str(tmp_path)]
    args = cli.resolve(load_script("parallel.py").parser().parse_args(flags))
    with pytest.raises(ZeroDivisionError):
        run("parallel.py", "parallel", lambda *_: 1 / 0, args)
    assert [folder.name for folder in tmp_path.iterdir()] == ["mine"]

"""A script from its flags to its result table."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.tiny import ROOT, load_script
from utils.command_line.flags import resolve
from utils.command_line.running import LESS_MEMORY, by_kind, next_command, print_result, run_experiment, run_script
from utils.errors import Stopped, UserError
from utils.experiments.record import Record

RECORD = {
    "script": "main.py",
    "method": "forget",
    "settings": {},
    "given": {},
    "seconds": {"stage1": 10.4, "stage2": 2.0},
    "figures": {"auc_forget_ce": 0.98765, "clean": 7},
}


def test_files_are_listed_by_kind():
    assert by_kind([Path(name) for name in ("b.npy", "a.npy", "history.csv", "roc.png", "stage1.pt", "log.txt")]) == [
        ["a.npy", "b.npy"], ["history.csv"], ["roc.png"], ["stage1.pt"], ["log.txt", "run.json"]
    ]  # fmt: skip


def test_the_table_holds_figures_paths_and_the_next_command(tmp_path, capsys):
    path = tmp_path / "run"
    path.mkdir()
    (path / "a.npy").touch()
    (path / "mine.npy").touch()
    record = Record(path, RECORD | {"files": ["a.npy", "never_written.png"]})
    print_result(SimpleNamespace(path=path, name="run", record=record), "python3 ssl.py --forget run")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["run:", "forget,", "12", "s"] in lines
    assert ["auc_forget_ce", "0.9877"] in lines and ["clean", "7"] in lines
    assert f"{path}/" in lines[-4] and lines[-3:-1] == [["a.npy"], ["run.json"]]  # what the run wrote, nothing else
    assert lines[-1] == ["next:", "python3", "ssl.py", "--forget", "run"]


def test_of_a_score_that_the_truth_chose_the_table_says_so_and_what_to_do_instead(tmp_path, capsys):
    args = resolve(load_script("main.py").parser().parse_args(["--experiments_root", str(tmp_path)]))
    for choose, oracle in (("proxy", False), ("oracle", True)):
        (tmp_path / choose).mkdir()
        record = Record(tmp_path / choose, RECORD | {"files": [], "settings": {"choose": choose}})
        experiment = SimpleNamespace(path=record.path, name=choose, record=record)
        print_result(experiment, next_command(args, experiment))
        printed = capsys.readouterr().out.splitlines()
        assert sum("ORACLE: score and moment were chosen by the true labels" in line for line in printed) == oracle
        assert ("python3 ssl.py" in printed[-1]) != oracle
    assert printed[-1].startswith("next: python3 main.py --settings ")


def test_a_run_works_once_and_then_only_prints(tmp_path, capsys):
    args = resolve(
        load_script("parallel.py").parser().parse_args(["--cuda_dev", "-1", "--experiments_root", str(tmp_path)])
    )
    calls = []

    def work(args, compute, experiment):
        calls.append(compute.device.type)
        experiment.begin({"images": "abc"})
        experiment.save_array("parallel_loss", np.zeros(3, np.float32))
        experiment.finish({"auc_parallel_loss": 0.75})

    for already in (False, True):
        run_experiment("parallel.py", "parallel", work, args, {})
        printed = capsys.readouterr().out
        assert ("is finished; --overwrite would start anew" in printed) == already
        assert "0.7500" in printed and "parallel_loss.npy" in printed
    assert calls == ["cpu"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["parallel_digits_random_in_noise_0.4_seed1"]


def test_a_run_has_the_name_it_was_given(tmp_path):
    flags = ["--experiment_name", "mine", "--cuda_dev", "-1", "--experiments_root", str(tmp_path)]
    args = resolve(load_script("parallel.py").parser().parse_args(flags))
    run_experiment("parallel.py", "parallel", lambda args, compute, experiment: experiment.finish({}), args, {})
    assert [folder.name for folder in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["", "a/b", ".hidden"])
def test_a_name_that_is_no_name_is_refused_and_not_taken_for_none(tmp_path, name):
    args = resolve(load_script("parallel.py").parser().parse_args(["--experiment_name", name]))
    with pytest.raises(UserError, match="^experiment name .* is not usable"):
        run_experiment("parallel.py", "parallel", lambda *_: pytest.fail("it ran"), args, {})


# How a script ends.


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("no\nsuch  thing", "take another"), 2, "error: no such thing — take another"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (MemoryError(), 2, "error: out of memory — lower --batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "error: the GPU is out of memory — lower --batch_size"),
        (OSError(12, "Cannot allocate memory"), 2, "error: out of memory — lower --batch_size"),
        (Stopped(15, "main.py --seed 1"), 143, "stopped by SIGTERM; go on with: python3 main.py --seed 1"),
        (Stopped(2, "ssl.py"), 130, "stopped by SIGINT; go on with: python3 ssl.py"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_script_ends_in_one_line(capsys, error, status, line):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as end:
        run_script(main)
    out, err = capsys.readouterr()
    assert end.value.code == status and out == ""
    assert err.startswith(line) and err.count("\n") == 1 and err.endswith("\n")


def test_memory_that_torch_does_not_get_on_a_cpu_is_one_line_too(capsys):
    with pytest.raises(SystemExit) as end:
        run_script(lambda argv: torch.empty(2**62, dtype=torch.uint8))
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: out of memory — lower --batch_size")


@pytest.mark.parametrize("script", ["main.py", "parallel.py", "relabel.py", "ssl.py"])
def test_what_is_said_where_memory_is_short_names_flags_that_there_are(script):
    known = load_script(script).parser().help_on(None)
    assert all(flag in known for flag in re.findall(r"--\w+", LESS_MEMORY))


def test_a_command_without_these_flags_has_a_remedy_of_its_own(capsys):
    def main(argv):
        raise MemoryError

    with pytest.raises(SystemExit):
        run_script(main, remedy="take the CPU")
    assert capsys.readouterr().err == "error: out of memory — take the CPU\n"


def test_names_that_no_terminal_shows_are_printed_all_the_same():
    code = "from utils.command_line.running import run_script; run_script(lambda argv: print('caf\\udce9.png'))"
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=environment, check=True)
    assert process.stdout.decode().strip() == r"caf\udce9.png"


@pytest.mark.parametrize("lines", [1, 10**6])  # all of it waits in a buffer, or most of it goes into a closed pipe
@pytest.mark.parametrize(("then", "status"), [("", 141), ("raise UserError('wrong', 'mend it')", 2)])
def test_a_reader_that_has_gone_ends_a_script_without_a_word(lines, then, status):
    """As `| head` does, which closes the pipe before all has gone through."""
    code = f"""
from utils.command_line.running import run_script
from utils.errors import UserError
def main(argv):
    input()
    print("line\\n" * {lines})
    {then or "pass"}
run_script(main)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes, cwd=ROOT, env=environment)
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stderr.read() == ("error: wrong — mend it\n".encode() if then and lines == 1 else b"")
    assert process.wait() == (status if lines == 1 else 141)


def test_a_bug_keeps_its_traceback():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_script(main)


def test_success_is_status_zero():
    with pytest.raises(SystemExit) as end:
        run_script(lambda argv: None)
    assert end.value.code == 0

"""The scripts without what Linux alone has: the same bytes, also after a stop, and one process to a folder."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.kill_and_resume import command, differences, finish
from tests.processes import Script
from tests.tiny import ROOT, TINY

pytestmark = pytest.mark.slow

FP32 = ["--precision", "fp32"]  # whether bf16 is fast is read from /proc


def begin(*words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("script", ["main.py", "ssl.py"])  # the two with a state of every kind; the others take long
def test_the_same_bytes_and_no_two_processes_in_one_folder(tmp_path, script):
    np.save(tmp_path / "scores.npy", np.random.default_rng(0).random(455))
    finish(Script([*command(script, tmp_path, f"{script}-calm")[1:], *FP32]))
    words = ["-m", "tests.not_linux", *command(script, tmp_path, f"{script}-killed")[1:], *FP32]
    first = begin(*words)
    while not (tmp_path / f"{script}-killed" / "checkpoint.pt").exists() and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it may not finish before the second has tried
    second = begin(*words)
    _, errors = second.communicate()
    first.send_signal(signal.SIGCONT)
    first.send_signal(signal.SIGINT)
    _, stopped = first.communicate()
    assert second.returncode == 2 and "another process is working in" in errors
    assert first.returncode == 130 and "stopped by SIGINT; go on with: " in stopped
    finish(begin(*words))
    assert differences(script, tmp_path) == []


def test_images_of_a_folder(tmp_path, image_folder):
    words = ["-m", "tests.not_linux", "parallel.py", "--first_stage_data_name", "folder", "--image_size", "16"]
    words += ["--train_root", str(image_folder), *TINY, "--epoch_1st", "1", "--experiments_root", str(tmp_path)]
    (image_folder / "train" / "red").rename(image_folder / "train" / "красный")
    written = []
    for name in ("decoded", "from_the_cache"):
        finish(begin(*words, "--experiment_name", name))
        (cache,) = (image_folder / ".cache").iterdir()
        written.append((cache.name, cache.stat().st_mtime_ns))
    assert written[0] == written[1] and cache.name == "train_16.npy"
    scores = [(tmp_path / name / "parallel_score.npy").read_bytes() for name in ("decoded", "from_the_cache")]
    assert scores[0] == scores[1]

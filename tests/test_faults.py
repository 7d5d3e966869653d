"""What can happen to a run, and what happens then:

| fault | what happens |
|---|---|
| killed while a checkpoint is written | goes on from the checkpoint before it; same bytes |
| one bit of the newest checkpoint flipped | noticed by its checksum; goes on from the one before; same bytes |
| both checkpoints damaged | one line; `--overwrite` starts anew |
| score file cut, one bit flipped, or deleted | `ssl.py` refuses it by name |
| labels file deleted | `ssl.py` goes on: it makes the labels from the seed and compares their digest |
| killed while the images of a folder are decoded | what it had decoded is swept up, and done again |
| cache of decoded images damaged | noticed by its checksum; decoded anew; same bytes |
| disk full | one line, status 2, the last checkpoint intact; goes on once there is room; same bytes |
| folder that cannot be written | refused before any work; a finished run is still read |
| power cut | what had its name keeps it, whole; goes on from a checkpoint; same bytes (tests/test_write_replay.py) |
| damaged, hostile or extreme input | taken, or refused in one line (tests/test_fuzz.py) |
| two processes in one folder | the second is refused at once, the first is not disturbed |
| clock set back | the newest experiment is the one that finished last, whatever its dates say |

The tests have the same order, but for those named. Each starts whole scripts.
"""

import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.kill_and_resume import command, differences, finish, start
from tests.processes import Script
from tests.tiny import ROOT, TINY, TINY_ARGS

pytestmark = pytest.mark.slow


def to_be_killed(name, n):
    """This process, just before it renames a file to `name` for the n-th time."""
    count, replace = 0, os.replace

    def counting(source, target):
        nonlocal count
        count += os.path.basename(target) == name
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = counting


def killed(script, root, n=3, name="checkpoint.pt"):
    """By default when the newest checkpoint has become the previous one and the new one has not got its name yet."""
    process = Script(command(script, root, f"{script}-killed")[1:], partial(to_be_killed, name, n))
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def outcome(words, prepare=None):
    """(exit status, stderr) of a command line."""
    process = Script(words[1:], prepare)
    _, errors = process.communicate()
    assert "Traceback" not in errors
    return process.returncode, errors


def refused(words, prepare=None):
    status, errors = outcome(words, prepare)
    assert status == 2
    return next(line for line in errors.splitlines() if line.startswith("error: "))


@pytest.fixture
def root(tmp_path):
    np.save(tmp_path / "scores.npy", np.random.default_rng(0).random(455))  # for ssl.py
    return tmp_path


@pytest.fixture(scope="module")
def calm_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("calm")


@pytest.fixture
def undisturbed(root, calm_runs):
    """undisturbed(script): what a run of a script leaves that nothing happens to, made once and copied to `root`."""

    def copy(script):
        name = f"{script}-calm"
        if not (calm_runs / name).exists():
            np.save(calm_runs / "scores.npy", np.load(root / "scores.npy"))
            finish(start(script, calm_runs, name))  # which a posterior run finds beside it
        shutil.copytree(calm_runs / name, root / name)

    return copy


@pytest.mark.parametrize("script", ["main.py", "ssl.py", "ssl.py-posterior"])
def test_killed_while_a_checkpoint_is_written(root, undisturbed, script):
    if script == "ssl.py-posterior":
        undisturbed("relabel.py")
    undisturbed(script)
    killed(script, root)
    finish(start(script, root, f"{script}-killed"))
    assert differences(script, root) == []


@pytest.mark.parametrize("script, name", [("main.py", "stage1.pt"), ("relabel.py", "warm_up.pt")])
def test_killed_between_two_phases(root, undisturbed, script, name):
    undisturbed(script)
    killed(script, root, 1, name)
    finish(start(script, root, f"{script}-killed"))
    assert differences(script, root) == []


# main.py: three epochs of stage 1, then a checkpoint every other step; ssl.py: four epochs of run 1, then run 2.
@pytest.mark.parametrize("script, n", [("main.py", 3), ("ssl.py", 4)], ids=["first of stage 2", "first of run 2"])
def test_damaged_checkpoint(root, undisturbed, script, n):
    undisturbed(script)
    killed(script, root, n + 1, "checkpoint_previous.pt")
    folder = root / f"{script}-killed"
    damage_file(folder / "checkpoint.pt", "one bit flipped")
    finish(start(script, root, f"{script}-killed"))
    assert "checkpoint.pt is damaged" in (folder / "log.txt").read_text()
    assert differences(script, root) == []


def damage_file(file, damage):
    content = bytearray(file.read_bytes())
    if damage == "cut":
        del content[-50:]
    elif file.suffix == ".pt":  # inside the largest member: between members there is padding
        with zipfile.ZipFile(file) as archive:
            largest = max(archive.infolist(), key=lambda member: member.file_size)
            inside = archive.read(largest)
        content[content.index(inside) + len(inside) // 2] ^= 1
    else:
        content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_both_checkpoints_damaged(root, undisturbed):
    script = "relabel.py"
    undisturbed(script)
    killed(script, root, 2, "checkpoint_previous.pt")
    files = [root / f"{script}-killed" / name for name in ("checkpoint.pt", "checkpoint_previous.pt")]
    for file in files:
        damage_file(file, "cut")
    words = command(script, root, f"{script}-killed")
    assert re.search(r"checkpoint\.pt is damaged .* — use --overwrite to start anew", refused(words))
    assert outcome([*words, "--overwrite"])[0] == 0
    assert differences(script, root) == []


def separated_and_training(root, undisturbed):
    """A finished relabel.py run and the words of an ssl.py run on its scores."""
    undisturbed("relabel.py")
    where = ["--experiments_root", str(root), "--experiment_name", "trained"]
    return root / "relabel.py-calm", [sys.executable, str(ROOT / "ssl.py"), *TINY_ARGS["ssl.py"], "--relabel", *where]


@pytest.mark.parametrize("name", ["relabel_score", "relabel_posterior", "trained_labels"])
def test_damaged_score_file(root, undisturbed, name):
    folder, words = separated_and_training(root, undisturbed)
    file = folder / f"{name}.npy"
    whole = file.read_bytes()
    damage_file(file, "cut")
    assert f"{file} is not a readable .npy file" in refused(words)
    file.write_bytes(whole)
    damage_file(file, "one bit flipped")
    assert f"{file} is not what relabel.py wrote there" in refused(words)
    file.write_bytes(whole)
    assert outcome(words)[0] == 0


@pytest.mark.parametrize(
    "name, line",
    [
        ("relabel_score", "holds no relabel_score.npy"),
        ("relabel_posterior", "comes without a posterior"),
        ("relabel_transition", "comes without a posterior"),
        ("trained_labels", "holds no trained_labels.npy"),
    ],
)
def test_deleted_score_file(root, undisturbed, name, line):
    folder, words = separated_and_training(root, undisturbed)
    (folder / f"{name}.npy").unlink()
    assert line in refused(words)


def test_deleted_labels_file(root, undisturbed):
    folder, words = separated_and_training(root, undisturbed)
    labels = (folder / "labels.npy").read_bytes()
    (folder / "labels.npy").unlink()
    assert outcome(words)[0] == 0
    assert (root / "trained" / "labels.npy").read_bytes() == labels


def test_killed_while_decoding_and_damaged_cache(root, image_folder):
    cache = image_folder / ".cache" / "train_16.npy"
    words = [sys.executable, "parallel.py", "--first_stage_data_name", "folder", "--train_root", str(image_folder)]
    words += [*TINY, "--image_size", "16", "--epoch_1st", "1", "--experiments_root", str(root), "--experiment_name"]
    killed, _ = outcome([*words, "killed"], partial(to_be_killed, cache.name, 1))
    assert killed == -signal.SIGKILL and os.listdir(cache.parent) != [] and not cache.exists()
    assert outcome([*words, "calm"])[0] == 0
    assert os.listdir(cache.parent) == [cache.name]
    whole = cache.read_bytes()
    damage_file(cache, "one bit flipped")
    assert outcome([*words, "again"])[0] == 0
    assert cache.read_bytes() == whole
    scores = [(root / name / "parallel_score.npy").read_bytes() for name in ("calm", "again")]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("script", ["main.py", "ssl.py"])
def test_full_disk(root, undisturbed, script):
    undisturbed(script)
    killed(script, root, 2, "checkpoint_previous.pt")
    folder = root / f"{script}-killed"
    words = command(script, root, folder.name)
    before = {name: (folder / name).read_bytes() for name in ("checkpoint.pt", "checkpoint_previous.pt")}
    room = len(before["checkpoint.pt"]) // 2  # no file may grow past this: neither may the next checkpoint
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (room, room))
    assert re.search(r"cannot write .*checkpoint_new\.pt .* — free some space", refused(words, limit))
    assert {name: (folder / name).read_bytes() for name in before} == before
    finish(start(script, root, folder.name))
    assert differences(script, root) == []


def as_anybody():
    """The superuser may write anywhere and gives that right up."""
    if os.geteuid() == 0:
        os.setuid(65534)


def test_folder_that_cannot_be_written(root, undisturbed):
    undisturbed("relabel.py")
    with tempfile.TemporaryDirectory() as closed:  # pytest's own folders are closed to others
        folder = Path(closed)
        shutil.copytree(root / "relabel.py-calm", folder / "relabel.py-calm")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        new, finished = (command("relabel.py", folder, name) for name in ("new", "relabel.py-calm"))
        assert "choose a writable --experiments_root" in refused(new, as_anybody)
        assert outcome(finished, as_anybody)[0] == 0
        compared = Script([*finished[1:], "--compare", "relabel.py-calm"], as_anybody)
        printed, errors = compared.communicate()
        assert compared.returncode == 0, errors
        assert "rank corr." in printed and "compare.png is left out: cannot write" in printed
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


def test_two_processes_in_one_folder(root, undisturbed):
    script = "relabel.py"
    undisturbed(script)
    first = start(script, root, f"{script}-killed")
    while not (root / f"{script}-killed" / "run.json").exists() and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it may not finish before the second has tried
    try:
        assert "another process is working in" in refused(command(script, root, f"{script}-killed"))
    finally:
        first.send_signal(signal.SIGCONT)
    finish(first)
    assert differences(script, root) == []


def test_clock_set_back(root, undisturbed):
    _, words = separated_and_training(root, undisturbed)
    newer = start("relabel.py", root, "newer")
    finish(newer)
    record = root / "newer" / "run.json"
    record.write_text(re.sub(r'"(started|finished)": "20\d\d', r'"\1": "1999', record.read_text()))
    os.utime(record, (0, 0))
    assert outcome(words)[0] == 0
    assert "newer" in (root / "trained" / "log.txt").read_text()

"""The experiment folder: one owner, whole files, and a run that goes on where it stopped."""

import contextlib
import errno
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from tests import not_linux
from utils.errors import Diverged, Stopped, UserError
from utils.experiments.artifacts import digest, load_array
from utils.experiments.experiment import Experiment
from utils.experiments.format import FORMAT
from utils.experiments.record import KINDS, Record, finished_records, read_finished, without_overwriting
from utils.experiments.track_file import TrackFile
from utils.training.learner import Progress

ROOT = Path(__file__).parents[3]
SETTINGS = {"lr": 0.1, "M": [40, 80], "subset": None}
SAMPLES = 5


@contextlib.contextmanager
def opened(root, name="run", script="main.py", overwrite=False, given=None, **settings):
    """An experiment whose inputs have been read and found good."""
    with Experiment(root, name).open(script, "forget", SETTINGS | settings, overwrite, given) as experiment:
        if not experiment.finished:
            experiment.begin({"images": "abc"})
        yield experiment


def finished(root, name="run", **figures):
    with opened(root, name) as experiment:
        experiment.finish(figures)
    return experiment


def names(folder):
    """Of the files, but for the lock, which some versions of filelock leave and some remove."""
    return {file.name for file in folder.iterdir()} - {".lock"}


class Counter:
    """Something with a state."""

    def __init__(self):
        self.count = 0

    def state_dict(self):
        return {"count": self.count, "weights": torch.full((3,), float(self.count))}

    def load_state_dict(self, state):
        assert torch.equal(state["weights"], torch.full((3,), float(state["count"])))
        self.count = state["count"]


# Names.


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/a", ".hidden", "", "a\n", "a b", "ä", "a\\b", "a\0b"])
def test_names_that_leave_the_folder_or_hide_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="^experiment name .* is not usable — "):
        Experiment(tmp_path, name)


@pytest.mark.parametrize("name", ["a", "cifar10_random_forget_4_ssl", "0.4-seed1", "_", "a..b"])
def test_usable_names_become_folders(tmp_path, name):
    assert Experiment(tmp_path, name).path == tmp_path / name


@pytest.mark.parametrize("name", ["taken", "n" * 300], ids=["a file", "too long"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, name):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="^cannot write "), opened(tmp_path, name):
        pass


# Settings.


def test_a_new_run_records_what_it_was_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", "--experiment_name", "a run"])
    with opened(tmp_path, cuda_dev=3):
        record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"] == SETTINGS | {"cuda_dev": 3} and record["status"] == "running"
    assert (record["script"], record["method"]) == ("main.py", "forget")
    assert shlex.split(record["command"]) == ["main.py", "--experiment_name", "a run"]
    assert record["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def test_the_same_settings_go_on(tmp_path):
    for _ in range(2):
        with opened(tmp_path, M=(40, 80), cuda_dev=0, compare="other") as experiment:  # a tuple is stored as a list
            assert not experiment.finished
    with opened(tmp_path, cuda_dev=-1, checkpoint_every=7):  # what changes no result is not compared
        pass


def test_what_changes_bytes_alone_may_change_on_the_way_and_is_said(tmp_path):
    with opened(tmp_path, eval_batch_size=None, threads=2) as experiment:
        experiment.begin({"images": "abc"})
        with experiment.phase("first", {}) as phase:
            phase.checkpoint()
    settings = SETTINGS | {"eval_batch_size": 50, "threads": 2}
    with pytest.raises(UserError, match="has changed"), \
            Experiment(tmp_path, "run").open("main.py", "forget", settings) as experiment:  # fmt: skip
        experiment.begin({"images": "xyz"})
    assert not (experiment.path / "log.txt").exists()  # a refusal writes nothing
    with opened(tmp_path, eval_batch_size=50, threads=2) as experiment:
        pass
    log = (experiment.path / "log.txt").read_text()
    assert log.rstrip().endswith("other settings: eval_batch_size none there, 50 here: the bytes will differ")


def test_a_longer_page_of_a_finished_run_is_no_new_run(tmp_path):
    finished(tmp_path, "run")
    with pytest.raises(UserError, match="report none there, 5 here — python3 -m utils.page .* makes the page anew"), \
            opened(tmp_path, report=5):  # fmt: skip
        pass
    with pytest.raises(UserError, match="--overwrite to start anew"), opened(tmp_path, report=5, lr=0.2):
        pass


def test_a_path_in_another_spelling_is_the_same_setting(tmp_path):
    for root in ("my_images", "my_images/", "./my_images"):
        with opened(tmp_path, train_root=root):
            pass
    with (
        pytest.raises(UserError, match="train_root 'my_images' there, 'other' here"),
        opened(tmp_path, train_root="other"),
    ):
        pass


def test_other_settings_are_refused_and_listed(tmp_path):
    with opened(tmp_path):
        pass
    listing = (
        r"holds a run with other settings: M \[40, 80\] there, \[40\] here; lr 0.1 there, 0.2 here — .*--overwrite"
    )
    with pytest.raises(UserError, match=listing), opened(tmp_path, lr=0.2, M=[40]):
        pass
    with pytest.raises(UserError, match="new none there, 1 here"), opened(tmp_path, new=1):
        pass


def test_a_flag_that_came_later_had_its_default(tmp_path):
    with opened(tmp_path):
        pass
    later = {"switch": False, "number": 3, "of_others": 0.25}  # the last made of a default None
    with opened(tmp_path, **later, given={}):
        pass
    with pytest.raises(UserError, match="settings: switch none there, True here — "), \
            opened(tmp_path, **later | {"switch": True}, given={"switch": True}):  # fmt: skip
        pass


def test_what_a_flag_meant_that_was_not_given_may_be_said(tmp_path):
    """--track_from, None of which was passes before batches became the default of a script."""
    with opened(tmp_path, track_from=None):
        pass
    with opened(tmp_path, track_from="passes"):
        pass
    with pytest.raises(UserError, match="track_from 'passes' there, 'batches' here"), \
            opened(tmp_path, track_from="batches"):  # fmt: skip
        pass


def test_a_bound_that_no_command_names_is_not_compared(tmp_path):
    """--epoch_2nd, which was 10 by default also beside --steps_total."""
    with opened(tmp_path, epoch_2nd=10, given={}):
        pass
    with opened(tmp_path, epoch_2nd=None, given={}):
        pass
    with pytest.raises(UserError, match="epoch_2nd 10 there, 9 here"), opened(tmp_path, epoch_2nd=9):
        pass


def test_a_bound_is_not_the_same_as_none(tmp_path):
    with opened(tmp_path, epoch_2nd=None, given={}):
        pass
    with pytest.raises(UserError, match="epoch_2nd none there, 10 here"), opened(tmp_path, epoch_2nd=10):
        pass


def test_a_default_counts_only_where_nothing_is_recorded(tmp_path):
    with opened(tmp_path, lr=0.2):
        pass
    with pytest.raises(UserError, match="settings: lr 0.2 there, 0.1 here — "), opened(tmp_path, given={}):
        pass


def test_another_script_is_refused(tmp_path):
    with opened(tmp_path):
        pass
    with pytest.raises(UserError, match="was made by main.py"), opened(tmp_path, script="relabel.py"):
        pass


def test_a_command_to_go_on_with_does_not_start_anew():
    words = ["--M", "3", "--overwrite", "--repeat", "True", "--lr", "1", "--repeat", "--seed", "2", "--repeat=False"]
    assert without_overwriting(words) == ["--M", "3", "--lr", "1", "--seed", "2"]
    assert without_overwriting(["--swa", "True", "--repeat"]) == ["--swa", "True"]


def test_overwrite_removes_the_runs_own_files_only(tmp_path):
    with opened(tmp_path) as experiment:
        experiment.save_array("labels", np.arange(3))
        experiment.save_torch("stage1.pt", {})
        experiment.write_csv("history.csv", [{"a": 1}])
        experiment.log.quietly("hello")
        experiment.finish({"auc": 0.9})
        left = names(experiment.path)
    mine = {"notes.txt", "embeddings.npy", "table.csv", "photo.png", "backbone.pt", "input_mine.npy"}
    for name in mine:
        (experiment.path / name).write_text("mine")
    with opened(tmp_path, overwrite=True, lr=0.2) as experiment:
        assert not experiment.finished and experiment.record["figures"] == {}
        assert names(experiment.path) == mine | {"run.json"}
    assert {"labels.npy", "stage1.pt", "history.csv", "log.txt", "run.json"} <= left
    assert {(experiment.path / name).read_text() for name in mine} == {"mine"}


def test_a_run_that_was_stopped_knows_its_files_when_it_is_overwritten(tmp_path):
    with pytest.raises(ZeroDivisionError), opened(tmp_path) as experiment, experiment.phase("first", {}) as phase:
        experiment.tracks.new("loss_track", 4, SAMPLES).append(np.zeros(SAMPLES))
        phase.checkpoint()
        raise ZeroDivisionError
    assert {"checkpoint.pt", "loss_track.npy.part", "history.csv"} <= names(experiment.path)
    with opened(tmp_path, overwrite=True):
        assert names(experiment.path) == {"run.json"}


def test_a_record_that_lists_no_files_owns_what_its_time_wrote(tmp_path):
    finished(tmp_path)
    for name in ("scores.png", "forget_ce.npy", "mine.npy"):
        (tmp_path / "run" / name).touch()
    record = Record.read(tmp_path / "run")
    del record.entries["files"]
    record.update(digests={"forget_ce": "0", "a" * 300: "0"})  # no file can have the longer name
    with opened(tmp_path, overwrite=True) as experiment:
        assert names(experiment.path) == {"run.json", "mine.npy"}


def test_half_written_files_of_a_killed_process_are_swept_up(tmp_path):
    with opened(tmp_path) as experiment:
        pass
    (experiment.path / ".run.json.123.tmp").write_text("{")
    with opened(tmp_path):
        assert names(experiment.path) == {"run.json"}


def test_a_mistake_before_the_work_leaves_nothing_to_trip_over(tmp_path):
    with pytest.raises(UserError, match="^no such data"), opened(tmp_path) as experiment:
        experiment.save_array("labels", np.arange(3))
        raise UserError("no such data", "take other")
    assert not experiment.path.exists()
    with opened(tmp_path, lr=0.2):
        pass


def test_a_mistake_before_the_work_removes_nothing_that_was_there(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.csv").write_text("mine")
    with pytest.raises(UserError), opened(tmp_path):
        raise UserError("no such data", "take other")
    assert names(tmp_path / "run") == {"mine.csv"}


@pytest.mark.parametrize("kept", ["checkpoint", "history", "phase", "figures"])
def test_a_mistake_later_removes_no_work(tmp_path, kept):
    with pytest.raises(UserError), opened(tmp_path) as experiment:
        if kept == "checkpoint":  # in the middle of the first epoch: no history yet
            experiment.state.save("first", {}, 1.0)
        elif kept == "history":
            experiment.history.add(epoch=1)
        elif kept == "phase":
            experiment.skip_phase("first")
        else:
            experiment.finish({})
        before = names(experiment.path)
        raise UserError("no such GPU", "take another")
    assert "run.json" in before and names(experiment.path) == before


def test_a_network_that_diverged_for_good_stands_in_the_log(tmp_path):
    with pytest.raises(Diverged), opened(tmp_path) as experiment:
        experiment.history.add(epoch=1)
        raise Diverged("the loss is nan at epoch 2, step 1", "lower the learning rate")
    logged = (experiment.path / "log.txt").read_text()
    assert logged.endswith(" the loss is nan at epoch 2, step 1 — lower the learning rate\n")


# Reading other runs.


def test_finished_experiments_are_read(tmp_path):
    with opened(tmp_path) as experiment:
        experiment.record.update(data={"samples": 5})
        experiment.save_array("forget_loss", np.float32([1, 2, 3]))
        experiment.finish({"auc_forget_loss": 0.75, "test_accuracy": None})
    record = read_finished(tmp_path, "run")
    assert record["figures"] == {"auc_forget_loss": 0.75}  # what is not known is left out
    assert record.path == experiment.path and record["data"] == {"samples": 5}
    assert record.holds("forget_loss") and not record.holds("forget_ce")
    np.testing.assert_array_equal(record.read_array("forget_loss"), np.float32([1, 2, 3]))
    with opened(tmp_path) as again:
        assert again.finished and again.record["figures"] == record["figures"]


def test_unfinished_experiments_are_refused_with_the_command_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", "--epoch_1st", "3"])
    with opened(tmp_path):
        pass
    with pytest.raises(UserError, match="is not finished — finish it first: python3 main.py --epoch_1st 3$"):
        read_finished(tmp_path, "run")


def test_a_missing_experiment_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"is no experiment folder \(no run.json\) — .* --experiments_root$"):
        read_finished(tmp_path, "nowhere")


def test_the_experiments_that_may_be_meant_are_named(tmp_path):
    for name in ("digits_relabel", "mine"):
        with Experiment(tmp_path, name).open("main.py", "forget", {}) as experiment:
            experiment.begin({})
    for typed, named in (("digits_relabl", "nearest: digits_relabel"), ("xyz", "there are digits_relabel, mine")):
        with pytest.raises(UserError, match=f"; {named}$"):
            read_finished(tmp_path, typed)
    for number in range(5):
        with Experiment(tmp_path, f"n{number}").open("main.py", "forget", {}) as experiment:
            experiment.begin({})
    with pytest.raises(UserError, match="; there are digits_relabel, mine, n0, n1, n2 and 2 more$"):
        read_finished(tmp_path, "xyz")


ENTRIES = dict.fromkeys(KINDS, {}) | dict.fromkeys(("script", "method", "command", "status"), "finished")
STRANGE = [  # entries of the right names
    {"files": ["../other/labels.npy"]}, {"files": 3}, {"method": None}, {"data": "abc"}, {"seconds": {"stage1": []}},
    {"seconds": {"stage1": 10**400}}, {"figures": {"auc": -(10**400)}}, {"settings": {"a": [10**400]}},
    {"settings": {"train_root": "\ud800"}},
    {"sources": [1]}, {"sources": {"relabel": 3}}, {"sources": {"relabel": {"experiment": 1, "settings": {}}}},
    {"digests": []}, {"digests": {"../other/labels": "abc"}},
    {"versions": "3.11"}, {"finish_number": [1]}, {"settings": [[]]},
]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"script": "main.py"}', b"\xff\xfe\x00", b"[" * 100_000]
    + [json.dumps(ENTRIES | strange).encode() for strange in STRANGE],
)
def test_a_damaged_record_is_one_line_and_can_be_overwritten(tmp_path, content):
    finished(tmp_path, "good")
    finished(tmp_path)
    (tmp_path / "run" / "run.json").write_bytes(content)
    for read in (lambda: Record.read(tmp_path / "run"), lambda: opened(tmp_path).__enter__()):
        with pytest.raises(UserError, match="run.json is damaged .* — .*--overwrite"):
            read()
    assert [record.path.name for record in finished_records(tmp_path)] == ["good"]  # passed over
    with opened(tmp_path, overwrite=True) as experiment:
        assert not experiment.finished


def test_the_newest_run_has_the_highest_number_whatever_the_clock_says(tmp_path, monkeypatch):
    clock = iter(range(2030, 1970, -1))
    monkeypatch.setattr("utils.experiments.experiment.now", lambda: f"{next(clock)}-01-01T00:00:00+00:00")
    for name in ("b", "c", "a"):
        finished(tmp_path, name)
    with opened(tmp_path, "b", overwrite=True) as experiment:
        experiment.finish({})
    numbers = {record.path.name: record["finish_number"] for record in finished_records(tmp_path)}
    assert sorted(numbers, key=numbers.get) == ["c", "a", "b"]


def test_arrays_are_never_unpickled(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_bytes(b"not an array")
    np.save(tmp_path / "cut.npy", np.arange(100))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-8])
    (tmp_path / "folder.npy").mkdir()
    with open(tmp_path / "archive.npy", "wb") as handle:
        np.savez(handle, a=np.arange(3))
    for name in ("object", "empty", "text", "cut", "folder", "archive"):
        with pytest.raises(UserError, match=rf"{name}\.npy is not a readable .npy file"):
            load_array(tmp_path / f"{name}.npy")
    with pytest.raises(UserError, match=r"none\.npy is missing"):
        load_array(tmp_path / "none.npy")


# One owner.


def hold(root):
    """Another process that holds the folder until it is killed."""
    program = f"""
import time
from utils.experiments.experiment import Experiment
with Experiment({str(root)!r}, "run").open("main.py", "forget", {SETTINGS!r}):
    print("ready", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    with hold(tmp_path) as holder:
        for overwrite in (False, True):
            with pytest.raises(UserError, match="^another process is working"), opened(tmp_path, overwrite=overwrite):
                pass
        with opened(tmp_path, "another"):
            pass
        holder.kill()  # SIGKILL: nothing of it is left to clean up
        holder.wait()
        with opened(tmp_path) as experiment:
            assert not experiment.finished


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    with pytest.raises(UserError, match="^cannot write .*run .* — choose a writable"), opened(tmp_path):
        pass


def test_a_finished_run_is_read_where_no_lock_can_be_made(tmp_path):
    finished(tmp_path, auc=0.5)
    (tmp_path / "run" / ".lock").unlink(missing_ok=True)
    (tmp_path / "run" / ".lock").mkdir()
    with opened(tmp_path) as experiment:
        assert experiment.record["figures"] == {"auc": 0.5}


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_folder(tmp_path):
    program = f"""
import subprocess, sys, time
from utils.experiments.experiment import Experiment
with Experiment({str(tmp_path)!r}, "run").open("main.py", "forget", {SETTINGS!r}):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    try:
        with opened(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_folder_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), opened(tmp_path):
        raise ZeroDivisionError
    with opened(tmp_path):
        pass


# Tracks.


def rows(count, start=0):
    return np.arange(start, start + count, dtype=np.float32)[:, None] + np.linspace(0, 0.5, SAMPLES, dtype=np.float32)


def filled(path, count, max_rows=4):
    track = TrackFile(path / "loss_track.npy", max_rows, SAMPLES)
    for row in rows(count):
        track.append(row)
    track.flush()
    return track


def test_several_rows_at_once_are_rows_one_after_the_other(tmp_path):
    track = TrackFile(tmp_path / "loss_track.npy", 4, SAMPLES)
    track.extend(rows(1))
    track.extend(rows(3, start=1))
    np.testing.assert_array_equal(track.read(), rows(4))


def resumed(path, count, max_rows=4):
    track = TrackFile(path / "loss_track.npy", max_rows, SAMPLES)
    track.resume(count)
    return track


@pytest.mark.parametrize("count", [4, 1])
def test_a_closed_track_holds_the_rows_that_were_written(tmp_path, count):
    track = filled(tmp_path, count)
    np.testing.assert_array_equal(track.read(), rows(count))
    assert names(tmp_path) == {"loss_track.npy.part"}  # not to be taken for a complete one
    track.close()
    assert names(tmp_path) == {"loss_track.npy"}
    loaded = load_array(tmp_path / "loss_track.npy")
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, rows(count))


@pytest.mark.parametrize("count", [4, 3])
def test_a_track_that_a_figure_still_maps_is_named_where_no_mapped_file_may_be(tmp_path, monkeypatch, count):
    track = filled(tmp_path, count)
    figure = [track.read()]
    figure.append(figure)  # a cycle
    monkeypatch.setattr(os, "replace", not_linux.moving(os.replace))
    monkeypatch.setattr(os, "unlink", not_linux.unlink)
    del figure
    track.close()
    assert names(tmp_path) == {"loss_track.npy"}


def test_a_track_without_rows_leaves_nothing(tmp_path):
    TrackFile(tmp_path / "loss_track.npy", 4, SAMPLES).close()
    assert names(tmp_path) == set()


@pytest.mark.parametrize("total", [4, 3])
def test_a_resumed_track_ends_as_if_it_had_never_stopped(tmp_path, total):
    filled(tmp_path, 3)  # the checkpoint was after two rows: the third is made again
    track = resumed(tmp_path, 2)
    np.testing.assert_array_equal(track.read(), rows(2))
    for row in rows(total - 2, start=2):
        track.append(row)
    track.close()
    np.testing.assert_array_equal(load_array(tmp_path / "loss_track.npy"), rows(total))


@pytest.mark.parametrize("count", [4, 2], ids=["complete", "cut short"])
def test_a_track_that_was_already_closed_is_taken_back(tmp_path, count):
    filled(tmp_path, count).close()  # and the process ended before it could say that it had finished
    track = resumed(tmp_path, count)
    np.testing.assert_array_equal(track.read(), rows(count))
    track.close()
    np.testing.assert_array_equal(load_array(tmp_path / "loss_track.npy"), rows(count))
    assert names(tmp_path) == {"loss_track.npy"}


def test_a_resumed_track_without_rows_starts_anew(tmp_path):
    filled(tmp_path, 3)
    track = resumed(tmp_path, 0)
    track.append(rows(1)[0])
    track.close()
    np.testing.assert_array_equal(load_array(tmp_path / "loss_track.npy"), rows(1))


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage", "other shape", "fewer rows", "open bracket"])
def test_a_damaged_track_is_one_line(tmp_path, damage):
    filled(tmp_path, 3, max_rows=9 if damage == "other shape" else 4)
    part = tmp_path / "loss_track.npy.part"
    if damage == "missing":
        part.unlink()
    elif damage not in ("other shape", "fewer rows"):
        whole = part.read_bytes()
        damaged = {"cut": whole[:-4], "garbage": b"garbage" * 40, "open bracket": whole.replace(b"}", b"(")}
        part.write_bytes(damaged[damage])
    with pytest.raises(UserError, match=r"loss_track.npy.part is damaged \(.*\) — use --overwrite"):
        resumed(tmp_path, 5 if damage == "fewer rows" else 2)


def test_a_track_is_refused_before_the_work_where_the_disk_has_no_room(tmp_path, monkeypatch):
    free = {"bytes": 4 * 100 * SAMPLES}
    monkeypatch.setattr("utils.files.shutil.disk_usage", lambda path: SimpleNamespace(free=free["bytes"]))
    with opened(tmp_path) as experiment:
        experiment.tracks.new("loss_track", 100, SAMPLES)
        with pytest.raises(UserError, match="^other_track.npy: 0.0 GB are needed and .* free — free some space"):
            experiment.tracks.new("other_track", 101, SAMPLES)
        filled(experiment.path, 100, max_rows=100)
        free["bytes"] = 0
        experiment.tracks.new("loss_track", 100, SAMPLES)  # what an interrupted run left counts as room


@contextlib.contextmanager
def disk_limited_to(size):
    """Files may not grow past `size` bytes; Python turns the signal for it into an OSError, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["array", "torch", "csv"])
def test_a_disk_that_fills_up_is_one_line_and_keeps_the_old_file(tmp_path, kind):
    save = {
        "array": lambda e, n: e.save_array("a", np.ones(n)),
        "torch": lambda e, n: e.save_torch("a.pt", {"weights": torch.ones(n)}),
        "csv": lambda e, n: e.write_csv("a.csv", [{"x": i} for i in range(n)]),
    }[kind]
    with opened(tmp_path) as experiment:
        save(experiment, 1)
        before = {file.name: file.read_bytes() for file in experiment.path.glob("a.*")}
        with disk_limited_to(20_000), pytest.raises(UserError, match="^cannot write .* free some space"):
            save(experiment, 100_000)
        assert {file.name: file.read_bytes() for file in experiment.path.glob("a.*")} == before
        assert not list(experiment.path.glob(".*.tmp"))


# Stopping and going on.


STEPS = 6


def work(root, *, stop_after=None, steps=STEPS, crash_after=None):
    """A run of two phases: each step tracks a row and adds to the history; a checkpoint every second step."""
    counters = {"first": Counter(), "second": Counter()}
    with opened(root) as experiment:
        if experiment.finished:
            return experiment
        for phase_name, counter in counters.items():
            if experiment.done(phase_name):
                continue
            track = experiment.tracks.new(f"{phase_name}_track", STEPS, SAMPLES)
            with experiment.phase(phase_name, {"counter": counter}) as phase:
                while counter.count < steps:
                    counter.count += 1
                    track.append(rows(1, start=counter.count)[0])
                    experiment.history.add(phase=phase_name, step=counter.count, loss=1 / counter.count)
                    if (phase_name, counter.count) == stop_after:
                        signal.raise_signal(signal.SIGTERM)
                    if (phase_name, counter.count) == crash_after:
                        raise ZeroDivisionError
                    if counter.count % 2 == 0:
                        phase.checkpoint()
                    phase.stop_if_asked()
                track.close()
                phase.checkpoint()
        experiment.finish({"steps": steps})
    return experiment


def results(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.suffix in (".npy", ".csv", ".part", ".pt")}


@pytest.mark.parametrize("phase", ["first", "second"])
@pytest.mark.parametrize("step", [1, 2, STEPS - 1])
@pytest.mark.parametrize("how", ["stop_after", "crash_after"])
@pytest.mark.parametrize("steps", [STEPS, STEPS - 1], ids=["full tracks", "short tracks"])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path, phase, step, how, steps):
    work(tmp_path / "undisturbed", steps=steps)
    with pytest.raises((Stopped, ZeroDivisionError)):
        work(tmp_path / "stopped", steps=steps, **{how: (phase, step)})
    with pytest.raises(UserError, match="is not finished"):
        read_finished(tmp_path / "stopped", "run")
    experiment = work(tmp_path / "stopped", steps=steps)
    assert experiment.finished and experiment.record["figures"] == {"steps": steps}
    undisturbed = results(tmp_path / "undisturbed" / "run")
    assert undisturbed.keys() == {"first_track.npy", "second_track.npy", "history.csv"}
    assert results(experiment.path) == undisturbed
    if how == "stop_after" or step > 2:
        assert "going on from the checkpoint" in (experiment.path / "log.txt").read_text()


def test_sigterm_between_two_steps_saves_a_checkpoint_and_gives_status_143(tmp_path, capsys):
    counter = Counter()
    going_on = pytest.raises(Stopped, match="^stopped by SIGTERM; go on with: python3 ")
    with going_on as stop, opened(tmp_path) as experiment, \
            experiment.phase("first", {"counter": counter}) as phase:  # fmt: skip
        counter.count = 3
        phase.stop_if_asked()  # nothing was asked yet
        assert not (experiment.path / "checkpoint.pt").exists()
        signal.raise_signal(signal.SIGTERM)
        phase.stop_if_asked()
    assert stop.value.exit_status == 143
    assert "first" not in Record.read(experiment.path)["seconds"]
    assert "stopping after this step" in capsys.readouterr().err
    assert (experiment.path / "log.txt").read_text().splitlines()[-1].endswith(f" {stop.value}")
    with opened(tmp_path) as experiment:
        restored = Counter()
        assert experiment.state.restore("second", {"counter": restored}) is None and restored.count == 0
        assert experiment.state.restore("first", {"counter": restored}) >= 0 and restored.count == 3


def test_ctrl_c_is_caught_alike(tmp_path):
    with pytest.raises(Stopped) as stop, opened(tmp_path) as experiment, experiment.phase("first", {}) as phase:
        signal.raise_signal(signal.SIGINT)
        phase.checkpoint()  # saving is what it was about to do anyway
    assert stop.value.exit_status == 130
    assert (experiment.path / "checkpoint.pt").exists()


def test_a_second_signal_stops_at_once_wherever_it_falls(tmp_path):
    def impatient(path):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stop, opened(tmp_path), mock.patch("numpy.load", lambda path, **_: impatient(path)):
        load_array(tmp_path / "scores.npy")  # turns every error of numpy's into a line about the file
    assert stop.value.exit_status == 143


def test_signals_are_given_back(tmp_path):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with opened(tmp_path):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_seconds_of_a_phase_add_up(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("utils.experiments.phase.time.monotonic", lambda: clock.now)
    with pytest.raises(ZeroDivisionError), opened(tmp_path) as experiment, experiment.phase("first", {}) as phase:
        clock.now += 30
        phase.checkpoint()
        raise ZeroDivisionError
    clock.now = 5.0  # another boot
    with opened(tmp_path) as experiment:
        with experiment.phase("first", {}) as phase:
            clock.now += 12
        assert Record.read(experiment.path)["seconds"] == {"first": 42.0} and experiment.done("first")


def test_a_phase_that_came_from_elsewhere_counts_as_done(tmp_path):
    with opened(tmp_path) as experiment:
        experiment.history.add(step=1)
        experiment.skip_phase("first")
    with opened(tmp_path) as experiment:
        assert experiment.done("first") and experiment.history.rows == [{"step": 1}]


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


@pytest.mark.parametrize(
    "damage",
    ["empty", "garbage", "cut", "without entries", "entries of other kinds", "rows", "counts", "pickled objects"],
)
def test_a_damaged_checkpoint_is_one_line_and_can_be_overwritten(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    with opened(tmp_path) as experiment, experiment.phase("first", {"counter": Counter()}) as phase:
        phase.checkpoint()
    file = experiment.path / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    if damage == "without entries":
        torch.save({"format": FORMAT}, file)
    elif damage == "entries of other kinds":
        torch.save(state | {"phase": []}, file)
    elif damage == "rows":
        torch.save(state | {"history": [3]}, file)
    elif damage == "counts":
        torch.save(state | {"track_rows": {"loss_track": None}}, file)
    elif damage == "pickled objects":
        torch.save({"history": [Evil()]}, file)
    else:
        file.write_bytes({"empty": b"", "garbage": b"garbage" * 99, "cut": file.read_bytes()[:-50]}[damage])
    with pytest.raises(UserError) as error, opened(tmp_path):
        pass
    assert re.fullmatch(r".*checkpoint.pt is damaged \(.*\) — use --overwrite to start anew", str(error.value))
    assert not (tmp_path / "unpickled").exists()
    with opened(tmp_path, overwrite=True):
        pass


@pytest.mark.parametrize("step", [4, STEPS + 1], ids=["within a phase", "the first of the second phase"])
@pytest.mark.parametrize("damage", ["cut", "one bit", "missing"])
def test_from_a_damaged_checkpoint_a_run_goes_back_to_the_one_before_and_ends_with_the_same_bytes(
    tmp_path, step, damage
):
    work(tmp_path / "undisturbed")
    phase, within = ("first", step) if step <= STEPS else ("second", step - STEPS)
    with pytest.raises(Stopped):
        work(tmp_path / "stopped", stop_after=(phase, within))
    file = tmp_path / "stopped" / "run" / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    if damage == "one bit":  # of the weights
        content[content.index(np.full(3, within, np.float32).tobytes()) + 5] ^= 1
    if damage == "missing":  # killed between the two renamings
        file.unlink()
    else:
        file.write_bytes(content[:-50] if damage == "cut" else content)
    experiment = work(tmp_path / "stopped")
    assert results(experiment.path) == results(tmp_path / "undisturbed" / "run")
    if damage != "missing":
        assert "going back to the checkpoint before it" in (experiment.path / "log.txt").read_text()


def test_a_run_that_another_version_began_is_one_line(tmp_path):
    with pytest.raises(Stopped):
        work(tmp_path, stop_after=("first", 3))
    with (
        pytest.raises(UserError, match="lacks 'new part': another version of the scripts .* — .*--overwrite"),
        opened(tmp_path) as experiment,
        experiment.phase("first", {"counter": Counter(), "new part": Counter()}),
    ):
        pass
    assert work(tmp_path).finished  # that version still can


@pytest.mark.parametrize("state", [None, {"counter": 3}, {"counter": {"count": "a"}}])
def test_a_checkpoint_whose_parts_do_not_fit_is_one_line(tmp_path, state):
    with pytest.raises(Stopped):
        work(tmp_path, stop_after=("first", 3))
    file = tmp_path / "run" / "checkpoint.pt"
    torch.save(torch.load(file, weights_only=True) | {"parts": state or {"counter": []}}, file)
    with (
        pytest.raises(UserError, match="another version of the scripts wrote it — .*--overwrite"),
        opened(tmp_path) as experiment,
        experiment.phase("first", {"counter": Counter()}),
    ):
        pass


def test_a_finished_run_in_a_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    work(tmp_path)
    real_open, real_os_open = open, os.open

    def read_only(file, mode="r", *args, **kwargs):
        if "w" in mode or "a" in mode:
            raise OSError(errno.EROFS, "Read-only file system", file)
        return real_open(file, mode, *args, **kwargs)

    def os_read_only(file, flags, *args, **kwargs):  # of the lock
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", file)
        return real_os_open(file, flags, *args, **kwargs)

    monkeypatch.setattr("builtins.open", read_only)
    monkeypatch.setattr("os.open", os_read_only)
    assert work(tmp_path).finished
    with pytest.raises(UserError, match="^cannot write .*Read-only file system"), opened(tmp_path, overwrite=True):
        pass
    with pytest.raises(UserError, match="^cannot write .*Read-only file system"), opened(tmp_path, "another"):
        pass


def test_an_array_that_is_not_what_the_run_wrote_is_refused(tmp_path):
    with opened(tmp_path) as experiment:
        experiment.save_array("scores", np.arange(5.0))
        experiment.finish({})
    record = read_finished(tmp_path, "run")
    np.testing.assert_array_equal(record.read_array("scores"), np.arange(5.0))
    file = experiment.path / "scores.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="scores.npy is not what main.py wrote there"):
        record.read_array("scores")


def test_killed_while_a_used_folder_is_cleared_nothing_old_is_taken_for_new(tmp_path, monkeypatch):
    work(tmp_path)  # leaves tracks that a resumed run would take back
    old = {"overwrite": True, "lr": 0.5}
    unlink = Path.unlink

    def killed(path, *args, **kwargs):
        if path.suffix == ".npy":
            raise KeyboardInterrupt  # no cleaning up, like a kill
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, **old):
        pass
    monkeypatch.setattr(Path, "unlink", unlink)
    assert {"first_track.npy", "run.json"} <= names(tmp_path / "run")
    with opened(tmp_path, lr=0.5) as experiment:  # the same command again, with or without --overwrite
        assert not list(experiment.path.glob("*.npy"))
    with pytest.raises(UserError, match="other settings"), opened(tmp_path, lr=0.1):
        pass


def test_digests_tell_type_and_shape(tmp_path):
    little = np.arange(6, dtype="<f4")
    different = [little, little.view(">f4"), little.reshape(2, 3), little.view("<i4")]
    assert len({digest(array) for array in different}) == 4


# Small files.


def test_what_is_no_number_has_a_digest_too():
    days = np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]")
    assert digest(days) != digest(days[::-1]) and digest(np.array("a")) != digest(np.array("b"))


def test_history_columns_are_those_of_all_rows(tmp_path):
    with opened(tmp_path) as experiment:
        experiment.history.add(stage=1, epoch=1, loss=0.12345678)
        experiment.history.add(stage=2, step=3, auc=None)
        experiment.state.save("first", {}, 0.0)
    lines = (experiment.path / "history.csv").read_text().splitlines()
    assert lines == ["stage,epoch,loss,step,auc", "1,1,0.123457,,", "2,,,3,"]


def test_the_log_gets_a_line_with_its_time(tmp_path, capsys):
    with opened(tmp_path) as experiment:
        experiment.log("on both")
        experiment.log.quietly("in the file")
    lines = (experiment.path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["on both", "in the file"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 ", line) for line in lines)
    assert capsys.readouterr().out == "on both\n"


# What a run began with.


def test_the_log_takes_names_that_are_no_text(tmp_path):
    with opened(tmp_path) as experiment:
        experiment.log.quietly("caf\udce9.npy")
    assert r"caf\udce9.npy" in (experiment.path / "log.txt").read_text()


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    with pytest.raises(ZeroDivisionError), opened(tmp_path) as experiment, experiment.phase("first", {}) as phase:
        experiment.history.add(epoch=1)
        phase.checkpoint()
        raise ZeroDivisionError
    again = Experiment(tmp_path, "run").open("main.py", "forget", SETTINGS)
    with pytest.raises(UserError, match="has changed: images 'abc' there, 'xyz' here"), again as experiment:
        experiment.begin({"images": "xyz"})
    assert (tmp_path / "run" / "checkpoint.pt").exists()  # the mistake costs nothing


def test_overwriting_removes_nothing_before_the_inputs_are_found_good(tmp_path):
    finished(tmp_path, auc=0.5)
    anew = Experiment(tmp_path, "run").open("main.py", "forget", SETTINGS | {"lr": 7}, overwrite=True)
    with pytest.raises(UserError, match="no such data"), anew:
        raise UserError("no such data", "correct the name")
    assert read_finished(tmp_path, "run")["figures"] == {"auc": 0.5}


def test_what_overwriting_will_remove_counts_as_free(tmp_path, monkeypatch):
    with opened(tmp_path) as experiment:
        experiment.save_array("scores", np.zeros(SAMPLES))
        experiment.finish({})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    anew = Experiment(tmp_path, "run").open("main.py", "forget", SETTINGS, overwrite=True)
    with anew as experiment:
        removed = sum((experiment.path / name).stat().st_size for name in ("scores.npy", "history.csv"))
        assert experiment.bytes_to_remove == removed
        experiment.require_space_for_tracks(removed // 4, 1)
        with pytest.raises(UserError, match="are needed"):
            experiment.require_space_for_tracks(removed // 4 + 1, 1)
        experiment.begin({"images": "abc"})
        assert experiment.bytes_to_remove == 0


@pytest.mark.parametrize("error", [UserError("bad", "mend it"), MemoryError(), RuntimeError("out of memory")])
def test_whatever_ends_a_run_before_it_trained_leaves_nothing_to_trip_over(tmp_path, error):
    with pytest.raises(type(error)), opened(tmp_path):
        raise error
    with opened(tmp_path, lr=0.05):  # the corrected command is another one
        pass


def test_the_command_to_go_on_with_does_not_overwrite(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", "--seed", "3", "--overwrite"])
    with opened(tmp_path, overwrite=True) as experiment:
        assert experiment.record["command"] == "main.py --seed 3"


def test_a_failed_start_that_was_to_overwrite_leaves_nothing_to_trip_over(tmp_path):
    finished(tmp_path)
    with pytest.raises(UserError, match="empty"), opened(tmp_path, overwrite=True, lr=7) as experiment:
        experiment.save_array("labels", np.zeros(3))
        raise UserError("the clean set is empty", "raise the threshold")
    with opened(tmp_path, lr=8):
        pass


def test_overwriting_a_folder_that_no_run_used_removes_nothing_of_its_owner(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "me.png").write_bytes(b"a photograph")
    with opened(tmp_path, overwrite=True):
        pass
    assert (tmp_path / "run" / "me.png").exists()


def test_a_fresh_start_does_not_take_a_stray_checkpoint_for_its_own(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"of another life")
    with opened(tmp_path):
        pass
    with opened(tmp_path) as experiment:
        assert experiment.state.restore("first", {}) is None


def test_an_experiment_on_other_data_than_it_is_to_be_compared_with_never_begins(tmp_path):
    other = finished(tmp_path, "other").record
    with Experiment(tmp_path, "same", other).open("main.py", "forget", SETTINGS) as experiment:
        experiment.begin({"images": "abc"})
    unlike = Experiment(tmp_path, "unlike", other)
    with pytest.raises(UserError, match="^other judged other data: images 'abc' there, 'xyz' here"), \
            unlike.open("main.py", "forget", SETTINGS):  # fmt: skip
        unlike.begin({"images": "xyz"})
    assert not (tmp_path / "unlike").exists()


# A network that diverges.


def diverging(root, epoch, *, name="first", total=4, spoilt=-1):
    """A phase whose network diverges in an epoch, counted from 0, once its parts have been spoilt."""
    counter, progress = Counter(), Progress()
    with opened(root) as experiment:
        track = experiment.tracks.new(f"{name}_track", total, SAMPLES)
        with experiment.phase(name, {"counter": counter, "progress": progress}) as phase:
            with phase.until_divergence():
                for k in phase.epochs(total, progress):
                    counter.count = spoilt
                    if k == epoch:
                        progress.step = 7
                        raise Diverged(f"the loss is nan at epoch {k + 1}, step 8", "lower the learning rate")
                    counter.count = k + 1
                    track.append(np.full(SAMPLES, k))
                    phase.add_epoch(epoch=k + 1, train_loss=1.0)
            experiment.tracks.close(f"{name}_track")
    return experiment, counter, progress


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_run_whose_network_diverges_goes_on_with_the_epoch_before(tmp_path, epoch):
    experiment, counter, progress = diverging(tmp_path, epoch)
    assert (counter.count, progress.epoch, progress.step) == (epoch, epoch, 0)
    assert experiment.done("first") and [row["epoch"] for row in experiment.history.rows] == list(range(1, epoch + 1))
    np.testing.assert_array_equal(load_array(experiment.path / "first_track.npy")[:, 0], range(epoch))
    log = (experiment.path / "log.txt").read_text()
    assert f"first: the loss is nan at epoch {epoch + 1}, step 8: going on with" in log


def test_a_network_that_diverges_in_its_first_epoch_ends_the_run(tmp_path):
    with pytest.raises(Diverged, match="^the loss is nan at epoch 1, step 8 — lower the learning rate$"):
        diverging(tmp_path, 0)


def test_without_divergence_nothing_goes_back(tmp_path):
    experiment, counter, progress = diverging(tmp_path, None)
    assert counter.count == progress.epoch == len(experiment.history.rows) == 4


def test_other_errors_pass_through(tmp_path):
    with opened(tmp_path) as experiment, experiment.phase("first", {"counter": Counter()}) as phase:
        phase.checkpoint()
        with pytest.raises(ZeroDivisionError), phase.until_divergence():
            raise ZeroDivisionError


def test_a_run_that_was_stopped_diverges_alike(tmp_path):
    with opened(tmp_path) as experiment:
        track, progress, counter = experiment.tracks.new("first_track", 4, SAMPLES), Progress(), Counter()
        with (
            pytest.raises(ZeroDivisionError),
            experiment.phase("first", {"counter": counter, "progress": progress}) as phase,
        ):
            for k in phase.epochs(4, progress):
                if k == 2:
                    raise ZeroDivisionError
                counter.count = k + 1
                track.append(np.full(SAMPLES, k))
                phase.add_epoch(epoch=k + 1, train_loss=1.0)
    experiment, counter, progress = diverging(tmp_path, 2)
    assert (counter.count, progress.epoch, len(experiment.history.rows)) == (2, 2, 2)


def test_a_phase_never_goes_back_to_another_one(tmp_path):
    diverging(tmp_path, None, name="run1")
    with pytest.raises(Diverged):
        diverging(tmp_path, 0, name="run2")


@pytest.mark.parametrize("stops", [1, 2, 3])
def test_a_run_that_was_stopped_in_the_epoch_that_diverges_goes_back_to_its_beginning(tmp_path, stops):
    for step in range(3, 3 + stops):
        with pytest.raises(Stopped), opened(tmp_path) as experiment:
            track, progress, counter = experiment.tracks.new("first_track", 4, SAMPLES), Progress(), Counter()
            with experiment.phase("first", {"counter": counter, "progress": progress}) as phase:
                for k in phase.epochs(4, progress):
                    if k == 2:
                        counter.count, progress.step = 99, step
                        signal.raise_signal(signal.SIGTERM)
                        phase.stop_if_asked()
                    counter.count = k + 1
                    track.append(np.full(SAMPLES, k))
                    phase.add_epoch(epoch=k + 1, train_loss=1.0)
    experiment, counter, progress = diverging(tmp_path, 2)
    assert (counter.count, progress.epoch, progress.step, len(experiment.history.rows)) == (2, 2, 0, 2)

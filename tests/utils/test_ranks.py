"""One process alone is the identity; how many there are, and what a run of several is called, the environment says."""

import signal
import sys

import pytest
import torch

from utils import launch, ranks
from utils.errors import Stopped, UserError
from utils.experiments.stop_request import StopRequest
from utils.experiments.track_file import LastRow
from utils.files import write_atomically

ENVIRONMENT = {
    "TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3"
}  # fmt: skip


@pytest.fixture
def launched(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_alone_all_is_the_identity():
    alone, rows = ranks.open_ranks(), torch.ones(2, 3, requires_grad=True)
    assert alone is ranks.ALONE is ranks.current()
    assert alone.rows(rows, [2]) is rows
    assert (alone.agreed(3), alone.from_first(lambda: "made"), alone.told("said", 0)) == (3, "made", "said")
    assert list(alone.in_turns(str, [1, 2])) == ["1", "2"]
    network = torch.nn.Linear(1, 1)
    assert alone.averaging(network) is network and not alone.cut(100)
    with alone.first_alone():
        alone.wait()


def test_parts_differ_by_one_and_hold_two_samples():
    three = ranks.Ranks(1, 3)
    assert three.counts(8) == [3, 3, 2]
    assert three.cut(6) and not three.cut(5)


def test_other_environments_have_no_processes(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of a batch system
    assert not launch.launched() and launch.launcher() == "python3" and launch.processes_here() == 1


def test_the_others_are_quiet(launched, capsys):
    with launch.quiet():
        print("heard by nobody")
        print("nor this", file=sys.stderr)
    assert capsys.readouterr() == ("", "")
    assert launch.launcher() == "torchrun --nproc_per_node 3" and launch.place_here() == 1


@pytest.mark.parametrize("text", ["soon", "0", "nan"])
def test_a_limit_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv(launch.LIMIT, text)
    with pytest.raises(UserError, match="is no number of seconds"):
        launch.limit()


def test_one_that_follows_writes_nothing_and_remembers_the_last_row(monkeypatch, tmp_path):
    monkeypatch.setattr(ranks, "_current", ranks.Ranks(1, 2))
    write_atomically(tmp_path / "file", lambda handle: handle.write(b"bytes"))
    assert not list(tmp_path.iterdir())
    track = LastRow()
    track.extend(torch.arange(6).reshape(3, 2).numpy())
    assert track.rows == 3 and track.read()[-1].tolist() == [4, 5] and not track.close()


def test_a_request_within_another_knows_that_it_was_torchrun_s(launched, monkeypatch):
    monkeypatch.setattr(launch, "gone", lambda: [0])
    with StopRequest("python3 main.py") as outer:
        signal.raise_signal(signal.SIGTERM)
        with StopRequest("python3 main.py") as inner, pytest.raises(Stopped):
            inner.raise_if_asked()
        assert outer.after_a_loss and inner.after_a_loss

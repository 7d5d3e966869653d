"""A power cut at any moment loses nothing that was said to be there: `python3 -m tests.write_replay`."""

import random

import pytest

from tests.write_replay import Disk, changes_between, replay


def test_no_disk_that_a_power_cut_leaves_is_at_fault():
    seed = random.randrange(10**9)
    counts, faults = replay("checkpoints", restarts=0, seed=seed)
    assert faults == [], f"python3 -m tests.write_replay --cases checkpoints --restarts 0 --seed {seed}"
    assert counts["disks"] > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoints", "overwrite", "export"])  # the others take minutes
def test_started_again_after_a_power_cut_a_run_ends_with_the_same_bytes(name):
    seed = random.randrange(10**9)
    counts, faults = replay(name, restarts=3, seed=seed)
    assert faults == [], f"python3 -m tests.write_replay --cases {name} --restarts 3 --seed {seed}"
    assert counts["same bytes"] + counts["refused"] == counts["restarts"] == 3
    if name != "checkpoints":  # whose single file leaves fewer disks than moments
        assert counts["disks"] > counts["moments"]  # several are possible at some


def test_a_name_is_on_the_disk_once_its_folder_was_flushed(tmp_path):
    moments = [
        {"names": {"0": {"a": 1}}, "bytes": {"1": "old"}, "flushed": None},
        {"names": {"0": {"a": 1, "b": 2}}, "bytes": {"1": "old", "2": "new"}, "flushed": 2},
        {"names": {"0": {"a": 2}}, "bytes": {"2": "new"}, "flushed": None},
        {"names": {"0": {"a": 2}}, "bytes": {"2": "new"}, "flushed": 0},
    ]
    disk, found = Disk(tmp_path), []
    for moment in moments:
        disk.advance(moment)
        found.append({tuple(sorted(tree.items())) for tree in disk.possible(random.Random(1))})
    assert found[0] == {(("a", "old"),)}
    assert (("a", "old"),) in found[2] and (("a", "new"),) in found[2]
    assert found[3] == {(("a", "new"),)}


@pytest.mark.parametrize(
    ("kept", "grown", "in_place"),
    [("old", b"ab", b"abcd"), ("new", b"ABCD", b"ABCD"), ("torn", b"AB\0\0", b"ABcd"), ("cut", b"AB", b"ABcd")],
)
def test_what_is_left_of_bytes_that_were_not_flushed(tmp_path, kept, grown, in_place):
    for flushed, left in ((b"ab", grown), (b"abcd", in_place)):
        disk = Disk(tmp_path)
        disk.bytes, disk.now = {"1": disk.keep(flushed)}, {"bytes": {"1": disk.keep(b"ABCD")}}
        assert (tmp_path / disk.content("1", kept)).read_bytes() == left


def test_changes_of_names():
    assert changes_between({"a": 1, "b": 2}, {"a": 2, "c": 3}) == [("b", "a", 2), (None, "c", 3)]
    assert changes_between({"a": 1}, {"a": 1}) == []

"""Files appear whole or not at all, and not where there is no room for them."""

import contextlib
import csv
import errno
import os
import shutil
import stat
from types import SimpleNamespace

import numpy as np
import pytest

from utils.errors import UserError
from utils.files import require_space, write_atomically, write_csv


def full_disk(handle):
    handle.write(b"half of it")
    raise OSError(errno.ENOSPC, "No space left on device")


def mistake(handle):
    handle.write(b"half of it")
    raise KeyError("a bug")


@pytest.mark.parametrize("path", ["", "."])
def test_a_path_that_names_no_file_is_refused(path):
    with pytest.raises(UserError, match="names no file"):
        write_atomically(path, full_disk)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_atomically(tmp_path / "a.bin", lambda handle: handle.write(b"new"))
    assert (tmp_path / "a.bin").read_bytes() == b"new" and names(tmp_path) == ["a.bin"]


def test_an_old_file_is_replaced(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"a longer old one")
    write_atomically(str(tmp_path / "a.bin"), lambda handle: handle.write(b"new"))
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")

    def write(handle):
        handle.write(b"new")
        handle.flush()
        assert (tmp_path / "a.bin").read_bytes() == b"old"

    write_atomically(tmp_path / "a.bin", write)
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_the_temporary_file_is_held_from_before_it_is_there_until_it_has_its_name(tmp_path):
    found = []

    @contextlib.contextmanager
    def held(temporary):
        found.append((temporary.parent, names(tmp_path)))
        yield
        found.append(names(tmp_path))

    write_atomically(tmp_path / "a.bin", lambda handle: handle.write(b"new"), held=held)
    assert found == [(tmp_path, []), ["a.bin"]]


@pytest.mark.parametrize(("write", "error"), [(full_disk, UserError), (mistake, KeyError)])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, write, error):
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(error):
        write_atomically(tmp_path / "a.bin", write)
    assert (tmp_path / "a.bin").read_bytes() == b"old" and names(tmp_path) == ["a.bin"]


def test_a_full_disk_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^cannot write .*a\.bin \(No space left on device\) — free some space"):
        write_atomically(tmp_path / "a.bin", full_disk)


@pytest.mark.parametrize("path", ["missing/a.bin", "notes.txt/a.bin", "n" * 300], ids=["no folder", "a file", "long"])
def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path, path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="^cannot write "):
        write_atomically(tmp_path / path, lambda handle: handle.write(b"new"))
    assert names(tmp_path) == ["notes.txt"]


def test_arrays_survive(tmp_path):
    write_atomically(tmp_path / "a.npy", lambda handle: np.save(handle, np.arange(5)))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), np.arange(5))


@pytest.mark.skipif(os.name == "nt", reason="folders are not opened there")
def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_when_it_returns(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: (events.append(stat.S_ISDIR(os.fstat(d).st_mode)), fsync(d)))
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("named"), replace(*names)))
    write_atomically(tmp_path / "a.bin", lambda handle: handle.write(b"new"))
    assert events == [False, "named", True]  # the file, its name, the folder


def test_a_system_that_opens_no_folders_still_gets_its_files(tmp_path, monkeypatch):
    def closed(*names):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", closed)
    write_atomically(tmp_path / "a.bin", lambda handle: handle.write(b"new"))
    assert (tmp_path / "a.bin").read_bytes() == b"new"


# Tables.


def test_a_table_has_the_columns_of_all_rows(tmp_path):
    write_csv(tmp_path / "a.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "auc": None, "name": "a, b"}])
    assert (tmp_path / "a.csv").read_bytes() == b'epoch,loss,auc,name\n1,0.5,,\n2,,,"a, b"\n'


def test_file_names_that_are_no_utf8_keep_their_bytes(tmp_path):
    write_csv(tmp_path / "a.csv", [{"file": b"caf\xe9.png".decode(errors="surrogateescape")}, {"file": "café.png"}])
    assert (tmp_path / "a.csv").read_bytes() == b"file\ncaf\xe9.png\ncaf\xc3\xa9.png\n"


def test_fields_that_hold_an_end_of_line_of_any_kind_are_read_as_they_were(tmp_path):
    names = ["a\rb", "a\nb", "a\r\nb", "\r"]
    write_csv(tmp_path / "a.csv", [{"file": name, "label": "x"} for name in names])
    with (tmp_path / "a.csv").open(newline="") as handle:
        assert [row["file"] for row in csv.DictReader(handle, strict=True)] == names


def test_a_table_with_given_columns_has_them_without_rows_too(tmp_path):
    for rows, expected in (([], "b,a\n"), ([{"a": 1}], "b,a\n,1\n")):
        write_csv(tmp_path / "a.csv", rows, ("b", "a"))
        assert (tmp_path / "a.csv").read_text() == expected


def test_a_table_without_rows_is_an_empty_line(tmp_path):
    write_csv(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").read_bytes() == b"\n"


# Room.


def test_more_than_the_disk_has_free_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000_000))
    require_space(tmp_path, 2_000_000_000, "the tracks")
    with pytest.raises(UserError, match=r"^the tracks: 2\.5 GB are needed and .* has 2\.0 GB free — free some space"):
        require_space(tmp_path, 2_500_000_000, "the tracks")

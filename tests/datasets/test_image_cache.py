"""The cache of decoded images: read instead of decoding, remade when anything changed, never a part of one."""

import logging
import os
import shutil
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock, Timeout
from PIL import Image

from datasets import image_cache, load
from datasets.image_cache import CHECKSUM, HEADER
from tests.datasets.folders import TRAIN, reds, write_image
from tests.tiny import ROOT
from utils.errors import UserError

CACHE = ".cache/train_32.npy"


def test_second_load_reads_the_cache_only(root, decoded):
    first = load("folder", root)
    assert len(decoded) == 4 and os.listdir(root / ".cache") == ["train_32.npy"]  # no temporary file is left
    second = load("folder", root)
    assert len(decoded) == 4 and second.fingerprint() == first.fingerprint()


def test_the_images_are_a_read_only_memory_map_of_a_plain_npy(root):
    images = load("folder", root).images
    assert isinstance(images, np.memmap) and not images.flags.writeable and images.filename == str(root / CACHE)
    np.testing.assert_array_equal(np.load(root / CACHE, allow_pickle=False), images)


def test_a_map_outlives_the_file_it_was_made_of(root):
    first = load("folder", root)
    write_image(root / "train/cat/a.png", (99, 0, 0))
    os.utime(root / "train/cat/a.png", ns=(1, 1))
    assert reds(load("folder", root)) == [99, 1, 2, 3] and reds(first) == [0, 1, 2, 3]
    shutil.rmtree(root / ".cache")
    assert reds(first) == [0, 1, 2, 3]


def test_a_class_and_its_neighbours_are_a_part_of_the_map(root):
    write_image(root / "train/ant/a.png", (9, 0, 0))
    whole = load("folder", root)
    neighbours, others = whole.take_classes([1, 0]), whole.take_classes([2, 0])
    assert np.shares_memory(neighbours.images, whole.images) and reds(neighbours) == [9, 0, 1]
    assert reds(others) == [9, 2, 3]


def test_each_split_and_size_has_its_cache(root, decoded):
    for split, size in (("train", None), ("test", None), ("train", 8), ("train", None), ("test", None)):
        load("folder", root, split, image_size=size)
    assert len(decoded) == 4 + 2 + 4
    assert sorted(os.listdir(root / ".cache")) == ["test_32.npy", "train_32.npy", "train_8.npy"]


def test_more_images_than_are_decoded_ahead_come_in_order(root, monkeypatch):
    monkeypatch.setattr(image_cache, "AHEAD", 3)
    monkeypatch.setattr(image_cache, "CHUNK", 1000)  # bytes at a time when the checksum is looked at
    for red in range(100, 120):
        write_image(root / f"train/cat/c{red}.png", (red, 0, 0))
    assert reds(load("folder", root)) == [0, 1, *range(100, 120), 2, 3]
    assert reds(load("folder", root)) == [0, 1, *range(100, 120), 2, 3]


# -- remade ----------------------------------------------------------------------------------------------------------


def test_cache_is_remade_when_a_file_is_added(root):
    load("folder", root)
    write_image(root / "train/cat/c.png", (99, 0, 0))
    assert reds(load("folder", root)) == [0, 1, 99, 2, 3]


def test_cache_is_remade_when_a_file_is_removed(root):
    load("folder", root)
    os.remove(root / "train/cat/a.png")
    assert reds(load("folder", root)) == [1, 2, 3]


def test_cache_is_remade_when_a_file_of_the_same_size_is_written_over(root):
    load("folder", root)
    path = root / "train/cat/a.png"
    before = path.stat()
    write_image(path, (1, 100, 200))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert path.stat().st_size == before.st_size and reds(load("folder", root)) == [1, 1, 2, 3]


def test_cache_is_remade_when_two_files_swap_names(root):
    load("folder", root)
    cats = root / "train/cat"
    os.utime(cats / "b.png", ns=(1, 1))
    for old, new in (("a.png", "t"), ("b.png", "a.png"), ("t", "b.png")):
        os.rename(cats / old, cats / new)
    assert reds(load("folder", root)) == [1, 0, 2, 3]


def test_cache_of_the_first_version_goes(root):
    (root / ".cache").mkdir()
    (root / ".cache/train_32.npz").write_bytes(b"an old one")
    load("folder", root)
    assert os.listdir(root / ".cache") == ["train_32.npy"]


def damage_header(content):
    content[40] ^= 1


def damage_pixels(content):
    content[HEADER + 5000] ^= 1


def damage_trailer(content):
    at = content.index(b"broken")
    content[at] ^= 1


def damage_checksum(content):
    content[-1] = ord("0") if content[-1] != ord("0") else ord("1")


DAMAGE = {
    "empty": bytearray.clear,
    "cut in the header": lambda content: content.__delitem__(slice(20, None)),
    "cut in the pixels": lambda content: content.__delitem__(slice(len(content) // 2, None)),
    "cut at the end": lambda content: content.__delitem__(slice(-1, None)),
    "without its trailer": lambda content: content.__delitem__(slice(HEADER + 4 * 3 * 32 * 32, None)),
    "flipped bit in the header": damage_header,
    "flipped bit in the pixels": damage_pixels,
    "flipped bit in the trailer": damage_trailer,
    "flipped bit in the checksum": damage_checksum,
    "longer": lambda content: content.extend(b"more"),
    "zeros": lambda content: content.__setitem__(slice(None), bytes(len(content))),
    "another shape": lambda content: content.__setitem__(slice(HEADER), image_cache._header((3, 3, 32, 32))),
    "something else": lambda content: content.__setitem__(slice(None), b"something else altogether"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_cache_is_remade(root, decoded, damage):
    expected = load("folder", root).fingerprint()
    content = bytearray((root / CACHE).read_bytes())
    assert len(content) > HEADER + 4 * 3 * 32 * 32 + CHECKSUM
    damage(content)
    (root / CACHE).unlink()
    (root / CACHE).write_bytes(content)
    assert load("folder", root).fingerprint() == expected and len(decoded) == 8
    load("folder", root)
    assert len(decoded) == 8  # and what was remade is whole


def test_a_pickled_array_is_no_cache(root, decoded):
    load("folder", root)
    np.save(root / CACHE, np.array([{}], dtype=object), allow_pickle=True)
    assert reds(load("folder", root)) == [0, 1, 2, 3] and len(decoded) == 8


# -- images that do not decode ---------------------------------------------------------------------------------------


def test_broken_images_are_kept_in_mind_and_tried_again(root, decoded):
    (root / TRAIN[1]).write_text("not an image")
    for _ in range(2):
        with pytest.raises(UserError, match=TRAIN[1]):
            load("folder", root)
    assert [os.path.basename(path) for path in decoded[4:]] == ["b.png"]  # the others come from the cache
    assert reds(load("folder", root, skip_broken=True)) == [0, 2, 3] and len(decoded) == 6


def test_an_image_that_decodes_after_all_is_no_longer_missed(root, monkeypatch):
    write_image(root / TRAIN[0], (9, 0, 0), size=(60, 60))
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # the others have 1,024
        assert reds(load("folder", root, skip_broken=True)) == [1, 2, 3]
    assert reds(load("folder", root)) == [9, 1, 2, 3]  # the same files, and a machine with room for them


# -- no cache --------------------------------------------------------------------------------------------------------


def goes_without(root, caplog) -> str:
    images = load("folder", root)
    assert reds(images) == [0, 1, 2, 3] and not isinstance(images.images, np.memmap)
    [record] = caplog.records
    assert "no image cache" in record.message and "\n" not in record.message
    return record.message


def test_root_that_cannot_be_written(root, monkeypatch, caplog):
    def refuse(path, write, held):
        raise UserError(f"cannot write {path} (Read-only file system)", "choose a writable folder")

    monkeypatch.setattr(image_cache, "write_atomically", refuse)
    assert "Read-only" in goes_without(root, caplog)


def test_cache_folder_that_cannot_be_made(root, caplog):
    (root / ".cache").write_text("a file where the folder should be")
    goes_without(root, caplog)


def test_cache_folder_that_is_a_link_is_left_alone(root, tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    (root / ".cache").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in goes_without(root, caplog)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_disk_without_room_is_not_filled(root, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert "the disk has less free" in goes_without(root, caplog)
    assert os.listdir(root / ".cache") == []


def test_disk_that_fills_up_on_the_way(root, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache, "_header", full)
    assert "No space left on device" in goes_without(root, caplog)
    assert os.listdir(root / ".cache") == []


def test_broken_images_are_found_without_a_cache_too(root, caplog):
    (root / ".cache").write_text("")
    (root / TRAIN[0]).write_text("not an image")
    assert reds(load("folder", root, skip_broken=True)) == [1, 2, 3]


# -- other processes -------------------------------------------------------------------------------------------------

DECODE = "import sys; from datasets import load; print(load('folder', sys.argv[1]).images[:, 0, 0, 0].tolist())"


def test_two_processes_that_decode_at_once_do_each_other_no_harm(root):
    for red in range(100, 180):
        write_image(root / f"train/cat/c{red}.png", (red, 0, 0), size=(200, 200))
    both = [
        subprocess.Popen([sys.executable, "-c", DECODE, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    expected = str([0, 1, *range(100, 180), 2, 3])
    assert [process.communicate()[0].strip() for process in both] == [expected] * 2
    assert os.listdir(root / ".cache") == ["train_32.npy"] and str(reds(load("folder", root))) == expected


# A writer that stays in the midst of its work.
WRITE = """
import sys, time
from pathlib import Path
import numpy as np
from datasets import image_cache
class Slow:
    bytes, broken, image_size = 0, {}, 1
    def __iter__(self):
        yield np.zeros((3, 1, 1), np.uint8)
        time.sleep(600)
image_cache._write(Path(sys.argv[1]), "key", Slow())
"""


@pytest.fixture
def writer(root):
    """A process that writes the cache and does not come to an end, and its temporary file."""
    (root / ".cache").mkdir()
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(root / CACHE)], cwd=ROOT)
    while not (files := list((root / ".cache").glob(".*.tmp"))) or not held(files[0]):
        assert process.poll() is None
        time.sleep(0.01)
    yield process, files[0]
    process.kill()
    process.wait()


def held(file):
    try:
        with FileLock(f"{file}.lock", blocking=False):
            return False
    except Timeout:
        return True


def test_what_a_killed_writer_left_is_removed_and_what_one_at_work_has_is_not(root, writer):
    process, temporary = writer
    assert reds(load("folder", root)) == [0, 1, 2, 3] and temporary.exists()
    process.kill()
    process.wait()
    assert temporary.exists() and (root / ".cache" / f"{temporary.name}.lock").exists()
    write_image(root / TRAIN[0], (9, 0, 0), size=(40, 40))
    assert reds(load("folder", root)) == [9, 1, 2, 3] and os.listdir(root / ".cache") == ["train_32.npy"]


def test_a_writer_holds_its_file_though_somebody_asks_for_it_just_then(root, monkeypatch):
    """As another process does, which looks for leftovers: it holds the lock until the writer waits."""

    def asked_for_first(file, **options):
        other = FileLock(file)
        other.acquire()
        monkeypatch.setattr("time.sleep", lambda seconds: other.release())
        return FileLock(file, **options)

    class Stream:
        bytes, broken, image_size = 0, {}, 1

        def __iter__(self):
            (temporary,) = root.glob(".cache/.*.tmp")
            holds.append(held(temporary))
            yield np.zeros((3, 1, 1), np.uint8)

    holds = []
    monkeypatch.setattr(image_cache, "FileLock", asked_for_first)
    image_cache._write(root / CACHE, "key", Stream())
    assert holds == [True] and os.listdir(root / ".cache") == ["train_32.npy"]


# -- a bar -----------------------------------------------------------------------------------------------------------


def test_the_bar_is_for_terminals_and_for_work_that_takes_a_while(root, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(image_cache, "tqdm", lambda **options: asked.append(options) or image_cache_bar(**options))
    load("folder", root)
    assert asked[0]["total"] == 4 and asked[0]["disable"] is None and asked[0]["delay"] > 0
    assert capsys.readouterr().err == ""


image_cache_bar = image_cache.tqdm


def test_warning_filters_are_put_back(root):
    before = list(warnings.filters)
    load("folder", root)
    assert list(warnings.filters) == before


def test_nothing_is_said_while_all_goes_well(root, caplog, capsys):
    with caplog.at_level(logging.INFO):
        load("folder", root)
        load("folder", root)
    assert caplog.records == [] and capsys.readouterr() == ("", "")

"""duplicates.csv, and the twins with different labels on the page."""

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils.experiments.experiment import Experiment
from utils.results import twin_files
from utils.results.suspect_files import write_suspects
from utils.results.twin_files import COLUMNS, write_twins

N = 40


class Data(SimpleNamespace):
    def __len__(self):
        return len(self.labels)


def data(files=True, mirrored=True):
    """Pictures of noise on 8 x 8 fields; 3 and 30 are copies, 4 is the mirror image of 20. Labels 0 to 2 in turn."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    pixels[30], pixels[20] = pixels[3], pixels[4, :, ::-1]
    return Data(
        class_names=("cat", "dog", "owl"),
        sample_ids=100 + np.arange(N),
        file_names=tuple(f"{k}.png" for k in range(N)) if files else None,
        labels=np.arange(N) % 3,
        replaced=np.empty(0, dtype=np.int64),
        clean_labels=None,
        images=SimpleNamespace(pixels=torch.from_numpy(pixels), mirrored=mirrored),
        choice=SimpleNamespace(root="nowhere"),
        fingerprint=lambda: {"images": "i", "labels": "l"},
    )


@pytest.fixture
def experiment(tmp_path):
    with Experiment(tmp_path, "e").open("relabel.py", "relabel", {"report": 2}) as opened:
        opened.begin({"images": "i"})
        yield opened


def rows(experiment):
    with (experiment.path / "duplicates.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_pair_is_a_row_and_those_that_differ_are_told(experiment, capsys):
    """3 and 30 are both cats; 4 is a dog and 20 an owl."""
    found = write_twins(experiment, data())
    assert rows(experiment) == [
        dict(zip(COLUMNS, ("103", "3.png", "cat", "130", "30.png", "cat", "0.0000"), strict=True)),
        dict(zip(COLUMNS, ("104", "4.png", "dog", "120", "20.png", "owl", "0.0000"), strict=True)),
    ]
    assert (found.first.tolist(), found.second.tolist()) == ([4], [20])
    assert "duplicates.csv" in experiment.record["files"]
    assert "2 pairs of near-duplicate pictures, 1 of them with different labels" in capsys.readouterr().out


def test_without_files_their_names_are_blank_and_without_pairs_there_is_a_header(experiment):
    write_twins(experiment, data(files=False))
    assert {(row["file"], row["twin_file"]) for row in rows(experiment)} == {("", "")}
    other = data()
    other.images.pixels = other.images.pixels[:3]
    other.labels = other.labels[:3]
    assert len(write_twins(experiment, other).first) == 0
    assert (experiment.path / "duplicates.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_mirror_images_are_other_pictures_where_the_set_is_not_to_be_mirrored(experiment):
    assert len(write_twins(experiment, data(mirrored=False)).first) == 0
    assert [row["sample_id"] for row in rows(experiment)] == ["103"]


def test_among_too_many_pictures_none_are_looked_for_and_that_is_said(experiment, monkeypatch, capsys):
    monkeypatch.setattr(twin_files, "MOST_PICTURES", N - 1)
    assert len(write_twins(experiment, data()).first) == 0
    assert not (experiment.path / "duplicates.csv").exists()
    assert "not looked for among more than 39 pictures" in capsys.readouterr().out


def test_twins_that_differ_are_on_the_page_whatever_their_rank(experiment):
    """The page shows the two worst, 39 and 38, and the twins 4 and 20, which are ranked 36th and 20th."""
    p_noisy = np.linspace(0, 1, N, dtype=np.float32)
    posterior = np.full((N, 3), 1 / 3, dtype=np.float32)
    write_suspects(experiment, data(), {"score": p_noisy}, p_noisy, posterior)
    text = (experiment.path / "suspects.html").read_text()
    shown = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert shown["sample_id"] == [139, 138, 120, 104] and shown["rank"] == [1, 2, 20, 36]
    assert shown["twins"] == [[3, 2]]
    with (experiment.path / "suspects.csv").open(newline="") as handle:
        named = {row["file"]: row["twin"] for row in csv.DictReader(handle) if row["twin"]}
    assert named == {"4.png": "20.png", "20.png": "4.png"}  # 3 and 30, under the same label, contradict nobody


@pytest.mark.parametrize("at_a_time", [1, 7, N])
def test_pictures_leave_the_device_by_their_bytes(experiment, monkeypatch, at_a_time):
    monkeypatch.setattr("utils.data.host_pixels.PORTION", at_a_time * 3 * 64)
    counts, contents = [], twin_files.contents
    monkeypatch.setattr(
        twin_files, "contents", lambda parts: contents(counts.append(len(part)) or part for part in parts)
    )
    write_twins(experiment, data())
    assert len(rows(experiment)) == 2
    assert max(counts) == at_a_time and sum(counts) == N

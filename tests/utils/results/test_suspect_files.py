"""suspects.csv and suspects.html of whole runs: who writes a page, of how many samples, and what it shows."""

import csv
import json
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.decoding import Undecodable
from tests.tiny import TINY, TINY_ARGS
from utils import page
from utils.results.suspect_files import thumbnails_of

FOLDER = ["--epoch_1st", "1", "--first_stage_data_name", "folder", "--image_size", "12", *TINY, "--plant", "0"]


def element(folder, element_id):
    text = (folder / "suspects.html").read_text()
    return json.loads(re.search(rf'<script type="application/json" id="{element_id}">(.*?)</script>', text, re.S)[1])


def rows(folder):
    with (folder / "suspects.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_images_of_the_users_own_get_a_page(run, tmp_path, image_folder):
    printed = run("parallel.py", *FOLDER, "--train_root", image_folder, "--experiment_name", "e")
    folder = tmp_path / "e"
    assert re.search(r"\d of 20 labels are suspects \(p_noisy from 0.5\); to look at 20 samples open", printed)
    assert f"{folder / 'suspects.html'} in a browser" in printed
    data, table = element(folder, "data"), rows(folder)
    assert data["file"] == [row["file"] for row in table] and len(element(folder, "pictures")) == 20
    assert data["suggested"] == [1 - label for label in data["label"]]  # of two classes the other one, suspect or not
    assert "true_label" not in table[0]  # nobody knows it
    record = json.loads((folder / "run.json").read_text())
    assert "suspects.html" in record["files"]
    assert data["fingerprint"] == f"{record['data']['images']}-{record['data']['labels']}"
    posterior, labels = (np.load(folder / f"{name}.npy") for name in ("parallel_posterior", "labels"))
    for row in table:
        i = int(row["sample_id"])
        suspect = float(row["p_noisy"]) >= 0.5
        assert int(row["is_suspect"]) == suspect and (not suspect or row["suggested_label"] != row["label"])
        assert row["label"] == ("blue", "red")[labels[i]]
        chosen = ("blue", "red").index(row["suggested_label"])
        assert float(row["confidence"]) == pytest.approx(posterior[i, chosen], abs=1e-4)


def test_files_that_are_gone_at_the_end_are_shown_as_the_network_saw_them(run, tmp_path, image_folder, monkeypatch):
    def gone(path):
        raise Undecodable(path, "cannot be read")

    monkeypatch.setattr("utils.results.thumbnails.of_file", gone)
    printed = run("parallel.py", *FOLDER, "--train_root", image_folder, "--report", "3", "--experiment_name", "e")
    assert "3 files could not be read again" in printed
    assert all(element(tmp_path / "e", "pictures"))


def test_thumbnails_leave_the_filters_of_warnings_as_they_were(image_folder):
    """Which are global: threads that change them one by one leave those of another thread behind."""
    before, names = list(warnings.filters), tuple(f"train/red/{k}.png" for k in range(10)) * 40
    data = SimpleNamespace(
        file_names=names, choice=SimpleNamespace(root=image_folder), replaced=np.array([], dtype=int)
    )
    for _ in range(5):
        thumbnails_of(data, np.arange(400), pytest.fail)
        assert warnings.filters == before


def test_replaced_images_are_shown_as_the_network_saw_them(monkeypatch):
    monkeypatch.setattr("utils.results.thumbnails.of_file", lambda path: f"file {path}")
    monkeypatch.setattr("utils.results.thumbnails.of_pixels", lambda pixels: f"pixels {pixels[0, 0, 0]}")
    data = SimpleNamespace(
        file_names=("a", "b", "c"),
        choice=SimpleNamespace(root="root"),
        images=SimpleNamespace(pixels=torch.arange(3)[:, None, None, None].expand(3, 2, 2, 3)),
        replaced=np.array([1]),
    )
    assert thumbnails_of(data, np.array([2, 1, 0]), pytest.fail) == ["file root/c", "pixels 1", "file root/a"]


def test_other_sets_get_one_where_it_is_asked_for(run, tmp_path):
    run("parallel.py", *TINY_ARGS["parallel.py"], "--epoch_1st", "1", "--report", "5", "--experiment_name", "e")
    assert element(tmp_path / "e", "data")["rank"] == [1, 2, 3, 4, 5]
    assert element(tmp_path / "e", "data")["file"] is None
    run("ssl.py", *TINY_ARGS["ssl.py"], "--epoch", "1", "--parallel", "e", "--experiment_name", "s")
    assert not (tmp_path / "s" / "suspects.html").exists()
    table = rows(tmp_path / "s")
    score, p_noisy = (np.load(tmp_path / "s" / f"{name}.npy") for name in ("ssl_score", "p_noisy"))
    ids = np.load(tmp_path / "s" / "sample_ids.npy").tolist()
    order = [ids.index(int(row["sample_id"])) for row in table]
    assert (np.diff(score[order]) <= 0).all() and len(order) == len(score)
    assert [int(row["is_suspect"]) for row in table] == (p_noisy[order] >= 0.5).astype(int).tolist()
    page.main(["s", "--report", "1", "--experiments_root", str(tmp_path)])
    second_opinion = "a second opinion, of ssl.py after e</p>"
    shown = [(tmp_path / name / "suspects.html").read_text() for name in ("e", "s")]
    assert [second_opinion in text for text in shown] == [False, True]


def test_nobody_has_to_have_a_page(run, tmp_path, image_folder):
    run("parallel.py", *FOLDER, "--train_root", image_folder, "--report", "0", "--experiment_name", "e")
    assert not (tmp_path / "e" / "suspects.html").exists() and len(rows(tmp_path / "e")) == 20

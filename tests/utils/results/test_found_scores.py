"""Which of several finished experiments a separation's name alone stands for."""

import json
import shutil
from dataclasses import replace

import pytest

from utils.data.choice import DataChoice, OutOfDistribution
from utils.errors import UserError
from utils.experiments.record import Record
from utils.results.found_scores import newest, read_score_file, read_scores, second_opinion
from utils.separations import FORGET

CHOICE = DataChoice("folder", "mine", None, None, None, "none", 0.0, 2, noise_seed=1)
DATA = {"data_set": "folder", "class_subset": None, "noise_type": "none", "noise_ratio": 0.0, "seed": 1, "images": "a"}


def finished(root, name, number, *, data=(), method="forget", **settings):
    folder = root / name
    folder.mkdir()
    entries = {"script": "main.py", "method": method, "command": "main.py", "status": "finished", "seconds": {}}
    settings = {"train_root": "mine", "labels": None, "seed": 2} | settings
    entries |= {"settings": settings, "data": DATA | dict(data), "figures": {}, "finish_number": number}
    (folder / "run.json").write_text(json.dumps(entries))


def test_equal_data_then_an_equal_seed_then_the_newest(tmp_path):
    finished(tmp_path, "older", 1)
    finished(tmp_path, "same", 2)
    finished(tmp_path, "other_seed", 3, seed=3)
    finished(tmp_path, "other_images", 4, data={"images": "b"})
    finished(tmp_path, "other_labels", 5, data={"seed": 2})
    finished(tmp_path, "other_method", 6, method="parallel")
    assert newest(tmp_path, FORGET, CHOICE, DATA).path.name == "same"


def test_before_the_images_are_read_their_folder_tells_them_apart(tmp_path):
    finished(tmp_path, "same", 1, seed=3)
    finished(tmp_path, "other_folder", 2, train_root="others", data={"images": "b"})
    finished(tmp_path, "other_file", 3, labels="labels.csv", data={"labels_file": "c"})
    finished(tmp_path, "other_size", 4, image_size=64, data={"images": "d"})
    put_in = {"ood_ratio": 0.2, "ood_data": "svhn", "ood_root": None, "ood_subset": [1]}
    finished(tmp_path, "images_put_in", 5, **put_in, data={"images": "e"})
    assert newest(tmp_path, FORGET, CHOICE).path.name == "same"
    with_others = replace(CHOICE, ood=OutOfDistribution(0.2, "svhn", None, [1]))
    assert newest(tmp_path, FORGET, with_others).path.name == "images_put_in"


def test_without_one_the_command_that_makes_it_is_named(tmp_path):
    finished(tmp_path, "other_labels", 1, data={"seed": 2})
    with pytest.raises(UserError, match="run this first: python3 main.py --dataset folder .*--noise_seed 1 --seed 2"):
        newest(tmp_path, FORGET, CHOICE, DATA)


def test_of_a_name_that_is_not_there_the_likely_one_is_named(tmp_path):
    finished(tmp_path, "mine", 1)
    finished(tmp_path, "theirs", 2)
    with pytest.raises(UserError, match=f"^there is no experiment mne under {tmp_path}; nearest: mine — correct the"):
        read_scores(tmp_path, FORGET, "mne", CHOICE, DATA)


def test_what_differs_is_said_as_it_was_typed(tmp_path):
    finished(tmp_path, "mine", 1, train_root="others", data={"images": "b"})
    what = "mine judged other data: train_root 'others' there, 'mine' here; other images"
    with pytest.raises(UserError, match=f"^{what} — use the same data"):
        read_scores(tmp_path, FORGET, "mine", CHOICE, DATA)
    # Of the same images no folder is named.
    finished(tmp_path, "moved", 0, train_root="others", data={"labels_file": "c"})
    with pytest.raises(UserError, match="^moved judged other data: labels_file 'c' there, none here — "):
        read_scores(tmp_path, FORGET, "moved", CHOICE, DATA)
    with pytest.raises(UserError, match=f"judged this data \\({what}\\) — run this first: python3 main.py"):
        read_scores(tmp_path, FORGET, "", CHOICE, DATA)


def test_the_command_that_makes_what_is_missing_has_the_width_that_was_typed(tmp_path):
    for name in ("", "mine"):
        with pytest.raises(UserError, match=r"run this first: python3 main.py --dataset folder .* --width 0.25( |$)"):
            read_scores(tmp_path, FORGET, name, CHOICE, DATA, width=0.25)


def test_a_run_that_learned_from_separations_is_a_second_opinion(tmp_path):
    finished(tmp_path, "mine", 1)
    record = Record.read(tmp_path / "mine")
    assert second_opinion(record) == ""
    record.entries |= {"script": "ssl.py", "sources": {"relabel": {"experiment": "a"}, "forget": {"experiment": "b"}}}
    assert second_opinion(record) == "a second opinion, of ssl.py after a and b"


def test_scores_that_were_chosen_by_the_truth_are_not_the_newest_to_learn_from(tmp_path):
    finished(tmp_path, "honest", 1)
    finished(tmp_path, "oracle", 2, choose="oracle")
    assert newest(tmp_path, FORGET, CHOICE, DATA).path.name == "oracle"
    assert newest(tmp_path, FORGET, CHOICE, DATA, honest=True).path.name == "honest"
    with pytest.raises(UserError, match="without --choose oracle: python3 main.py --dataset folder .*--noise_seed 1"):
        read_scores(tmp_path, FORGET, "oracle", CHOICE, DATA)
    shutil.rmtree(tmp_path / "honest")
    with pytest.raises(UserError, match=r"do not count\) — run this first: python3 main.py --dataset folder"):
        read_scores(tmp_path, FORGET, "", CHOICE, DATA)


def test_a_file_of_an_oracle_is_refused():
    with pytest.raises(UserError, match="oracle_forget_ce.npy was chosen by the true labels"):
        read_score_file("experiments/x/oracle_forget_ce.npy", 3)

"""Images of one's own, and labels of one's own, through whole scripts."""

import csv
import json
import re
import shlex

import numpy as np
import pytest

import datasets
from tests.tiny import TINY, TINY_DIGITS
from utils.errors import UserError

SMALL = ["--image_size", "12", "--width", "0.1", "--batch_size", "10", "--cuda_dev", "-1", "--precision", "fp32"]
BROKEN = "train/red/3.png"


def record(folder):
    return json.loads((folder / "run.json").read_text())


def table(file):
    with file.open() as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def mine(image_folder):
    """Flags that take a folder of pictures, of which one is broken, as it is."""
    (image_folder / BROKEN).write_text("not an image")
    return ["--first_stage_data_name", "folder", "--train_root", image_folder, *SMALL, "--skip_broken"]


@pytest.fixture
def labels(image_folder, tmp_path):
    """A csv in which the first blue picture is called red."""
    names = [f"train/{c}/{k}.png" for c in ("blue", "red") for k in range(10)]
    rows = [f"{name},{'red' if name == 'train/blue/0.png' else name.split('/')[1]}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    return tmp_path / "labels.csv"


def next_flags(printed: str) -> list[str]:
    """The flags of the command that a script says to type next."""
    return shlex.split(re.search(r"^next: python3 ssl.py (.*)$", printed, re.MULTILINE)[1])


@pytest.mark.parametrize("labelled", [False, True], ids=["labels of the folders", "labels of a file"])
def test_a_folder_is_taken_as_it_is_and_the_next_command_sees_the_same(run, tmp_path, mine, labels, labelled):
    more = ["--labels", labels] if labelled else []
    printed = run("parallel.py", *mine, *more, "--epoch_1st", "2", "--experiment_name", "p")
    given = np.load(tmp_path / "p" / "labels.npy").tolist()
    assert given == [int(labelled), *[0] * 9, *[1] * 9]  # and none made wrong
    assert np.load(tmp_path / "p" / "sample_ids.npy").tolist() == list(range(19))
    assert f"labels: taken as {f'{labels} has them' if labelled else 'they are'}" in printed
    assert not (tmp_path / "p" / "clean_labels.npy").exists()
    skipped = table(tmp_path / "p" / "skipped.csv")
    assert skipped == [{"file": BROKEN, "reason": "does not decode as an image (of no known format)"}]
    suspects = {row["file"]: row["label"] for row in table(tmp_path / "p" / "suspects.csv")}
    assert len(suspects) == 19 and suspects["train/blue/0.png"] == ("red" if labelled else "blue")

    flags = next_flags(printed)
    run("ssl.py", *flags, *SMALL[2:], "--epoch", "2", "--experiment_name", "s")
    assert np.load(tmp_path / "s" / "labels.npy").tolist() == given
    assert table(tmp_path / "s" / "skipped.csv") == skipped
    if labelled:
        flags = [flag for flag in flags if flag not in ("--labels", str(labels))]
        with pytest.raises(UserError, match="labels_file '[0-9a-f]{16}' there, none here"):
            run("ssl.py", *flags, *SMALL[2:], "--experiment_name", "t")


def test_a_second_stage_may_hold_broken_images_too(run, tmp_path, image_folder):
    (image_folder / BROKEN).write_text("not an image")
    flags = ["--second_stage_data_name", "folder", "--second_stage_root", image_folder]
    flags = [*TINY_DIGITS, *flags, "--epoch_1st", "1", "--steps_total", "1", "--experiment_name", "e"]
    with pytest.raises(UserError, match="1 of 20 images .* leave them out with --skip_broken"):
        run("main.py", *flags)
    run("main.py", *flags, "--skip_broken")
    assert [row["file"] for row in table(tmp_path / "e" / "skipped_2nd.csv")] == [BROKEN]
    assert not (tmp_path / "e" / "skipped.csv").exists()


def test_human_noise_on_a_set_whose_truth_is_known(run, tmp_path):
    given = datasets.load("digits").labels.copy()
    wrong = np.flatnonzero(given == 0)[::3]
    given[wrong] = 1
    np.savez(tmp_path / "people.npz", worse=given)
    mine = ["--labels", f"{tmp_path}/people.npz:worse", *TINY]
    printed = run("relabel.py", *mine, "--first_stage_subset", "0", "1", "2", "--epoch_1st", "2", "--warmup_e", "1")
    folder = tmp_path / "relabel_digits_classes0-1-2_labels-people.npz-worse_seed1"
    figures = record(folder)["figures"]
    known = np.load(folder / "clean_labels.npy") != np.load(folder / "labels.npy")
    assert known.sum() == len(wrong) and figures["noise_ratio_realised"] == pytest.approx(known.mean())
    assert 0 <= figures["auc_relabel_score"] <= 1 and "wrong_labels_corrected" in figures
    run("ssl.py", *next_flags(printed), *TINY, "--epoch", "2", "--experiment_name", "s")
    assert record(tmp_path / "s")["figures"]["noise_ratio_realised"] == pytest.approx(known.mean())
    assert record(tmp_path / "s")["data"] == record(folder)["data"]


def test_an_unfinished_run_does_not_go_on_with_other_labels(run, tmp_path, mine, labels, monkeypatch):
    flags = [*mine, "--labels", labels, "--epoch_1st", "2", "--experiment_name", "p"]
    with monkeypatch.context() as patch:
        patch.setattr("utils.methods.cross_tracking.write_results", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("parallel.py", *flags)
    labels.write_text(labels.read_text().replace("blue/1.png,blue", "blue/1.png,red"))
    with pytest.raises(UserError, match="what the unfinished run .* worked on has changed: .*labels_file"):
        run("parallel.py", *flags)

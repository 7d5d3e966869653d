"""What an earlier commit left, without format, list of files and later flags, is read as what this one leaves."""

import json

import pytest
import torch
from PIL import Image

from tests.tiny import TINY_ARGS, load_script
from utils import classifier, export, summary
from utils.errors import UserError

LATER = ("report", "ood_ratio", "mirror", "noise_type")  # by default None, 0, True, and made of another flag
ENTRIES = ("format", "finish_number", "files")


def make_earlier(folder):
    record = json.loads((folder / "run.json").read_text())
    for key in ENTRIES:
        del record[key]
    for name in (name for name in list(record["settings"]) if name.removeprefix("first_stage_") in LATER):
        del record["settings"][name]
    (folder / "run.json").write_text(json.dumps(record))
    for file in folder.glob("*.pt"):
        saved = torch.load(file, weights_only=True)
        del saved["format"]
        torch.save(saved, file)


@pytest.fixture
def separated(finished):
    folder = finished("relabel.py", "separated")
    make_earlier(folder)
    return folder


def test_the_whole_chain_goes_on_from_it(tmp_path, run, separated, capsys):
    for words in (["--relabel", "separated"], ["--relabel"]):
        run("ssl.py", *TINY_ARGS["ssl.py"], *words, "--experiment_name", "trained", "--overwrite")
    make_earlier(tmp_path / "trained")
    summary.main([str(tmp_path)])
    assert "test_accuracy" in capsys.readouterr().out
    labels = tmp_path / "labels.csv"
    export.main([str(separated), "--p_noisy", "0.9", "--suspects", "drop", "--labels_csv", str(labels)])
    assert labels.read_text().startswith("sample_id,label")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    capsys.readouterr()
    classifier.main([str(tmp_path / "trained" / "model.pt"), str(tmp_path / "images"), "--cuda_dev", "-1"])
    assert "a.png\t" in capsys.readouterr().out


def test_a_finished_run_shows_its_figures_again_unless_a_later_flag_asks_for_something_else(tmp_path, run, separated):
    words = [*TINY_ARGS["relabel.py"], "--experiment_name", "separated"]
    assert "is finished" in run("relabel.py", *words)
    assert "is finished" in run("relabel.py", *words, "--mirror")  # the default by its name
    with pytest.raises(UserError, match="other settings: report none there, 5 here — "):
        load_script("relabel.py").main([*words, "--report", "5", "--experiments_root", str(tmp_path)])

"""The page of a finished run once more: the one that the run would have written, and no other run's."""

import json

import pytest

from tests.tiny import TINY
from utils import page
from utils.errors import UserError
from utils.experiments.experiment import locked


def of_pictures(run, tmp_path, image_folder):
    """suspects.html of a run on 20 pictures that shows the first five."""
    flags = ["--dataset", "folder", "--train_root", image_folder, *TINY, "--epoch_1st", "2", "--batch_size", "10"]
    run("relabel.py", *flags, "--report", "5", "--experiment_name", "e")
    return tmp_path / "e" / "suspects.html"


def test_it_is_the_page_that_the_run_would_have_written(run, tmp_path, image_folder, capsys):
    file = of_pictures(run, tmp_path, image_folder)
    before, record = file.read_bytes(), (tmp_path / "e" / "run.json").read_bytes()
    page.main(["e", "--experiments_root", str(tmp_path), "--report", "12"])
    assert "to look at 12 samples open" in capsys.readouterr().out
    assert len(file.read_bytes()) > len(before)
    page.main([str(tmp_path / "e")])
    assert "to look at 20 samples open" in capsys.readouterr().out  # by default all of so few
    page.main([str(tmp_path / "e"), "--report", "5"])
    assert file.read_bytes() == before and (tmp_path / "e" / "run.json").read_bytes() == record


def test_files_may_have_moved_but_not_changed(run, tmp_path, image_folder):
    file = of_pictures(run, tmp_path, image_folder)
    before = file.read_bytes()
    moved = image_folder.rename(tmp_path / "elsewhere")
    page.main([str(tmp_path / "e"), "--report", "5", "--train_root", str(moved)])
    assert file.read_bytes() == before
    next((moved / "train" / "red").glob("*.png")).unlink()
    with pytest.raises(UserError, match="e judged other data: "):
        page.main([str(tmp_path / "e"), "--report", "5", "--train_root", str(moved)])
    assert file.read_bytes() == before


def test_whoever_works_in_the_folder_has_it_alone(finished):
    folder = finished("parallel.py", "e")
    with locked(folder, may_only_read=False), pytest.raises(UserError, match="another process is working in"):
        page.main([str(folder), "--report", "7"])


@pytest.mark.parametrize("script", ["main.py", "parallel.py"])
def test_a_set_without_a_page_gets_one(finished, script):
    folder = finished(script, "e")
    assert not (folder / "suspects.html").exists()
    page.main([str(folder), "--report", "7"])
    assert "pictures" in (folder / "suspects.html").read_text()
    assert "suspects.html" in json.loads((folder / "run.json").read_text())["files"]
    with pytest.raises(UserError, match="digits needs no files, so --train_root does nothing"):
        page.main([str(folder), "--train_root", str(folder)])


def test_the_second_opinion_of_ssl_has_a_page_too(run, finished, tmp_path):
    finished("parallel.py", "sep")
    run("ssl.py", "--subset", "0", "1", "2", *TINY, "--epoch", "1", "--runs", "1", "--parallel", "sep",
        "--experiment_name", "e")  # fmt: skip
    page.main([str(tmp_path / "e"), "--report", "3"])
    assert (tmp_path / "e" / "suspects.html").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda settings: settings.pop("noise_seed"),
        lambda settings: settings.update(train_root=3),
        lambda settings: settings.update(first_stage_subset=3),
        lambda settings: settings.update(first_stage_noise_type="x"),
    ],
    ids=["lacking", "root", "subset", "noise"],
)
def test_settings_that_make_no_data_are_said_to(finished, damage):
    folder = finished("parallel.py", "e")
    record = json.loads((folder / "run.json").read_text())
    damage(record["settings"])
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="of another version, or damaged"):
        page.main([str(folder), "--report", "3"])

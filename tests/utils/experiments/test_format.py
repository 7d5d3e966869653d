"""The number of the format: written everywhere, missing in what earlier commits left, refused where it is unknown."""

import json

import pytest
import torch

from utils.errors import UserError
from utils.experiments.artifacts import load_torch, save_torch
from utils.experiments.experiment import Experiment
from utils.experiments.format import FORMAT
from utils.experiments.record import finished_records, next_finish_number, read_finished


def open_run(root, overwrite=False):
    return Experiment(root, "run").open("main.py", "forget", {}, overwrite)


@pytest.fixture
def begun(tmp_path):
    """The folder of a run that was stopped after a checkpoint."""
    with open_run(tmp_path) as experiment:
        experiment.begin({})
        experiment.save_torch("model.pt", {"weights": torch.ones(3)})
        experiment.state.save("first", {}, 1.0)
    return experiment.path


def with_format(file, number):
    """The file as another version would have written it; None = without a number."""
    content = json.loads(file.read_text()) if file.suffix == ".json" else torch.load(file, weights_only=True)
    content["format"] = number
    if number is None:
        del content["format"]
    if file.suffix == ".json":
        file.write_text(json.dumps(content))
    else:
        torch.save(content, file)


def test_everything_bears_the_number(begun):
    assert json.loads((begun / "run.json").read_text())["format"] == FORMAT
    for name in ("model.pt", "checkpoint.pt"):
        assert torch.load(begun / name, weights_only=True)["format"] == FORMAT


@pytest.mark.parametrize("number", [None, 0, FORMAT])
def test_records_and_networks_of_earlier_commits_are_read(tmp_path, begun, number):
    with open_run(tmp_path) as experiment:
        experiment.finish({"auc": 0.5})
    with_format(begun / "run.json", number)
    with_format(begun / "model.pt", number)
    assert read_finished(tmp_path, "run")["figures"] == {"auc": 0.5}
    assert load_torch(begun / "model.pt", {"weights": object}, "train again")["weights"].sum() == 3


@pytest.mark.parametrize("number", [FORMAT + 1, -1, "1", 1.0, True, []], ids=str)
def test_unknown_formats_are_one_line(tmp_path, begun, number):
    with_format(begun / "run.json", number)
    with_format(begun / "model.pt", number)
    what = r"is of format .* and not of formats 0 to \d+: another version of the scripts wrote it — go on with that"
    with pytest.raises(UserError, match=rf"model\.pt {what} version, or train again$"):
        load_torch(begun / "model.pt", {"of a later version": object}, "train again")
    with pytest.raises(UserError, match=rf"run\.json {what} version, or .*--overwrite$"), open_run(tmp_path):
        pass
    with open_run(tmp_path, overwrite=True) as experiment:
        experiment.begin({})
    assert json.loads((begun / "run.json").read_text())["format"] == FORMAT


def test_finished_runs_of_a_later_format_are_passed_over_aloud_and_keep_their_number(tmp_path, begun, capsys):
    with open_run(tmp_path) as experiment:
        experiment.finish({})
    with_format(begun / "run.json", FORMAT + 1)
    assert finished_records(tmp_path) == []
    assert capsys.readouterr().err.startswith(f"passed over: {begun / 'run.json'} is of format {FORMAT + 1} and not of")
    assert next_finish_number(tmp_path) == 2
    with Experiment(tmp_path, "newer").open("main.py", "forget", {}) as newer:
        newer.begin({})
        newer.finish({})
    assert newer.record["finish_number"] == 2 and capsys.readouterr().err == ""
    (begun / "run.json").write_text("[" * 100_000)  # damaged
    assert next_finish_number(tmp_path) == 3


@pytest.mark.parametrize("number", [None, FORMAT - 1, FORMAT + 1])
def test_checkpoints_of_another_format_are_one_line(tmp_path, begun, number):
    with_format(begun / "checkpoint.pt", number)
    line = r"checkpoint\.pt is of format \d+ and not of format \d+: .* — go on with that version, or use --overwrite"
    with pytest.raises(UserError, match=line), open_run(tmp_path):
        pass
    with open_run(tmp_path, overwrite=True):
        pass


def test_a_run_that_goes_on_is_of_the_format_in_which_it_is_written(tmp_path, begun):
    with_format(begun / "run.json", None)
    with open_run(tmp_path) as experiment:
        experiment.finish({})
    assert json.loads((begun / "run.json").read_text())["format"] == FORMAT


def test_a_number_among_the_entries_is_not_the_writers(tmp_path):
    save_torch(tmp_path / "a.pt", {"format": 0})  # read from an earlier one, as stage1.pt is
    assert torch.load(tmp_path / "a.pt", weights_only=True) == {"format": FORMAT}

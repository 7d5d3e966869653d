"""The parts of the peers' benchmark that could be wrong without anyone noticing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.benchmarks import peers
from tests.benchmarks.over_seeds import choices
from utils.compute import Compute
from utils.data.noisy_data import prepare

TINY = ["--first_stage_subset", "0", "1", "2", "--width", "0.1", "--epochs", "2", "--cuda_dev", "-1", "--folds", "3"]


def settings(**changes) -> peers.Settings:
    usual = {"epochs": 60, "schedule": "steps", "lr": 0.1, "wd": 5e-4, "batch_size": 100, "width": 0.25, "folds": 4}
    usual["network"] = "preactResNet18"
    return peers.Settings(**usual | {"device": "cpu", "precision": "fp32", "compiled": False} | changes)


@pytest.mark.parametrize(("epochs", "folds", "each"), [(60, 4, 20), (40, 4, 13), (1, 4, 1), (30, 2, 30)])
def test_folds_share_the_images_of_the_plain_training(epochs, folds, each):
    assert settings(epochs=epochs, folds=folds).fold_epochs == each


@pytest.mark.parametrize(
    ("schedule", "rates"), [("steps", [0.1, 0.1, 0.01, 0.001]), ("cosine", [0.1, 0.085, 0.05, 0.015])]
)
def test_the_rate_falls_over_the_epochs_of_each_network(schedule, rates):
    rate = settings(schedule=schedule).optimisation(4, seed=1).schedule.rate
    assert [rate(epoch) for epoch in range(4)] == pytest.approx(rates, abs=5e-4)


def test_margin_is_the_labels_logit_less_the_largest_other_one():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-1.0, -1.0, -5.0]])
    assert peers.margins(logits, torch.tensor([0, 2, 1])).tolist() == [1.0, -1.0, 0.0]


def test_the_auc_of_uniform_errors_by_hand():
    probs = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    # Right labels have 0.6 and 0.3, the others 0.3, 0.1, 0.2, 0.5: of eight pairs the right one leads in 4 and 2.5.
    assert peers.auc_of_uniform_errors(probs, np.array([0, 2])) == pytest.approx(6.5 / 8)


def test_each_sample_is_seen_once_an_epoch_with_its_own_logits():
    choice = replace(choices(peers.make_parser().parse_args(TINY))[0], seed=1)
    compute = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)
    data, epochs = prepare(choice, compute), [[]]

    def see(batch: torch.Tensor, logits: torch.Tensor) -> None:
        assert logits.shape == (len(batch), data.num_classes) and not logits.requires_grad
        epochs[-1].append(batch)

    usual = settings(epochs=2, width=0.1)
    peers.train(data, compute, usual, 1, epochs=2, see=see, after_epoch=lambda network: epochs.append([]))
    assert [torch.cat(seen).sort()[0].tolist() for seen in epochs[:2]] == [list(range(len(data)))] * 2


@pytest.mark.slow
def test_results_are_kept_and_used_again(tmp_path, capsys):
    command = [*TINY, "--seeds", "1", "2", "--ceiling", "--root", str(tmp_path)]
    peers.main(command)
    first, files = capsys.readouterr().out, sorted(tmp_path.iterdir())
    assert len(files) == (6 if peers.has_cleanlab() else 4)
    assert ("cleanlab self_confidence" in first) == peers.has_cleanlab()
    assert all(row in first for row in ("AUC: AUM", "true labels, last"))
    assert all(np.isfinite(value) for file in files for value in flat(json.loads(file.read_text())["result"]))
    for file in files[:1]:
        file.unlink()  # as if the run had been cut off
    times = {file: file.stat().st_mtime_ns for file in files[1:]}
    peers.main(command)
    assert table(capsys.readouterr().out) == table(first)
    assert times == {file: file.stat().st_mtime_ns for file in files[1:]} and files[0].exists()
    peers.main([*command, "--lr", "0.05"])
    assert len(list(tmp_path.iterdir())) == 2 * len(files)


def flat(result: dict) -> list[float]:
    return [value for entry in result.values() for value in (entry if isinstance(entry, list) else [entry])]


def table(text: str) -> list[str]:  # its rows
    return text.splitlines()[-10:]

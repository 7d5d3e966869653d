"""What the separation scripts leave behind: labels, scores, suspects, accuracies, comparisons."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from utils.batches import DeviceImages
from utils.cli import DataChoice
from utils.compute import Compute
from utils.errors import UserError
from utils.experiment import Experiment, load_array
from utils.noisy_data import NoisyData
from utils.separation import (
    accuracy_figures,
    accuracy_numbers,
    columns,
    compare,
    require_same_data,
    save_scores,
    start,
)
from utils.separation import test_accuracy as accuracy_on_test_set  # pytest would take it for a test

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)
CLASSES = ("ant", "bee", "cat")


def noisy_data(samples=4, wrong=(1,), known=True, files=False):
    """Labels 0, 1, 2, 0 ... of which `wrong` are one class too high; sample ids count in tens."""
    clean = np.arange(samples) % 3
    labels = clean.copy()
    labels[list(wrong)] = (labels[list(wrong)] + 1) % 3
    images = np.random.default_rng(0).integers(0, 256, (samples, 3, 8, 8), dtype=np.uint8)
    return NoisyData(
        choice=DataChoice("digits", None, None, None, None, "random_in_noise" if known else "none", 0.25, 1),
        images=DeviceImages(images, CPU, mirrored=False),
        labels=labels,
        clean_labels=clean if known else None,
        class_names=CLASSES,
        sample_ids=10 * np.arange(samples),
        file_names=tuple(f"{i}.png" for i in range(samples)) if files else None,
        test_images=None,
        test_labels=None,
        images_fingerprint="f" * 16,
    )


@pytest.fixture
def experiment(tmp_path):
    with Experiment(tmp_path, "run").open("main.py", "forget", {}) as experiment:
        yield experiment


def names(experiment):
    return {file.name for file in experiment.path.iterdir()}


def suspects(experiment):
    with open(experiment.path / "suspects.csv", newline="") as handle:
        return list(csv.DictReader(handle))


# The start of a run.


def test_a_run_saves_the_labels_it_works_on(experiment, capsys):
    data = noisy_data()
    start(experiment, data, CPU)
    for name in ("labels", "clean_labels", "sample_ids"):
        saved = load_array(experiment.path / f"{name}.npy")
        assert saved.dtype == np.int64
        np.testing.assert_array_equal(saved, getattr(data, name))
    assert experiment.record["data"] == data.fingerprint()
    printed = capsys.readouterr().out
    assert "device: CPU, 1 threads, fp32" in printed
    assert "requested 0.2500, realised 0.2500 (1 of 4 labels)" in printed


def test_an_unknown_truth_is_not_made_up(experiment, capsys):
    start(experiment, noisy_data(known=False), CPU)
    assert "clean_labels.npy" not in names(experiment)
    assert "the truth about the labels is unknown" in capsys.readouterr().out


# Scores and suspects.


def test_scores_are_saved_in_the_order_of_the_data_with_their_auc(experiment):
    scores = {"forget_ce": np.array([0.1, 0.9, 0.2, 0.3]), "forget_loss": np.array([3.0, 2.0, 4.0, 1.0])}
    figures = save_scores(experiment, noisy_data(), scores)
    # Sample 1 is the wrong one: above all others by one score, above one of three by the other.
    assert figures == {"auc_forget_ce": 1.0, "auc_forget_loss": pytest.approx(1 / 3), "noise_ratio_realised": 0.25}
    for name, values in scores.items():
        saved = load_array(experiment.path / f"{name}.npy")
        assert saved.dtype == np.float32
        np.testing.assert_array_equal(saved, np.float32(values))
    assert {"roc.png", "scores.png", "suspects.csv"} <= names(experiment)


def test_without_the_truth_there_is_no_auc_and_no_roc(experiment):
    figures = save_scores(experiment, noisy_data(known=False), {"forget_loss": np.arange(4.0)})
    assert figures == {"auc_forget_loss": None, "noise_ratio_realised": None}
    assert "roc.png" not in names(experiment) and "scores.png" in names(experiment)


def test_suspects_come_first_and_carry_everything_known(experiment):
    scores = {"forget_ce": np.array([0.1, 0.9, 0.1, 0.3]), "forget_loss": np.array([3.0, 2.0, 4.0, 1.0])}
    save_scores(experiment, noisy_data(files=True), scores)
    rows = suspects(experiment)
    assert [row["sample_id"] for row in rows] == ["10", "30", "0", "20"]  # equal scores in the order of the data
    assert rows[0] == {"sample_id": "10", "file": "1.png", "label": "cat", "forget_ce": "0.9", "forget_loss": "2"}


def test_p_noisy_is_listed_where_a_mixture_fits(experiment):
    generator = np.random.default_rng(0)
    wrong = np.arange(300) % 3 == 0
    scores = generator.normal(np.where(wrong, 5.0, 1.0), 0.3)  # two modes, far apart
    save_scores(experiment, noisy_data(300, np.flatnonzero(wrong)), {"forget_loss": scores})
    p_noisy = np.array([float(row["p_noisy"]) for row in suspects(experiment)])
    assert (np.diff(p_noisy) <= 0).all()
    assert (p_noisy > 0.5).sum() == wrong.sum()


# Accuracies.


def test_test_accuracy_is_left_out_without_a_test_set():
    data = noisy_data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3))
    nn.init.zeros_(model[1].weight)
    model[1].bias.data = torch.tensor([0.0, 1.0, 0.0])  # says "bee" to everything
    assert accuracy_on_test_set(model, data, CPU, None) is None
    data.test_images, data.test_labels = data.images, np.array([1, 1, 1, 2])
    assert accuracy_on_test_set(model, data, CPU, 3) == 0.75


ROWS = [
    {"epoch": 1, "train_accuracy": 0.5, "test_accuracy": 0.4, "auc": None},
    {"epoch": 2, "train_accuracy": 0.7, "test_accuracy": 0.6, "auc": ""},
    {"epoch": 3, "train_accuracy": 0.9, "test_accuracy": 0.5},
]


def test_columns_are_floats_with_gaps_and_empty_ones_left_out():
    found = columns([{"a": "1.5", "b": ""}, {"a": "", "b": None}, {"a": 2}], {"A": "a", "B": "b", "C": "c"})
    assert found.keys() == {"A"}
    np.testing.assert_array_equal(found["A"], [1.5, np.nan, 2])


def test_accuracy_numbers_are_the_last_and_the_best():
    assert accuracy_numbers(ROWS) == {"train_accuracy": 0.9, "test_accuracy": 0.5, "test_accuracy_best": 0.6}
    without_test = [row | {"test_accuracy": None} for row in ROWS]
    assert accuracy_numbers(without_test) == {"train_accuracy": 0.9}


def test_the_accuracy_figure_is_drawn(experiment):
    accuracy_figures(experiment, ROWS, {"train": "train_accuracy", "AUC": "auc"})
    assert (experiment.path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


# Comparison with another experiment.


def finished(root, name, scores, data):
    with Experiment(root, name).open("main.py", "forget", {}) as experiment:
        start(experiment, data, CPU)
        save_scores(experiment, data, scores)
        experiment.finish({})
    return experiment


def two_modes(wrong, seed):
    return np.random.default_rng(seed).normal(np.where(wrong, 5.0, 1.0), 0.3)


def test_two_experiments_on_the_same_data_are_compared_score_by_score(tmp_path):
    wrong = np.arange(300) % 3 == 0
    data = noisy_data(300, np.flatnonzero(wrong))
    first = finished(tmp_path, "a", {"forget_ce": two_modes(wrong, 0), "forget_loss": two_modes(wrong, 1)}, data)
    finished(tmp_path, "b", {"relabel_loss": two_modes(wrong, 2)}, data)
    rows = [line.split() for line in compare(first, "b").splitlines() if "relabel_loss" in line]
    assert [row[:2] for row in rows] == [["forget_ce", "relabel_loss"], ["forget_loss", "relabel_loss"]]
    assert [row[3:] for row in rows] == [["200", "200", "200", "1.0000", "1.0000"]] * 2  # clean, clean, both, ...


def test_without_the_truth_the_purity_is_unknown(tmp_path):
    data = noisy_data(30, known=False)
    first = finished(tmp_path, "a", {"forget_loss": np.arange(30.0)}, data)
    finished(tmp_path, "b", {"forget_loss": np.arange(30.0)}, data)
    assert compare(first, "b").splitlines()[-1].split()[-1] == "unknown"


def test_other_data_are_not_compared(tmp_path):
    first = finished(tmp_path, "a", {"forget_loss": np.arange(30.0)}, noisy_data(30))
    finished(tmp_path, "b", {"forget_loss": np.arange(30.0)}, noisy_data(30, wrong=(2,)))
    with pytest.raises(UserError, match="^b judged other data: labels '.*' there, '.*' here — "):
        compare(first, "b")
    with pytest.raises(UserError, match="no experiment folder"):
        compare(first, "c")


def test_every_difference_between_data_is_named():
    ours = {"data_set": "digits", "seed": 1, "samples": 30}
    require_same_data(ours, dict(ours), "other")
    with pytest.raises(UserError, match="seed 2 there, 1 here; samples None there, 30 here"):
        require_same_data(ours, {"data_set": "digits", "seed": 2}, "other")

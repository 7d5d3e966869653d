"""Figures and files of the noise as estimated, of p_noisy and of accuracies, in a real experiment folder."""

import contextlib
import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.utils.results.drawn import SUBJECT
from utils.compute import choose
from utils.errors import Foreseen
from utils.experiments.experiment import Experiment
from utils.results import reporting, separation_results
from utils.results.reporting import foresee, write_accuracy_figure, write_reliability, write_transition
from utils.training.expectation import Expectation

LABELS = np.array([0, 1, 1, 1])
CLEAN = np.array([0, 0, 1, 1])
ESTIMATED = np.array([[0.75, 0.25], [0.125, 0.875]])


def data(clean=CLEAN):
    return SimpleNamespace(
        labels=LABELS,
        clean_labels=clean,
        is_noisy=None if clean is None else clean != LABELS,
        class_names=("cat", "dog, wet"),
        num_classes=2,
        choice=SimpleNamespace(in_words=lambda: SUBJECT),
        describe=lambda augmented: "what they are",
    )


@contextlib.contextmanager
def experiment(root):
    with Experiment(root, "run").open("main.py", "forget", {}) as opened:
        opened.begin({"images": "abc"})
        yield opened


def given_to(monkeypatch, module, name):
    """What `name` of the module, which draws, is given after the path."""
    given = []
    monkeypatch.setattr(module, name, lambda path, *arguments: given.append((path.name, *arguments)))
    return given


def own(experiment):
    return {path.name for path in experiment.record.own_files()}


def test_the_estimated_transition_is_a_table_with_the_true_classes_as_rows(tmp_path):
    with experiment(tmp_path) as run:
        write_transition(run, data(), ESTIMATED)
        with open(run.path / "transition_estimated.csv", newline="") as handle:
            rows = list(csv.reader(handle))
        assert rows == [
            ["true class / label", "cat", "dog, wet"],
            ["cat", "0.750000", "0.250000"],
            ["dog, wet", "0.125000", "0.875000"],
        ]
        assert {"transition_estimated.csv", "transition_estimated.png"} <= own(run)


@pytest.mark.parametrize("clean", [CLEAN, None], ids=["truth", "no truth"])
def test_the_truth_stands_beside_the_estimate_where_it_is_known(tmp_path, monkeypatch, clean):
    given = given_to(monkeypatch, reporting, "transition_figure")
    with experiment(tmp_path) as run:
        write_transition(run, data(clean), ESTIMATED)
    ((_, matrices, names, _, subject),) = given
    assert matrices.pop("estimated without the truth") is ESTIMATED
    assert names == ("cat", "dog, wet") and subject == SUBJECT
    if clean is None:
        assert matrices == {}
    else:
        np.testing.assert_array_equal(matrices.pop("true"), [[0.5, 0.5], [0, 1]])


def test_the_figure_says_where_symmetric_noise_was_assumed(tmp_path, monkeypatch):
    given = given_to(monkeypatch, reporting, "transition_figure")
    with experiment(tmp_path) as run:
        write_transition(run, data(None), ESTIMATED, symmetric=True)
        write_transition(run, data(None), ESTIMATED)
    titles = [title for _, _, _, title, _ in given]
    assert titles == ["Estimated label noise, taken to be symmetric", "Estimated label noise"]


def test_the_estimate_does_not_depend_on_the_truth(tmp_path):
    tables = []
    for name, clean in (("known", CLEAN), ("unknown", None)):
        with experiment(tmp_path / name) as run:
            write_transition(run, data(clean), ESTIMATED)
            tables.append((run.path / "transition_estimated.csv").read_bytes())
    assert tables[0] == tables[1]


def test_the_calibration_error_of_p_noisy(tmp_path):
    """Called 0.3, 0.3 and 0.3 none is wrong, called 0.9 one: (3 * 0.3 + 0.1) / 4."""
    with experiment(tmp_path) as run:
        found = write_reliability(run, data(), np.array([0.3, 0.9, 0.3, 0.3]))
        assert found == pytest.approx({"p_noisy_calibration_error": 0.25})
        assert "reliability.png" in own(run)


def test_without_the_truth_there_is_no_reliability(tmp_path):
    with experiment(tmp_path) as run:
        assert write_reliability(run, data(None), np.full(4, 0.5)) == {}
        assert "reliability.png" not in own(run)


@pytest.mark.parametrize("rates", [[0.1, 0.01], None])
def test_the_accuracy_figure_has_the_rates_of_the_history(tmp_path, monkeypatch, rates):
    given = given_to(monkeypatch, reporting, "accuracy_figure")
    rows = [{"epoch": "1", "test_accuracy": 0.5}, {"epoch": "2", "test_accuracy": 0.75}]
    for row, rate in zip(rows, rates or (), strict=bool(rates)):
        row["lr"] = rate
    with experiment(tmp_path) as run:
        names = {"test": "test_accuracy", "train": "train_accuracy"}
        write_accuracy_figure(run, data(), rows, names, "a.png", marks={"then": 1})
    ((name, epochs, curves, _, _, subject, drawn, marks),) = given
    assert marks == {"then": 1}
    assert (name, epochs, list(curves), subject) == ("a.png", [1, 2], ["test"], SUBJECT)
    assert drawn is None if rates is None else drawn.tolist() == rates


def test_scores_are_drawn_with_where_suspects_begin_and_how_many_are_estimated(tmp_path, monkeypatch):
    """p_noisy reaches 0.5 between the scores 2 and 4 of the first; of the second nothing of that kind is known."""
    histograms = given_to(monkeypatch, separation_results, "histogram_figure")
    rocs = given_to(monkeypatch, separation_results, "roc_figure")
    scores = {"first": np.array([1, 5, 2, 4.0]), "second": np.array([4, 3, 2, 1.0])}
    with experiment(tmp_path) as run:
        separation_results.draw_scores(run, data(), scores, np.array([0.1, 0.9, 0.2, 0.5]), {}, 2)
    assert list(histograms[0][1]) == ["first", "second", "p_noisy"]
    assert histograms[0][3:] == (SUBJECT, {}, {"first": 3.0, "p_noisy": 0.5}, "p_noisy = 0.5")
    assert rocs[0][0] == "roc.png" and rocs[0][3:] == (SUBJECT, 2)


@pytest.mark.parametrize(
    ("calibrated", "symmetric", "said"),
    [
        (False, True, "; not calibrated: too few errors were planted (go by the order, not by p_noisy)"),
        (True, True, "; fewer than 100 images a class: it may be far off (go by the order, not by p_noisy)"),
        (True, False, ""),
    ],
)
def test_the_share_of_wrong_labels_is_told_with_how_far_it_is_to_be_trusted(
    tmp_path, capsys, calibrated, symmetric, said
):
    posterior = SimpleNamespace(
        noise_rate_=0.25, calibrated_=calibrated, assumes_symmetric_=symmetric,
        memorisation_=SimpleNamespace(factor=2.0), temperature_=0.5, symmetric_=1.0, alike_=1.0,
    )  # fmt: skip
    planted = SimpleNamespace(planted=SimpleNamespace(ids=np.arange(7)))
    evidence = SimpleNamespace(window="all epochs", data=planted)
    with experiment(tmp_path) as run:
        capsys.readouterr()
        separation_results.log_posterior("p_noisy", posterior, evidence, run)
        assert capsys.readouterr().out == f"p_noisy: estimated share of wrong labels 0.250{said}\n"
        in_file = (run.path / "log.txt").read_text()
    assert ("7 errors planted on purpose, most of all by the predictions of all epochs" in in_file) == calibrated


@pytest.mark.parametrize("clean", [None, LABELS, 1 - LABELS], ids=["unknown", "all right", "all wrong"])
def test_a_roc_that_is_undefined_is_left_out(tmp_path, clean):
    with experiment(tmp_path) as run:
        separation_results.draw_roc(run, data(clean), {"first": np.arange(4.0)}, 1)
        assert "roc.png" not in run.record["files"] and not (run.path / "roc.png").exists()


def test_no_process_is_still_at_the_folder_when_an_estimate_removes_it(tmp_path, capsys):
    with experiment(tmp_path) as run:
        waited = []
        compute = replace(choose(-1), ranks=SimpleNamespace(wait=lambda: waited.append(run.path.exists())))
        with pytest.raises(Foreseen):
            foresee(run, data(None), lambda short: Expectation(1.0, 1, 1, 1), compute, only=True)
        assert waited == [True]
        assert capsys.readouterr().out.startswith("what they are\nexpected: ")

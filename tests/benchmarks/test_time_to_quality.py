"""Time to quality: whole on a tiny set, and when a curve reaches a value, by hand."""

import pytest
import torch

from tests.benchmarks import peers, time_to_quality
from tests.benchmarks.time_to_quality import Found, reached, table
from utils.results.tables import as_text


def test_when_a_curve_reaches_a_value():
    points = [(1, 2.0, 0.6), (2, 4.0, 0.8), (3, 6.0, 0.7)]
    assert reached(points, Found(8.0, 0.7)) == (
        "relabel.py's running score reaches it after 4 s, 0.50 of that time (epoch 2)"
    )
    assert reached(points, Found(8.0, 0.9)) == "relabel.py's running score does not reach it"


def test_of_a_way_without_a_figure_the_cell_stays_empty():
    lines = as_text(table([{"a": Found(10.0, 0.5), "b": Found(20.0, test=0.25)}])).splitlines()
    assert [line.split() for line in lines] == [
        ["way", "seconds", "AUC", "test", "accuracy"], ["a", "10.0", "(1)", "0.5000", "(1)"],
        ["b", "20.0", "(1)", "0.2500", "(1)"],
    ]  # fmt: skip


def test_margins_of_batches_add_up():
    aum = time_to_quality.Aum(3)
    for logits in ([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]]):
        aum(torch.tensor(logits), torch.tensor([0, 0, 0]), torch.tensor([2, 0, 1]))
    assert aum.scores().tolist() == [3.0, 0.0, -3.0]  # sample 0: margins -1 and -2


@pytest.mark.slow
def test_the_table_is_whole_and_its_parts_are_used_again(tmp_path, capsys):
    command = ["--first_stage_subset", "0", "1", "2", "--root", str(tmp_path), "--cuda_dev", "-1", "--workers", "0"]
    command += ["--width", "0.1", "--epochs", "2", "--training", "--epoch 2"]
    command += ["--separation", "--epoch_1st 4 --warmup_e 2"]
    time_to_quality.main(command)
    first, parts = capsys.readouterr().out, sorted((tmp_path / "parts").iterdir())
    assert len(parts) == (4 if peers.has_cleanlab() else 3)
    assert ("4 folds and cleanlab:" in first) == peers.has_cleanlab()
    assert "running score after epoch: 1: " in first and "cross-entropy, best epoch, ORACLE" in first
    times = [part.stat().st_mtime_ns for part in parts]
    time_to_quality.main(command)
    assert capsys.readouterr().out == first
    assert times == [part.stat().st_mtime_ns for part in parts]

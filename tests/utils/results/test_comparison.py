"""Two experiments side by side: the names that the table and the figure give them."""

from types import SimpleNamespace

import numpy as np
import pytest

from utils.experiments.record import Record
from utils.results import comparison

DATA = {"data_set": "digits", "samples": 40}


def finished(root, name, choose):
    (root / name).mkdir()
    record = Record.new(root / name, "parallel.py", "parallel", {"choose": choose}, {})
    record.save_array("parallel_loss", np.random.default_rng(len(name)).random(40).astype(np.float32))
    record.update(data=DATA, status="finished")
    return SimpleNamespace(path=record.path, name=name, record=record)


@pytest.mark.parametrize("choose", [("proxy", "oracle"), ("oracle", "last")])
def test_an_oracle_is_called_one(tmp_path, monkeypatch, choose):
    ours, theirs = finished(tmp_path, "mine", choose[0]), finished(tmp_path, "other", choose[1])
    a, b = ("mine", "other (oracle)") if choose[1] == "oracle" else ("mine (oracle)", "other")
    assert f"scores of {a} (A) and {b} (B)\n" in comparison.compare_experiments(ours, theirs.name)
    titles = []
    monkeypatch.setattr(comparison, "overlap_figure", lambda path, ends, title, *_: titles.append(title))
    comparison.draw_comparison(ours, theirs.name, "digits")
    assert titles == [f"Scores of {a} and {b}"]

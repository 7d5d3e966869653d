"""The table of p_noisy: a row by hand, and what cannot be in it."""

import numpy as np
import pytest

from tests.benchmarks import reliability
from utils.errors import UserError
from utils.experiments.experiment import Experiment


def test_a_row_by_hand():
    p_noisy, wrong = np.array([0.0, 0.02, 0.95, 0.95, 0.95]), np.array([False, True, True, True, False])
    words = reliability.row("x", p_noisy, wrong).split()
    assert words[:4] == ["x", "0.574", "(0.600)", f"{(2 * 0.49 + 3 * (0.95 - 2 / 3)) / 5:.3f}"]
    assert words[4:] == ["0.01", ">", "0.50", "2", "0.95", ">", "0.67", "3"]  # the other tenths hold none


def test_an_experiment_is_read_where_its_truth_is_known(tmp_path):
    with Experiment(tmp_path, "run").open("relabel.py", "relabel", {}) as run:
        run.begin({"images": "abc"})
        for name, values in {"labels": [0, 1, 1], "p_noisy": [0.1, 0.2, 0.9]}.items():
            run.save_array(name, np.array(values))
        with pytest.raises(UserError, match="not finished"):
            reliability.read(run.path)
        run.finish({})
    with pytest.raises(UserError, match="the true labels of .*run are unknown"):
        reliability.read(tmp_path / "run")
    with Experiment(tmp_path, "known").open("relabel.py", "relabel", {}) as run:
        run.begin({"images": "abc"})
        for name, values in {"labels": [0, 1, 1], "p_noisy": [0.1, 0.2, 0.9], "clean_labels": [0, 1, 0]}.items():
            run.save_array(name, np.array(values))
        run.finish({})
    p_noisy, wrong = reliability.read(tmp_path / "known")
    assert p_noisy.tolist() == [0.1, 0.2, 0.9] and wrong.tolist() == [False, False, True]

"""Fewer tracked steps beside all of them, by hand."""

import numpy as np
import pytest

from tests.benchmarks.tracked_steps import Run, columns


def test_a_curve_goes_straight_between_tracked_steps():
    last = {"ce": np.zeros(2, np.float32), "loss": np.ones(2, np.float32)}
    dense = Run([0, 1, 2, 3], {"ce": [0.5, 0.6, 0.9, 0.8], "loss": [0.5] * 4}, last, 0.9, 4.0)
    sparse = Run([0, 1, 3], {"ce": [0.5, 0.6, 0.8], "loss": [0.5] * 3}, last, 0.8, 3.0)
    found = columns(sparse, dense)
    assert found["of all"] == 0.75 and found["last scores, max"] == 0 and found["auc_forget_score"] == 0.8
    assert found["auc_ce, max"] == pytest.approx(0.2) and found["auc_ce, mean"] == pytest.approx(0.05)
    assert found["auc_loss, max"] == 0

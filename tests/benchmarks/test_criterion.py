import json

import pytest

from tests.benchmarks.criterion import judge


def test_the_criterion_by_hand(tmp_path):
    (tmp_path / "history.csv").write_text(
        "epoch,auc_a,auc_b,planted_auc_a,planted_auc_b,planted_auc_c\n1,0.6,0.9,0.5,0.8,0.9\n2,0.8,0.7,0.7,0.6,0.9\n"
    )
    (tmp_path / "run.json").write_text(json.dumps({"method": "relabel", "figures": {"auc_relabel_score": 0.85}}))
    found = judge(tmp_path)  # c is not known by the truth
    assert found["rank correlation"] == pytest.approx(1)
    assert found["ORACLE"] == 0.9 and found["lost"] == pytest.approx(0.05)

import json

import numpy as np
import pytest

from tests.benchmarks.criterion import depth, judge, judge_rivals


def test_the_criterion_by_hand(tmp_path):
    (tmp_path / "history.csv").write_text(
        "epoch,auc_a,auc_b,planted_auc_a,planted_auc_b,planted_auc_c\n1,0.6,0.9,0.5,0.8,0.9\n2,0.8,0.7,0.7,0.6,0.9\n"
    )
    (tmp_path / "run.json").write_text(json.dumps({"method": "relabel", "figures": {"auc_relabel_score": 0.85}}))
    found = judge(tmp_path)  # c is not known by the truth
    assert found["rank correlation"] == pytest.approx(1)
    assert found["ORACLE"] == 0.9 and found["lost"] == pytest.approx(0.05)


def test_rivals_by_hand(tmp_path):
    labels = np.array([0, 0, 0, 1, 1, 1])
    wrong = np.array([0, 0, 1, 0, 0, 1])
    track = np.float32([[0, 1, 5, 2, 3, 4], [0, 1, 2, 3, 4, 5], [5, 4, 0, 3, 2, 1]])  # AUC 1, 0.75, 0
    others = tmp_path / "others"
    others.mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"method": "relabel"}))
    (tmp_path / "history.csv").write_text(
        "auc_relabel_loss,planted_auc_relabel_loss\n1.0,0.7\n0.75,0.9\n0.0,0.5\n0.5,\n"  # the last without a loss
    )
    np.save(tmp_path / "loss_track.npy", track)
    for folder in (tmp_path, others):
        np.save(folder / "labels.npy", labels)
    np.save(others / "cross_probs.npy", np.eye(2, dtype=np.float32)[labels ^ wrong])  # right of all
    found = judge_rivals(tmp_path, others)
    assert found["planted"] == (pytest.approx(0.5), pytest.approx(0.25))
    assert found["cross"] == (pytest.approx(1), pytest.approx(0))
    assert np.isnan(found["valley"][0]) and found["valley"][1] == pytest.approx(0)  # the first of all that are the same
    assert found["agreement"][0] == pytest.approx(0.5)  # the mean over the moments comes nearest to the second
    np.save(others / "labels.npy", labels[::-1])
    with pytest.raises(SystemExit, match="other labels"):
        judge_rivals(tmp_path, others)


def test_the_valley_is_deeper_the_further_apart_two_modes_are():
    generator = np.random.default_rng(0)
    apart, near, one = (
        np.concatenate([generator.normal(0, 1, 1000), generator.normal(distance, 1, 1000)]) for distance in (8, 4, 0)
    )
    assert 1 >= depth(apart) > depth(near) > depth(one) == 0

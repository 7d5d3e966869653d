"""What several separations say, put together: clean sets, vetoes."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.utils.results.drawn import SUBJECT
from utils.experiments.experiment import Experiment
from utils.methods.clean_set import find_scores, keep_scores, report_selection, select
from utils.results.found_scores import Found
from utils.scoring.selection import Selected

N = 8
SCORES = {"forget": np.arange(N) / N, "parallel": np.array([7, 0, 6, 1, 5, 2, 4, 3]) / N}


class Data(SimpleNamespace):
    def __len__(self):
        return len(self.labels)


def half(scores, estimated=None):
    """The lower half, with a probability that grows with the score."""
    return Selected(scores < 0.5, scores.astype(np.float32), "lower half")


@pytest.mark.parametrize("agree", [False, True])
@pytest.mark.parametrize("veto", [None, 0.4])
def test_the_clean_set_is_a_union_or_what_is_agreed_on_and_the_veto_takes_out(tmp_path, monkeypatch, agree, veto):
    monkeypatch.setattr("utils.methods.clean_set.histogram_figure", lambda *of: None)
    data = Data(
        labels=np.arange(N) // 2 % 2, clean_labels=None, is_noisy=None, num_classes=2, class_names=("cat", "dog"),
        choice=SimpleNamespace(in_words=lambda: SUBJECT),
    )  # fmt: skip
    scores = SCORES | {"relabel": SCORES["forget"]}
    estimated = dict.fromkeys(scores) | {"forget": scores["forget"].astype(np.float32)}
    with Experiment(tmp_path, "e").open("ssl.py", "ssl", {}) as experiment:
        experiment.begin({"images": "i"})
        chosen = select(half, scores, estimated, agree, veto, data)
        report_selection("run1", chosen, veto, data, experiment, "scores.png")
        clean, p_noisy = experiment.record.read_array("clean_set_run1"), chosen.p_noisy
    by = [half(of).clean for of in (scores["parallel"], scores["relabel"])]
    expected = by[0] & by[1] if agree else by[0] | by[1]
    worst = (np.maximum if agree else np.minimum)(scores["parallel"], scores["relabel"])
    if veto is not None:  # eight scores fit no mixture: the estimate vetoes in its place
        kept = scores["forget"] <= veto
        expected, worst = expected & kept, np.where(kept, worst, 1)
    np.testing.assert_array_equal(clean, expected)
    np.testing.assert_allclose(p_noisy, worst)


@pytest.mark.parametrize("posterior", [None, np.full((N, 2), 0.5, dtype=np.float32)], ids=["score alone", "posterior"])
def test_an_interrupted_run_goes_on_with_the_scores_it_began_with(tmp_path, posterior):
    """Whatever has finished since: of the separations none is there any more."""
    transition, trained = (None, None) if posterior is None else (np.eye(2), np.arange(N) % 2)
    scores = SCORES["parallel"].astype(np.float32)
    with Experiment(tmp_path, "e").open("ssl.py", "ssl", {}) as experiment:
        experiment.begin({"images": "i"})
        keep_scores({"parallel": Found(scores, "somewhere", posterior, transition, trained)}, experiment)
        experiment.record.write()
    with Experiment(tmp_path, "e").open("ssl.py", "ssl", {}) as experiment:
        assert experiment.resuming
        (found,) = find_scores({"parallel": ""}, str(tmp_path / "none"), None, None, experiment).values()
    given = (scores, posterior, transition, trained)
    for read, array in zip((found.scores, found.posterior, found.transition, found.trained), given, strict=True):
        np.testing.assert_array_equal(read, array)

"""What one training says about every label: candidates by both kinds of labels, columns, files, a state."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils.data.noisy_data import Planted
from utils.errors import UserError
from utils.results.evidence import Evidence
from utils.scoring.accumulated import Accumulated
from utils.scoring.choosing import Candidate, mean_rank
from utils.scoring.label_posterior import wrong
from utils.scoring.metrics import auc
from utils.scoring.planted import OF_BATCHES, OF_PASSES, CalibratedPosterior
from utils.scoring.tracker import Snapshot

N, C = 60, 3
CLEAN = np.arange(N) % C
OBSERVED = CLEAN.copy()
OBSERVED[:12] = (CLEAN[:12] + 1) % C  # a fifth is wrong
PLANTED = np.arange(20, 40)
TRAINED = OBSERVED.copy()
TRAINED[PLANTED] = (OBSERVED[PLANTED] + 1) % C
NAMES = ("x_prediction", "x_mean_loss", "x_aum")


def data(planted=True, clean=CLEAN):
    observed = torch.from_numpy(OBSERVED)
    trained = torch.from_numpy(TRAINED) if planted else observed
    return SimpleNamespace(
        device_labels=observed,
        training_labels=trained,
        trained=trained.numpy(),
        num_classes=C,
        planted=Planted(PLANTED, trained) if planted else None,
        labels=OBSERVED,
        clean_labels=clean,
        is_noisy=None if clean is None else clean != OBSERVED,
        noise_ratio=None if clean is None else float(np.mean(clean != OBSERVED)),
    )


def test_of_two_classes_planted_samples_are_scored_as_they_come():
    """Without the planted class nothing would be left to compare the own one with."""
    observed, trained = torch.tensor([0, 1, 0, 1]), torch.tensor([1, 1, 0, 1])
    two = SimpleNamespace(
        device_labels=observed, training_labels=trained, trained=trained.numpy(), num_classes=2,
        planted=Planted(np.array([0]), trained), labels=observed.numpy(), clean_labels=None, is_noisy=None,
        noise_ratio=None,
    )  # fmt: skip
    logits = torch.tensor([[0.0, 2], [0, 1], [3, 0], [1, 2]])
    evidence, plain = Evidence("x", two, "last", 2), Accumulated(trained, 2)
    evidence.add(logits, "epoch 1")
    plain.add(logits)
    for name, values in plain.scores(observed).items():
        np.testing.assert_array_equal(evidence.scores()[name], values)
    now = Snapshot(logits, None, 1.0)
    assert evidence.observed(now) is now


def by_observed_labels(*passes):
    """The scores of the observed labels; planted samples as if their planted class did not exist."""
    accumulated = Accumulated(torch.from_numpy(TRAINED), C)
    for one in passes:
        accumulated.add(one)
    scores, probs = accumulated.scores(torch.from_numpy(OBSERVED)), accumulated.predictions()[PLANTED]
    own, planted = (probs[np.arange(len(PLANTED)), labels[PLANTED]] for labels in (OBSERVED, TRAINED))
    scores["prediction"][PLANTED] = -np.log(own / (1 - planted))
    left = 3 - OBSERVED - TRAINED  # of three classes, the one beside the own and the planted
    more = [(one.numpy()[PLANTED, left[PLANTED]] - one.numpy()[PLANTED, OBSERVED[PLANTED]]) for one in passes]
    scores["mean_loss"][PLANTED] = np.mean(np.log1p(np.exp(more)), axis=0)
    scores["aum"][PLANTED] = np.mean(more, axis=0)
    return scores


def logits(sure, labels=CLEAN, seed=0):
    """A network that knows the labels as surely as `sure` nats, among noise of one nat."""
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(N, C))).float()
    return noise + sure * torch.nn.functional.one_hot(torch.from_numpy(labels), C)


def test_a_pass_is_scored_by_the_observed_labels_and_chosen_by_those_of_the_training():
    evidence = Evidence("x", data(), "proxy", 4)
    columns = evidence.add(logits(3), "epoch 1")
    alone = Accumulated(torch.from_numpy(TRAINED), C)
    alone.add(logits(3))
    observed = by_observed_labels(logits(3))
    best = evidence.choice.best
    name = evidence.choice.name.removeprefix("x_")
    np.testing.assert_allclose(best.observed, observed[name], atol=1e-5)
    np.testing.assert_array_equal(best.trained, alone.scores(torch.from_numpy(TRAINED))[name])
    differing = np.flatnonzero(best.observed != best.trained)
    assert set(differing) <= set(PLANTED) and len(differing) > 10
    assert columns.keys() == {f"auc_{n}" for n in NAMES} | {f"planted_auc_{n}" for n in NAMES}
    for n in NAMES:
        assert columns[f"auc_{n}"] == pytest.approx(auc(observed[n.removeprefix("x_")], OBSERVED != CLEAN))
        assert columns[f"planted_auc_{n}"] > 0.8  # three nats among one: planted errors stand out


def test_without_the_truth_there_are_no_aucs_and_the_same_choice():
    known, unknown = (Evidence("x", data(clean=clean), "proxy", 4) for clean in (CLEAN, None))
    columns = unknown.add(logits(3), "epoch 1")
    known.add(logits(3), "epoch 1")
    assert [columns[f"auc_{name}"] for name in NAMES] == [None] * 3
    np.testing.assert_array_equal(known.choice.best.observed, unknown.choice.best.observed)


def test_more_candidates_are_considered_after_the_accumulated_ones():
    evidence = Evidence("x", data(), "proxy", 4)
    perfect = np.isin(np.arange(N), PLANTED).astype(np.float32)
    columns = evidence.add(logits(0), "epoch 1", {"mine": Candidate(-perfect, perfect)})
    assert (evidence.choice.name, columns["planted_auc_mine"]) == ("mine", 1.0)
    np.testing.assert_array_equal(evidence.choice.best.observed, -perfect)
    last = Evidence("x", data(), "last", 4)
    last.add(logits(0), "epoch 1", {"mine": Candidate(-perfect, perfect)})
    assert last.choice.name == "x_prediction"


def test_the_moment_of_what_is_concluded_is_the_span_of_its_predictions():
    evidence = Evidence("x", data(), "proxy", 4)
    for epoch in range(4):
        evidence.add(logits(6, seed=epoch), f"epoch {epoch}")
    evidence.conclude()
    assert (evidence.choice.name, evidence.choice.moment) == ("x_prediction_and_p_noisy", evidence.window)


@pytest.mark.parametrize("alike, chosen", [(0.0, "prediction_and_p_noisy"), (1.0, "mean_loss"), (np.nan, "mean_loss")])
@pytest.mark.parametrize("how", ["proxy", "oracle"])
def test_planted_errors_choose_only_where_wrong_labels_are_drawn_like_them(monkeypatch, how, alike, chosen):
    fit = CalibratedPosterior.fit

    def fitted(self, *of):
        fit(self, *of).alike_ = alike
        return self

    monkeypatch.setattr(CalibratedPosterior, "fit", fitted)
    evidence = Evidence("x", data(), how, 4)
    evidence.add(logits(6), "epoch 1")
    evidence.choice.take("x_mean_loss", "epoch 1", evidence.choice.best)
    evidence.conclude()
    assert evidence.choice.name == ("x_mean_loss" if how == "oracle" else f"x_{chosen}")


def test_planted_samples_are_learnt_once_their_own_label_leads_among_the_other_classes():
    evidence = Evidence("x", data(), "proxy", 2)
    evidence.add(logits(30, TRAINED) + logits(9, OBSERVED), "epoch 1")  # knows the planted labels best, then the own
    assert (evidence.learnt.since == 1).all()
    evidence.add(logits(30, TRAINED) + logits(9, (OBSERVED + 2) % C), "epoch 2")
    assert set(np.flatnonzero(evidence.learnt.since.numpy() != 1)) == set(PLANTED)


def test_predictions_are_of_the_epochs_that_speak_best_for_held_out_labels():
    for first, second, window in ((6, 0, "the first half"), (0, 6, "the second half"), (6, 6, "all epochs")):
        evidence = Evidence("x", data(), "proxy", 4)
        for epoch, sure in enumerate((first, first, second, second)):  # the own labels, as surely as that
            evidence.add(logits(sure, OBSERVED, seed=epoch), f"epoch {epoch}")
        evidence.conclude()
        if window != "all epochs":  # else the three are alike
            assert evidence.window == window
        np.testing.assert_array_equal(evidence.predictions, dict(evidence.accumulated.windows())[evidence.window])
    alone = Evidence("x", data(planted=False), "last", 4)
    for epoch in range(4):
        alone.add(logits(3, seed=epoch), f"epoch {epoch}")
    alone.conclude()
    assert alone.window == "all epochs"
    np.testing.assert_array_equal(alone.predictions, alone.accumulated.predictions())


def test_what_is_left_beside_a_planted_class_that_is_nearly_certain_decides():
    evidence = Evidence("x", data(), "proxy", 4)
    planted, left = TRAINED[PLANTED], 3 - OBSERVED[PLANTED] - TRAINED[PLANTED]
    certain = logits(3).double()
    for label, probability in ((planted, 1 - 5e-8), (OBSERVED[PLANTED], 4e-8), (left, 1e-8)):
        certain[PLANTED, label] = np.log(probability)
    for epoch in range(4):
        evidence.add(certain.float(), f"epoch {epoch + 1}")
    # Near 0.8, since predictions are aligned with the frequencies of the labels first.
    np.testing.assert_allclose(evidence.scores()["prediction"][PLANTED], -np.log(0.8), atol=0.1)
    evidence.conclude()
    own = evidence.observed_predictions()[PLANTED, OBSERVED[PLANTED]]
    np.testing.assert_allclose(own, 0.8, atol=0.1)


def test_predictions_are_given_out_without_what_was_planted():
    evidence = Evidence("x", data(), "proxy", 4)
    evidence.add(logits(3, TRAINED), "epoch 1")
    evidence.conclude()
    probs, kept = evidence.observed_predictions(), np.setdiff1d(np.arange(N), PLANTED)
    np.testing.assert_array_equal(probs[PLANTED, TRAINED[PLANTED]], 0)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(probs[kept], evidence.predictions[kept], atol=1e-6)
    assert (evidence.predictions[PLANTED, TRAINED[PLANTED]] > 0).all()  # of the training, as it was
    whole = Evidence("x", data(planted=False), "proxy", 4)
    whole.add(logits(3), "epoch 1")
    whole.conclude()
    np.testing.assert_array_equal(whole.observed_predictions(), whole.predictions)


@pytest.mark.parametrize("clean", [None, OBSERVED], ids=["unknown truth", "no wrong label"])
def test_an_oracle_needs_a_truth_that_tells_labels_apart(clean):
    with pytest.raises(UserError, match="--choose oracle needs true labels"):
        Evidence("x", data(clean=clean), "oracle", 4)


def test_a_candidate_is_a_score_of_both_kinds_of_labels():
    now = Snapshot(logits(3, TRAINED), logits(1).softmax(1), accuracy=1.0)
    found = Evidence("x", data(), "proxy", 4).candidates(now, "loss", "ce")
    assert list(found) == ["ce", "loss"]
    trained, observed = torch.from_numpy(TRAINED), torch.from_numpy(OBSERVED)
    others = np.setdiff1d(np.arange(N), PLANTED)
    for name, score in (("loss", now.loss), ("ce", now.ce)):
        np.testing.assert_array_equal(found[name].trained, score(trained))
        np.testing.assert_array_equal(found[name].observed[others], score(observed)[others])
    np.testing.assert_allclose(found["loss"].observed, by_observed_labels(now.logits)["mean_loss"], atol=1e-5)
    own, planted = (now.votes.numpy()[PLANTED, labels[PLANTED]] for labels in (OBSERVED, TRAINED))
    np.testing.assert_allclose(found["ce"].observed[PLANTED], -np.log(own / (1 - planted) + 1e-6) / C, rtol=1e-4)
    alone = Evidence("x", data(planted=False), "proxy", 4)
    assert alone.candidates(Snapshot(now.logits, None, 1.0), "loss").keys() == {"loss"}
    assert alone.observed(now) is now


def test_the_accumulated_scores_of_the_last_pass_are_written():
    saved = {}
    evidence = Evidence("x", data(), "proxy", 4)
    for epoch in (1, 2):
        columns = evidence.add(logits(2, seed=epoch), f"epoch {epoch}")
    found = evidence.save(SimpleNamespace(save_array=saved.__setitem__))
    assert saved.keys() == set(NAMES) and found == {f"auc_{n}": columns[f"auc_{n}"] for n in NAMES}
    for name, values in saved.items():
        expected = by_observed_labels(*(logits(2, seed=epoch) for epoch in (1, 2)))[name.removeprefix("x_")]
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("passes", [0, 2])
@pytest.mark.parametrize("planted", [True, False])
def test_a_saved_state_goes_on_where_it_was(passes, planted):
    file = io.BytesIO()
    evidence, again = (Evidence("x", data(planted), "proxy", 4) for _ in range(2))
    for epoch in range(passes):
        evidence.add(logits(3, seed=epoch), f"epoch {epoch}")
    torch.save(evidence.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    columns = [one.add(logits(1, seed=9), "last") for one in (evidence, again)]
    assert columns[0] == columns[1] and str(evidence.choice) == str(again.choice)
    np.testing.assert_array_equal(evidence.choice.best.observed, again.choice.best.observed)
    for one in (evidence, again):
        one.conclude()
    np.testing.assert_array_equal(evidence.predictions, again.predictions)
    assert evidence.window == again.window


def test_a_training_that_follows_competes_with_the_best_before():
    first = Evidence("x", data(), "proxy", 4, from_batches=True)
    for epoch in range(4):
        first.add(logits(6, seed=epoch), f"epoch {epoch + 1}")
    name, moment, best = first.choice.name, first.choice.moment, first.choice.best
    then = first.following(2)
    assert (then.prefix, then.before, then.epochs, then.from_batches) == ("x", 4, 2, True)
    then.add(logits(0), "epoch 5")  # knows nothing
    assert (then.choice.name, then.choice.moment) == (name, moment)
    np.testing.assert_array_equal(then.choice.best.observed, best.observed)
    assert then.last_epoch == 5 and first.last_epoch == 4
    assert first.following(2, "exchange").prefix == "exchange"
    assert then.following(3).before == 6  # as planned, wherever it ended


@pytest.mark.parametrize(("from_batches", "temperature"), [(False, OF_PASSES), (True, OF_BATCHES)])
def test_what_nothing_calibrates_has_the_temperature_of_where_it_is_from(from_batches, temperature):
    evidence = Evidence("x", data(planted=False), "last", 2, from_batches=from_batches)
    for epoch in (1, 2):
        evidence.add(logits(2, OBSERVED, seed=epoch), f"epoch {epoch}")
    evidence.conclude()
    assert evidence.posterior().temperature_ == temperature
    assert OF_BATCHES < OF_PASSES


def test_what_was_concluded_is_found_again_in_another_process():
    evidence, again = (Evidence("x", data(), "proxy", 4) for _ in range(2))
    for epoch, sure in enumerate((1, 1, 3, 3)):
        evidence.add(logits(sure, OBSERVED, seed=epoch), f"epoch {epoch}")
    with pytest.raises(RuntimeError, match="nothing was concluded"):
        evidence.posterior()
    evidence.conclude()
    again.load_state_dict(evidence.state_dict())
    windows = [predictions for _, predictions in evidence.accumulated.windows()]
    expected = CalibratedPosterior().fit(windows, TRAINED, OBSERVED, PLANTED)  # of all windows
    for one in (evidence, again):
        np.testing.assert_array_equal(one.posterior().posterior_, expected.posterior_)
        assert one.window == ("all epochs", "the first half", "the second half")[expected.window_]
    evidence.add(logits(0), "epoch 5")
    assert not np.array_equal(evidence.posterior().posterior_, expected.posterior_)  # not what it was before


def test_at_the_end_p_noisy_votes_beside_the_prediction():
    evidence = Evidence("x", data(), "proxy", 4)
    for epoch in range(3):
        evidence.add(logits(3, TRAINED, seed=epoch), f"epoch {epoch}")
    if evidence.choice.name != "x_prediction":  # another score was clearly better: leave it
        evidence.choice.take("x_prediction", "epoch 2", evidence.choice.best)
    evidence.conclude()
    posterior, rows = evidence.posterior(), np.arange(N)
    assert evidence.choice.name == "x_prediction_and_p_noisy"
    loss = -np.log(evidence.predictions[rows, TRAINED])
    trained = mean_rank(loss, wrong(posterior.trained_, TRAINED))
    np.testing.assert_array_equal(evidence.choice.best.trained, trained)
    loss = -np.log(evidence.observed_predictions()[rows, OBSERVED])
    np.testing.assert_allclose(evidence.choice.best.observed, mean_rank(loss, posterior.p_noisy_), atol=0.02)


def test_what_was_chosen_otherwise_is_left_alone_at_the_end():
    perfect = np.isin(np.arange(N), PLANTED).astype(np.float32)
    for how, more in (("proxy", {"mine": Candidate(-perfect, perfect)}), ("oracle", {})):
        evidence = Evidence("x", data(), how, 4)
        evidence.add(logits(0), "epoch 1", more)
        name, best = evidence.choice.name, evidence.choice.best
        evidence.conclude()
        assert evidence.choice.name == name and evidence.choice.best is best

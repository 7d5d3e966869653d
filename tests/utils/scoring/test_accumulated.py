"""Accumulated scores: by hand from two passes over three samples."""

import io

import numpy as np
import pytest
import torch

from utils.scoring.accumulated import NAMES, Accumulated, margins
from utils.scoring.label_posterior import align

LABELS = torch.tensor([0, 1, 2])
# Logarithms of probabilities whose sum is 1, so that the softmax is the probabilities themselves.
FIRST = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.125, 0.75]])
SECOND = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])


def accumulated(*passes, labels=LABELS):
    of = Accumulated(labels, 3)
    for probs in passes:
        of.add(probs.log())
    return of


def test_the_mean_loss_is_the_mean_over_the_passes():
    # −log p of the label: ½ and ¼, ½ and ¼, ¾ and ¼.
    by_hand = -np.log([0.5 * 0.25, 0.5 * 0.25, 0.75 * 0.25]) / 2
    np.testing.assert_allclose(accumulated(FIRST, SECOND).scores(LABELS)["mean_loss"], by_hand, rtol=1e-6)


def test_margins_are_to_the_largest_of_the_others():
    logits = torch.tensor([[3.0, 1, 0], [2, 2, -1], [-4, -5, -9]])
    assert margins(logits).tolist() == [[2, -2, -3], [0, 0, -3], [1, -1, -5]]


def test_the_area_under_the_margin_is_minus_its_mean():
    of = Accumulated(LABELS, 3)
    of.add(torch.tensor([[3.0, 1, 0], [2, 2, -1], [-4, -5, -9]]))  # margins of the labels 2, 0, -5
    of.add(torch.tensor([[0.0, 4, 1], [0, 1, 0], [0, 0, 3]]))  # -4, 1, 3
    assert of.scores(LABELS)["aum"].tolist() == [1, -0.5, 1]


def test_a_constant_added_to_the_logits_changes_nothing():
    one, other = accumulated(FIRST), Accumulated(LABELS, 3)
    other.add(FIRST.log() + torch.tensor([[8.0], [-8], [1]]))
    for name in NAMES:
        # Logits of about 8 have a spacing of 1e-6.
        np.testing.assert_allclose(one.scores(LABELS)[name], other.scores(LABELS)[name], atol=1e-5)


def test_predictions_are_the_mean_brought_to_the_shares_of_the_labels():
    labels = torch.tensor([0, 1, 1, 1])
    of = Accumulated(labels, 2)
    for probs in ([[0.9, 0.1]] * 4, [[0.7, 0.3]] * 4):  # the mean says 0.8 of class 0, the labels a quarter
        of.add(torch.tensor(probs).log())
    predictions = of.predictions()
    assert predictions.dtype == np.float32 and predictions.shape == (4, 2)
    np.testing.assert_allclose(predictions, [[0.25, 0.75]] * 4, atol=1e-5)
    # −log of it: the label of sample 0 has a quarter.
    np.testing.assert_allclose(of.scores(labels)["prediction"], -np.log([0.25, 0.75, 0.75, 0.75]), atol=1e-5)


def test_the_score_of_the_predictions_is_of_those_that_are_given_out():
    of = accumulated(FIRST, SECOND)
    by_hand = align(((FIRST + SECOND) / 2).numpy(), np.full(3, 1 / 3))[0]
    np.testing.assert_allclose(of.predictions(), by_hand, atol=1e-6)
    np.testing.assert_allclose(of.scores(LABELS)["prediction"], -np.log(by_hand[[0, 1, 2], [0, 1, 2]]), atol=1e-6)


def test_other_labels_than_those_of_the_training_are_scored_by_their_own():
    others = torch.tensor([1, 0, 0])
    scores = accumulated(FIRST, SECOND).scores(others)
    # ¼ and ½; ¼ and ½; ⅛ and ½.
    np.testing.assert_allclose(scores["mean_loss"], -np.log([0.125, 0.125, 0.0625]) / 2, rtol=1e-6)
    # log ¼ − log ½ and the reverse; the same; log ⅛ − log ¾ and log ½ − log ¼.
    np.testing.assert_allclose(scores["aum"], [0, 0, -np.log(2 / 6) / 2], atol=1e-6)
    # The shares stay those of the labels that the network was given: each a third, where `others` has no class 2.
    mean = align(((FIRST + SECOND) / 2).numpy(), np.full(3, 1 / 3))[0]
    np.testing.assert_allclose(scores["prediction"], -np.log(mean[[0, 1, 2], [1, 0, 0]]), atol=1e-6)


def test_either_half_of_a_training_that_ends_as_planned():
    of = Accumulated(LABELS, 3, middle=3)
    passes = [torch.rand(3, 3, generator=torch.Generator().manual_seed(k)) for k in range(6)]
    for one in passes:
        of.add(one)
    words, (_, first, second) = zip(*of.windows(), strict=True)
    assert words == ("all epochs", "the first half", "the second half")
    probs = [one.softmax(1).numpy() for one in passes]
    for found, half in ((first, probs[:3]), (second, probs[3:])):
        np.testing.assert_allclose(found, align(np.mean(half, 0), np.full(3, 1 / 3))[0], atol=1e-5)


@pytest.mark.parametrize(
    "passes, first",
    [(1, None), (2, 1), (3, 2), (5, 2), (6, 4), (11, 4), (12, 8), (16, 8), (20, 16), (24, 16), (40, 20)],
)
def test_of_a_training_that_ended_sooner_the_part_that_is_nearest_to_its_half_is_told_apart(passes, first):
    of = Accumulated(LABELS, 3, middle=20)  # of 40
    logits = [torch.rand(3, 3, generator=torch.Generator().manual_seed(k)) for k in range(passes)]
    for k, one in enumerate(logits):
        of.add(one)
        if k == passes // 2:  # a checkpoint between
            again = Accumulated(LABELS, 3, middle=20)
            again.load_state_dict(of.state_dict())
            of = again
    windows = list(of.windows())
    if first is None:
        assert len(windows) == 1
        return
    words, (_, before, after) = zip(*windows, strict=True)
    assert words[1:] == (
        ("the first half", "the second half")
        if first == 20
        else (f"the first {first} epochs", f"the epochs from {first + 1} on")
    )
    probs = [one.softmax(1).numpy() for one in logits]
    for found, part in ((before, probs[:first]), (after, probs[first:])):
        np.testing.assert_allclose(found, align(np.mean(part, 0), np.full(3, 1 / 3))[0], atol=1e-5)


@pytest.mark.parametrize("passes, words", [(3, []), (22, ["the first half", "the second half"])])
def test_a_state_of_before_kept_the_middle_alone(passes, words):
    of = Accumulated(LABELS, 3, middle=20)
    for _ in range(passes):
        of.add(FIRST.log())
    state = {name: of.state_dict()[name] for name in ("passes", "log_probs", "margins", "probs")}
    state["first_probs"] = 20 * FIRST if passes >= 20 else torch.zeros(3, 3)
    again = Accumulated(LABELS, 3, middle=20)
    again.load_state_dict(state)
    assert [said for said, _ in again.windows()][1:] == words


def test_higher_is_more_likely_mislabelled():
    right = torch.eye(3) * 5
    wrong = right[[1, 2, 0]]
    for name in NAMES:
        scores = []
        for logits in (right, wrong):
            of = Accumulated(LABELS, 3)
            of.add(logits)
            scores.append(of.scores(LABELS)[name])
        assert scores[0].shape == (3,) and (scores[0] < scores[1]).all()


def test_a_label_that_is_never_predicted_has_a_finite_score():
    of = Accumulated(LABELS, 3)
    of.add(torch.tensor([[-500.0, 0, 0], [0, -500, 0], [0, 0, -500]]))
    assert all(np.isfinite(values).all() for values in of.scores(LABELS).values())


def test_logits_of_another_precision_are_summed_in_single_precision():
    half, single = (accumulated() for _ in range(2))
    half.add(FIRST.log().bfloat16())
    single.add(FIRST.log().bfloat16().float())
    for name, values in half.scores(LABELS).items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, single.scores(LABELS)[name])


@pytest.mark.parametrize("after", [0, 1])
def test_a_saved_state_goes_on_where_it_was(after):
    of, file = accumulated(*[FIRST] * after), io.BytesIO()
    torch.save(of.state_dict(), file)
    file.seek(0)
    again = Accumulated(LABELS, 3)
    again.load_state_dict(torch.load(file, weights_only=True))
    for one in (of, again):
        one.add(SECOND.log())
    assert again.passes == after + 1
    for name in NAMES:
        np.testing.assert_array_equal(of.scores(LABELS)[name], again.scores(LABELS)[name])


def test_a_state_that_was_read_is_no_part_of_what_reads_it():
    of, again = accumulated(FIRST), accumulated()
    again.load_state_dict(of.state_dict())
    before = of.scores(LABELS)["mean_loss"].copy()
    again.add(SECOND.log())
    np.testing.assert_array_equal(of.scores(LABELS)["mean_loss"], before)


def test_the_halves_of_the_passes_by_hand():
    of = Accumulated(LABELS, 3, middle=1)
    of.add(FIRST.log())
    assert list(dict(of.windows())) == ["all epochs"]
    of.add(SECOND.log())
    found, prior = dict(of.windows()), np.full(3, 1 / 3)
    assert list(found) == ["all epochs", "the first half", "the second half"]
    for name, probs in (("all epochs", (FIRST + SECOND) / 2), ("the first half", FIRST), ("the second half", SECOND)):
        np.testing.assert_allclose(found[name], align(probs.numpy(), prior)[0], atol=1e-6)
    again = Accumulated(LABELS, 3, middle=1)
    again.load_state_dict(of.state_dict())
    np.testing.assert_array_equal(dict(again.windows())["the first half"], found["the first half"])


def test_labels_may_be_an_array_and_logits_of_another_shape_are_refused():
    of = Accumulated(LABELS.numpy(), 3)
    of.add(FIRST.log())
    for name, values in of.scores(LABELS.numpy()).items():
        np.testing.assert_array_equal(values, accumulated(FIRST).scores(LABELS)[name])
    with pytest.raises(ValueError, match=r"shape \(2, 3\) where \(3, 3\)"):
        of.add(FIRST[:2].log())

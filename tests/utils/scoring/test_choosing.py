"""Choosing among scores by planted errors: a default that stands, and what it takes to replace it."""

import io

import numpy as np
import pytest
import torch

from utils.scoring.choosing import Candidate, ScoreChoice, mean_rank

N, PLANTED = 1000, np.arange(0, 1000, 10)  # 100 planted errors, every tenth sample
IS_PLANTED = np.isin(np.arange(N), PLANTED)


def candidate(auc, seed=0):
    """A score that planted errors exceed with about this probability; by observed labels it says nothing."""
    generator = np.random.default_rng(seed)
    shift = {0.5: 0.0, 0.6: 0.36, 0.7: 0.74, 0.8: 1.19, 0.9: 1.81}[auc]  # √2 Φ⁻¹(auc): of two normal scores
    trained = generator.normal(size=N) + shift * IS_PLANTED
    return Candidate(np.float32(generator.normal(size=N)), np.float32(trained))


def proxy(planted=PLANTED):
    return ScoreChoice("proxy", planted, None)


def test_the_mean_rank_is_a_share_and_ties_share_theirs():
    # Ranks 1 2 3 4 and 4 1½ 1½ 3 of four.
    ranks = mean_rank(np.array([1.0, 5, 7, 9]), np.array([8.0, 0, 0, 3]))
    assert ranks.dtype == np.float32 and ranks.tolist() == [5 / 8, 3.5 / 8, 4.5 / 8, 7 / 8]
    assert mean_rank(np.array([3.0, 1, 2])).tolist() == np.float32([1, 1 / 3, 2 / 3]).tolist()


def test_a_candidate_is_ranked_with_another_by_both_kinds_of_labels():
    one = Candidate(np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1]))
    other = Candidate(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4]))
    both = one.with_rank_of(other)
    assert both.observed.tolist() == [0.25, 0.5, 0.75, 1] and both.trained.tolist() == [0.625] * 4


def test_a_placement_is_the_share_of_the_others_below():
    choice = ScoreChoice("proxy", np.array([1, 4]), None)
    scores = np.array([1.0, 2, 2, 3, 9])  # others 1 2 3; planted 2 and 9
    np.testing.assert_array_equal(choice._placements(Candidate(scores, scores)), [0.5, 1])
    rest, planted = choice.split(Candidate(-scores, scores))
    assert rest.tolist() == [1, 2, 3] and planted.tolist() == [2, 9]  # by the labels of the training


def test_the_criterion_of_every_candidate_is_reported():
    choice = ScoreChoice("proxy", np.flatnonzero(np.tile([0, 1, 0, 0, 1], 5)), None)
    scores = np.tile([1.0, 2, 2, 3, 9], 5)
    found = choice.consider("epoch 1", {"a": Candidate(scores, scores), "b": Candidate(scores, -scores)})
    assert found == {"planted_auc_a": 0.75, "planted_auc_b": 0.25}  # the mean of the placements
    assert (choice.name, choice.moment, choice.criterion) == ("a", "epoch 1", 0.75)


def test_the_default_stands_where_another_is_but_a_little_better():
    choice = proxy()
    choice.consider("epoch 1", {"default": candidate(0.7), "other": candidate(0.7, seed=1)})
    assert choice.name == "default"


def test_another_takes_its_place_where_it_is_clearly_better():
    choice = proxy()
    choice.consider("epoch 1", {"default": candidate(0.6), "other": candidate(0.9)})
    assert (choice.name, choice.moment) == ("other", "epoch 1")
    assert choice.criterion == pytest.approx(0.9, abs=0.03)  # the AUC of 100 planted errors has an error of 0.015


def test_the_newest_default_takes_the_place_of_an_older_one_that_was_as_good():
    choice = proxy()
    for epoch in (1, 2, 3):
        choice.consider(f"epoch {epoch}", {"default": candidate(0.8, seed=epoch)})
    assert choice.moment == "epoch 3"


def test_a_default_that_has_clearly_decayed_stays_behind():
    choice = proxy()
    for epoch, auc in enumerate((0.7, 0.9, 0.6), 1):
        choice.consider(f"epoch {epoch}", {"default": candidate(auc)})
    assert choice.moment == "epoch 2"


def test_where_nothing_is_the_default_all_must_be_clearly_better():
    choice = proxy()
    choice.consider("stage 1", {"default": candidate(0.8)})
    choice.consider("step 1", {"first": candidate(0.8, seed=1), "second": candidate(0.8, seed=2)}, default=False)
    assert choice.name == "default"
    choice.consider("step 2", {"first": candidate(0.6), "second": candidate(0.9)}, default=False)
    assert (choice.name, choice.moment) == ("second", "step 2")


def test_equal_scores_are_no_gain():
    choice = proxy()
    choice.consider("stage 1", {"default": candidate(0.8)})
    choice.consider("step 0", {"same": candidate(0.8)}, default=False)
    assert choice.name == "default"


def test_a_single_planted_error_proves_nothing():
    choice = proxy(np.array([5]))
    choice.consider("epoch 1", {"default": candidate(0.5), "other": candidate(0.9)})
    assert choice.name == "default"


def test_the_scores_of_the_observed_labels_decide_nothing():
    perfect, useless = candidate(0.9), candidate(0.5)
    choice = proxy()
    choice.consider("epoch 1", {"a": Candidate(useless.observed, useless.trained)})
    choice.consider("epoch 2", {"b": Candidate(-1000 * perfect.observed, perfect.trained)})
    assert choice.name == "b"


@pytest.mark.parametrize(
    "how, planted, why",
    [
        ("last", PLANTED, "the newest"),
        ("last", None, "the newest"),
        ("proxy", None, "the default: too few errors were planted, or none"),
        ("proxy", PLANTED[:9], "the default: too few errors were planted, or none"),
    ],
)
def test_without_a_criterion_the_newest_of_the_first_named_is_taken(how, planted, why):
    choice = ScoreChoice(how, planted, None)
    for epoch, auc in enumerate((0.9, 0.5), 1):
        found = choice.consider(f"epoch {epoch}", {"default": candidate(auc), "other": candidate(0.9)})
        assert found == {}
    assert str(choice) == f"default at epoch 2 ({why})"
    choice.consider("step 1", {"more": candidate(0.9)}, default=False)
    # What only stands where it is clearly better needs a criterion, unless the newest is asked for whatever it is.
    assert choice.name == ("more" if how == "last" else "default")


def test_planted_errors_unlike_the_wrong_labels_choose_nothing():
    choice, again = proxy(), proxy()
    choice.consider("epoch 1", {"default": candidate(0.6), "other": candidate(0.9)})
    assert choice.name == "other"
    choice.unlike = True
    again.load_state_dict(choice.state_dict())
    for one in (choice, again):
        assert list(one.consider("epoch 2", {"default": candidate(0.6), "other": candidate(0.9)})) == [
            "planted_auc_default", "planted_auc_other"
        ]  # fmt: skip
        assert str(one) == "default at epoch 2 (the default: wrong labels are not drawn like the planted ones)"
        one.consider("step 1", {"more": candidate(0.9)}, default=False)
        assert one.name == "default"
    older = choice.state_dict()
    del older["unlike"]
    again.load_state_dict(older)
    assert not again.unlike


@pytest.mark.parametrize("auc, said", [(0.9, ""), (0.5, "; perhaps no better than chance: expect nothing of it")])
def test_it_is_said_where_the_planted_errors_were_hardly_found(auc, said):
    choice = proxy()
    choice.consider("epoch 1", {"default": candidate(auc)})
    found = f"planted errors found among all others with AUC {choice.criterion:.4f}{said}"
    assert str(choice) == f"default at epoch 1 ({found})"
    assert abs(choice.criterion - auc) < 0.1


def test_the_oracle_takes_the_best_by_the_truth_and_says_what_it_is():
    is_noisy = np.array([False, False, True, True])
    choice = ScoreChoice("oracle", np.array([0]), is_noisy)
    half, best = np.array([0.0, 2, 1, 3]), np.array([0.0, 1, 2, 3])  # three and four of the four pairs in order
    for moment, scores in (("epoch 1", half), ("epoch 2", best), ("epoch 3", half)):
        choice.consider(moment, {"a": Candidate(-best, best), "b": Candidate(scores, -best)})
    assert (choice.name, choice.moment, choice.criterion) == ("b", "epoch 2", 1)
    assert str(choice) == "b at epoch 2 (ORACLE: true labels found with AUC 1.0000)"


def test_the_truth_is_not_asked_otherwise():
    class Untouchable:
        def __getattribute__(self, name):
            raise AssertionError(f"the truth was asked for its {name}")

    for how in ("proxy", "last"):
        choice = ScoreChoice(how, PLANTED, Untouchable())
        choice.consider("epoch 1", {"default": candidate(0.6), "other": candidate(0.9)})
        assert choice.best is not None


@pytest.mark.parametrize("considered", [False, True])
def test_a_saved_state_goes_on_where_it_was(considered):
    choice, file = proxy(), io.BytesIO()
    if considered:
        choice.consider("epoch 1", {"default": candidate(0.6), "other": candidate(0.9)})
    torch.save(choice.state_dict(), file)
    file.seek(0)
    again = proxy()
    again.load_state_dict(torch.load(file, weights_only=True))
    for one in (choice, again):
        one.consider("epoch 2", {"default": candidate(0.6), "other": candidate(0.8)})
    assert (again.name, again.moment, again.criterion) == (choice.name, choice.moment, choice.criterion)
    np.testing.assert_array_equal(again.best.observed, choice.best.observed)
    np.testing.assert_array_equal(again.best.trained, choice.best.trained)
    assert again.moment == ("epoch 1" if considered else "epoch 2")

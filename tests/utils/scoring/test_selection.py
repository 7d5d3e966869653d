"""The clean set: each rule on vectors one can check by hand, and every refusal."""

import numpy as np
import pytest

from utils.errors import UserError
from utils.scoring.mixture import BetaMixture
from utils.scoring.selection import (
    agreed,
    boundary,
    combine,
    doubted,
    lowest,
    require_usable,
    select_clean,
    summary,
    validate_scores,
)

BIMODAL = np.float32([0.0, 0.1, 0.2, 0.3, 0.1, 0.2, 8.0, 8.1, 7.9, 8.2] * 10)  # 60 low, 40 high
NO_CLASSES = np.zeros(100, dtype=np.int64)


def positions(clean):
    return np.flatnonzero(clean).tolist()


def select(scores, labels=NO_CLASSES, **changes):
    arguments = dict(use_bmm=True, bmm_th=0.05, threshold=0.2, balanced=False)
    return select_clean(scores, labels, **(arguments | changes))


# Shares.


def test_lowest_takes_the_rounded_share():
    scores = np.float32([5, 1, 4, 2, 3])
    assert positions(lowest(scores, 0.4)) == [1, 3]
    assert positions(lowest(scores, 0.5)) == [1, 3]  # round(2.5) = 2
    assert positions(lowest(scores, 0.0)) == []
    assert positions(lowest(scores, 1.0)) == [0, 1, 2, 3, 4]


def test_equal_scores_go_by_position():
    assert positions(lowest(np.float32([1, 0, 1, 0, 1, 1]), 0.5)) == [0, 1, 3]


def test_per_class_takes_the_same_share_of_each():
    scores, labels = np.float32([1, 2, 3, 9, 8, 7]), np.array([0, 0, 0, 1, 1, 1])
    assert positions(lowest(scores, 2 / 3)) == [0, 1, 2, 5]
    assert positions(lowest(scores, 2 / 3, labels)) == [0, 1, 4, 5]


def test_of_a_small_class_that_share_is_fewer_samples():
    scores, labels = np.arange(9, dtype=np.float32), np.array([2, 0, 0, 0, 0, 0, 0, 2, 2])
    assert positions(lowest(scores, 1 / 3, labels)) == [0, 1, 2]  # two of six, one of three
    assert positions(lowest(scores, 1.0, labels)) == list(range(9))


# One score.


def test_the_threshold_rule_takes_its_share_and_no_mixture():
    selected = select(BIMODAL, use_bmm=False)
    np.testing.assert_array_equal(selected.clean, lowest(BIMODAL, 0.2))
    assert selected.p_noisy is None and selected.mixture is None and selected.note is None
    assert selected.rule == "lowest 20% of the scores"


def test_the_mixture_takes_the_low_mode_whatever_the_share():
    selected = select(BIMODAL, threshold=0.01)
    np.testing.assert_array_equal(selected.clean, BIMODAL < 1)
    assert selected.note is None and selected.rule == "beta mixture, p_noisy < 0.05"


def test_the_mixture_reports_the_posterior_that_decided():
    selected = select(BIMODAL, bmm_th=0.5)
    assert selected.p_noisy.dtype == np.float32
    np.testing.assert_array_equal(selected.clean, selected.p_noisy < 0.5)
    np.testing.assert_array_equal(selected.p_noisy, BetaMixture().fit(BIMODAL).p_noisy(BIMODAL).astype(np.float32))
    assert selected.mixture.usable_
    highest = float(selected.p_noisy[selected.clean].max())
    assert not select(BIMODAL, bmm_th=highest).clean[selected.p_noisy == highest].any()  # strictly below


@pytest.mark.parametrize(
    "scores, reason",
    [(np.ones(100, dtype=np.float32), "percentile"), (np.linspace(0, 1, 100, dtype=np.float32), "no second mode")],
)
def test_an_unusable_mixture_falls_back_to_the_threshold_rule_and_says_so(scores, reason, recwarn):
    selected = select(scores)
    np.testing.assert_array_equal(selected.clean, lowest(scores, 0.2))
    assert reason in selected.note and "threshold rule" in selected.note
    assert selected.p_noisy is None and selected.rule == "lowest 20% of the scores"
    assert not recwarn  # said once, in the note


def test_an_estimate_takes_the_place_of_a_mixture_that_does_not_fit():
    scores = np.linspace(0, 1, 100, dtype=np.float32)
    estimated = np.where(np.arange(100) % 2, 0.9, 0.01).astype(np.float32)
    selected = select(scores, estimated=estimated)
    np.testing.assert_array_equal(selected.clean, estimated < 0.05)
    np.testing.assert_array_equal(selected.p_noisy, estimated)
    assert selected.mixture is None and selected.rule == "estimate, p_noisy < 0.05"
    assert "no second mode" in selected.note and "the estimated p_noisy takes the place" in selected.note
    few = select(scores, estimated=np.full(100, 0.9, dtype=np.float32))
    np.testing.assert_array_equal(few.clean, lowest(scores, 0.1))
    assert few.note.startswith(selected.note) and "that would be 0 samples" in few.note
    assert select(BIMODAL, estimated=estimated).rule == "beta mixture, p_noisy < 0.05"  # only in its place
    assert select(scores, use_bmm=False, estimated=estimated).rule == "lowest 20% of the scores"


def test_the_fall_back_is_balanced_where_asked():
    labels = np.repeat([0, 1], [80, 20])
    selected = select(np.linspace(0, 1, 100, dtype=np.float32), labels, balanced=True)
    assert np.bincount(labels[selected.clean]).tolist() == [16, 4]  # a fifth of each
    assert selected.note is not None


def test_a_balanced_mixture_is_trimmed_to_its_smallest_share_of_a_class_by_lowest_score():
    labels = np.zeros(100, dtype=np.int64)
    labels[np.flatnonzero(BIMODAL > 1)[:30]] = 1
    labels[np.flatnonzero(BIMODAL < 1)[:20]] = 1  # 20 of class 1's 50 scores are low, 40 of class 0's
    selected = select(BIMODAL, labels, balanced=True)
    assert np.bincount(labels[selected.clean]).tolist() == [20, 20]
    labels[np.flatnonzero(BIMODAL > 1)[30:]] = 1  # now 20 of 60, and all 40 of class 0: a third of each
    selected = select(BIMODAL, labels, balanced=True)
    assert np.bincount(labels[selected.clean]).tolist() == [13, 20]
    dropped = np.flatnonzero((BIMODAL < 1) & ~selected.clean)
    assert len(dropped) == 27 and (labels[dropped] == 0).all()
    assert BIMODAL[selected.clean & (labels == 0)].max() <= BIMODAL[dropped].min()


def test_a_class_without_clean_samples_does_not_empty_a_balanced_set():
    labels = np.where(BIMODAL > 1, 2, np.arange(100) % 2)  # class 2 has high scores only; 30 low ones for 0 and 1
    selected = select(BIMODAL, labels, balanced=True)
    assert np.bincount(labels[selected.clean], minlength=3).tolist() == [30, 30, 0]


def test_a_mixture_that_trusts_hardly_any_keeps_a_tenth_and_says_so():
    selected = select(BIMODAL, bmm_th=0.0)
    assert selected.clean.sum() == round(0.1 * len(BIMODAL))
    assert BIMODAL[selected.clean].max() <= BIMODAL[~selected.clean].min()
    assert selected.note == "that would be 0 samples, too few to train on: the lowest 10% of each class instead"


def test_the_tenth_that_is_kept_is_of_every_class():
    labels = np.arange(len(BIMODAL)) % 4
    scores = BIMODAL + 0.3 * labels  # the lowest of all are of one class
    clean = select(scores, labels, bmm_th=0.0).clean
    share = [clean[labels == label].mean() for label in range(4)]
    np.testing.assert_allclose(share, 0.1, atol=0.03)  # 25 of a class: two or three
    for label in range(4):
        of = labels == label
        assert scores[of & clean].max() <= scores[of & ~clean].min()
    of_one = np.where(labels == 0, BIMODAL, BIMODAL.max())  # whose lower mode is of class 0 alone
    selected = select(of_one, labels)
    assert set(labels[selected.clean]) == {0, 1, 2, 3} and "of one class alone: the lowest 10%" in selected.note


# Several scores.


def test_union_and_intersection():
    a, b, c = (np.array(list(bits), dtype=np.int64) == 1 for bits in ([1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]))
    assert positions(combine([a, b], agree=False)) == [0, 1, 2]
    assert positions(combine([a, b], agree=True)) == [0]
    assert positions(combine([a, b, c], agree=False)) == [0, 1, 2]
    assert positions(combine([a], agree=True)) == positions(combine([a], agree=False)) == [0, 1]
    assert combine([a, b], agree=True).dtype == bool


def test_an_intersection_keeps_half_of_the_smallest_set():
    first, second = np.arange(10.0), np.array([9.0, 8, 7, 0, 1, 2, 3, 4, 5, 6])
    sets = [np.arange(10) < 3, np.isin(np.arange(10), [3, 4, 5, 6])]  # 3 and 4 samples, none in common
    # Ranks from 1: 1-10, and 10 9 8 1 2 3 4 5 6 7. The worst of both is lowest at 3 (4) and 4 (5): half of 3 is 2.
    clean, enlarged = agreed(sets, [first, second])
    assert positions(clean) == [3, 4] and enlarged
    sets[1] = np.isin(np.arange(10), [1, 2, 6])
    clean, enlarged = agreed(sets, [first, second])
    assert positions(clean) == [1, 2] and not enlarged
    sets[1] = np.isin(np.arange(10), [2, 6, 7, 8])  # one in common: it stays, the best other joins
    assert positions(agreed(sets, [first, second])[0]) == [2, 3]


def test_a_veto_goes_by_the_posterior_of_the_mixture_whatever_share_that_is():
    kept = doubted(BIMODAL, None, 0.05)
    np.testing.assert_array_equal(kept.clean, BIMODAL < 1)  # 40 of 100 vetoed
    np.testing.assert_array_equal(kept.p_noisy, BetaMixture().fit(BIMODAL).p_noisy(BIMODAL).astype(np.float32))
    assert kept.note is None and kept.mixture.usable_
    assert doubted(BIMODAL, None, 1.0).clean.all()  # none is above that
    lowest_vetoed = float(kept.p_noisy[~kept.clean].min())
    assert doubted(BIMODAL, None, lowest_vetoed).clean[kept.p_noisy == lowest_vetoed].all()  # strictly above


def test_where_no_mixture_fits_the_estimated_probability_vetoes_and_that_is_said():
    flat, estimated = np.linspace(0, 1, 100, dtype=np.float32), np.float32([0.04, 0.06] * 50)
    kept = doubted(flat, estimated, 0.05)
    np.testing.assert_array_equal(kept.clean, np.arange(100) % 2 == 0)
    assert kept.mixture is None and "no second mode, so the estimated p_noisy takes the place" in kept.note
    with pytest.raises(UserError, match="cannot veto: the scores have no second mode — leave --f_FND out"):
        doubted(flat, None, 0.05)


# Refusals and the summary.


def test_an_empty_clean_set_is_refused_with_what_to_change():
    with pytest.raises(UserError, match="all 4 samples.*empty — raise --bmm_th or --threshold"):
        require_usable(np.zeros(4, dtype=bool), np.array([0, 1, 0, 1]), 2)


def test_a_clean_set_of_one_class_is_refused():
    with pytest.raises(UserError, match="class 1 only, of 2 classes — raise"):
        require_usable(np.array([False, True, False, True]), np.array([0, 1, 0, 1]), 2)


def test_a_missing_class_is_no_error_but_named_in_the_summary():
    labels, clean = np.array([0, 1, 2, 0]), np.array([True, True, False, True])
    require_usable(clean, labels, 3)
    assert summary(clean, labels, np.array([0, 1, 2, 1]), ["cat", "dog", "cow"]) == {
        "clean_set_size": 3,
        "clean_set_purity": pytest.approx(2 / 3),
        "per_class": {"cat": 2, "dog": 1, "cow": 0},
        "empty_classes": ["cow"],
    }


def test_purity_is_none_where_unknown_and_counts_foreign_images_as_wrong():
    labels, clean = np.array([0, 1]), np.array([True, True])
    assert summary(clean, labels, None, ["a", "b"])["clean_set_purity"] is None
    assert summary(~clean, labels, labels, ["a", "b"])["clean_set_purity"] is None
    assert summary(clean, labels, np.array([0, -1]), ["a", "b"])["clean_set_purity"] == 0.5


# Score files.


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_real_numbers_become_float32(dtype):
    scores = validate_scores(np.array([0, 1, 2], dtype=dtype), 3, "a.npy")
    assert scores.dtype == np.float32 and scores.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "scores, message",
    [
        (np.zeros(2), "holds 2 scores for 3 samples — use scores made from the same data set"),
        (np.zeros((3, 1)), r"has shape \(3, 1\)"),
        (np.float32(1), r"has shape \(\)"),
        (np.zeros(3, dtype=bool), "type bool"),
        (np.zeros(3, dtype=complex), "type complex128"),
        (np.array(["1", "2", "3"]), "type <U1"),
        (np.array([0, None, 2]), "type object"),
        (np.array([0, np.nan, np.inf]), "2 scores that are not finite float32 numbers, the first at sample 1"),
        (np.array([0, 1, 1e300]), "1 scores that are not finite float32 numbers, the first at sample 2"),
    ],
)
def test_unusable_scores_are_refused_by_the_name_of_their_source(scores, message, recwarn):
    with pytest.raises(UserError, match=f"^runs/x/forget_ce.npy .*{message}"):
        validate_scores(scores, 3, "runs/x/forget_ce.npy")
    assert not recwarn


# The boundary.


def test_the_boundary_is_half_way_between_called_and_not_called():
    scores = np.float32([1, 4, 2, 8])
    assert boundary(scores, np.array([False, True, False, True])) == 3.0
    assert boundary(np.float32([1, 2, 2, 3]), np.array([False, False, True, True])) == 2.0  # a tie


@pytest.mark.parametrize("called", [[False] * 3, [True] * 3, [True, False, True]], ids=["nobody", "all", "unordered"])
def test_without_one_between_them_there_is_no_boundary(called):
    assert boundary(np.float32([1, 2, 3]), np.array(called)) is None

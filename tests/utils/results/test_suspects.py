"""The list of suspects: who comes first, what is suggested instead, which rows a page shows, what the table says."""

import numpy as np
import pytest

from utils.results.suspects import LEAST_SHOWN, MOST_SHOWN, Suspects, likeliest_other

NAMES = ("cat", "dog", "owl")
LABELS = np.array([0, 1, 2, 0])
P_NOISY = np.array([0.1, 0.9, 0.5, 0.4], dtype=np.float32)
POSTERIOR = np.array([[0.9, 0.1, 0], [0.3, 0.1, 0.6], [0.2, 0.3, 0.5], [0.4, 0.6, 0]], dtype=np.float32)


def suspects(**changed):
    given = {
        "class_names": NAMES,
        "sample_ids": np.array([10, 11, 12, 13]),
        "files": ("a.png", "b.png", "c.png", "d.png"),
        "labels": LABELS,
        "true_labels": None,
        "scores": {"first": np.array([0.0, 2.0, 3.0, 2.0]), "second": np.array([4.0, 3.0, 2.0, 1.0])},
        "p_noisy": P_NOISY,
        "posterior": POSTERIOR,
        "twin_of": np.full(4, -1),
    }
    return Suspects.ranked(**given | changed)


def many(n, wrong):
    """n samples, the last `wrong` of which are suspects; ranked the other way round."""
    p_noisy = (np.arange(n) >= n - wrong).astype(np.float32)
    return suspects(
        sample_ids=np.arange(n),
        files=None,
        labels=np.zeros(n, dtype=np.int64),
        scores={"score": -np.arange(n)},
        p_noisy=p_noisy,
        posterior=np.stack([1 - p_noisy, p_noisy, 0 * p_noisy], axis=1),
        twin_of=np.full(n, -1),
    )


def test_a_suspect_gets_another_class_and_any_other_sample_the_most_probable_one():
    table = suspects(scores={"score": -np.arange(4)})  # in the data set's order
    assert table.suggested.tolist() == [0, 2, 1, 1]  # the third's own class is likelier than dog, but it is a suspect
    assert table.confidence.dtype == table.other_confidence.dtype == np.float32
    np.testing.assert_allclose(table.confidence, [0.9, 0.6, 0.3, 0.6])


def test_the_likeliest_other_class_is_known_of_every_row():
    table = suspects(scores={"score": -np.arange(4)})
    assert (table.other != LABELS).all() and table.other.tolist() == likeliest_other(LABELS, POSTERIOR).tolist()
    np.testing.assert_allclose(table.other_confidence, POSTERIOR[np.arange(4), table.other])
    suspect = P_NOISY >= 0.5
    assert (table.other[suspect] == table.suggested[suspect]).all()


def test_where_the_posterior_is_sure_of_the_label_another_class_is_named_all_the_same():
    assert likeliest_other(np.array([1]), np.array([[0.0, 1.0, 0.0]])).tolist() == [0]


def test_rows_are_ranked_by_the_first_score_and_equal_ones_keep_their_order():
    table = suspects()
    assert table.sample_ids.tolist() == [12, 11, 13, 10] and table.positions.tolist() == [2, 1, 3, 0]
    assert table.files == ("c.png", "b.png", "d.png", "a.png")
    assert table.scores["second"].tolist() == [2, 3, 1, 4]
    assert table.is_suspect.tolist() == [True, True, False, False]


def test_the_rows_of_samples_are_found_by_their_positions():
    """The third sample is the worst, the first the last."""
    assert suspects().rows_of(np.array([[2, 0], [1, 3]])).tolist() == [[0, 3], [1, 2]]


def test_a_row_says_in_words_what_is_known():
    assert list(suspects().rows())[1] == {
        "sample_id": 11, "file": "b.png", "label": "dog", "first": "2", "second": "3", "p_noisy": "0.9000",
        "is_suspect": 1, "suggested_label": "owl", "confidence": "0.6000", "twin": "",
    }  # fmt: skip


def test_the_truth_is_told_where_it_is_known_and_blank_where_a_sample_is_of_no_class():
    rows = list(suspects(true_labels=np.array([0, 2, -1, 1]), files=None).rows())
    assert [row["true_label"] for row in rows] == ["", "owl", "dog", "cat"]
    assert "file" not in rows[0]


@pytest.mark.parametrize("files, first, third", [(("a", "b", "c", "d"), "c", "a"), (None, "12", "10")])
def test_a_twin_under_another_label_is_named_by_its_file_or_else_by_its_sample(files, first, third):
    """The first and the third sample show the same, and come last and first in the ranking."""
    rows = list(suspects(files=files, twin_of=np.array([2, -1, 0, -1])).rows())
    assert [row["twin"] for row in rows] == [third, "", "", first]


@pytest.mark.parametrize("report, count", [(0, 0), (3, 3), (1000, 500)])
def test_a_page_shows_as_many_as_are_asked_for(report, count):
    assert many(500, 10).shown(report).tolist() == list(range(count))


def test_a_page_shows_all_suspects_unasked_and_fills_up_with_the_worst_of_the_rest():
    few = many(LEAST_SHOWN + 300, 10).shown(None)
    assert few.tolist() == [*range(LEAST_SHOWN - 10), *range(LEAST_SHOWN + 290, LEAST_SHOWN + 300)]
    more = many(LEAST_SHOWN + 300, LEAST_SHOWN + 100).shown(None)
    assert more.tolist() == list(range(200, LEAST_SHOWN + 300))
    assert many(50, 10).shown(None).tolist() == list(range(50))
    most = many(MOST_SHOWN + 7, MOST_SHOWN + 5).shown(None)
    assert most.tolist() == list(range(2, MOST_SHOWN + 2))

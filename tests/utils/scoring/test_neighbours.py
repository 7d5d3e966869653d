"""Exact neighbours against scikit-learn, torch.topk and by hand, with and without the bfloat16 screen."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors

from utils.scoring.neighbours import Neighbours, largest, neighbour_counts, paired_products


def random_rows(samples, dimensions, seed=0):
    return F.normalize(torch.randn(samples, dimensions, generator=torch.Generator().manual_seed(seed)))


def random_labels(samples, classes=4):
    return torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(1))


def test_neighbours_are_scikit_learns():
    samples, k = 2000, 50
    unit, labels = random_rows(samples, 16), random_labels(samples, 10)
    ours = neighbour_counts(unit, labels, 10, k).numpy()
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", metric="cosine").fit(unit.double())
    distances, neighbours = search.kneighbors()  # without the sample itself
    theirs = np.stack([np.bincount(labels[row], minlength=10) for row in neighbours[:, : k - 1]])
    theirs[np.arange(samples), labels] += 1
    differing = np.flatnonzero((ours != theirs).any(1))
    gap = distances[differing, k - 1] - distances[differing, k - 2]
    assert len(differing) < 10 and (gap < 1e-6).all()  # only where single precision cannot tell which one is nearer


def test_counts_are_one_per_neighbour():
    counts = neighbour_counts(random_rows(240, 12), random_labels(240), 4, 17)
    assert counts.shape == (240, 4) and (counts.sum(1) == 17).all()


@pytest.mark.parametrize("unit", [torch.ones(6, 1), torch.zeros(6, 3)], ids=["six equal rows", "six rows of zeros"])
def test_a_sample_is_its_own_first_neighbour(unit):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    assert torch.equal(neighbour_counts(unit, labels, 4, 1), F.one_hot(labels, 4).float())


def test_k_clamps_to_the_number_of_samples():
    labels = random_labels(20)
    counts = neighbour_counts(random_rows(20, 12), labels, 4, 1000)
    assert torch.equal(counts, torch.bincount(labels, minlength=4).float().expand(20, -1))


@pytest.mark.parametrize("memory_gb", [1e-9, 1e-5])  # a row at a time; a few rows at a time
def test_scratch_memory_does_not_change_the_neighbours(memory_gb):
    unit, labels = random_rows(240, 4), random_labels(240)
    whole, in_pieces = (neighbour_counts(unit, labels, 4, 20, gb) for gb in (1.0, memory_gb))
    assert torch.equal(whole, in_pieces)


def cosines_of(unit, neighbours):
    """Sorted float64 cosines of the neighbours found, (R, k): equal ones cannot be told apart."""
    cosine = (unit[: len(neighbours), None].double() * unit[neighbours].double()).sum(2)
    return cosine.sort(1).values


@pytest.mark.parametrize("samples", [40, 41, 1000])
def test_the_screen_changes_no_neighbour(samples):
    unit, rows = random_rows(samples, 96), torch.arange(40)
    plain, screened = (Neighbours(unit, 20, screen).find(rows) for screen in (False, True))
    np.testing.assert_allclose(cosines_of(unit, screened), cosines_of(unit, plain), atol=1e-6)


def watched(search):
    """The rows that a screened search has to compare in float32, call by call."""
    calls, in_float32 = [], search._compare
    search._compare = lambda rows: calls.append(rows.tolist()) or in_float32(rows)
    return calls


def almost_equal_rows(samples, dimensions):
    """Cosines that differ by 1e-5 at most, far less than bfloat16's 1/256."""
    return F.normalize(1 + 1e-3 * torch.randn(samples, dimensions, generator=torch.Generator().manual_seed(0)))


def test_rows_that_bfloat16_cannot_tell_apart_are_searched_again_in_float32():
    unit = torch.cat([random_rows(600, 256), almost_equal_rows(100, 256)])[torch.arange(700).roll(50)]
    rows = torch.arange(20, 700)
    search = Neighbours(unit, 5, screen=True)
    again = watched(search)
    found = search.find(rows)
    alike = (unit @ unit.T > 0.99).sum(1) > 1
    assert set(alike.nonzero().flatten().tolist()) & set(rows.tolist()) <= set(again[0]) and len(again[0]) < 300
    exact = (unit[rows].double() @ unit.double().T).topk(5).values.sort(1).values
    cosine = torch.stack([unit[r].double() @ unit[f].double().T for r, f in zip(rows, found, strict=True)])
    np.testing.assert_allclose(cosine.sort(1).values, exact, atol=2e-7)
    assert search.low is not None


def test_the_screen_is_given_up_where_it_hides_most_rows():
    search = Neighbours(almost_equal_rows(500, 64), 5, screen=True)
    again = watched(search)
    search.find(torch.arange(100))
    assert again == [list(range(100))] and search.low is None


@pytest.mark.parametrize("k", [1, 3, 10, 99, 100])
def test_largest_is_topk(k):
    generator = torch.Generator().manual_seed(k)
    values = torch.randn(30, 100, generator=generator)
    found, positions = largest(values, k)
    assert torch.equal(found, values.gather(1, positions))
    assert torch.equal(found.sort(1).values, values.topk(k).values.sort(1).values)


def test_largest_of_equal_values_are_different_positions():
    found, positions = largest(torch.zeros(2, 50), 7)
    assert (found == 0).all() and all(len(set(row.tolist())) == 7 for row in positions)


def test_paired_products_by_hand():
    others = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    rows = torch.tensor([[1.0, 1.0], [10.0, 0.0]])
    partners = torch.tensor([[0, 2], [1, 2]])
    assert torch.equal(paired_products(rows, others, partners), torch.tensor([[1.0, 7.0], [0.0, 30.0]]))

"""Near-duplicate pictures: what is the same picture and what is not, and which of them are paired."""

import io

import numpy as np
import pytest
from PIL import Image

from utils.scoring import twins
from utils.scoring.twins import LEAST_DISTANCE, MOST_DISTANCE, Contents, contents, find_twins, twin_distance

NOTHING = np.zeros(100, dtype=int)


def pictures(n, seed=0, side=32):
    """n unlike ones, uint8 (n, side, side, 3): smooth and coloured as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in coarse])


def pairs(of, labels=None, **more):
    found = find_twins(contents([of]), NOTHING[: len(of)] if labels is None else np.array(labels), **more)
    return list(zip(found.first.tolist(), found.second.tolist(), strict=True))


def compressed(picture, quality=60):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


CHANGES = {
    "copied": lambda p: p,
    "mirrored": lambda p: p[:, ::-1],
    "compressed": compressed,
    "darker": lambda p: (0.6 * p).astype(np.uint8),
    "without colours": lambda p: np.repeat((p @ twins.BRIGHTNESS).astype(np.uint8)[:, :, None], 3, axis=2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_picture_is_found_again(change):
    of = pictures(40)
    of[31] = CHANGES[change](of[7])
    assert pairs(of) == [(7, 31)]


def test_other_pictures_are_no_twins():
    assert pairs(pictures(100)) == []


def test_copies_are_at_distance_0_and_come_first():
    of = pictures(40)
    of[20], of[30] = compressed(of[3]), of[4, :, ::-1]
    found = find_twins(contents([of]), NOTHING[:40])
    assert found.first.tolist() == [4, 3] and found.second.tolist() == [30, 20]
    assert found.distance.dtype == np.float32 and found.distance[0] == 0 < found.distance[1] < LEAST_DISTANCE


def test_the_nearest_twin_of_each_picture():
    """Pairs come the nearest first: 5 is nearer to 2 than to 0."""
    found = twins.Twins(np.array([2, 0, 1]), np.array([5, 5, 4]), np.array([0.0, 0.1, 0.2], dtype=np.float32))
    assert found.nearest(7).tolist() == [5, 4, 5, -1, 1, 2, -1]


def test_where_left_and_right_mean_something_a_mirror_image_is_another_picture():
    of = pictures(40)
    of[20], of[30] = of[3], of[4, :, ::-1]
    assert pairs(of, mirrored=False) == [(3, 20)]


def test_sky_above_sea_is_not_enough():
    """Rows alone, however alike, are no content, nor is a flat picture."""
    of = pictures(40)
    for k, level in ((5, 90), (6, 120)):
        of[k] = level
        of[k, 16:] = level // 2
    of[8] = of[9] = 77
    assert pairs(of) == []


def test_a_group_of_copies_is_no_list_of_all_its_pairs_but_every_contradiction_is_seen():
    """Copies 0-4, of which 2 and 4 are labelled otherwise: each is paired once with its like and once with another."""
    of, labels = pictures(40), np.zeros(40, dtype=int)
    of[:5], labels[[2, 4]] = of[0], 1
    found = pairs(of, labels)
    assert len(found) < 10 and {k for pair in found for k in pair} == set(range(5))
    contradicting = [pair for pair in found if labels[pair[0]] != labels[pair[1]]]
    assert {k for pair in contradicting for k in pair} == set(range(5))


def test_blocks_change_nothing(monkeypatch):
    of, labels = pictures(50), np.arange(50) % 3
    of[40], of[41], of[12] = of[2], compressed(of[30]), of[45, :, ::-1]
    whole = pairs(of, labels)
    assert sorted(whole) == [(2, 40), (12, 45), (30, 41)]
    monkeypatch.setattr(twins, "BLOCK", 7)
    assert pairs(of, labels) == whole


def test_contents_are_the_same_in_portions(monkeypatch):
    of = pictures(9)
    whole = contents([of])
    monkeypatch.setattr(twins, "VALUES_AT_A_TIME", 2 * of[0].size)
    for part, again in zip(whole, contents([of[:4], of[4:]]), strict=True):
        assert part.dtype == np.float32 and part.shape == (9, 128)
        np.testing.assert_allclose(part, again, atol=1e-6)


def test_contents_are_of_length_1_and_the_mirror_changes_the_sign_of_the_odd_part():
    of = pictures(5)
    one, mirrored = contents([of]), contents([of[:, :, ::-1]])
    np.testing.assert_allclose(np.square(np.hstack(one)).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(one.even, mirrored.even, atol=1e-6)
    np.testing.assert_allclose(one.odd, -mirrored.odd, atol=1e-6)


@pytest.mark.parametrize("side", [20, 96])
def test_size_makes_no_difference(side):
    other, usual = contents([pictures(3, side=side)]), contents([pictures(3)])
    assert (np.square(np.hstack(other) - np.hstack(usual)).sum(axis=1) < MOST_DISTANCE**2).all()


def test_fields_are_means_over_parts_of_pixels():
    """24 pixels in 16 fields: one and a half in each. 8 pixels: half a one."""
    means = twins._field_means(24)
    np.testing.assert_allclose(means[0, :3], [2 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(means[1, :4], [0, 1 / 3, 2 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(twins._field_means(8)[:3, :2], [[1, 0], [1, 0], [0, 1]], atol=1e-6)


def test_tiny_pictures_have_twins_too():
    of = pictures(40, side=8)
    of[31] = of[7]
    assert pairs(of) == [(7, 31)]


def test_where_all_pictures_are_alike_twins_have_to_be_nearer():
    """Contents around a common one are 0.3 * sqrt(2) apart and the nearest a little less; twins 0.4 times as far."""
    rays = np.random.default_rng(0).normal(size=(400, 256)).astype(np.float32)
    rays[:, 0] = 0
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    whole = np.sqrt(1 - 0.3**2) * np.eye(256, dtype=np.float32)[0] + 0.3 * rays
    assert LEAST_DISTANCE < twin_distance(Contents(whole[:, :128], whole[:, 128:])) < 0.4 * 0.3 * 2**0.5
    assert twin_distance(contents([pictures(40)])) > 0.3


def test_copies_of_half_the_set_do_not_hide_each_other():
    of = pictures(60)
    of[30:] = of[0]
    assert {k for pair in pairs(of) for k in pair} == {0, *range(30, 60)}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_sets_of_a_few_pictures(n):
    of = np.repeat(pictures(1), n, axis=0)
    assert pairs(of) == ([(0, k) for k in range(1, n)] if n < 3 else [(0, 1), (0, 2)])

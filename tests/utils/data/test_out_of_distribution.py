"""Images of another set in place of some of the training images."""

import numpy as np
import pytest

from utils.data.out_of_distribution import replace_images
from utils.errors import UserError

IMAGES = np.zeros((20, 3, 8, 8), dtype=np.uint8)


def flat(values, side=8):
    """Images of one grey each."""
    return np.broadcast_to(np.uint8(values)[:, None, None, None], (len(values), 3, side, side))


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("side", [8, 20], ids=["as they are", "resized"])
def test_exactly_that_share_is_replaced_each_by_another_image(side):
    images, ids = replace_images(IMAGES, flat(range(100, 109), side), 0.3, generator())
    assert len(ids) == 6 and (np.diff(ids) > 0).all() and ids.dtype == np.int64
    greys = images[ids].reshape(6, -1)
    assert (greys == greys[:, :1]).all() and len(set(greys[:, 0])) == 6 and greys.min() >= 100
    assert (
        not np.delete(images, ids, axis=0).any() and not IMAGES.any()
    )  # the others, and what was given, are as before


def test_the_generator_alone_decides_which_and_both_are_chosen_uniformly():
    others, hits, taken = flat(range(1, 11)), np.zeros(20), np.zeros(11)
    first, again = (replace_images(IMAGES, others, 0.25, generator(7))[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    for seed in range(400):
        images, ids = replace_images(IMAGES, others, 0.25, generator(seed))
        hits[ids] += 1
        taken[images[ids, 0, 0, 0]] += 1
    # Binomial: 100 of 400 expected of each position, 200 of each image, within five standard deviations.
    assert np.abs(hits - 100).max() < 5 * np.sqrt(75) and np.abs(taken[1:] - 200).max() < 5 * np.sqrt(100)


def test_too_few_other_images_are_refused():
    with pytest.raises(UserError, match="10 images are to be replaced and the other set has 9 — lower --ood_ratio"):
        replace_images(IMAGES, flat(range(9)), 0.5, generator())

"""Mixup: images and targets by the same weight, with the same partner."""

import pytest
import torch

from utils.training.mixing import mixup

SAMPLES = 8


def numbered():
    """Image i holds 2**i everywhere and is of class i, so that every mixture says of what it was made."""
    images = (2.0 ** torch.arange(SAMPLES))[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return images, torch.eye(SAMPLES)


def test_alpha_zero_leaves_everything_and_draws_nothing():
    images, targets = numbered()
    state = torch.get_rng_state()
    same = mixup(images, targets, 0.0)
    assert same[0] is images and same[1] is targets and same[2] == slice(None)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
def test_images_and_targets_are_mixed_alike_by_one_weight(alpha):
    torch.manual_seed(0)
    images, targets, _ = mixup(*numbered(), alpha)
    weights = set()
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        torch.testing.assert_close(image, (target @ 2.0 ** torch.arange(SAMPLES)).expand(3, 4, 4))
        assert target.sum().item() == pytest.approx(1, rel=1e-6) and target.count_nonzero() <= 2
        if target[i] < 1:  # its partner is another one
            weights.add(round(target[i].item(), 6))
    assert len(weights) == 1


def test_every_image_is_a_partner_once():
    torch.manual_seed(1)
    _, targets, _ = mixup(*numbered(), 1.0)
    torch.testing.assert_close(targets.sum(0), torch.ones(SAMPLES))


@pytest.mark.parametrize("seed", range(4))
def test_each_image_is_the_larger_part_of_one_mixture(seed):
    torch.manual_seed(seed)
    _, targets, larger = mixup(*numbered(), 1.0)
    assert sorted(larger.tolist()) == list(range(SAMPLES))
    assert (targets[torch.arange(SAMPLES), larger] >= 0.5).all()


def test_what_went_in_stays_as_it_was():
    images, targets = numbered()
    torch.manual_seed(0)
    mixup(images, targets, 1.0)
    assert torch.equal(images, numbered()[0]) and torch.equal(targets, numbered()[1])


@pytest.mark.parametrize(("alpha", "variance"), [(0.1, 1 / 4.8), (1.0, 1 / 12), (5.0, 1 / 44)])
def test_weights_follow_the_beta_distribution(alpha, variance):  # its variance is 1 / (4 (2 alpha + 1))
    images, targets = torch.zeros(2, 1, 1, 1), torch.eye(2)
    torch.manual_seed(0)
    drawn = [mixup(images, targets, alpha)[1][0, 0] for _ in range(4000)]
    mixed = torch.stack([weight for weight in drawn if weight < 1])  # half of the orders of two leave them in place
    # Of about 2,000 the standard error is at most √(0.208 / 2000) = 0.010.
    assert mixed.mean().item() == pytest.approx(0.5, abs=0.04)
    assert mixed.var().item() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("alpha", [1e-8, 1e-3, 1e8])
def test_extreme_alphas_give_weights(alpha):
    torch.manual_seed(0)
    images, targets, _ = mixup(*numbered(), alpha)
    assert images.isfinite().all() and (targets >= 0).all() and (targets <= 1).all()


def test_mixed_images_stay_channels_last():
    images = torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)
    assert mixup(images, torch.eye(4), 1.0)[0].is_contiguous(memory_format=torch.channels_last)

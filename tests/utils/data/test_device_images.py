"""Batches on the device: crop, flip, colour, normalisation."""

import numpy as np
import pytest
import torch
from PIL import Image

from utils.compute import Compute
from utils.data.device_images import DeviceImages, channel_statistics, random_colour, random_crop, resize

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)


def random_images(samples=12, height=16, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (samples, 3, height, width), dtype=np.uint8)


def device_images(images, mirrored=False, **options):
    return DeviceImages(images, CPU, mirrored=mirrored, **options)


def to_pixels(batch, images):
    """The uint8 (B, 3, H, W) that a normalised batch was made of."""
    pixels = batch.permute(0, 2, 3, 1) * images.std + images.mean
    return (255 * pixels).round().permute(0, 3, 1, 2).numpy().astype(np.uint8)


def shifted(image, padding, down, right):
    """(3, H, W) padded with black and cut out again at (down, right), both in 0..2·padding."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    return padded[:, down : down + height, right : right + width]


# Crop and flip.


@pytest.mark.parametrize(("height", "width", "padding"), [(16, 16, 2), (5, 9, 1)])
def test_crops_are_padded_shifts_and_every_shift_comes(height, width, padding):
    images = random_images(samples=3, height=height, width=width)
    ids = torch.arange(3).repeat(200)  # 600 draws from 25 shifts: one stays out with probability 25·(24/25)^600 < 1e-9
    torch.manual_seed(0)
    crops = random_crop(torch.from_numpy(images).permute(0, 2, 3, 1), ids, padding).permute(0, 3, 1, 2).numpy()
    sides = range(2 * padding + 1)
    candidates = {
        shifted(image, padding, down, right).tobytes(): (i, down, right)
        for i, image in enumerate(images) for down in sides for right in sides
    }  # fmt: skip
    found = [candidates[crop.tobytes()] for crop in crops]
    assert [i for i, *_ in found] == ids.tolist()
    assert {(down, right) for _, down, right in found} == {(down, right) for down in sides for right in sides}


@pytest.mark.parametrize(("side", "padding"), [(32, 4), (64, 8), (16, 2)])
def test_padding_is_an_eighth_of_the_side(side, padding):
    images = device_images(random_images(samples=1, height=side, width=side))
    assert images.padding == padding


def test_training_batches_of_unmirrored_images_are_shifts_of_their_images():
    original = random_images(samples=1)
    images = device_images(original)
    torch.manual_seed(0)
    batch = to_pixels(images.augmented_batch(torch.zeros(40, dtype=torch.long)), images)
    candidates = {shifted(original[0], 2, d, r).tobytes() for d in range(5) for r in range(5)}
    assert {crop.tobytes() for crop in batch} <= candidates


@pytest.mark.parametrize("mirrored", [True, False])
def test_images_are_flipped_only_where_mirrored(mirrored):
    original = random_images(samples=1, height=8, width=8)  # too small to be cropped: a flip is all that can happen
    images = device_images(original, mirrored=mirrored)
    torch.manual_seed(0)
    batch = to_pixels(images.augmented_batch(torch.zeros(400, dtype=torch.long)), images)
    same = (batch == original).all((1, 2, 3))
    flipped = (batch == original[..., ::-1]).all((1, 2, 3))
    assert (same | flipped).all()
    # A fair coin thrown 400 times: 200 heads, 4 standard deviations are 40.
    assert abs(flipped.sum() - 200) < 40 if mirrored else same.all()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (15, 32)])
def test_images_under_16_pixels_are_not_cropped(height, width):
    images = device_images(random_images(height=height, width=width))
    ids = torch.arange(12)
    assert torch.equal(images.augmented_batch(ids), images.batch(ids))


# Evaluation batches and normalisation.


def test_evaluation_batches_are_normalised_images_and_nothing_else():
    original = random_images(height=16, width=20)
    images = device_images(original, mirrored=True)
    ids = torch.tensor([3, 0, 7])
    x = original.astype(np.float64) / 255
    expected = (x[ids] - x.mean((0, 2, 3))[:, None, None]) / x.std((0, 2, 3))[:, None, None]
    batch = images.batch(ids)
    assert batch.dtype == torch.float32
    np.testing.assert_allclose(batch, expected, atol=1e-5)
    assert torch.equal(batch, images.batch(ids))
    assert torch.equal(batch[:1], images.batch(slice(3, 4)))


def test_batches_are_channels_last():
    images = device_images(random_images(), mirrored=True)
    ids = torch.arange(5)
    for batch in (images.batch(ids), images.augmented_batch(ids), images.augmented_batch(ids, colour_jitter=0.4)):
        assert batch.shape == (5, 3, 16, 16)
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_channel_statistics_are_numpys():
    original = random_images(samples=50) // np.array([1, 2, 5], dtype=np.uint8)[:, None, None]
    mean, std = channel_statistics(torch.from_numpy(original).permute(0, 2, 3, 1).contiguous())
    assert mean.dtype == std.dtype == torch.float32
    np.testing.assert_allclose(mean, original.mean((0, 2, 3)) / 255, rtol=1e-6)
    np.testing.assert_allclose(std, original.std((0, 2, 3)) / 255, rtol=1e-6)


def test_a_constant_channel_does_not_divide_by_zero():
    images = device_images(np.full((4, 3, 16, 16), 7, dtype=np.uint8))
    np.testing.assert_allclose(images.batch(torch.arange(4)), 0, atol=1e-4)


def test_statistics_of_another_set_are_taken_over():
    train, test = random_images(), random_images(seed=1)
    images = device_images(test, statistics=device_images(train).statistics)
    x = (test / 255 - train.mean((0, 2, 3))[:, None, None] / 255) / (train.std((0, 2, 3))[:, None, None] / 255)
    np.testing.assert_allclose(images.batch(torch.arange(12)), x, atol=1e-5)


# Another size.


@pytest.mark.parametrize("side", [(8, 8), (32, 24)])
def test_resizing_is_pillows_bilinear(side):
    original = random_images(samples=2, height=16, width=20)
    ours = resize(torch.from_numpy(original), side)
    assert ours.dtype == torch.uint8 and ours.shape == (2, 3, *side)
    for image, resized in zip(original, ours.numpy(), strict=True):
        theirs = Image.fromarray(image.transpose(1, 2, 0)).resize(side[::-1], Image.Resampling.BILINEAR)
        # Pillow rounds after each direction, so a level of difference may come from rounding.
        assert np.abs(np.asarray(theirs, dtype=int) - resized.transpose(1, 2, 0)).max() <= 1


def test_images_take_the_side_they_are_asked_for():
    original = random_images()
    assert device_images(original, side=(8, 24)).side == (8, 24)
    same = device_images(original, side=(16, 16))
    np.testing.assert_array_equal(same.pixels.permute(0, 3, 1, 2), original)
    assert len(same) == 12


# Colour jitter.


def colours(samples=50, seed=0):
    return 255 * torch.rand(samples, 4, 4, 3, generator=torch.Generator().manual_seed(seed))


def test_colour_of_strength_zero_changes_nothing():
    np.testing.assert_allclose(random_colour(colours(), 0.0), colours(), atol=1e-3)


def test_grey_images_stay_grey():
    grey = colours()[..., :1].expand(-1, -1, -1, 3)
    torch.manual_seed(0)
    jittered = random_colour(grey, 0.4)
    np.testing.assert_allclose(jittered, jittered[..., :1].expand_as(jittered), atol=1e-3)
    assert (jittered - grey).abs().max() > 10


def test_colours_stay_within_range():
    torch.manual_seed(0)
    jittered = random_colour(colours(), 0.9)
    assert jittered.min() == 0 and jittered.max() == 255  # reached on both sides, never passed


def test_brightness_of_a_plain_grey_image_spans_the_strength():
    plain = torch.full((2000, 2, 2, 3), 100.0)  # contrast and saturation have nothing to act on
    torch.manual_seed(0)
    factors = random_colour(plain, 0.4)[:, 0, 0, 0] / 100
    assert factors.min() >= 0.6 - 1e-5 and factors.max() <= 1.4 + 1e-5
    np.testing.assert_allclose([factors.min(), factors.mean(), factors.max()], [0.6, 1.0, 1.4], atol=0.03)


def test_colour_jitter_acts_in_training_batches():
    images = device_images(random_images(height=8, width=8))
    ids = torch.arange(12)
    torch.manual_seed(0)
    assert not torch.allclose(images.augmented_batch(ids, colour_jitter=0.4), images.batch(ids), atol=0.1)


def test_grey_sets_are_told_from_coloured_ones():
    grey = np.repeat(random_images()[:, :1], 3, axis=1)
    assert not device_images(grey).coloured
    grey[3, 2, 5, 5] ^= 1
    assert device_images(grey).coloured

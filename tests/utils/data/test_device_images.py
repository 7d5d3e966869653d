"""Batches on the device: crop, flip, cut-out, turns, colour, normalisation."""

import numpy as np
import pytest
import torch
from PIL import Image

from utils.compute import Compute
from utils.data.device_images import (
    DeviceImages,
    channel_statistics,
    cut_out,
    random_affine,
    random_colour,
    random_crop,
    reflected,
    resize,
)

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)


def random_images(samples=12, height=16, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (samples, 3, height, width), dtype=np.uint8)


def device_images(images, mirrored=False, **options):
    return DeviceImages(images, CPU, mirrored=mirrored, **options)


def to_pixels(batch, images):
    """The uint8 (B, 3, H, W) that a normalised batch was made of."""
    pixels = batch.permute(0, 2, 3, 1) * images.std + images.mean
    return (255 * pixels).round().permute(0, 3, 1, 2).numpy().astype(np.uint8)


def shifted(image, padding, down, right, mode="constant"):
    """(3, H, W) padded, with black unless `mode` says else, and cut out again at (down, right), in 0..2·padding."""
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode)
    return padded[:, down : down + height, right : right + width]


# Crop and flip.


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize(("height", "width", "padding"), [(16, 16, 2), (5, 9, 1)])
def test_crops_are_padded_shifts_and_every_shift_comes(height, width, padding, mode):
    images = random_images(samples=3, height=height, width=width)
    ids = torch.arange(3).repeat(200)  # 600 draws from 25 shifts: one stays out with probability 25·(24/25)^600 < 1e-9
    torch.manual_seed(0)
    pixels = torch.from_numpy(images).permute(0, 2, 3, 1)
    crops = random_crop(pixels, ids, padding, reflect=mode == "reflect").permute(0, 3, 1, 2).numpy()
    sides = range(2 * padding + 1)
    candidates = {
        shifted(image, padding, down, right, mode).tobytes(): (i, down, right)
        for i, image in enumerate(images) for down in sides for right in sides
    }  # fmt: skip
    found = [candidates[crop.tobytes()] for crop in crops]
    assert [i for i, *_ in found] == ids.tolist()
    assert {(down, right) for _, down, right in found} == {(down, right) for down in sides for right in sides}


def test_positions_beyond_the_border_are_folded_back():
    assert reflected(torch.arange(-3, 7), 4).tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]


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


# Levels of augmentation.


def ones(samples=1000, height=32, width=32):
    return torch.ones(samples, 3, height, width)


def holes(images):
    """(rows, columns) of each image's hole, checked to be one rectangle in all channels; images (B, 3, H, W) of 1."""
    hole = (images == 0).numpy()
    assert set(images.unique().tolist()) == {0.0, 1.0} and (hole == hole[:, :1]).all()
    rows, columns = hole[:, 0].any(2), hole[:, 0].any(1)  # (B, H) and (B, W)
    np.testing.assert_array_equal(hole[:, 0], rows[:, :, None] & columns[:, None, :])
    for within in (rows, columns):  # from no hole to hole at most once
        assert (np.diff(np.pad(within, ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum(1).max() == 1
    return rows, columns


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 12), (16, 16, 6), (32, 64, 12)])
def test_a_hole_is_a_square_of_three_eighths_of_the_side_that_may_hang_over_the_border(height, width, side):
    torch.manual_seed(0)
    rows, columns = holes(cut_out(ones(height=height, width=width)))
    for within in (rows, columns):
        sizes = within.sum(1)  # a centre on the border leaves half of it
        assert (sizes.min(), sizes.max()) == (side // 2, side)
        assert within.any(0).all()  # every row and column is cut at some time
    assert np.median(rows.sum(1)) == side


def test_every_image_has_a_hole_of_its_own_and_the_rest_stays():
    images = 1 + torch.rand(50, 3, 16, 16)
    before = images.clone()
    torch.manual_seed(0)
    cut = cut_out(images)
    assert torch.equal(images, before) and torch.equal(cut[cut != 0], images[cut != 0])
    assert len({hole.numpy().tobytes() for hole in cut == 0}) > 40


@pytest.mark.parametrize(
    ("draws", "x", "y"),
    [
        ([0.5, 0.5, 0.5, 0.5], [1, 0], [0, 1]),
        ([1.0, 0.5, 0.5, 0.5], [np.cos(0.13), -np.sin(0.13)], [np.sin(0.13), np.cos(0.13)]),
        ([0.5, 0.0, 0.5, 0.5], [1, -0.13], [0, 1]),
        ([0.5, 0.5, 1.0, 0.5], [1.1, 0], [0, 1]),
        ([0.5, 0.5, 0.5, 0.0], [1, 0], [0, 0.9]),
    ],
    ids=["as it is", "turned", "sheared", "narrowed", "heightened"],
)
def test_images_are_turned_sheared_and_scaled(monkeypatch, draws, x, y):
    at = (torch.arange(16) - 7.5) / 8  # pixel centres; 0 is the middle of the image
    images = torch.stack([at.expand(16, 16), at[:, None].expand(16, 16), torch.ones(16, 16)])[None]
    monkeypatch.setattr(torch, "rand", lambda *shape, device: torch.tensor(draws)[:, None])
    made = random_affine(images)[0, :, 3:-3, 3:-3]  # what came from beyond the border is another matter
    inner = images[0, :, 3:-3, 3:-3]
    for found, (a, b) in zip(made, (x, y, [0, 0]), strict=True):
        torch.testing.assert_close(found, a * inner[0] + b * inner[1] + (a == b == 0), atol=1e-5, rtol=0)


def test_every_image_is_turned_in_its_own_way_and_a_plain_one_stays_plain():
    torch.manual_seed(0)
    made = random_affine(torch.arange(64.0).reshape(1, 1, 8, 8).expand(20, 3, 8, 8))
    assert len({image.numpy().tobytes() for image in made}) == 20
    torch.testing.assert_close(random_affine(3 * torch.ones(20, 3, 8, 8)), 3 * torch.ones(20, 3, 8, 8))


@pytest.mark.parametrize("side", [8, 16])
def test_without_augmentation_nothing_changes_and_nothing_is_drawn(side):
    images = device_images(random_images(height=side, width=side), mirrored=True)
    ids, state = torch.arange(12), torch.get_rng_state()
    assert torch.equal(images.augmented_batch(ids, "none", 0.4), images.batch(ids))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mirrored", [True, False])
def test_strongly_augmented_images_are_reflected_shifts_with_a_hole(mirrored):
    original = random_images(samples=1)
    images = device_images(original, mirrored=mirrored)
    torch.manual_seed(0)
    batch = images.augmented_batch(torch.zeros(60, dtype=torch.long), "strong")
    pixels, hole = to_pixels(batch, images), (batch == 0).all(1, keepdim=True).numpy()
    assert hole.sum((1, 2, 3)).min() > 0 and hole.sum((1, 2, 3)).max() == 36
    shifts = [shifted(original[0], 2, d, r, "reflect") for d in range(5) for r in range(5)]
    crops = np.array(shifts + [shift[..., ::-1] for shift in shifts])
    fits = ((pixels[:, None] == crops) | hole[:, None]).all((2, 3, 4))  # (60 images, 25 shifts and 25 mirrored ones)
    assert fits.any(1).all()
    assert fits[:, :25].any() and fits[:, 25:].any() == mirrored


def test_tiny_images_are_turned_a_little_and_not_cut():
    images = device_images(np.full((12, 3, 8, 8), 9, dtype=np.uint8), statistics=(torch.zeros(3), torch.ones(3)))
    ids = torch.arange(12)
    torch.testing.assert_close(images.augmented_batch(ids, "strong"), images.batch(ids))  # plain ones stay
    images = device_images(random_images(height=8, width=8))
    torch.manual_seed(0)
    assert not torch.allclose(images.augmented_batch(ids, "strong"), images.batch(ids), atol=0.1)


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
    augmented = [images.augmented_batch(ids, *how) for how in ((), ("standard", 0.4), ("strong",))]
    tiny = device_images(random_images(height=8, width=8)).augmented_batch(ids, "strong")
    for batch in (images.batch(ids), *augmented, tiny):
        assert batch.shape[:2] == (5, 3)
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
    # Of 2,000 uniform draws the mean has a standard error of 0.8 / √12 / √2000 = 0.005; the ends are 0.0004 away.
    np.testing.assert_allclose([factors.min(), factors.mean(), factors.max()], [0.6, 1.0, 1.4], atol=0.03)


@pytest.mark.parametrize("augment", ["standard", "strong"])
def test_colour_jitter_acts_in_training_batches(augment):
    images = device_images(random_images(height=8, width=8))
    ids = torch.arange(12)
    torch.manual_seed(0)
    plain = images.augmented_batch(ids, augment)
    torch.manual_seed(0)
    assert not torch.allclose(images.augmented_batch(ids, augment, 0.4), plain, atol=0.1)


def test_grey_sets_are_told_from_coloured_ones():
    grey = np.repeat(random_images()[:, :1], 3, axis=1)
    assert not device_images(grey).coloured
    grey[3, 2, 5, 5] ^= 1
    assert device_images(grey).coloured

"""Images on the host give the batches that images on the device give, announced or not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.utils.data.test_device_images import CPU, random_images
from utils.data import device_images, host_pixels
from utils.data.device_images import DeviceImages, stay_on_host
from utils.data.host_pixels import AHEAD, HostPixels
from utils.errors import UserError


@pytest.fixture
def mapped(tmp_path):
    """A read-only map of 40 images as an image cache has them: behind a header."""
    images = random_images(samples=40)
    with open(tmp_path / "images", "wb") as handle:
        handle.write(bytes(128) + images.tobytes())
    return np.memmap(tmp_path / "images", np.uint8, "r", offset=128, shape=images.shape)


def both(images, **options):
    return [DeviceImages(images, CPU, mirrored=True, on_host=on_host, **options) for on_host in (False, True)]


@pytest.mark.parametrize("side", [None, (8, 8), (24, 20)])
def test_everything_that_is_said_of_images_is_the_same(mapped, side):
    device, host = both(mapped, side=side)
    assert len(host) == 40 and (host.side, host.padding) == (device.side, device.padding)
    assert host.pixels.shape == tuple(device.pixels.shape) and host.coloured
    for ours, theirs in zip(host.statistics, device.statistics, strict=True):
        assert torch.equal(ours, theirs)
    for ids in (3, slice(5, 30), torch.tensor([7, 0, 7])):
        assert torch.equal(host.pixels[ids], device.pixels[ids])
    assert host.on_host and not device.on_host


@pytest.mark.parametrize("how", [("none",), ("standard",), ("standard", 0.4), ("strong",)])
@pytest.mark.parametrize("side", [None, (8, 8)])
def test_batches_come_from_the_same_draws(mapped, how, side):
    ids, made = torch.tensor([7, 0, 31, 7, 5]), []
    for images in both(mapped, side=side):
        torch.manual_seed(0)
        made.append((images.batch(ids), images.augmented_batch(ids, *how), torch.rand(1)))
        assert made[-1][1].is_contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(*made, strict=True):
        assert torch.equal(ours, theirs)


def test_announced_batches_are_read_ahead_each_once(mapped, monkeypatch):
    read, pixels = [], HostPixels(mapped, CPU.device, (16, 16))
    fetched = pixels._fetched
    monkeypatch.setattr(pixels, "_fetched", lambda places: read.append(places.tolist()) or fetched(places))
    batches = list(torch.randperm(40).split(8))
    pixels.announce(batches)
    for number, ids in enumerate(batches):
        assert torch.equal(pixels[ids], torch.from_numpy(mapped[ids.numpy()]).permute(0, 2, 3, 1))
        assert len(pixels._coming) == min(AHEAD, len(batches) - number - 1)
    assert read == [ids.tolist() for ids in batches]


def test_what_was_not_announced_is_read_all_the_same(mapped):
    pixels = HostPixels(mapped, CPU.device, (16, 16))
    first, second, third = torch.arange(30).split(10)
    pixels.announce([first, second, third])
    stranger = first.clone()  # equal, but not the batch that was announced
    for ids in (stranger, third, first, second):
        assert torch.equal(pixels[ids], torch.from_numpy(mapped[ids.numpy()]).permute(0, 2, 3, 1))
    pixels.announce([third])  # what is left of the first announcement is void
    assert torch.equal(pixels[third], torch.from_numpy(mapped[20:30]).permute(0, 2, 3, 1))
    pixels.announce([])


def test_an_error_of_the_thread_is_raised_where_the_batch_is_asked_for(mapped):
    pixels, ids = HostPixels(mapped, CPU.device, (16, 16)), torch.tensor([40])
    pixels.announce([ids])
    with pytest.raises(IndexError, match="40 is out of bounds"):
        pixels[ids]


def test_pages_of_a_map_are_let_go_every_so_often(mapped, monkeypatch):
    gone = []
    monkeypatch.setattr(host_pixels, "LET_GO_EVERY", 3 * 256 * 20)
    monkeypatch.setattr(host_pixels, "let_go", gone.append)
    pixels = HostPixels(mapped, CPU.device, (16, 16))
    for start in range(0, 40, 8):
        pixels[torch.arange(start, start + 8)]
    assert len(gone) == 1 and gone[0] is mapped  # after 24 of 40


@pytest.mark.parametrize(
    ("images_on", "size", "host"),
    [("auto", 500, False), ("auto", 501, True), ("host", 1, True), ("device", 1000, False)],
)
def test_images_stay_on_the_host_where_they_would_take_more_than_half(monkeypatch, images_on, size, host):
    monkeypatch.setattr(device_images, "free_memory", lambda compute: 1000)
    assert stay_on_host(size, replace(CPU, images_on=images_on)) == host


def test_images_that_do_not_fit_on_the_device_are_refused(monkeypatch):
    monkeypatch.setattr(device_images, "free_memory", lambda compute: 10**9)
    with pytest.raises(UserError, match=r"^the images take 1\.1 GB of memory, and 1\.0 GB are free.*--images_on host"):
        stay_on_host(1_100_000_000, replace(CPU, images_on="device"))
    monkeypatch.setattr(device_images, "free_memory", lambda compute: None)
    assert not stay_on_host(10**12, replace(CPU, images_on="device"))
    assert not stay_on_host(10**12, CPU)

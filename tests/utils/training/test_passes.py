"""Passes of a network over images: in data order, without augmentation, every module left in its mode."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from utils.compute import Compute
from utils.data.device_images import DeviceImages
from utils.errors import Diverged
from utils.scoring.tracker import Tracker
from utils.scoring.tracking import LOSS_ALONE, Tracking
from utils.training.passes import accuracy, accuracy_on_test, infer, probabilities, score_samples


def cpu(eval_batch_size=250):
    return Compute(torch.device("cpu"), bf16=False, compile=False, threads=1, eval_batch_size=eval_batch_size)


class PixelModel(nn.Module):
    """Images whose pixels all hold the number of the image; logits (n, -n, 0), features (n, 1). Notes its modes."""

    def __init__(self):
        super().__init__()
        self.bn, self.dropout = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.modes, self.batch_sizes = [], []

    def forward(self, images, return_features=False):
        self.modes.append([module.training for module in self.modules()])
        self.batch_sizes.append(len(images))
        assert torch.is_inference_mode_enabled()
        value = self.dropout(self.bn(images)).mean((1, 2, 3))
        logits = torch.stack([value, -value, torch.zeros_like(value)], 1)
        return (logits, torch.stack([value, torch.ones_like(value)], 1)) if return_features else logits


def numbered_images(samples=10):
    images = np.broadcast_to(np.arange(samples, dtype=np.uint8)[:, None, None, None], (samples, 3, 16, 16))
    unnormalised = (torch.zeros(3), torch.full((3,), 1 / 255))
    return DeviceImages(np.ascontiguousarray(images), cpu(), mirrored=True, statistics=unnormalised)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 250])
def test_inference_returns_every_image_in_data_order(batch_size):
    model = PixelModel()
    batches = list(infer(model, numbered_images(), cpu(batch_size), features=True))
    positions, logits, features = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert positions.tolist() == list(range(10))
    # Augmentation would shrink the mean of a cropped image; dropout would scale it. 1e-5 is batch norm's epsilon.
    np.testing.assert_allclose(logits[:, 0], np.arange(10), rtol=1e-4)
    np.testing.assert_allclose(features, torch.stack([logits[:, 0], torch.ones(10)], 1))
    assert max(model.batch_sizes) <= batch_size


def test_inference_of_some_images_counts_positions_among_them():
    ids = torch.tensor([7, 2, 9])
    positions, logits, features = zip(*infer(PixelModel(), numbered_images(), cpu(2), ids=ids), strict=True)
    assert torch.cat(positions).tolist() == [0, 1, 2]
    np.testing.assert_allclose(torch.cat(logits)[:, 0], [7, 2, 9], rtol=1e-4)
    assert features == (None, None)


def test_probabilities_are_those_of_the_images_asked_for():
    found = probabilities(PixelModel(), numbered_images(), cpu(2), torch.tensor([3, 0, 1]))
    odds = np.exp([[3, -3, 0], [0, 0, 0], [1, -1, 0]])
    np.testing.assert_allclose(found, odds / odds.sum(1, keepdims=True), rtol=1e-3)
    assert found.dtype == torch.float32


def test_inference_evaluates_and_gives_every_module_its_mode_back():
    model = PixelModel().train()
    model.bn.eval()
    before = copy.deepcopy(model.bn.state_dict())
    list(infer(model, numbered_images(), cpu(4)))
    assert not np.any(model.modes)
    assert (model.training, model.bn.training, model.dropout.training) == (True, False, True)
    assert all(torch.equal(value, before[name]) for name, value in model.bn.state_dict().items())


def test_the_network_can_be_trained_after_inference():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    images = numbered_images()
    list(infer(model, images, cpu()))
    model(images.batch(torch.arange(4))).sum().backward()
    assert model[1].weight.grad.isfinite().all()


def test_accuracy_is_the_share_of_right_predictions():
    # The prediction is class 0 for every image but image 0, whose logits are all equal: the first class again.
    labels = np.array([0, 0, 0, 1, 2, 0, 0, 0, 0, 1])
    assert accuracy(PixelModel(), numbered_images(), labels, cpu(3)) == pytest.approx(0.7)
    data = SimpleNamespace(test_images=numbered_images(), test_labels=labels)
    assert accuracy_on_test(PixelModel(), data, cpu(3)) == pytest.approx(0.7)


def test_without_a_test_set_there_is_no_accuracy():
    assert accuracy_on_test(PixelModel(), SimpleNamespace(test_images=None), cpu()) is None


def test_the_images_asked_for_are_scored():
    ids = torch.tensor([0, 3])
    labels = torch.tensor([0, 1])
    tracker = Tracker(labels, 3, Tracking(nn_k=2))
    snapshot = score_samples(PixelModel(), numbered_images(), tracker, cpu(1), where="epoch 1", ids=ids)
    expected = [np.log(3), 6 + np.log(1 + np.exp(-3) + np.exp(-6))]
    np.testing.assert_allclose(snapshot.loss(labels), expected, rtol=1e-4)
    assert snapshot.accuracy == 0.5 and np.isfinite(snapshot.ce(labels)).all()


def test_a_network_that_diverged_says_where():
    tracker = Tracker(torch.zeros(10, dtype=torch.long), 3, LOSS_ALONE)
    model = PixelModel()
    model.bn.weight.data[0] = float("nan")
    with pytest.raises(Diverged, match="no longer finite at epoch 7, step 3 — lower the learning rate"):
        score_samples(model, numbered_images(), tracker, cpu(), where="epoch 7, step 3")

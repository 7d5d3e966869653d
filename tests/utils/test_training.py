"""Schedule, one epoch with interruptions, inference in data order."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from utils.training import (
    Progress,
    accuracy,
    infer,
    learning_rate,
    make_optimizer,
    set_learning_rate,
    track,
    train_one_epoch,
)

from utils.batches import DeviceImages
from utils.compute import Compute
from utils.errors import UserError
from utils.tracker import Tracker

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)
BATCHES = list(torch.arange(24).split(4))


# Schedule.


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.1), (39, 0.1), (40, 0.01), (79, 0.01), (80, 0.001), (149, 0.001), (10_000, 0.001)]
)
def test_the_rate_falls_at_each_milestone(epoch, expected):
    assert learning_rate(epoch, 0.1, [40, 80], 0.1) == pytest.approx(expected)


def test_without_milestones_the_rate_stays():
    assert learning_rate(1000, 0.3, [], 0.1) == 0.3


def test_the_rate_is_set_in_every_group():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))]}, {"params": [nn.Parameter(torch.ones(1))]}])
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_the_optimiser_is_sgd_with_momentum_and_weight_decay():
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer([parameter], lr=0.5, momentum=0.9, weight_decay=0.1)
    for expected in (2 - 0.5 * 1.2, 1.4 - 0.5 * (0.9 * 1.2 + 1 + 0.1 * 1.4)):  # gradient 1 plus 0.1 · weight
        parameter.grad = torch.tensor([1.0])
        optimizer.step()
        assert parameter.item() == pytest.approx(expected)


# One epoch.


class Training:
    """A linear model on random points, whose loss also draws from torch's global random state."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Linear(3, 2)
        self.optimizer = make_optimizer(self.model.parameters(), 0.1, 0.9, 1e-4)
        self.progress = Progress(epoch=4)
        self.inputs = torch.randn(24, 3)

    def loss_of(self, ids):
        return (self.model(self.inputs[ids] + torch.randn(len(ids), 3)) ** 2).mean()

    def run(self, after_step=lambda: None, loss_of=None):
        return train_one_epoch(
            BATCHES, loss_of or self.loss_of, self.optimizer, self.progress, seed=1, phase=2, after_step=after_step
        )

    def state(self):
        return copy.deepcopy([part.state_dict() for part in (self.model, self.optimizer, self.progress)])

    def load(self, state):
        for part, saved in zip((self.model, self.optimizer, self.progress), copy.deepcopy(state), strict=True):
            part.load_state_dict(saved)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("steps", range(1, len(BATCHES) + 1))
def test_an_interrupted_epoch_ends_with_the_same_bits(steps):
    undisturbed = Training()
    expected = undisturbed.run()

    stopped = Training()

    def stop():
        if stopped.progress.step == steps:
            raise Interrupted

    with pytest.raises(Interrupted):
        stopped.run(after_step=stop)
    resumed = Training()
    resumed.load(stopped.state())
    torch.manual_seed(99)  # whatever another process has drawn
    assert resumed.run() == expected
    for a, b in zip(undisturbed.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.progress.step == len(BATCHES) and resumed.progress.epoch == 4


def test_steps_and_epochs_draw_differently():
    draws = []
    training = Training()

    def loss_of(ids):
        draws.append(torch.rand(1).item())
        return training.loss_of(ids)

    for _ in range(2):
        training.run(loss_of=loss_of)
        training.progress.next_epoch()
    assert len(set(draws)) == 2 * len(BATCHES)


def test_the_mean_loss_of_the_epoch_is_returned():
    training = Training()
    losses = iter([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    assert training.run(loss_of=lambda ids: 0 * training.loss_of(ids) + next(losses)) == 4.0


def test_after_step_ends_the_epoch_by_returning_true():
    training = Training()
    seen = []

    def after_step():
        seen.append(training.progress.step)
        return training.progress.step == 3

    losses = iter([1.0, 2.0, 6.0])
    assert training.run(after_step, lambda ids: 0 * training.loss_of(ids) + next(losses)) == 3.0
    assert seen == [1, 2, 3] and training.progress.step == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_names_epoch_and_step(value):
    training = Training()  # in its fifth epoch
    losses = iter([1.0, 1.0, value, 1.0, value, 1.0])
    with pytest.raises(UserError, match=rf"^the loss is {value} at epoch 5, step 3 — "):
        training.run(loss_of=lambda ids: 0 * training.loss_of(ids) + next(losses))


def test_progress_counts_epochs():
    progress = Progress(epoch=3, step=7, losses=torch.ones(7))
    progress.next_epoch()
    assert (progress.epoch, progress.step, progress.losses) == (4, 0, None)


# Inference.


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
    return DeviceImages(np.ascontiguousarray(images), CPU, mirrored=True, statistics=unnormalised)


@pytest.mark.parametrize("batch_size", [1, 3, 10, None])
def test_inference_returns_every_image_in_data_order(batch_size):
    model = PixelModel()
    batches = list(infer(model, numbered_images(), CPU, batch_size, features=True))
    positions, logits, features = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert positions.tolist() == list(range(10))
    # Augmentation would shrink the mean of a cropped image; dropout would scale it. 1e-5 is batch norm's epsilon.
    np.testing.assert_allclose(logits[:, 0], np.arange(10), rtol=1e-4)
    np.testing.assert_allclose(features, torch.stack([logits[:, 0], torch.ones(10)], 1))
    assert max(model.batch_sizes) <= (batch_size or 250)


def test_inference_of_some_images_counts_positions_among_them():
    ids = torch.tensor([7, 2, 9])
    positions, logits, features = zip(*infer(PixelModel(), numbered_images(), CPU, 2, ids=ids), strict=True)
    assert torch.cat(positions).tolist() == [0, 1, 2]
    np.testing.assert_allclose(torch.cat(logits)[:, 0], [7, 2, 9], rtol=1e-4)
    assert features == (None, None)


def test_inference_evaluates_and_gives_every_module_its_mode_back():
    model = PixelModel().train()
    model.bn.eval()
    before = copy.deepcopy(model.bn.state_dict())
    list(infer(model, numbered_images(), CPU, 4))
    assert not np.any(model.modes)
    assert (model.training, model.bn.training, model.dropout.training) == (True, False, True)
    assert all(torch.equal(value, before[name]) for name, value in model.bn.state_dict().items())


def test_the_network_can_be_trained_after_inference():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    images = numbered_images()
    list(infer(model, images, CPU))
    model(images.batch(torch.arange(4))).sum().backward()
    assert model[1].weight.grad.isfinite().all()


def test_accuracy_is_the_share_of_right_predictions():
    # The prediction is class 0 for every image but image 0, whose logits are all equal: the first class again.
    labels = np.array([0, 0, 0, 1, 2, 0, 0, 0, 0, 1])
    assert accuracy(PixelModel(), numbered_images(), labels, CPU, 3) == pytest.approx(0.7)


def test_tracking_scores_the_images_asked_for():
    ids = torch.tensor([0, 3])
    tracker = Tracker(torch.tensor([0, 1]), 3, nn_k=2)
    tracked = track(PixelModel(), numbered_images(), tracker, CPU, 1, where="epoch 1", ids=ids)
    np.testing.assert_allclose(tracked.loss, [np.log(3), 6 + np.log(1 + np.exp(-3) + np.exp(-6))], rtol=1e-4)
    assert tracked.accuracy == 0.5 and np.isfinite(tracked.ce).all()


def test_a_network_that_diverged_says_where():
    tracker = Tracker(torch.zeros(10, dtype=torch.long), 3, with_ce=False)
    model = PixelModel()
    model.bn.weight.data[0] = float("nan")
    with pytest.raises(UserError, match="no longer finite at epoch 7, step 3 — lower the learning rate"):
        track(model, numbered_images(), tracker, CPU, where="epoch 7, step 3")

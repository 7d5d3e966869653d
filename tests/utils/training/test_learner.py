"""A learner: one epoch with interruptions, what each step draws and moves, and its passes."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from utils.compute import Compute, seed_torch
from utils.data.choice import DataChoice
from utils.data.device_images import DeviceImages
from utils.data.noisy_data import NoisyData, Planted
from utils.errors import Diverged
from utils.scoring.tracker import Tracker
from utils.scoring.tracking import LOSS_ALONE
from utils.training.learner import Learner, Progress, new_network
from utils.training.mixing import mixup
from utils.training.optimisation import Optimisation, Schedule

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)
SAMPLES, STEPS, EPOCH = 24, 6, 4  # batches of four; epochs are counted from 0
SCHEDULE = Schedule(0.1, milestones=[5])
OPTIMISATION = Optimisation(SCHEDULE, batch_size=4, momentum=0.9, weight_decay=1e-4, seed=1)
RESISTING = replace(OPTIMISATION, mixup=1.0, ema=0.9, augment="strong", balance=0.8)


def noisy_data():
    """24 images of 16x16, which are cropped and mirrored, and 6 for testing; classes alternate."""
    pixels = np.random.default_rng(0).integers(0, 256, (SAMPLES, 3, 16, 16), dtype=np.uint8)
    return NoisyData(
        choice=DataChoice("folder", "nowhere", None, None, None, "none", 0.0, 1),
        images=DeviceImages(pixels, CPU, mirrored=True),
        labels=np.arange(SAMPLES) % 2,
        clean_labels=None,
        class_names=("a", "b"),
        sample_ids=np.arange(SAMPLES),
        file_names=None,
        test_images=DeviceImages(pixels[:6], CPU, mirrored=False),
        test_labels=np.array([0, 0, 0, 0, 1, 1]),
        source_fingerprint="",
    )


def linear_learner(stream=2, zero=False, optimisation=OPTIMISATION, **options):
    """In its fifth epoch."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    if zero:  # undecided about every image, so that each loss is log 2 and the prediction the first class
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
    learner = Learner(network, noisy_data(), CPU, optimisation, stream, **options)
    learner.progress.epoch = EPOCH
    return learner


def state(learner):
    return copy.deepcopy({name: part.state_dict() for name, part in learner.parts().items()})


def assert_same_weights(a, b):
    for pair in zip(a.network.parameters(), b.network.parameters(), strict=True):
        assert torch.equal(*pair)


def given(learner, losses):
    """A loss_of whose values are those listed."""
    losses = iter(losses)
    return lambda ids: 0 * learner.cross_entropy(ids) + next(losses)


# One epoch.


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("steps", range(1, STEPS + 1))
@pytest.mark.parametrize("optimisation", [OPTIMISATION, RESISTING], ids=["plain", "resisting"])
def test_an_interrupted_epoch_ends_with_the_same_bits(steps, optimisation):
    undisturbed = linear_learner(optimisation=optimisation)
    expected = undisturbed.train_epoch(undisturbed.cross_entropy)

    stopped = linear_learner(optimisation=optimisation)

    def stop():
        if stopped.progress.step == steps:
            raise Interrupted

    with pytest.raises(Interrupted):
        stopped.train_epoch(stopped.cross_entropy, after_step=stop)
    resumed = linear_learner(optimisation=optimisation)
    for name, part in resumed.parts().items():
        part.load_state_dict(state(stopped)[name])
    torch.manual_seed(99)  # whatever another process has drawn
    assert resumed.train_epoch(resumed.cross_entropy) == expected
    assert_same_weights(undisturbed, resumed)
    for pair in zip(undisturbed.judge.parameters(), resumed.judge.parameters(), strict=True):
        assert torch.equal(*pair)
    assert resumed.progress.step == STEPS and resumed.progress.epoch == EPOCH


def test_a_learner_resumed_between_two_epochs_ends_with_the_same_bits():
    def train(learner):
        loss = learner.train_epoch(learner.cross_entropy)
        learner.progress.next_epoch()
        return loss

    whole, first, second = (linear_learner(optimisation=RESISTING) for _ in range(3))
    train(first)
    for name, part in second.parts().items():
        part.load_state_dict(state(first)[name])
    torch.manual_seed(99)
    train(whole)
    assert train(second) == train(whole)
    assert_same_weights(whole, second)
    for pair in zip(whole.average.state_dict().values(), second.average.state_dict().values(), strict=True):
        assert torch.equal(*pair)


def test_steps_epochs_and_streams_draw_differently():
    draws = []

    def loss_of(ids):
        draws.append(torch.rand(1).item())
        return learner.cross_entropy(ids)

    for learner in linear_learner(), linear_learner(stream=3):
        for _ in range(2):
            learner.train_epoch(loss_of)
            learner.progress.next_epoch()
    assert len(set(draws)) == 2 * 2 * STEPS


def test_what_is_drawn_before_a_step_changes_nothing():
    plain, drawing = linear_learner(), linear_learner()
    plain.train_epoch(plain.cross_entropy)
    drawing.train_epoch(drawing.cross_entropy, before_step=lambda: torch.rand(3))
    assert_same_weights(plain, drawing)


def test_an_epoch_trains_in_training_mode_and_a_step_may_change_it():
    learner, modes = linear_learner(), []
    learner.network.eval()

    def loss_of(ids):
        modes.append(learner.network.training)
        return learner.cross_entropy(ids)

    def before_step():
        if learner.progress.step == 2:
            learner.network.eval()

    learner.train_epoch(loss_of, before_step=before_step)
    assert modes == [True, True, False, False, False, False]


def test_the_mean_loss_of_the_epoch_is_returned():
    learner = linear_learner()
    assert learner.train_epoch(given(learner, [1.0, 2.0, 3.0, 4.0, 5.0, 9.0])) == 4.0


def test_after_step_ends_the_epoch_by_returning_true():
    learner = linear_learner()
    seen = []

    def after_step():
        seen.append(learner.progress.step)
        return learner.progress.step == 3

    assert learner.train_epoch(given(learner, [1.0, 2.0, 6.0]), after_step=after_step) == 3.0
    assert seen == [1, 2, 3] and learner.progress.step == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_names_epoch_and_step(value):
    learner = linear_learner()
    with pytest.raises(Diverged, match=rf"^the loss is {value} at epoch 5, step 3 — "):
        learner.train_epoch(given(learner, [1.0, 1.0, value, 1.0, value, 1.0]))


def test_progress_counts_epochs():
    progress = Progress(epoch=3, step=7, losses=torch.ones(7))
    progress.next_epoch()
    assert (progress.epoch, progress.step, progress.losses) == (4, 0, None)


# Rate, optimiser and parts.


def test_the_rate_of_the_epoch_is_set_in_every_group():
    learner = linear_learner()
    learner.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    for rate in (0.1, 0.01):  # of the fifth epoch and of the sixth, from which the milestone counts
        learner.train_epoch(learner.cross_entropy)
        assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([rate, rate])
        assert learner.rate == pytest.approx(rate)
        learner.progress.next_epoch()


def test_the_optimiser_is_sgd_with_momentum_and_weight_decay():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    learner = Learner(network, noisy_data(), CPU, Optimisation(Schedule(0.5), 12, 0.9, 0.1, seed=1), 1)
    seen = []
    learner.train_epoch(lambda ids: network.weight.sum(), after_step=lambda: seen.append(network.weight.item()))
    # The gradient is 1 plus 0.1 · weight.
    assert seen == pytest.approx([2 - 0.5 * 1.2, 1.4 - 0.5 * (0.9 * 1.2 + 1 + 0.1 * 1.4)])


def test_only_the_parameters_given_move():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2), nn.Linear(2, 2))
    before = copy.deepcopy(network.state_dict())
    learner = Learner(network, noisy_data(), CPU, OPTIMISATION, 1, parameters=network[2].parameters(), fused=False)
    learner.train_epoch(learner.cross_entropy)
    moved = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == ["2.weight", "2.bias"]


def test_the_parts_of_several_learners_have_names_of_their_own():
    learner = linear_learner()
    assert learner.parts("_a") == {
        "model_a": learner.network,
        "optimizer_a": learner.optimizer,
        "progress_a": learner.progress,
    }
    assert not learner.parts("_a").keys() & learner.parts(1).keys()


def test_an_averaged_network_is_a_part_too():
    learner = linear_learner(optimisation=RESISTING)
    assert learner.parts("_a").keys() == {"model_a", "optimizer_a", "progress_a", "average_a"}
    assert learner.parts("_a")["average_a"] is learner.average


def test_where_it_is_in_words():
    assert linear_learner(name="run 2").where == "run 2, epoch 5" and linear_learner().where == "epoch 5"


# Averaged weights.


def test_without_averaging_the_network_judges_itself():
    learner = linear_learner()
    assert learner.average is None and learner.judge is learner.network


def test_the_average_by_hand():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    learner = Learner(network, noisy_data(), CPU, Optimisation(Schedule(0.5), 8, 0.0, 0.0, seed=1, ema=0.9), 1)
    weights, averages = [], []

    def after_step():
        weights.append(network.weight.item())
        averages.append(learner.judge.weight.item())

    learner.train_epoch(lambda ids: network.weight.sum(), after_step=after_step)
    assert weights == pytest.approx([1.5, 1.0, 0.5])
    # It begins with the first weights that were learnt; after n steps the decay is (1 + n) / (10 + n), at most 0.9.
    second = 2 / 11 * 1.5 + 9 / 11 * 1.0
    assert averages == pytest.approx([1.5, second, 3 / 12 * second + 9 / 12 * 0.5])


@pytest.mark.parametrize(("epoch", "decay"), [(0, 2 / 11), (5, 17 / 26), (100, 0.9)])
def test_the_decay_grows_to_what_was_asked_for(epoch, decay):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    learner = Learner(network, noisy_data(), CPU, Optimisation(Schedule(0.5), 8, 0.0, 0.0, seed=1, ema=0.9), 1)
    learner.progress.epoch, learner.progress.step = epoch, 1  # the second of three steps
    learner.average.n_averaged += 1  # the first took place
    learner.train_epoch(lambda ids: network.weight.sum(), after_step=lambda: True)
    assert learner.judge.weight.item() == pytest.approx(decay * 1.0 + (1 - decay) * 0.5)


def test_buffers_are_averaged_too():
    network = nn.Linear(1, 1, bias=False)
    network.register_buffer("seen", torch.zeros(1))
    learner = Learner(network, noisy_data(), CPU, replace(OPTIMISATION, batch_size=12, ema=0.9), 1)

    def loss_of(ids):
        network.seen += 1
        return network.weight.sum()

    learner.train_epoch(loss_of)
    assert learner.judge.seen.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)


def test_the_averaged_network_is_scored_and_tested_and_the_other_one_learns():
    learner = linear_learner(optimisation=replace(OPTIMISATION, ema=0.9))
    for parameter in learner.judge.parameters():
        nn.init.zeros_(parameter)
    labels = learner.data.device_labels
    now = learner.score(Tracker(labels, 2, LOSS_ALONE))
    np.testing.assert_allclose(now.loss(labels), np.full(SAMPLES, np.log(2)), rtol=1e-6)
    assert learner.test_accuracy() == pytest.approx(4 / 6)
    assert not any(parameter.grad is not None for parameter in learner.judge.parameters())
    loss = learner.cross_entropy(learner.data.ids)
    loss.backward()
    assert all(parameter.grad is not None for parameter in learner.network.parameters())
    assert not any(parameter.grad is not None for parameter in learner.judge.parameters())


# Batches, logits and losses.


def test_batches_hold_the_ids_in_an_order_of_their_own():
    learner, other = linear_learner(), linear_learner(stream=3)
    assert [len(batch) for batch in learner.batches()] == [4] * STEPS

    def order(learner, *arguments, **options):
        return tuple(torch.cat(learner.batches(*arguments, **options)).tolist())

    ids = learner.data.ids
    orders = [order(learner), order(learner, ids, 1), order(learner, ids, 2), order(other)]
    learner.progress.next_epoch()
    orders.append(order(learner))
    assert len(set(orders)) == 5 and all(sorted(each) == list(range(SAMPLES)) for each in orders)
    learner.progress.epoch = EPOCH
    assert order(learner) == orders[0]
    assert sorted(order(learner, ids[::2], batch_size=3)) == list(range(0, SAMPLES, 2))
    assert [len(batch) for batch in learner.batches(ids[::2], batch_size=3)] == [3] * 4


def test_the_plain_loss_is_against_the_observed_labels():
    learner = linear_learner(zero=True)
    learner.network[1].bias.data[0] = np.log(3)  # predictions (3/4, 1/4)
    ids = torch.tensor([0, 1, 2])  # classes 0, 1, 0
    expected = -(2 * np.log(3 / 4) + np.log(1 / 4)) / 3
    assert learner.cross_entropy(ids).item() == pytest.approx(expected, rel=1e-6)


def test_the_plain_loss_is_against_planted_errors_where_there_are_any():
    learner = linear_learner(zero=True)
    learner.network[1].bias.data[0] = np.log(3)  # predictions (3/4, 1/4)
    labels = learner.data.device_labels.clone()
    labels[2] = 1
    learner.data = replace(learner.data, planted=Planted(np.array([2]), labels))
    expected = -(np.log(3 / 4) + 2 * np.log(1 / 4)) / 3
    assert learner.cross_entropy(torch.tensor([0, 1, 2])).item() == pytest.approx(expected, rel=1e-6)


def test_balance_adds_the_prior_term():
    learner = linear_learner(zero=True, optimisation=replace(OPTIMISATION, balance=0.8))
    learner.network[1].bias.data[0] = np.log(3)  # predictions (3/4, 1/4)
    learner.data = replace(learner.data, labels=np.arange(SAMPLES) % 4 // 3)  # a quarter is of the second class
    plain = -np.log(3 / 4)
    prior = -(3 * np.log(3 / 4) + np.log(1 / 4)) / 4
    assert learner.cross_entropy(torch.tensor([0, 1, 2])).item() == pytest.approx(plain + 0.8 * prior, rel=1e-6)


def test_balance_0_leaves_the_plain_cross_entropy():
    learner = linear_learner()
    ids = torch.arange(4)
    seed_torch(1, "step", 5)
    loss = learner.cross_entropy(ids)
    seed_torch(1, "step", 5)
    expected = F.cross_entropy(learner.network(learner.augmented(ids)), learner.data.device_labels[ids])
    torch.testing.assert_close(loss, expected)


def test_logits_and_targets_are_of_the_mixed_images():
    learner = linear_learner(optimisation=RESISTING)
    ids, targets = torch.arange(6), torch.eye(2)[torch.arange(6) % 2]
    torch.manual_seed(5)
    logits, mixed_targets = learner.mixed(ids, targets)
    torch.manual_seed(5)
    images, expected, _ = mixup(learner.augmented(ids), targets, 1.0)
    assert torch.equal(logits, learner.network(images)) and torch.equal(mixed_targets, expected)
    assert not torch.equal(mixed_targets, targets)


@pytest.mark.parametrize("optimisation", [OPTIMISATION, RESISTING])
def test_what_the_batches_said_takes_the_place_of_a_pass(optimisation):
    learner = linear_learner(optimisation=optimisation, from_batches=True)
    tracker, said = learner.tracker(learner.data.device_labels), torch.zeros(SAMPLES, 2)
    assert learner.parts()["heard"] is tracker

    def loss_of(ids):
        logits, targets = learner.mixed(ids, torch.eye(SAMPLES)[ids])  # whose targets tell who was mixed
        weights, larger = targets.max(1)
        said[larger] = logits.detach()
        return logits.pow(2).mean()

    learner.train_epoch(loss_of)
    now = learner.score(tracker)
    assert torch.equal(now.logits, said)
    with pytest.raises(ValueError, match="exactly once"):  # the next epoch begins anew
        learner.score(tracker)


def test_a_network_that_breaks_in_the_last_step_of_an_epoch_is_noticed_though_no_batch_met_it():
    learner = linear_learner(from_batches=True)
    tracker = learner.tracker(learner.data.device_labels)
    learner.train_epoch(learner.cross_entropy)
    with torch.no_grad():
        next(learner.judge.parameters()).fill_(math.inf)
    with pytest.raises(Diverged, match="the weights are no longer finite at epoch 5 — lower the learning rate"):
        learner.score(tracker)


def test_a_learner_listens_only_where_it_is_asked_to():
    learner = linear_learner()
    tracker = learner.tracker(learner.data.device_labels)
    learner.train_epoch(learner.cross_entropy)
    assert "heard" not in learner.parts()
    before = learner.network(learner.data.images.batch(learner.data.ids)).detach()
    assert torch.equal(learner.score(tracker).logits, before)


def test_nothing_is_mixed_unless_asked_for():
    learner = linear_learner(optimisation=replace(OPTIMISATION, augment="none"))
    ids, targets = torch.arange(6), torch.rand(6, 2)
    logits, same = learner.mixed(ids, targets)
    assert same is targets and torch.equal(logits, learner.network(learner.data.images.batch(ids)))


def test_training_images_are_augmented_as_asked():
    def images(**changes):
        learner = linear_learner(optimisation=replace(OPTIMISATION, **changes))
        torch.manual_seed(5)
        return learner.augmented(learner.data.ids)

    plain = linear_learner().data.images.batch(slice(None))
    assert torch.equal(images(augment="none"), plain)
    made = [plain, images(), images(augment="strong"), images(colour_jitter=0.4)]
    assert len({batch.contiguous().numpy().tobytes() for batch in made}) == 4


def test_options_go_to_the_network():
    network = new_network(models.PREACT_RESNET18, 2, CPU, width=0.05, seed=1)
    network.add_second_head(7)
    learner = Learner(network, noisy_data(), CPU, OPTIMISATION, 1)
    images = learner.augmented(torch.arange(4))
    assert learner.logits(images).shape == (4, 2) and learner.logits(images, head=2).shape == (4, 7)


# Passes.


def test_all_samples_or_some_are_scored_by_this_network_or_another():
    learner, zero = linear_learner(), linear_learner(zero=True)
    labels = zero.data.device_labels
    whole = zero.score(Tracker(labels, 2, LOSS_ALONE))
    np.testing.assert_allclose(whole.loss(labels), np.full(SAMPLES, np.log(2)), rtol=1e-6)
    assert whole.accuracy == 0.5
    ids = torch.tensor([0, 2, 5])  # classes 0, 0, 1
    some = learner.score(Tracker(labels[ids], 2, LOSS_ALONE), ids, zero.network)
    np.testing.assert_allclose(some.loss(labels[ids]), np.full(3, np.log(2)), rtol=1e-6)
    assert some.accuracy == pytest.approx(2 / 3)


def test_a_learner_that_diverged_says_where():
    learner = linear_learner(name="model 1")
    nn.init.constant_(learner.network[1].bias, float("inf"))
    with pytest.raises(Diverged, match="no longer finite at model 1, epoch 5 — lower the learning rate"):
        learner.score(Tracker(learner.data.device_labels, 2, LOSS_ALONE))


def test_test_images_are_counted_where_there_are_any():
    learner = linear_learner(zero=True)
    assert learner.test_accuracy() == pytest.approx(4 / 6)
    learner.data = replace(learner.data, test_images=None, test_labels=None)
    assert learner.test_accuracy() is None


# A fresh network.


def test_seed_and_counter_alone_decide_a_fresh_network():
    def weights(**changes):
        torch.rand(3)  # what was drawn before does not matter
        options = {"width": 0.05, "seed": 1} | changes
        return new_network(models.CNN13, 2, CPU, **options).state_dict()["head1.parametrizations.weight.original1"]

    assert torch.equal(weights(), weights())
    assert not any(torch.equal(weights(), weights(**change)) for change in ({"seed": 2}, {"counter": 1}))


def test_a_fresh_network_is_what_was_asked_for():
    network = new_network(models.PREACT_RESNET18, 3, CPU, width=0.05, dropout=0.3, seed=1)
    assert network.head1.out_features == 3 and network.num_features == 32 and network.dropout.p == 0.3
    assert network.stem.weight.is_contiguous(memory_format=torch.channels_last)

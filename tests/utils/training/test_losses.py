"""The three loss terms against hand values."""

import numpy as np
import pytest
import torch

from utils.training.losses import LossWeights, entropy_regulariser, joint_loss, prior_regulariser, soft_cross_entropy

LOG3 = float(np.log(3))
CERTAIN = 1000.0  # a logit that makes softmax one-hot


def test_soft_cross_entropy_by_hand():
    logits = torch.tensor([[LOG3, 0.0], [0.0, 0.0]])  # predictions (3/4, 1/4) and (1/2, 1/2)
    soft = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    expected = (-0.5 * np.log(3 / 4) - 0.5 * np.log(1 / 4) + np.log(2)) / 2
    assert soft_cross_entropy(logits, soft).item() == pytest.approx(expected, rel=1e-6)


def test_soft_cross_entropy_with_one_hot_labels_is_the_plain_one():
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    assert soft_cross_entropy(logits, one_hot).item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-6
    )


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_prior_term_is_log_c_for_a_uniform_mean(classes):
    uniform = prior_regulariser(torch.zeros(5, classes)).item()
    one_class_each = prior_regulariser(CERTAIN * torch.eye(classes)).item()  # decided, but evenly spread
    assert uniform == pytest.approx(np.log(classes), rel=1e-6)
    assert one_class_each == pytest.approx(np.log(classes), rel=1e-6)


def test_the_prior_term_by_hand():
    logits = torch.tensor([[LOG3, 0.0], [LOG3, 0.0]])
    assert prior_regulariser(logits).item() == pytest.approx(-(np.log(3 / 4) + np.log(1 / 4)) / 2, rel=1e-6)
    prior = torch.tensor([0.9, 0.1])
    assert prior_regulariser(logits, prior).item() == pytest.approx(-0.9 * np.log(3 / 4) - 0.1 * np.log(1 / 4))


def test_without_a_prior_the_classes_are_alike():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    alike = prior_regulariser(logits, torch.full((4,), 0.25)).item()
    assert alike == pytest.approx(prior_regulariser(logits).item(), rel=1e-6)


def test_the_prior_term_is_smallest_where_the_predictions_follow_the_prior():
    prior = torch.tensor([0.7, 0.2, 0.1])
    logits = prior.log().expand(4, -1).clone().requires_grad_()
    loss = prior_regulariser(logits, prior)
    loss.backward()
    assert loss.item() == pytest.approx(-(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)), rel=1e-6)
    np.testing.assert_allclose(logits.grad, 0, atol=1e-7)


def test_a_class_without_labels_asks_for_nothing():
    logits = torch.tensor([[0.0, 0.0, -CERTAIN]])
    assert prior_regulariser(logits, torch.tensor([0.5, 0.5, 0.0])).item() == pytest.approx(np.log(2), rel=1e-6)


def test_putting_all_into_one_class_is_dear_but_finite():
    logits = torch.tensor([[CERTAIN, 0.0, 0.0]] * 4, requires_grad=True)
    loss = prior_regulariser(logits)
    loss.backward()
    assert loss.item() > 10 and loss.isfinite() and logits.grad.isfinite().all()


def test_entropy_is_zero_for_decided_and_log_c_for_uniform_predictions():
    assert entropy_regulariser(CERTAIN * torch.eye(4)).item() == 0.0
    assert entropy_regulariser(torch.zeros(3, 4)).item() == pytest.approx(np.log(4), rel=1e-6)


def test_entropy_by_hand():
    logits = torch.tensor([[LOG3, 0.0], [0.0, 0.0]])
    expected = (-(3 / 4) * np.log(3 / 4) - (1 / 4) * np.log(1 / 4) + np.log(2)) / 2
    assert entropy_regulariser(logits).item() == pytest.approx(expected, rel=1e-6)


def test_the_entropy_of_decided_predictions_has_a_finite_gradient():
    logits = (CERTAIN * torch.eye(4)).requires_grad_()
    entropy_regulariser(logits).backward()
    assert logits.grad.isfinite().all()


def test_the_joint_loss_is_the_weighted_sum():
    uniform = torch.zeros(5, 4)  # every term is log 4
    targets = torch.eye(4)[:1].expand(5, -1)
    assert joint_loss(uniform, targets, LossWeights(0.8, 0.4)).item() == pytest.approx(2.2 * np.log(4))
    assert joint_loss(uniform, targets, LossWeights(0, 0.4)).item() == pytest.approx(1.4 * np.log(4))

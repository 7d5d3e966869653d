"""Two models that learn from half of the samples each: how they train side by side, and score halves as one whole.

Of several processes (utils/ranks.py) one half train the first model while the others train the second; after each epoch
all of them have both, and score together.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from utils.compute import stream_generator
from utils.experiments.phase import Phase
from utils.scoring.tracker import Snapshot, Tracker
from utils.scoring.tracking import Tracking
from utils.training.learner import Learner
from utils.training.passes import probabilities


class Half:
    """One model, the half that it learns from, and a tracker for that half's samples.

    `loss_of`: of a batch of its ids, a scalar; None = the plain loss on the labels.
    """

    def __init__(
        self,
        learner: Learner,
        ids: Tensor,
        tracking: Tracking,
        loss_of: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.learner, self.ids = learner, ids
        self.loss_of = loss_of or learner.cross_entropy
        labels, ranks = learner.data.training_labels[ids], learner.compute.ranks
        self.tracker = Tracker(labels, learner.data.num_classes, tracking, ranks)

    @property
    def network(self) -> nn.Module:
        return self.learner.judge

    def train(self, after_step: Callable[[], None]) -> float:
        """Finish the current epoch on this half; its mean loss."""
        return self.learner.train_epoch(self.loss_of, self.learner.batches(self.ids), after_step=after_step)

    def score(self, network: nn.Module) -> Snapshot:
        """This half's samples as `network` sees them."""
        return self.learner.score(self.tracker, self.ids, network)

    def probabilities(self, network: nn.Module) -> Tensor:
        """Softmax float32 (N/2, C) of this half's samples by `network`."""
        return probabilities(network, self.learner.data.images, self.learner.compute, self.ids)


def split_in_halves(n: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A seeded permutation int64 (N,) and the two halves it makes: the sorted first and last sample ids of it."""
    permutation = stream_generator(seed, "halves").permutation(n)
    return permutation, [np.sort(permutation[: n - n // 2]), np.sort(permutation[n - n // 2 :])]


# -- training ----------------------------------------------------------------------------------------------------------


def train_both(halves: list[Half], phase: Phase) -> float:
    """Finish the current epoch of both halves; the mean of their mean losses."""
    if halves[0].learner.compute.ranks.several:
        return mean(_train_side_by_side(halves, phase))
    return mean(half.train(phase.stop_if_asked) for half in halves)


def mean_test_accuracy(halves: list[Half]) -> float | None:
    """The mean of both models'; None without a test set."""
    accuracies = [half.learner.test_accuracy() for half in halves]
    return None if None in accuracies else mean(accuracies)


def _train_side_by_side(halves: list[Half], phase: Phase) -> list[float]:
    """Finish the current epoch of each half on its own ranks, at the same time; their mean losses."""
    learners = [half.learner for half in halves]
    all_ranks = learners[0].compute.ranks
    own = int(all_ranks.rank >= learners[1].ranks.first)
    left = [half.learner.steps_left(half.ids) for half in halves]

    def share() -> None:
        """Put both learners on all ranks."""
        for k, learner in enumerate(learners):
            parts = learner.parts()
            states = {name: part.state_dict() for name, part in parts.items()} if k == own else None
            states = all_ranks.told(on_host(states), learner.ranks.first)
            if k != own:
                for name, part in parts.items():
                    part.load_state_dict(states[name])

    def stop_if_asked() -> None:
        phase.stop_if_asked(before=share)

    learner, half = learners[own], halves[own]
    learner.run_steps(half.loss_of, learner.batches(half.ids), after_step=stop_if_asked)
    for _ in range(left[own], max(left)):  # while the other half is at its last step
        stop_if_asked()
    share()
    return [learner.mean_loss() for learner in learners]


def on_host(states: dict | None) -> dict | None:
    """On its way to other processes a tensor keeps the number of its GPU, which is not theirs."""
    return tree_map(lambda value: value.cpu() if isinstance(value, Tensor) else value, states)


# -- both halves as one whole ------------------------------------------------------------------------------------------


def together(halves: list[Half], parts: list[Snapshot]) -> Snapshot:
    """Two snapshots of the halves as one of all samples, in the data set's order."""
    votes = None if parts[0].votes is None else in_order(halves, [part.votes for part in parts])
    accuracy = float(np.average([part.accuracy for part in parts], weights=[len(half.ids) for half in halves]))
    return Snapshot(in_order(halves, [part.logits for part in parts]), votes, accuracy)


def in_order(halves: list[Half], parts: list[Tensor]) -> Tensor:
    """Those of the halves (N/2, C) as one (N, C), in the data set's order."""
    whole = parts[0].new_empty(sum(map(len, parts)), parts[0].shape[1])
    for half, part in zip(halves, parts, strict=True):
        whole[half.ids] = part
    return whole


def mean_of(snapshots: list[Snapshot], labels: Tensor) -> Snapshot:
    """What several networks say of the same samples: their mean probability, as its logarithm (N, C); no votes.

    `labels` int64 (N,): those that the accuracy goes by.
    """
    logs = torch.stack([snapshot.logits.log_softmax(1) for snapshot in snapshots])
    log_mean = logs.logsumexp(0) - np.log(len(snapshots))
    return Snapshot(log_mean, None, float((log_mean.argmax(1) == labels).float().mean()))

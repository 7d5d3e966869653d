"""A network that learns: its optimiser, its schedule, its random streams, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from utils.compute import Compute, seed_torch
from utils.data.noisy_data import NoisyData
from utils.errors import Diverged
from utils.launch import talking
from utils.ranks import Ranks
from utils.scoring.tracker import Snapshot, Tracker
from utils.scoring.tracking import LOSS_ALONE
from utils.training.averaging import MovingAverage
from utils.training.batches import batches_per_epoch, epoch_batches
from utils.training.losses import prior_regulariser
from utils.training.mixing import mixup
from utils.training.optimisation import Optimisation
from utils.training.passes import accuracy_on_test, finish, require_finite, score_samples


@dataclass
class Progress:
    """How far a learner has come: the next epoch and step, and the loss of every step done in the current epoch."""

    epoch: int = 0
    step: int = 0  # within the epoch
    losses: Tensor | None = None  # float32 (steps,), on the device, so that no step waits for it

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        self.epoch, self.step, self.losses = state["epoch"], state["step"], state["losses"]

    def next_epoch(self) -> None:
        self.epoch, self.step, self.losses = self.epoch + 1, 0, None


class Learner:
    """A network with its SGD, learning from the images and the training labels of `data`.

    `stream` (1, 2 ...) tells the random draws of this learner from those of the others in a run: order, augmentation,
    dropout and mixup are functions of (seed, stream, epoch, step), never of what ran before, so that a resumed run
    draws what a whole one draws. `name` is for error messages. `parameters`: None = all; `fused`: all of them get their
    first gradient in the same step. `from_batches`: what the training batches say of their samples takes the place of
    a pass over them. `ranks`: the processes that train it, None = all; what they are given is alike on all of them.
    """

    def __init__(
        self,
        network: nn.Module,
        data: NoisyData,
        compute: Compute,
        optimisation: Optimisation,
        stream: int,
        *,
        name: str = "",
        parameters: Iterable[nn.Parameter] | None = None,
        fused: bool = True,
        from_batches: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        self.network, self.data, self.compute = network, data, compute
        self.optimisation, self.stream, self.name = optimisation, stream, name
        self.ranks = compute.ranks if ranks is None else ranks
        self._averaging = self.ranks.averaging(network)
        self.optimizer = torch.optim.SGD(
            network.parameters() if parameters is None else parameters,
            lr=optimisation.schedule.base,
            momentum=optimisation.momentum,
            weight_decay=optimisation.weight_decay,
            fused=fused,
        )
        self.progress = Progress()
        self.from_batches, self._listener = from_batches, None
        self.average: MovingAverage | None = None
        if optimisation.ema:
            self.average = MovingAverage(network, optimisation.ema)
            compute.prepare(self.average.module)

    @property
    def judge(self) -> nn.Module:
        """The network that passes are of, that is tested and kept: the averaged one where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def rate(self) -> float:
        """The learning rate of the current epoch."""
        return self.optimisation.schedule.rate(self.progress.epoch)

    @property
    def where(self) -> str:
        """The current epoch in words, for messages."""
        return f"{self.name}, epoch {self.progress.epoch + 1}".removeprefix(", ")

    def parts(self, suffix: object = "") -> dict[str, Any]:
        """{name: object with a state} for a checkpoint; `suffix` tells several learners of a run apart."""
        parts = {
            f"model{suffix}": self.network,
            f"optimizer{suffix}": self.optimizer,
            f"progress{suffix}": self.progress,
        }
        if self._listener is not None:
            parts[f"heard{suffix}"] = self._listener
        return parts if self.average is None else parts | {f"average{suffix}": self.average}

    # -- training -----------------------------------------------------------------------------------------------

    def batches(self, ids: Tensor | None = None, *counters: int, batch_size: int | None = None) -> list[Tensor]:
        """The ids (None = all samples) of the current epoch, shuffled; `counters` tell several orders of it apart."""
        return epoch_batches(
            self.data.ids if ids is None else ids,
            batch_size or self.optimisation.batch_size,
            self.optimisation.seed,
            self.stream,
            self.progress.epoch,
            *counters,
        )

    def augmented(self, ids: Tensor) -> Tensor:
        """The images (B, 3, H, W) of a training batch."""
        return self.data.images.augmented_batch(ids, self.optimisation.augment, self.optimisation.colour_jitter)

    def logits(self, images: Tensor, **options: Any) -> Tensor:
        """Of the images of a training batch; `options` go to the network.

        Of several ranks each puts its part through the network, with a dropout of its own. All get the logits of the
        whole batch, and so its loss; the gradient flows through the own part alone.
        """
        cut, counts = self.ranks.cut(len(images)), self.ranks.counts(len(images))
        if cut:
            images, at = images.split(counts)[self.ranks.rank], self.progress
            seed_torch(self.optimisation.seed, "step", self.stream, at.epoch, at.step, self.ranks.rank)
        with self.compute.autocast():
            logits = self._averaging(images, **options)
        return self.ranks.rows(logits, counts) if cut else logits

    def mixed(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) of augmented images, mixed where that is asked for, and the targets (B, C) mixed alike."""
        images, targets, larger = mixup(self.augmented(ids), targets, self.optimisation.mixup)
        logits = self.logits(images)
        if self._listener is not None:  # a mixed image counts as the one that it is for the larger part
            self._listener.update(logits.detach(), ids[larger])
        return logits, targets

    def cross_entropy(self, ids: Tensor) -> Tensor:
        """The plain loss: of augmented and perhaps mixed images against the labels that training is given, balanced."""
        targets = F.one_hot(self.data.training_labels[ids], self.data.num_classes).float()
        logits, targets = self.mixed(ids, targets)
        loss = F.cross_entropy(logits, targets)
        if self.optimisation.balance:
            loss = loss + self.optimisation.balance * prior_regulariser(logits, self.data.prior)
        return loss

    def steps_left(self, ids: Tensor) -> int:
        """Of the current epoch over so many samples."""
        return batches_per_epoch(len(ids), self.optimisation.batch_size) - self.progress.step

    def train_epoch(
        self,
        loss_of: Callable[[Tensor], Tensor],
        batches: Sequence[Tensor] | None = None,
        *,
        before_step: Callable[[], None] = lambda: None,
        after_step: Callable[[], bool | None] = lambda: None,
    ) -> float:
        """Run the steps that are left of the current epoch; the mean loss of all its steps.

        loss_of(sample_ids) -> scalar loss. batches: None = all samples in a fresh order. `before_step` is called with
        nothing drawn yet, `after_step` once the step counts; if that returns True the epoch ends there.
        Raises Diverged with epoch and step where a loss is not finite.
        """
        self.run_steps(loss_of, self.batches() if batches is None else batches, before_step, after_step)
        return self.mean_loss()

    def run_steps(
        self,
        loss_of: Callable[[Tensor], Tensor],
        batches: Sequence[Tensor],
        before_step: Callable[[], None] = lambda: None,
        after_step: Callable[[], bool | None] = lambda: None,
    ) -> None:
        """The steps of `train_epoch`."""
        progress, seed = self.progress, self.optimisation.seed
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.network.train()
        if progress.losses is None:
            progress.losses = torch.zeros(len(batches))
        progress.losses = progress.losses.to(self.compute.device)
        self.data.images.announce(batches[progress.step :])
        for step in range(progress.step, len(batches)):
            before_step()
            seed_torch(seed, "step", self.stream, progress.epoch, step)
            loss = loss_of(batches[step])
            self.optimizer.zero_grad(set_to_none=True)
            self._backward(loss, len(batches[step]))
            self.optimizer.step()
            self.ranks.copy_first(self.network.buffers())  # the statistics of batch norm are rank 0's
            if self.average is not None:
                self.average.follow(self.network, progress.epoch * len(batches) + step)
            progress.losses[step] = loss.detach()
            progress.step = step + 1
            if after_step():
                break

    def _backward(self, loss: Tensor, samples: int) -> None:
        """The gradient of the loss of a batch: where it was cut, the sum of what the ranks have of their parts."""
        if not self.ranks.several:
            loss.backward()
            return
        with talking():
            (self.ranks.size * loss if self.ranks.cut(samples) else loss).backward()  # what the ranks get is the mean

    def mean_loss(self) -> float:
        """Of the steps done in the current epoch. Raises Diverged with epoch and step where one is not finite."""
        return checked_mean(self.progress.losses[: self.progress.step], self.progress.epoch)

    # -- passes -------------------------------------------------------------------------------------------------

    def tracker(self, labels: Tensor) -> Tracker:
        """For `score` after each epoch, of the loss alone; labels int64 (N,). Call before `parts`."""
        tracker = Tracker(labels, self.data.num_classes, LOSS_ALONE)
        self._listener = tracker if self.from_batches else None
        return tracker

    def score(self, tracker: Tracker, ids: Tensor | None = None, network: nn.Module | None = None) -> Snapshot:
        """The samples `ids` (None = all) as this network, or another one, sees them now, scored by `tracker`."""
        if tracker is self._listener:
            require_finite(self.judge, self.where)  # no batch has met what the last step left
            return finish(tracker, self.where)
        return score_samples(network or self.judge, self.data.images, tracker, self.compute, where=self.where, ids=ids)

    def test_accuracy(self) -> float | None:
        """Share of the test images classified right, in [0, 1]; None without a test set."""
        return accuracy_on_test(self.judge, self.data, self.compute)


def new_network(
    name: str,
    num_classes: int,
    compute: Compute,
    *,
    width: float,
    dropout: float | None = None,
    input_noise: float | None = None,
    seed: int,
    counter: int = 0,
) -> nn.Module:
    """A fresh network on the device; `counter` tells the draws of several networks of a run apart.

    `dropout`, `input_noise`: None = what is usual for the network.
    """
    name = models.ALIASES.get(name, name)
    dropout = models.DROPOUT[name] if dropout is None else dropout
    seed_torch(seed, "init", counter)
    return compute.prepare(models.build(name, num_classes, width, dropout, input_noise))


def checked_mean(losses: Tensor, epoch: int) -> float:
    """The mean of an epoch's losses. Here an epoch of plain training waits for the device, and nowhere else."""
    losses = losses.cpu()
    broken = (~losses.isfinite()).nonzero()
    if len(broken):
        raise Diverged(
            f"the loss is {losses[broken[0]].item()} at epoch {epoch + 1}, step {int(broken[0]) + 1}",
            "lower the learning rate",
        )
    return float(losses.mean())

"""Training and evaluation that every method shares: schedule, optimiser, one epoch, inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from utils.batches import DeviceImages
from utils.compute import Compute, seed_torch
from utils.errors import UserError
from utils.tracker import Tracked, Tracker

EVAL_BATCH = {"cpu": 250, "cuda": 2000}


def learning_rate(epoch: int, base: float, milestones: Sequence[int], gamma: float) -> float:
    """The rate of epoch `epoch` (counted from 0): `base`, multiplied by `gamma` once for each milestone reached."""
    return base * gamma ** sum(epoch >= m for m in milestones)


def make_optimizer(
    parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float, fused: bool = True
) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


@dataclass
class Progress:
    """How far a phase has come: the next epoch and step, and the loss of every step done in the current epoch."""

    epoch: int = 0
    step: int = 0  # within the epoch
    losses: Tensor | None = None  # float32 (steps,), on the device, so that no step waits for it

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        self.epoch, self.step, self.losses = state["epoch"], state["step"], state["losses"]

    def next_epoch(self) -> None:
        self.epoch, self.step, self.losses = self.epoch + 1, 0, None


def train_one_epoch(
    batches: Sequence[Tensor],
    loss_of: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    *,
    seed: int,
    phase: int,
    after_step: Callable[[], bool | None] = lambda: None,
) -> float:
    """Run the steps of an epoch that `progress` has not done yet; the mean loss of the epoch.

    loss_of(sample_ids) -> scalar loss. Each step reseeds torch from (seed, phase, epoch, step): what a step draws does
    not depend on where the run was interrupted. `after_step` is called once `progress` counts the step; if it returns
    True the epoch ends there.
    Raises UserError with epoch and step where a loss is not finite.
    """
    device = batches[0].device
    if progress.losses is None:
        progress.losses = torch.zeros(len(batches), device=device)
    progress.losses = progress.losses.to(device)
    for step in range(progress.step, len(batches)):
        seed_torch(seed, "step", phase, progress.epoch, step)
        loss = loss_of(batches[step])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress.losses[step] = loss.detach()
        progress.step = step + 1
        if after_step():
            break
    return checked_mean(progress.losses[: progress.step], progress.epoch)


def checked_mean(losses: Tensor, epoch: int) -> float:
    """The mean of an epoch's losses; the one place where an epoch waits for the device."""
    losses = losses.cpu()
    broken = (~losses.isfinite()).nonzero()
    if len(broken):
        raise UserError(
            f"the loss is {losses[broken[0]].item()} at epoch {epoch + 1}, step {int(broken[0]) + 1}",
            "lower the learning rate",
        )
    return float(losses.mean())


@torch.inference_mode()
def infer(
    model: nn.Module,
    images: DeviceImages,
    compute: Compute,
    batch_size: int | None = None,
    *,
    ids: Tensor | None = None,
    features: bool = False,
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Batches of (positions in `ids`, logits (B, C), features (B, D) or None), in order, without augmentation.

    The network runs in evaluation mode and every module is left in the mode it came in. `ids` None = all images.
    """
    modes = [module.training for module in model.modules()]  # batch norm may be in another mode than the rest
    model.eval()
    n = len(images) if ids is None else len(ids)
    try:
        for positions in torch.arange(n, device=compute.device).split(batch_size or EVAL_BATCH[compute.device.type]):
            batch = images.batch(positions if ids is None else ids[positions])
            with compute.autocast():
                logits, feats = model(batch, return_features=True) if features else (model(batch), None)
            yield positions, logits, feats
    finally:
        for module, training in zip(model.modules(), modes, strict=True):
            module.training = training


def track(
    model: nn.Module,
    images: DeviceImages,
    tracker: Tracker,
    compute: Compute,
    batch_size: int | None = None,
    *,
    where: str,
    ids: Tensor | None = None,
) -> Tracked:
    """One pass of `model` over the samples `ids` (None = all), scored by `tracker`.

    Raises UserError saying `where` (the epoch or step) if the network has diverged.
    """
    for positions, logits, features in infer(model, images, compute, batch_size, ids=ids, features=tracker.with_ce):
        tracker.update(logits, positions, features)
    try:
        return tracker.finish()
    except FloatingPointError:
        raise UserError(f"the network's outputs are no longer finite at {where}", "lower the learning rate") from None


def accuracy(
    model: nn.Module, images: DeviceImages, labels: np.ndarray, compute: Compute, batch_size: int | None = None
) -> float:
    """Share of samples whose prediction is their label, in [0, 1]."""
    predictions = torch.cat([logits.argmax(1) for _, logits, _ in infer(model, images, compute, batch_size)])
    return float(np.mean(predictions.cpu().numpy() == labels))

"""What a run will take: seconds, memory and disk, foreseen from a few timed steps of networks that are thrown away.

Nothing of the run itself changes by it: every random draw is a function of seed, stream and counters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

import models
from utils.compute import Compute
from utils.data.noisy_data import NoisyData
from utils.errors import UserError
from utils.memory import free_memory, peak_memory
from utils.scoring.neighbours import Neighbours, rows_within
from utils.scoring.tracker import whiten
from utils.scoring.tracking import LOSS_ALONE, Tracking
from utils.training.learner import Learner, new_network
from utils.training.optimisation import Optimisation, Schedule
from utils.training.passes import infer

TIMED_STEPS, TIMED_BATCHES = 4, 2  # after one of each that warms up, as far as they fit into ...
TIMED_SECONDS = 2.0  # ... about so many; of a longer step the first has to do
PROBED_SIDE = 64  # pixels of an image that tell what a step keeps in memory
SHORT = 20  # seconds: a shorter run is not worth the timing
# Seconds for reading, figures and files of a small set: twice the imports, which tell how fast a core is ...
START_AND_END = min(2 * time.process_time(), 10.0)
PER_SAMPLE = 4e-4  # ... and for each sample more
KEPT_PER_CLASS = 64  # bytes a sample and class: accumulated sums (parallel.py has three of them), posteriors
FILES_PER_CLASS, FILES_PER_SAMPLE = 16, 400  # bytes a sample: arrays (N, C); scores and a row of the table of suspects


@dataclass(frozen=True)
class Work:
    """What a run asks of one network."""

    network: str
    trained: int  # images that go through its training steps
    scored: int  # images that go through its passes
    searches: float = 0.0  # for the nearest neighbours of all samples among all
    networks: int = 1  # that train side by side

    @classmethod
    def of_epochs(cls, network: str, epochs: int, data: NoisyData, from_batches: bool = False) -> Work:
        """A training with a pass over all samples and the test images after every epoch, or over the latter alone."""
        of_a_pass = images_of_a_pass(data) - from_batches * len(data)
        return cls(network, epochs * len(data), epochs * of_a_pass)


def images_of_a_pass(data: NoisyData) -> int:
    return len(data) + (0 if data.test_images is None else len(data.test_images))


@dataclass(frozen=True)
class Expectation:
    """Of the whole run."""

    seconds: float
    memory: int  # bytes at its peak, on the device that computes
    more_memory: int  # bytes of it that are not taken yet
    disk: int  # bytes in the folder of the experiment
    images: int = 0  # bytes of all images of its data, part of `memory` unless they stay ...
    images_on_host: bool = False

    def __str__(self) -> str:
        disk = f"{self.disk / 1e9:.1f} GB" if self.disk >= 1e9 else f"{max(1, round(self.disk / 1e6))} MB"
        said = f"about {in_words(self.seconds)}, {self.memory / 1e9:.1f} GB of memory, {disk} of disk"
        return f"{said}; {self.images / 1e9:.1f} GB of images stay on the host" if self.images_on_host else said


def in_words(seconds: float) -> str:
    """75 s, 12 min, 3.5 h, 4.2 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def expect(
    work: Sequence[Work],
    track_rows: int,
    data: NoisyData,
    compute: Compute,
    optimisation: Optimisation,
    width: float,
    tracking: Tracking = LOSS_ALONE,
    short: float = SHORT,
) -> Expectation | None:
    """Time each network; None where the first steps already show a run of fewer than `short` seconds.

    `track_rows`: of all tracks together, each a float32 for every sample.
    """
    names = {part.network for part in work}
    rates = {name: Rates(name, data, compute, optimisation, width, tracking) for name in sorted(names)}
    if sum(rates[part.network].first_step * (part.trained + part.scored) for part in work) < short:
        return None
    seconds = START_AND_END + PER_SAMPLE * len(data) + sum(rates[part.network].seconds(part) for part in work)
    tracks, per_class = 4 * track_rows * len(data), len(data) * data.num_classes
    more_memory = KEPT_PER_CLASS * per_class  # tracks stay on the disk
    weights = max(part.networks * rates[part.network].weights for part in work)
    files = FILES_PER_CLASS * per_class + FILES_PER_SAMPLE * len(data) + 2 * weights  # networks that are kept
    # Weights, their average, momentum; two of them are there while the next one is written.
    checkpoints = 3 * (3 * weights + KEPT_PER_CLASS * per_class)
    return Expectation(
        seconds,
        peak_memory(compute) + more_memory,
        more_memory,
        tracks + files + checkpoints,
        data.bytes_of_images,
        data.images.on_host,
    )


class Rates:
    """Seconds that a network takes for an image; what is not asked for is not timed.

    Raises UserError, before the first step, where that does not fit into the memory.
    """

    def __init__(
        self,
        name: str,
        data: NoisyData,
        compute: Compute,
        optimisation: Optimisation,
        width: float,
        tracking: Tracking,
    ) -> None:
        self.data, self.compute, self.tracking = data, replace(compute, compile=False), tracking
        self.batch = data.ids[: optimisation.batch_size]
        of_weights = memory_of_weights(name, data.num_classes, width)
        elsewhere = 0 if data.images.on_host else data.bytes_of_images  # bytes that could lie there
        require_memory(of_weights, compute, elsewhere)
        network = new_network(name, data.num_classes, self.compute, width=width, seed=optimisation.seed)
        self.weights = sum(4 * parameter.numel() for parameter in network.parameters())  # bytes
        probe = data.images.batch(self.batch[:1])[..., :PROBED_SIDE, :PROBED_SIDE]
        growth = math.prod(data.images.side) / math.prod(probe.shape[2:])
        activations = growth * len(self.batch) * memory_of_activations(network, probe, self.compute)
        require_memory(of_weights - self.weights + activations, compute, elsewhere)
        standing = replace(optimisation, schedule=Schedule(0.0))  # a rate at which the run diverges is its own affair
        self.learner = Learner(network, data, self.compute, standing, stream=1)
        self.first_step = self._timed(self._train) / len(self.batch)  # it is the slowest, and warms up

    def seconds(self, part: Work) -> float:
        return (
            part.trained * self.of_training
            + part.scored * self.of_scoring
            + (part.searches and part.searches * self.of_a_search)
        )

    @cached_property
    def of_training(self) -> float:
        steps = min(TIMED_STEPS, int(TIMED_SECONDS / (self.first_step * len(self.batch))))
        if steps == 0:
            return self.first_step
        return self._timed(lambda: self._train(steps)) / (steps * len(self.batch))

    @cached_property
    def of_scoring(self) -> float:
        size = min(self.compute.eval_batch_size, max(1, int(TIMED_SECONDS / self.first_step)))
        at_once = size * self.compute.ranks.size
        self._score(self.data.ids[:at_once], size)  # warms up
        ids = self.data.ids[: TIMED_BATCHES * at_once]
        return self._timed(lambda: self._score(ids, size)) / len(ids)

    @cached_property
    def of_a_search(self) -> float:
        """Of all samples among all, by logits and by features."""
        one = infer(self.learner.judge, self.data.images, self.compute, ids=self.batch[:1], features=True)
        _, _, features = next(one)
        return sum(self._search(dimension) for dimension in (self.data.num_classes, features.shape[1]))

    def _search(self, dimension: int) -> float:
        """Of random vectors, since those of the run are not there yet: their preparation, and a few of the rows."""
        n = len(self.data)
        vectors = torch.randn(n, dimension, device=self.compute.device)
        neighbours = []
        took = self._timed(lambda: neighbours.append(Neighbours(whiten(vectors), min(self.tracking.nn_k, n))))
        rows = self.data.ids[: rows_within(self.tracking.memory_gb, n)]
        neighbours[0].find(rows)  # warms up
        return took + self._timed(lambda: neighbours[0].find(rows)) * n / (len(rows) * self.compute.ranks.size)

    def _train(self, steps: int = 1) -> None:
        self.learner.train_epoch(self.learner.cross_entropy, [self.batch] * steps)
        self.learner.progress.next_epoch()

    def _score(self, ids: Tensor, size: int) -> None:
        for _ in infer(self.learner.judge, self.data.images, replace(self.compute, eval_batch_size=size), ids=ids):
            pass

    def _timed(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        if self.compute.device.type == "cuda":
            torch.cuda.synchronize(self.compute.device)
        return self.compute.ranks.agreed(time.perf_counter() - start)  # it says how many steps come next


def memory_of_weights(name: str, num_classes: int, width: float) -> int:
    """Bytes of weights, gradient, momentum and average, by shapes alone: nothing is allocated."""
    with torch.device("meta"):
        network = models.build(name, num_classes, width=width)
    return 4 * sum(parameter.untyped_storage().nbytes() for parameter in network.parameters())


def memory_of_activations(network: nn.Module, image: Tensor, compute: Compute) -> float:
    """Bytes that a training step keeps for its backward pass for each such image (1, 3, H, W)."""
    kept: dict[int, int] = {}  # each storage once

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def of_batch(size: int) -> int:
        kept.clear()
        with compute.autocast(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(image.repeat(size, 1, 1, 1))
        return sum(kept.values())

    return (of_batch(4) - of_batch(2)) / 2  # weights are kept once, whatever the batch


def require_memory(needed: float, compute: Compute, images: int = 0) -> None:
    """Raises UserError where a training step does not fit into what is free; `images`: bytes of those on the device."""
    free = free_memory(compute)
    if free is not None and needed > free:
        raise UserError(
            f"a training step needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            "lower --batch_size, --width or, for 'folder', --image_size" + host_instead(needed - free, images),
        )


def host_instead(missing: float, images: int) -> str:
    """Words for a remedy, where so many bytes are missing and images take as many or more."""
    return f", or leave the {images / 1e9:.1f} GB of images with --images_on host" if images >= missing else ""

"""What a run will take: seconds, memory and disk, foreseen from a few timed steps of networks that are thrown away.

Nothing of the run itself changes by it: every random draw is a function of seed, stream and counters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from utils.compute import Compute
from utils.data.noisy_data import NoisyData
from utils.scoring.tracker import neighbour_votes
from utils.scoring.tracking import LOSS_ALONE, Tracking
from utils.training.learner import Learner, new_network
from utils.training.optimisation import Optimisation, Schedule
from utils.training.passes import infer

TIMED_STEPS, TIMED_BATCHES = 4, 2  # after one of each that warms up
TIMED_SEARCH = 2000  # samples
SHORT = 20  # seconds: a shorter run is not worth the timing
START_AND_END = 4.0  # seconds for reading, figures and files of a small set ...
PER_SAMPLE = 4e-4  # ... and for each sample more
KEPT_PER_CLASS = 40  # bytes a sample and class: accumulated sums, predictions, posteriors
FILES_PER_CLASS, FILES_PER_SAMPLE = 16, 400  # bytes a sample: arrays (N, C); scores and a row of the table of suspects


@dataclass(frozen=True)
class Work:
    """What a run asks of one network."""

    network: str
    trained: int  # images that go through its training steps
    scored: int  # images that go through its passes
    searches: float = 0.0  # for the nearest neighbours of all samples among all

    @classmethod
    def of_epochs(cls, network: str, epochs: int, data: NoisyData) -> Work:
        """A training with a pass over all samples and the test images after every epoch."""
        return cls(network, epochs * len(data), epochs * images_of_a_pass(data))


def images_of_a_pass(data: NoisyData) -> int:
    return len(data) + (0 if data.test_images is None else len(data.test_images))


@dataclass(frozen=True)
class Expectation:
    """Of the whole run."""

    seconds: float
    memory: int  # bytes at its peak, on the device that computes
    more_memory: int  # bytes of it that are not taken yet
    disk: int  # bytes in the folder of the experiment

    def __str__(self) -> str:
        disk = f"{self.disk / 1e9:.1f} GB" if self.disk >= 1e9 else f"{max(1, round(self.disk / 1e6))} MB"
        return f"about {in_words(self.seconds)}, {self.memory / 1e9:.1f} GB of memory, {disk} of disk"


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
    more_memory = KEPT_PER_CLASS * per_class + tracks // 2  # figures read one or two of them
    files = FILES_PER_CLASS * per_class + FILES_PER_SAMPLE * len(data)
    weights = max(rates[name].weights for name in names)
    checkpoints = 2 * (3 * weights + KEPT_PER_CLASS * per_class)  # weights, their average, momentum; two of them
    return Expectation(seconds, peak_memory(compute) + more_memory, more_memory, tracks + files + checkpoints)


class Rates:
    """Seconds that a network takes for an image; what is not asked for is not timed."""

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
        network = new_network(name, data.num_classes, self.compute, width=width, seed=optimisation.seed)
        self.weights = sum(4 * parameter.numel() for parameter in network.parameters())  # bytes
        standing = replace(optimisation, schedule=Schedule(0.0))  # a rate at which the run diverges is its own affair
        self.learner = Learner(network, data, self.compute, standing, stream=1)
        self.batch = data.ids[: optimisation.batch_size]
        self.first_step = self._timed(lambda: self._train(1)) / len(self.batch)  # it is the slowest, and warms up

    def seconds(self, part: Work) -> float:
        return (
            part.trained * self.of_training
            + part.scored * self.of_scoring
            + (part.searches and part.searches * self.of_a_search)
        )

    @cached_property
    def of_training(self) -> float:
        return self._timed(lambda: self._train(TIMED_STEPS)) / (TIMED_STEPS * len(self.batch))

    @cached_property
    def of_scoring(self) -> float:
        size = self.compute.eval_batch_size
        self._score(self.data.ids[:size])  # warms up
        ids = self.data.ids[: TIMED_BATCHES * size]
        return self._timed(lambda: self._score(ids)) / len(ids)

    @cached_property
    def of_a_search(self) -> float:
        """Of all samples among all, which grows with the square of their number."""
        n = min(TIMED_SEARCH, len(self.data))
        _, logits, features = next(self._infer(self.data.ids[:1], features=True))
        logits, features = (torch.randn(n, of.shape[1], device=of.device) for of in (logits, features))
        labels, classes = self.data.device_labels[:n], self.data.num_classes
        nn_k, memory_gb = self.tracking.nn_k, self.tracking.memory_gb
        took = self._timed(lambda: neighbour_votes(logits, features, labels, classes, nn_k, memory_gb))
        return took * (len(self.data) / n) ** 2

    def _train(self, steps: int) -> None:
        self.learner.train_epoch(self.learner.cross_entropy, [self.batch] * steps)
        self.learner.progress.next_epoch()

    def _score(self, ids: Tensor) -> None:
        for _ in self._infer(ids):
            pass

    def _infer(self, ids: Tensor, **options: bool) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        return infer(self.learner.judge, self.data.images, self.compute, ids=ids, **options)

    def _timed(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        if self.compute.device.type == "cuda":
            torch.cuda.synchronize(self.compute.device)
        return time.perf_counter() - start


def peak_memory(compute: Compute) -> int:
    """Bytes that this process has held at most: of the GPU, or of the machine where that is known, else 0."""
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated(compute.device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def free_memory(compute: Compute) -> int | None:
    """Bytes that are left there; None where the system does not tell."""
    if compute.device.type == "cuda":
        return torch.cuda.mem_get_info(compute.device)[0]
    try:
        with open("/proc/meminfo") as handle:
            lines = dict(line.split(":", 1) for line in handle)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None

"""What the processes of one run tell each other, so that they work as one.

Every process runs the same script. What decides where a run goes on is agreed on (`agreed`, `from_first`); rank 0 alone
writes, prints and draws, the others follow it. A process that was started without torchrun is ALONE: all here is
the identity then and costs nothing. How they start and end is in `utils/launch.py`. Imports torch as late as it can.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from utils.launch import keep_watch, launched, limit, talking

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """`size` processes that share a piece of work; this one is number `rank` of them."""

    rank: int = 0
    size: int = 1
    first: int = 0  # the number, among all processes of the run, of the one that is `rank` 0 here
    words: ProcessGroup | None = None  # for what lies on the CPU
    tensors: ProcessGroup | None = None  # for what lies on the device that computes

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.size > 1

    def on(self, device: torch.device) -> Ranks:
        """The same processes, their tensors on such a device each."""
        if not self.several or device.type != "cuda":
            return self
        from torch import distributed

        with talking():  # twice the limit: of two waits for a process that hangs the one that says so comes first
            group = distributed.new_group(backend="nccl", timeout=timedelta(seconds=2 * limit()), device_id=device)
        return replace(self, tensors=group)

    def halves(self, device: torch.device) -> list[Ranks]:
        """Two groups of them, the first the larger one; the group that this process is not in is ALONE here."""
        from torch import distributed

        middle, found = self.size - self.size // 2, []
        for members in (range(middle), range(middle, self.size)):
            ranks = replace(ALONE, first=members[0])
            if len(members) > 1:
                with talking():  # every process takes part in making every group
                    words = distributed.new_group(list(members), backend="gloo", timeout=timedelta(seconds=limit()))
                    tensors = words
                    if device.type == "cuda":
                        wait = timedelta(seconds=2 * limit())
                        tensors = distributed.new_group(list(members), backend="nccl", timeout=wait)
                if self.rank in members:
                    ranks = Ranks(self.rank - members[0], len(members), members[0], words, tensors)
            found.append(ranks)
        return found

    # -- words ------------------------------------------------------------------------------------------------------

    def agreed(self, number: float) -> float:
        """The largest of the numbers that the processes say."""
        if not self.several:
            return number
        import torch
        from torch import distributed

        said = torch.tensor(float(number), dtype=torch.float64)
        with talking():
            distributed.all_reduce(said, distributed.ReduceOp.MAX, group=self.words)
        return said.item()

    def from_first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes; the others do not call it."""
        return make() if not self.several else self.told(make() if self.leads else None, 0)

    def told(self, value: T, by: int) -> T:
        """The value of process `by` of these, whatever it holds."""
        if not self.several:
            return value
        from torch import distributed

        values = [value]
        with talking():
            distributed.broadcast_object_list(values, src=self.first + by, group=self.words)
        return values[0]

    def wait(self) -> None:
        """Until all have come here: what rank 0 wrote before is there after it."""
        self.agreed(0)

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 goes through it before the others do, which find what it left."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def in_turns(self, work: Callable[[T], Any], items: Sequence[T]) -> Iterator[Any]:
        """work(item) of each, in order; so many at a time as there are processes, one in each."""
        for start in range(0, len(items), self.size):
            place = start + self.rank
            result = work(items[place]) if place < len(items) else None
            if not self.several:
                yield result
                continue
            from torch import distributed

            results = [None] * self.size
            with talking():
                distributed.all_gather_object(results, result, group=self.words)
            yield from results[: len(items) - start]

    # -- tensors ----------------------------------------------------------------------------------------------------

    def cut(self, n: int) -> bool:
        """Whether a training batch of n is cut: batch norm needs two samples in each part."""
        return self.several and n >= 2 * self.size

    def counts(self, n: int) -> list[int]:
        """How many of n each process takes, one after the other: the first ones perhaps one more."""
        return [n // self.size + (rank < n % self.size) for rank in range(self.size)]

    def rows(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """All rows, `counts` of each process, one after the other; a gradient flows through the own ones alone."""
        if not self.several:
            return own
        import torch
        from torch import distributed

        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own.detach()
        found = [torch.empty_like(padded) for _ in counts]
        with talking():
            distributed.all_gather(found, padded, group=self.tensors)
        parts = [rows[:count] for rows, count in zip(found, counts, strict=True)]
        parts[self.rank] = own
        return torch.cat(parts)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Put rank 0's floating-point numbers into these tensors, alike in shape on all."""
        if not self.several:
            return
        import torch
        from torch import distributed

        tensors = [tensor for tensor in tensors if tensor.is_floating_point()]
        flat = torch.cat([tensor.flatten() for tensor in tensors]) if tensors else None
        if flat is None:
            return
        with talking():
            distributed.broadcast(flat, src=self.first, group=self.tensors)
        for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))

    def averaging(self, network: nn.Module) -> nn.Module:
        """The network so wrapped that a backward pass leaves the mean of all processes' gradients in each."""
        if not self.several:
            return network
        from torch.nn.parallel import DistributedDataParallel

        # Not for unused parameters alone: without it gradients are packed anew after the first step, and a resumed run
        # would add those of three processes in another order.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")  # of 1x1 convolutions
        with talking(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # broadcast_buffers has another name from torch 2.14 on
            return DistributedDataParallel(
                network, process_group=self.tensors, broadcast_buffers=False, find_unused_parameters=True
            )


ALONE = Ranks()
_current = ALONE  # of the work that this process is at
_all = ALONE  # that were started together


def current() -> Ranks:
    """Those that share the work which this process is at."""
    return _current


def open_ranks() -> Ranks:
    """All processes of the run, once they have found each other; from now on each knows when another one ends."""
    global _all, _current
    if not launched() or _all.several:
        return _all
    seconds = limit()
    from torch import distributed

    wait = timedelta(seconds=seconds)
    with talking():
        store, rank, size = next(distributed.rendezvous("env://", timeout=wait))
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=wait)
        _all = _current = Ranks(rank, size, 0, distributed.group.WORLD, distributed.group.WORLD)
        where = [(0, 0)] * size
        distributed.all_gather_object(where, (os.environ["GROUP_RANK"], os.getpid()))
    here = where[rank][0]
    keep_watch(store, {k: pid for k, (machine, pid) in enumerate(where) if machine == here and k != rank})
    return _all


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """The work within is this process's own: it follows nobody."""
    global _current
    before, _current = _current, ALONE
    try:
        yield
    finally:
        _current = before

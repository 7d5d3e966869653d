"""The processes that torchrun starts for one run: which of them this is, and what they tell each other.

Every process runs the same script. What decides where a run goes on is agreed on (`agreed`, `from_first`); rank 0 alone
writes, prints and draws, the others follow it. A process that was started without torchrun is ALONE: all here is
the identity then and costs nothing. Imports torch as late as it can.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from utils.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup, Store

T = TypeVar("T")

LIMIT = "RANKS_TIME_LIMIT"  # environment variable: seconds that one waits for the others in any collective ...
DEFAULT_LIMIT = 1800.0  # ... unless it says otherwise: rank 0 may be decoding a large folder meanwhile
WATCHED_EVERY = 1.0  # seconds
GRACE = 10.0  # seconds to an end by itself once another process is gone; torchrun's SIGKILL comes after 30
GOODBYE = 2.0  # seconds that a process which fails leaves the others to fail alike
POLL = 0.05  # seconds
REMEDY = "the same command goes on from the last checkpoint"


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
_store: Store | None = None  # torchrun's, which outlives any of them
_broken = False  # whether another one is gone or does not answer: nothing is waited for any more
_pids: dict[int, int] = {}  # {rank: process} of the others that this torchrun started


# -- before they have found each other -----------------------------------------------------------------------------


def launched() -> bool:
    """Whether torchrun started this process, and others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and number_of_processes() > 1


def number_of_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def place_here() -> int:
    """The number of this process among those of its machine: of the GPU, counted from the first, that it takes."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


def processes_here() -> int:
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1


def _is_first() -> bool:
    return not launched() or os.environ["RANK"] == "0"


def limit() -> float:
    """Seconds. Raises UserError where the environment holds something else."""
    text = os.environ.get(LIMIT, str(DEFAULT_LIMIT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e8:
        raise UserError(f"{LIMIT}={text} is no number of seconds", "unset it, or give one")
    return seconds


def launcher(size: int | None = None) -> str:
    """What comes before the name of a script to start it again with so many processes (None = as this one was)."""
    size = number_of_processes() if size is None else size
    return "python3" if size == 1 else f"torchrun --nproc_per_node {size}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed here, progress bars and warnings included, unless this is rank 0."""
    if launched():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is imported: its warnings are not ours
    if _is_first():
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


# -- together ------------------------------------------------------------------------------------------------------


def current() -> Ranks:
    """Those that share the work which this process is at."""
    return _current


def open_ranks() -> Ranks:
    """All processes of the run, once they have found each other; from now on each knows when another one ends."""
    global _all, _current, _store
    if not launched() or _all.several:
        return _all
    seconds = limit()
    from torch import distributed

    wait = timedelta(seconds=seconds)
    with talking():
        _store, rank, size = next(distributed.rendezvous("env://", timeout=wait))
        distributed.init_process_group("gloo", store=_store, rank=rank, world_size=size, timeout=wait)
        _all = _current = Ranks(rank, size, 0, distributed.group.WORLD, distributed.group.WORLD)
        where = [(0, 0)] * size
        distributed.all_gather_object(where, (os.environ["GROUP_RANK"], os.getpid()))
    same_machine = where[rank][0]
    _pids.update({k: pid for k, (machine, pid) in enumerate(where) if machine == same_machine and k != rank})
    for signum in (signal.SIGINT, signal.SIGTERM):  # torchrun sends them when another process has ended: while no stop
        signal.signal(signum, signal.SIG_IGN)  # request is open this one is at its own end, and has to say why
    threading.Thread(target=_watch, name="ranks", daemon=True).start()
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


def meet(name: str, between: Callable[[], None] = lambda: None, within: float = float("inf")) -> bool:
    """Wait for all processes at a place called so, however long that takes; whether all came `within` seconds.

    `between` is called again and again meanwhile.
    """
    end, here = time.monotonic() + within, _store.add(f"meet/{name}", 1)
    while here < _all.size and time.monotonic() < end:
        between()
        time.sleep(POLL)
        here = _store.add(f"meet/{name}", 0)
    return here >= _all.size


# -- the end -------------------------------------------------------------------------------------------------------


def speaks() -> bool:
    """Whether this process is the one to say why all end: the first that asks, or rank 0 before they met."""
    if _store is None:
        return _is_first()
    try:
        return _store.add("spoken", 1) == 1
    except Exception:  # torchrun itself is gone
        return _is_first()


def leave(status: int) -> NoReturn:
    """End this process: together with all others, or, where it failed, soon, whatever they do.

    Nothing is waited for that a lost process could hold up, as the threads of a group.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if _store is not None and not _broken:
        with contextlib.suppress(Exception):  # torchrun itself is gone
            meet("end", within=GOODBYE if status else float("inf"))
    os._exit(status)


@contextlib.contextmanager
def talking() -> Iterator[None]:
    """Around what all processes do together. Raises UserError where one of them is gone or does not answer."""
    try:
        yield
    except RuntimeError as error:  # gloo's and nccl's
        if not _of_a_group(error):
            raise
        raise lost(str(error)) from error


def _of_a_group(error: RuntimeError) -> bool:
    from torch import distributed

    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(word in text for word in ("gloo", "nccl", "connection"))


def lost(reason: str = "") -> UserError:
    """What to say of processes that do not answer any more."""
    global _broken
    _broken = True
    end = time.monotonic() + 2 * WATCHED_EVERY
    while not (gone := _gone()) and time.monotonic() < end:
        time.sleep(POLL)
    if gone:
        return UserError(f"process {gone[0]} of this run (0 to {_all.size - 1}) has ended", REMEDY)
    if "timed out" in reason.lower() or "timeout" in reason.lower():
        return UserError(f"a process of this run has not answered for {limit():g} s ({LIMIT})", REMEDY)
    return UserError(f"the processes of this run have lost each other ({reason.splitlines()[0][:200]})", REMEDY)


def _gone() -> list[int]:
    """The ranks on this machine whose process is there no more."""
    return [rank for rank, pid in _pids.items() if not _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _watch() -> None:
    """End this process some time after another one is gone: it may wait on a GPU for it, where no error comes."""
    while not _gone():
        time.sleep(WATCHED_EVERY)
    time.sleep(GRACE)
    if speaks():
        print(f"error: {lost()}", file=sys.__stderr__, flush=True)
    os._exit(2)

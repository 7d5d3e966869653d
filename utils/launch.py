"""The processes that torchrun starts: which of them this is, how it notices the end of another one, and how all end.

What they tell each other meanwhile is in `utils/ranks.py`. Imports torch as late as it can.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from utils.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

LIMIT = "RANKS_TIME_LIMIT"  # environment variable: seconds that one waits for the others, together or at the end ...
DEFAULT_LIMIT = 1800.0  # ... unless it says otherwise: rank 0 may be decoding or writing meanwhile
WATCHED_EVERY = 1.0  # seconds
GRACE = 10.0  # seconds to an end by itself once another process is gone; torchrun's SIGKILL comes after 30
GOODBYE = 2.0  # seconds that a process which fails leaves the others to fail alike
POLL = 0.05  # seconds
REMEDY = "the same command goes on from the last checkpoint"

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


# -- once they have found each other ------------------------------------------------------------------------------


def keep_watch(store: Store, pids: dict[int, int]) -> None:
    """From now on notice when another process ends; `pids`: {rank: process} of the others on this machine."""
    global _store
    _store = store
    _pids.update(pids)
    for signum in (signal.SIGINT, signal.SIGTERM):  # torchrun sends them when another process has ended: while no stop
        signal.signal(signum, signal.SIG_IGN)  # request is open this one is at its own end, and has to say why
    threading.Thread(target=_watch, name="ranks", daemon=True).start()


def meet(name: str, between: Callable[[], None] = lambda: None, within: float = float("inf")) -> bool:
    """Wait for all processes at a place called so, however long that takes; whether all came `within` seconds.

    `between` is called again and again meanwhile.
    """
    end, here = time.monotonic() + within, _store.add(f"meet/{name}", 1)
    while here < number_of_processes() and time.monotonic() < end:
        between()
        time.sleep(POLL)
        here = _store.add(f"meet/{name}", 0)
    return here >= number_of_processes()


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

    Where one of them does not come within the limit, all the same, with status 2 and a line that says so. Nothing is
    waited for that a lost process could hold up, as the threads of a group.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if _store is not None and not _broken:
        with contextlib.suppress(Exception):  # torchrun itself is gone
            if not meet("end", within=GOODBYE if status else limit()) and not status:
                status, reason = 2, lost("timed out")  # before any of those that wait is gone
                if speaks():
                    print(f"error: {reason}", file=sys.__stderr__, flush=True)
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
    while not (ended := gone()) and time.monotonic() < end:
        time.sleep(POLL)
    if ended:
        return UserError(f"process {ended[0]} of this run (0 to {number_of_processes() - 1}) has ended", REMEDY)
    if "timed out" in reason.lower() or "timeout" in reason.lower():
        return UserError(f"a process of this run has not answered for {limit():g} s ({LIMIT})", REMEDY)
    return UserError(f"the processes of this run have lost each other ({reason.splitlines()[0][:200]})", REMEDY)


def gone() -> list[int]:
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
    while not gone():
        time.sleep(WATCHED_EVERY)
    time.sleep(GRACE)
    if speaks():
        print(f"error: {lost()}", file=sys.__stderr__, flush=True)
    os._exit(2)

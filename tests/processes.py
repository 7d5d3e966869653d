"""Processes that come out of a server which has imported torch once, so that a script starts at once.

Figures stay empty, which take longer than all the rest of a tiny run.

`Script` is one of its own, which takes the place of a `subprocess.Popen`; `Processes` are several that find each other
as those of torchrun do.
"""

import contextlib
import gc
import multiprocessing
import os
import pickle
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny import ROOT, without_pixels

PRELOADED = [  # what processes of these tests import, now or later
    *("torch", "torch.distributed", "torch._dynamo", "torchvision", "matplotlib.figure", "scipy.stats"),
    *("sklearn.datasets", "sklearn.linear_model", "jinja2", "PIL.Image", "tests.processes"),
    *(f"utils.methods.{name}" for name in ("forgetting", "cross_tracking", "relabelling", "pseudo_labelling")),
]
ENOUGH = 120.0  # seconds
SAID = ("out", "err")  # stdout and stderr, as files


@dataclass
class Ended:
    """One process."""

    status: int  # negative: by that signal
    output: str
    errors: str
    result: Any = None  # of what it did


class Script:
    """What `python3 WORDS` does, in a session of its own: Ctrl-C is not for it.

    `prepare`: a function of a module that is called before it, in its process.
    """

    def __init__(self, words: list[str], prepare: Callable[[], Any] | None = None) -> None:
        self._files, self._said = Path(tempfile.mkdtemp()), None
        self._process = served().Process(target=alone, args=(self._files, words, prepare))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Negative: by that signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self) -> int:
        self._process.join()
        if self._said is None:
            self._said = tuple((self._files / name).read_text() for name in SAID)
            shutil.rmtree(self._files)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # ended since it was asked
            if self.poll() is None:
                self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """Waits; what it wrote to stdout and to stderr."""
        self.wait()
        return self._said


class Processes:
    """`size` processes that run work(rank, *args), a function of a module; `limit`: seconds of any collective."""

    def __init__(
        self, folder: Path, size: int, work: Callable[..., Any], *args: Any, limit: float = 60.0, **environment: str
    ) -> None:
        from torch.distributed import TCPStore

        self.folder, self.store = folder, TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        folder.mkdir(parents=True, exist_ok=True)
        context, self.processes = served(), []
        for rank in range(size):
            said = {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
                "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port),
                "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True", "RANKS_TIME_LIMIT": str(limit),
            }  # fmt: skip
            alone = {} if size > 1 else dict.fromkeys(said, None)
            process = context.Process(target=child, args=(work, rank, args, folder, said | environment | alone))
            process.start()
            self.processes.append(process)

    def end(self) -> list[Ended]:
        """What has become of each."""
        found = []
        for process in self.processes:
            process.join(ENOUGH)
            hung = process.is_alive()
            process.kill()
            process.join()
            assert not hung, "it hangs"
        for rank, process in enumerate(self.processes):
            output, errors = ((self.folder / f"{rank}.{name}").read_text() for name in SAID)
            file = self.folder / f"{rank}.pickle"
            result = pickle.loads(file.read_bytes()) if file.exists() else None
            found.append(Ended(process.exitcode, output, errors, result))
        return found


def results(folder: Path, size: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """What each of `size` processes found."""
    ended = Processes(folder, size, work, *args).end()
    assert [one.status for one in ended] == [0] * size, "\n".join(one.errors for one in ended)
    return [one.result for one in ended]


def served() -> multiprocessing.context.ForkServerContext:
    """Where processes come from."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the scripts do, before torch is imported
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def alone(folder: Path, words: list[str], prepare: Callable[[], Any] | None) -> None:
    os.setsid()
    gc.freeze()  # what the server has imported is not gone through again
    into(*(folder / name for name in SAID))
    if prepare is not None:
        prepare()
    with without_pixels():
        script(0, *words)


def into(*files: Path) -> None:
    """What is printed, and what is said of errors."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)


def child(work: Callable[..., Any], rank: int, args: tuple, folder: Path, environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    into(*(folder / f"{rank}.{name}" for name in SAID))
    import torch

    torch.set_num_threads(1)
    with without_pixels():
        result = work(rank, *args)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))


def script(rank: int, *words: str) -> None:
    """What `python3 WORDS` does."""
    os.chdir(ROOT)
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(sys.argv[0], run_name="__main__")

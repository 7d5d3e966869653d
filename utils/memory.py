"""How much memory there is, and how much of it this process holds or has held."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

from utils import launch
from utils.compute import Compute

MEMINFO, STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
CONTAINER_LIMITS = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]  # v2, v1
PROCESS_LIMITS = {"RLIMIT_AS": "VmSize", "RLIMIT_DATA": "VmData"}  # of ulimit -v and -d; what counts against each


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
    """Bytes that are left there, of what a container or ulimit allows; None where the system does not tell.

    Of what the processes of a run share on this machine, this one's part.
    """
    if compute.device.type == "cuda":
        return torch.cuda.mem_get_info(compute.device)[0]
    left, processes = [], launch.processes_here()
    with suppress(OSError, KeyError, ValueError):
        left.append(_kilobytes(MEMINFO, "MemAvailable") // processes)
    for limit in CONTAINER_LIMITS:
        with suppress(OSError, KeyError, ValueError):  # "max" = none
            left.append(max(0, int(limit.read_text()) // processes - _kilobytes(STATUS, "VmRSS")))
    with suppress(ImportError):
        import resource

        for name, used in PROCESS_LIMITS.items():
            limit, _ = resource.getrlimit(getattr(resource, name))
            with suppress(OSError, KeyError, ValueError):
                if limit != resource.RLIM_INFINITY:
                    left.append(max(0, limit - _kilobytes(STATUS, used)))
    return min(left, default=None)


def _kilobytes(file: Path, entry: str) -> int:
    """An entry of one of Linux's tables, in bytes."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return 1024 * int(lines[entry].split()[0])

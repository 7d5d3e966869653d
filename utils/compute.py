"""Where and how the arithmetic is done: device, threads, precision, memory layout, compilation, random streams."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils import launch, ranks
from utils.errors import UserError
from utils.ranks import ALONE, Ranks

EVAL_BATCH_SIZE = {"cpu": 250, "cuda": 2000}
BF16_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}  # instruction sets that multiply bfloat16 in hardware

# The uses of randomness. Each has a stream of its own, by its place here: append, never insert.
STREAMS = (
    "label_noise", "label_noise_2nd", "halves", "init", "init_2nd", "order", "step", "averaging", "planted", "ood",
    "uniform",
)  # fmt: skip


def stream_seed(seed: int, stream: str, *counters: int) -> int:
    """A 63-bit seed that depends on the user's seed, the stream's name and any counters (epoch, step ...).

    Randomness is a function of these alone, never of what ran before: a resumed run draws what a whole one draws.
    `seed` is under 2**32. Up to two trailing counters of zero change nothing, since a seed sequence pads its pool of
    four words with zeros; from the third counter on a zero counts.
    """
    state = np.random.SeedSequence([seed, STREAMS.index(stream), *counters]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def stream_generator(seed: int, stream: str, *counters: int) -> np.random.Generator:
    return np.random.default_rng(stream_seed(seed, stream, *counters))


def seed_torch(seed: int, stream: str, *counters: int) -> None:
    """Seed torch's global generators (all devices): initialisation, augmentation, dropout and mixup draw from them."""
    torch.manual_seed(stream_seed(seed, stream, *counters))


@dataclass(frozen=True)
class Compute:
    """A device with its precision; `bf16` is autocast for the networks; pooling, heads and losses stay in fp32."""

    device: torch.device
    bf16: bool
    compile: bool
    threads: int
    eval_batch_size: int = EVAL_BATCH_SIZE["cpu"]  # images in a batch of an evaluation
    images_on: str = "auto"  # where whole sets of images lie: "device", "host", or there where they fit
    ranks: Ranks = ALONE  # the processes that share the work

    def autocast(self) -> contextlib.AbstractContextManager:
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move to the device in channels-last layout; compile where asked (CUDA graphs on a GPU)."""
        model = model.to(self.device, memory_format=torch.channels_last)
        if self.compile:
            model.compile(mode="reduce-overhead" if self.device.type == "cuda" else None)
        return model

    @property
    def precision(self) -> str:
        """What --precision came to on this device: "bf16" or "fp32"."""
        return "bf16" if self.bf16 else "fp32"

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"CPU, {self.threads} threads"
        processes = f", {self.ranks.size} processes" if self.ranks.several else ""
        return f"{name}{processes}, {self.precision}{', compiled' if self.compile else ''}"


def choose(
    cuda_dev: int,
    precision: str = "auto",
    compile: bool = False,
    threads: int | None = None,
    eval_batch_size: int | None = None,
    images_on: str = "auto",
) -> Compute:
    """The device that `--cuda_dev` names (-1 = CPU; also the CPU where the machine has no GPU) and its precision.

    Of several processes each takes a GPU of its own, from that one on. Raises UserError for a GPU that does not exist.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if cuda_dev < 0 or gpus == 0:
        device = torch.device("cpu")
    elif (cuda_dev := cuda_dev + launch.place_here()) >= gpus:
        known = ", ".join(str(k) for k in range(gpus))
        if launch.launched():
            what = f"{launch.processes_here()} processes need a GPU each, and there is no GPU {cuda_dev}"
            raise UserError(what, f"this machine has {known}: start fewer, or take the CPU with --cuda_dev -1")
        raise UserError(f"there is no GPU {cuda_dev}", f"this machine has --cuda_dev {known} (-1 = CPU)")
    else:
        device = torch.device("cuda", cuda_dev)
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True  # a resumed run repeats the bytes of a whole one
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        torch.set_float32_matmul_precision("highest")  # the tracker's neighbours stay exact
    bf16 = has_bf16(device) if precision == "auto" else precision == "bf16"
    batch_size = eval_batch_size or EVAL_BATCH_SIZE[device.type]
    sharing = ranks.current().on(device)
    return Compute(device, bf16, compile, torch.get_num_threads(), batch_size, images_on, sharing)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc reuse freed buffers instead of returning them: fresh pages for every batch cost a tenth of its time."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        if not libc.mallopt(M_MMAP_THRESHOLD, 2**30):  # the limit before glibc 2.35
            libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Have glibc return what an earlier run of this process has freed: to the next one it would count as taken."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is fast there: Ampere or newer, or a CPU with AMX or AVX-512 bf16 instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return bool(BF16_CPU_FLAGS & set(cpuinfo.split()))

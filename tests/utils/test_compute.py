"""Devices, precision and random streams."""

import copy
import itertools
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import models
from utils.compute import (
    STREAMS,
    Compute,
    choose,
    has_bf16,
    keep_freed_memory,
    return_freed_memory,
    seed_torch,
    stream_generator,
    stream_seed,
)
from utils.errors import UserError

CPU = torch.device("cpu")


# Random streams.


def test_the_seed_depends_on_every_argument():
    users, counters = (0, 1, 2, 2**32, 2**33, 2**63 - 1), (0, 1, 2, 10**6)
    seeds = {stream_seed(*arguments) for arguments in itertools.product(users, STREAMS, counters, counters)}
    assert len(seeds) == len(users) * len(STREAMS) * len(counters) ** 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_counters_are_not_interchangeable():
    assert stream_seed(1, "step", 2, 3) != stream_seed(1, "step", 3, 2)


def test_seeds_never_change():
    assert stream_seed(7, "order", 1, 5) == 5267824089874978045  # numpy promises that SeedSequence's stays


def test_an_unknown_stream_is_an_error():
    with pytest.raises(ValueError):
        stream_seed(1, "coffee")


def test_generators_and_torch_follow_the_stream():
    assert stream_generator(1, "halves").random() == stream_generator(1, "halves").random()
    draws = []
    for counter in (0, 1, 0):
        seed_torch(1, "step", counter)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[2] != draws[1]


# Devices.


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine that looks as if it had two GPUs; what it is told to use is in the list."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0) if device.index else (7, 5))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    return chosen


def test_minus_one_is_the_cpu(two_gpus):
    assert choose(-1).device == CPU and two_gpus == []


@pytest.mark.parametrize("number", [-1, 0, 5])
def test_without_a_gpu_it_is_the_cpu(monkeypatch, number):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose(number).device == CPU


@pytest.mark.parametrize("number", [0, 1])
def test_a_number_picks_that_gpu(two_gpus, number):
    compute = choose(number)
    assert compute.device == torch.device("cuda", number) and two_gpus == [compute.device]
    assert compute.bf16 == (number == 1)  # compute capability 8.0 has it, 7.5 does not


def test_a_gpu_that_does_not_exist_is_an_error_naming_those_that_do(two_gpus):
    with pytest.raises(UserError, match="^there is no GPU 2 — .*0, 1"):
        choose(2)


def test_threads_are_set_and_reported():
    before = torch.get_num_threads()
    try:
        compute = choose(-1, "fp32", threads=1)
        assert compute.threads == torch.get_num_threads() == 1
        assert str(compute) == "CPU, 1 threads, fp32"
    finally:
        torch.set_num_threads(before)


def test_evaluation_batches_are_those_of_the_device_unless_given(two_gpus):
    assert (choose(-1).eval_batch_size, choose(0).eval_batch_size) == (250, 2000)
    assert choose(-1, eval_batch_size=7).eval_batch_size == choose(0, eval_batch_size=7).eval_batch_size == 7


# Precision.


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx2 avx512f", False),
        ("not_amx_bf16_really", False),
    ],
)
def test_bf16_on_a_cpu_needs_its_instructions(monkeypatch, flags, expected):
    monkeypatch.setattr(Path, "read_text", lambda path: f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    assert has_bf16(CPU) == expected
    assert choose(-1).bf16 == expected
    assert choose(-1, "bf16").bf16 and not choose(-1, "fp32").bf16


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_precision_it_came_to_is_told(precision):
    compute = choose(-1, precision)
    assert compute.precision == precision and str(compute).endswith(f"threads, {precision}")


def test_a_machine_without_cpuinfo_has_no_bf16(monkeypatch):
    def fail(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", fail)
    assert not has_bf16(CPU)


def test_autocast_is_on_only_for_bf16():
    weights, vectors = torch.ones(2, 2), torch.ones(1, 2)
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with Compute(CPU, bf16, compile=False, threads=1).autocast():
            assert (vectors @ weights).dtype == dtype


def test_prepared_networks_are_channels_last():
    network = Compute(CPU, bf16=False, compile=False, threads=1).prepare(nn.Conv2d(3, 8, 3))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


def test_freed_memory_is_kept_within_the_limits_of_the_c_library(monkeypatch):
    def calls_with(largest):
        calls = []
        library = type("libc", (), {"mallopt": lambda _, what, value: calls.append((what, value)) or value <= largest})
        monkeypatch.setattr("ctypes.CDLL", lambda _: library())
        keep_freed_memory()
        return calls

    trim = (-1, 2**31 - 1)
    assert calls_with(2**31) == [(-3, 2**30), trim]
    assert calls_with(2**25) == [(-3, 2**30), (-3, 2**25), trim]  # glibc before 2.35


def test_what_an_earlier_run_has_freed_is_returned(monkeypatch):
    kept = []
    monkeypatch.setattr("ctypes.CDLL", lambda _: type("libc", (), {"malloc_trim": lambda _, pad: kept.append(pad)})())
    return_freed_memory()
    assert kept == [0]  # bytes that it may keep


def test_another_c_library_keeps_its_ways(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_freed_memory()
    return_freed_memory()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compilation for a CPU needs g++")
def test_a_compiled_network_computes_the_same_and_saves_alike():
    torch.manual_seed(0)
    eager = models.build("preactResNet18", 3, width=0.05)
    eager.blocks = nn.Sequential(*(eager.blocks[k] for k in (0, 1, 2, 4, 6)))  # 3, 5 and 7 are built like 1
    compiled = Compute(CPU, bf16=False, compile=True, threads=1).prepare(copy.deepcopy(eager))
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    images = torch.randn(8, 3, 16, 16)
    for network in (eager, compiled):
        network(images).square().mean().backward()
    for ours, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    with torch.inference_mode():
        for ours, theirs in zip(*(net.eval()(images, return_features=True) for net in (compiled, eager)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)

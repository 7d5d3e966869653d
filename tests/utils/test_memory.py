"""What memory is left, of the machine, of a container and of a limited process."""

import resource

import pytest
import torch

from utils import memory
from utils.compute import Compute
from utils.memory import free_memory

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max", 3000 * 1024), ("5000000", 3000 * 1024), ("2000000", 976_000), ("900000", 0), (None, 3000 * 1024)],
)
def test_free_memory_is_that_of_the_machine_or_what_a_container_leaves_of_it(tmp_path, monkeypatch, limit, free):
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:   3000 kB\n")
    if limit is not None:
        (tmp_path / "limit").write_text(f"{limit}\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", [tmp_path / "limit"])
    (tmp_path / "status").write_text("VmHWM:\t 2000 kB\nVmRSS:\t 1000 kB\n")  # what was freed is free
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert free_memory(CPU) == free
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    if limit in (None, "max"):
        assert free_memory(CPU) is None


def test_a_container_is_shared_before_what_each_process_holds_is_taken_off(tmp_path, monkeypatch):
    (tmp_path / "limit").write_text("8000000\n")
    (tmp_path / "status").write_text("VmRSS:\t 1000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", [tmp_path / "limit"])
    monkeypatch.setattr(memory.launch, "processes_here", lambda: 4)
    assert free_memory(CPU) == 2_000_000 - 1000 * 1024


@pytest.mark.parametrize(("name", "entry"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_free_memory_is_what_ulimit_leaves_of_it(tmp_path, monkeypatch, name, entry):
    (tmp_path / "status").write_text(f"Name:\tpython3\n{entry}:\t  300 kB\n")
    limits = {getattr(resource, name): 1000 * 1024}
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", [])
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits.get(which, unlimited), unlimited))
    assert free_memory(CPU) == 700 * 1024
    limits.clear()
    assert free_memory(CPU) is None

"""Ways to torchvision: its modules, imported late and refused in one line; downloads that do not hang."""

from __future__ import annotations

import contextlib
import importlib
import socket
from collections.abc import Iterator
from types import ModuleType

from utils.errors import UserError

DOWNLOAD_TIMEOUT = 30  # seconds without an answer: a firewall that swallows packets must not hang the run


def import_torchvision(part: str) -> ModuleType:
    """torchvision.PART. Raises UserError where torchvision is missing or does not fit the torch beside it."""
    # A torch and a torchvision from different builds fail at this import, in several ways: ImportError, RuntimeError
    # "operator torchvision::nms does not exist", OSError on a missing symbol.
    try:
        importlib.import_module("torchvision")
        return importlib.import_module(f"torchvision.{part}")
    except Exception as error:
        raise UserError(
            f"torchvision is missing, or torch and torchvision come from different builds ({error})",
            "reinstall both together with `pip install -r requirements.txt`",
        ) from error


@contextlib.contextmanager
def download_timeout() -> Iterator[None]:
    """Around a download: it fails after DOWNLOAD_TIMEOUT seconds without an answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

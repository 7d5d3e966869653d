#!/usr/bin/env python3
"""Run a script without what Linux alone has, and with what Windows refuses. It stands in for a machine with Windows.

python3 -m tests.not_linux main.py --epoch_1st 3

Hidden: modules and functions of Unix, the signals that Windows lacks, /proc and /sys, the blocks of a file. Refused: to
rename or remove a file that this process has open or mapped, to replace a folder. Text is cp1252 where nothing else is
asked for. Without fcntl filelock takes the existence of a file for the lock, as it never does on Windows itself.
Figures stay empty.
"""

import builtins
import contextlib
import errno
import io
import os
import pathlib
import runpy
import signal
import sys
from types import SimpleNamespace

from tests.tiny import without_pixels

MODULES = ("fcntl", "resource", "pwd", "grp", "termios")
FUNCTIONS = ("getuid", "geteuid", "getgid", "sched_getaffinity", "sched_setaffinity", "posix_fallocate", "getloadavg")
SIGNALS = ("SIGKILL", "SIGSTOP", "SIGCONT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT")
HIDDEN_FOLDERS = ("/proc/", "/sys/")
MISSING_OF_A_FILE = ("st_blocks", "st_blksize", "st_rdev")

real = SimpleNamespace(
    open=builtins.open, replace=os.replace, rename=os.rename, unlink=os.unlink, stat=pathlib.Path.stat
)


def in_use(path) -> bool:
    """Whether this process has a file open or mapped."""
    path = os.path.realpath(path)
    with real.open("/proc/self/maps") as maps:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if line.count("/")}
    opened = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            opened.add(os.readlink(f"/proc/self/fd/{number}"))
    return os.fspath(path) in mapped | opened


def refuse(path) -> None:
    raise PermissionError(errno.EACCES, "refused as by Windows", os.fspath(path))


def moving(move):
    def moved(source, target, **options):
        for path in (source, target):
            if in_use(path):
                refuse(path)
        if os.path.isdir(target):
            refuse(target)
        move(source, target, **options)

    return moved


def unlink(path, *, dir_fd=None):
    if dir_fd is None and in_use(path):
        refuse(path)
    real.unlink(path, dir_fd=dir_fd)


def opened(file, mode="r", buffering=-1, encoding=None, *more, **options):
    if not isinstance(file, int) and os.fsdecode(file).startswith(HIDDEN_FOLDERS):
        raise FileNotFoundError(errno.ENOENT, "hidden", file)
    if "b" not in mode and encoding in (None, "locale"):
        encoding = "cp1252"
    return real.open(file, mode, buffering, encoding, *more, **options)


def stat(path, **options):
    found = real.stat(path, **options)
    names = [name for name in dir(found) if name.startswith("st_") and name not in MISSING_OF_A_FILE]
    return SimpleNamespace(**{name: getattr(found, name) for name in names})


def hide() -> None:
    sys.modules.update(dict.fromkeys(MODULES))  # None: importing it is an ImportError
    for name in FUNCTIONS:
        delattr(os, name)
    for name in SIGNALS:
        delattr(signal, name)
    builtins.open = io.open = opened
    os.replace, os.rename = moving(real.replace), moving(real.rename)
    os.unlink = os.remove = unlink
    pathlib.Path.stat = stat


if __name__ == "__main__":
    hide()
    sys.argv = sys.argv[1:]
    with without_pixels():
        runpy.run_path(sys.argv[0], run_name="__main__")

"""run.json: what ran in an experiment folder, on what, how long, its figures, and which files are its own."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import platform
import re
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.experiments.artifacts import digest, load_array, require_kinds, save_array
from utils.experiments.format import FORMAT, KEY, OtherVersion, require_format
from utils.files import write_atomically

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
KINDS = {
    "script": str, "method": str, "command": str, "status": str, "settings": dict, "data": dict | None,
    "seconds": dict, "figures": dict,
}  # fmt: skip
LATER_KINDS = {
    "given": dict,
    "digests": dict,
    "files": list,
    "versions": dict,
    "finish_number": int,
    "sources": dict,
}  # that early records lack
SAME_DATA = "use the same data, --image_size, noise and seed (or --noise_seed) for both"
OF_SOURCE = {"experiment": str, "settings": dict}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib")
UNLISTED_FILES = (  # of runs whose record does not list its files yet: what they could leave beside arrays with digests
    "history.csv", "suspects.csv", "log.txt", "stage1.pt", "model.pt", "oracle_best_auc_model.pt", "stage1.png",
    "forgetting.png", "tracking.png", "accuracy.png", "accuracy_run1.png", "scores.png", "scores_run2.png", "roc.png",
    "transition.png",
)  # fmt: skip


class Record:
    """The entries of one run.json. A run's own record is written to; those of other runs are only read.

    `path` is the experiment folder. Entries: script, method, command, settings (every resolved flag), given (the flags
    that were asked for, as they were), data (the fingerprint, None until the inputs were found good), seconds (of each
    phase), figures, digests (of the arrays by name), files (what the run wrote), versions, started, and "status":
    "running" or, last of all, "finished". ssl.py adds sources: name and settings of each experiment that it read, by
    the method's key.
    """

    def __init__(self, path: Path, entries: dict[str, Any]) -> None:
        self.path, self.entries = path, entries

    @classmethod
    def new(cls, path: Path, script: str, method: str, settings: dict[str, Any], given: dict[str, Any]) -> Record:
        """Of a run that begins now, with the command line that this process was given; not written yet."""
        return cls(path, {
            "script": script,
            "method": method,
            "command": typed_command(script),
            "status": "running",
            "settings": settings,
            "given": given,
            "data": None,
            "seconds": {},
            "figures": {},
            "digests": {},
            "files": [],
            "versions": versions(),
            "started": now(),
        })  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Record:
        """Of an experiment folder. Raises UserError where it is missing, damaged, or of a later format."""
        remedy = "remove the folder or run with --overwrite"
        try:
            entries = read_entries(path / "run.json")
            require_format(entries.get(KEY, 0), path / "run.json", remedy)
            require_kinds(entries, KINDS | {key: kind for key, kind in LATER_KINDS.items() if key in entries})
            if not all(isinstance(seconds, int | float) for seconds in entries["seconds"].values()):
                raise ValueError("its seconds are no numbers")
            names = [*entries.get("files", []), *entries.get("digests", {})]
            if not all(isinstance(name, str) and Path(name).name == name for name in names):
                raise ValueError("its files are not all names of files")  # they are removed by --overwrite
            for source in entries.get("sources", {}).values():
                require_kinds(source, OF_SOURCE)
            return cls(path, entries)
        except FileNotFoundError:
            raise UserError(
                f"{path} is no experiment folder (no run.json)", f"check the name and --experiments_root{others(path)}"
            ) from None
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise UserError(f"{path / 'run.json'} is damaged ({error})", remedy) from error

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.entries.get(key, default)

    @property
    def finished(self) -> bool:
        return self["status"] == "finished"

    def update(self, **entries: Any) -> None:
        self.entries |= entries
        self.write()

    def write(self) -> None:
        self.entries[KEY] = FORMAT
        text = json.dumps(self.entries, indent=1, default=float) + "\n"
        write_atomically(self.path / "run.json", lambda handle: handle.write(text.encode()))

    # -- files ------------------------------------------------------------------------------------------------------

    def own(self, name: str) -> Path:
        """The path of a file that this run is about to write; from now on the record counts it as its own."""
        if name not in self["files"]:
            self["files"].append(name)
            self.write()
        return self.path / name

    def own_files(self) -> list[Path]:
        """The files there are of those that the run wrote, run.json apart."""
        names = self.get("files")
        if names is None:
            names = [*UNLISTED_FILES, *(f"{name}.npy" for name in self.get("digests", {}))]
        names = [*names, *(f"{name}.part" for name in names if name.endswith(".npy"))]
        return [self.path / name for name in names if os.path.isfile(self.path / name)]  # no name is too long for it

    def save_array(self, name: str, array: np.ndarray) -> None:
        """`name`.npy, with its digest."""
        path = self.own(f"{name}.npy")
        self.entries.setdefault("digests", {})[name] = digest(array)
        save_array(path, array)

    def wrote(self, name: str) -> bool:
        """Whether the run wrote `name`.npy."""
        if "digests" in self.entries:
            return name in self["digests"]
        return (self.path / f"{name}.npy").exists()  # an early record

    def holds(self, name: str) -> bool:
        """Whether the run wrote `name`.npy and it is still there."""
        return self.wrote(name) and (self.path / f"{name}.npy").exists()

    def read_array(self, name: str, mapped: bool = False) -> np.ndarray:
        """`name`.npy, `mapped`: left on the disk. Raises UserError where it is missing or not what the run wrote."""
        file = self.path / f"{name}.npy"
        array = load_array(file, mapped)
        if self.get("digests", {}).get(name) not in (None, digest(array)):
            raise UserError(
                f"{file} is not what {self['script']} wrote there: it is damaged or was changed",
                "run that experiment again with --overwrite, or give ssl.py your own scores with --scores FILE",
            )
        return array


def command_again(record: Record) -> str:
    """What makes the experiment of `record` anew, whatever other ones its command made."""
    if record.get("given") is None:  # an early record
        return f"python3 {record['command']} --overwrite"
    words = [record["script"], "--settings", str(record.path / "run.json"), "--experiment_name", record.path.name]
    root = [] if record.path.parent == Path("experiments") else ["--experiments_root", str(record.path.parent)]
    return shlex.join(["python3", *words, *root, "--overwrite"])


def typed_command(script: str) -> str:
    """What this process was given on its command line, to go on with."""
    return shlex.join([script, *without_overwriting(sys.argv[1:])])


def without_overwriting(words: list[str]) -> list[str]:
    """A command line without --overwrite or --repeat, which means the same and may have a value."""
    kept = []
    for before, word in zip(["", *words], words, strict=False):
        name = word.partition("=")[0]
        value = before == "--repeat" and word.lower() in ("true", "false")
        if name not in ("--overwrite", "--repeat") and not value:
            kept.append(word)
    return kept


def experiment_path(root: str | os.PathLike, name: str) -> Path:
    """The folder of an experiment. Raises UserError for a name that is not one plain path component."""
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f"experiment name {name!r} is not usable",
            "take letters, digits, '.', '_' and '-', not starting with a dot",
        )
    return Path(root) / name


def others(path: Path) -> str:
    """The experiments that may be meant where there is none at `path`, to be added to a sentence."""
    names = sorted(file.parent.name for file in path.parent.glob("*/run.json"))
    if close := difflib.get_close_matches(path.name, names):
        return f"; nearest: {', '.join(close)}"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"; there are {', '.join(names[:5])}{more}" if names else ""


def read_finished(root: str | os.PathLike, name: str) -> Record:
    """The record of a finished experiment. Raises UserError for any other."""
    record = Record.read(experiment_path(root, name))
    if record["data"] is None and record.finished:
        raise UserError(f"{record.path / 'run.json'} is damaged (it lacks its data)", "run it again with --overwrite")
    if not record.finished:
        raise UserError(f"{record.path} is not finished", f"finish it first: python3 {record['command']}")
    return record


def finished_named(given: str, root: str | os.PathLike) -> Record:
    """The record of a finished experiment, by its name under `root` or by its folder. Raises UserError."""
    path = Path(given)
    return read_finished(root, given) if len(path.parts) < 2 else read_finished(path.parent, path.name)


def finished_records(root: Path) -> list[Record]:
    """Those of the finished experiments under `root`. Damaged ones are passed over, those of other versions aloud."""
    found = []
    for file in sorted(Path(root).glob("*/run.json")):
        try:
            found.append(Record.read(file.parent))
        except OtherVersion as error:
            print(f"passed over: {error.what}", file=sys.stderr)
        except UserError:
            pass
    return [record for record in found if record.finished]


def read_entries(file: Path) -> Any:
    """Of a run.json, as they stand there. Raises OSError, and ValueError or RecursionError where it is damaged."""
    entries = json.loads(file.read_text(encoding="utf-8"), parse_int=_whole_number)
    json.dumps(entries, ensure_ascii=False).encode("utf-8", "surrogateescape")  # a ValueError: names no file
    return entries


def _whole_number(digits: str) -> int:
    if abs(number := int(digits)) >= 2**63:
        raise ValueError("a whole number is beyond all bounds")  # some are too large for a float
    return number


def next_finish_number(root: Path) -> int:
    """One more than that of any run under `root`, of whatever version: the newest has the highest number."""
    numbers = [0]
    for file in root.glob("*/run.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):  # damaged
            number = read_entries(file).get("finish_number")
            numbers += [number] if type(number) is int else []
    return 1 + max(numbers)


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What differs between two sets of entries, "" for nothing; entries of entries are compared one by one."""
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(key), theirs.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            found += [differences(here, there)] if here != there else []
        elif here != there:
            found.append(f"{key} {in_words(there)} there, {in_words(here)} here")
    return "; ".join(found)


def in_words(value: Any) -> str:
    return "none" if value is None else repr(value)


def require_same_data(ours: dict, theirs: dict, name: str) -> None:
    """Raises UserError naming what differs between two data fingerprints, the other one of experiment `name`."""
    if differing := differences(ours, theirs):
        raise UserError(f"{name} judged other data: {differing}", SAME_DATA)


def versions(*more: str) -> dict[str, str]:
    """Those of Python and of the packages that figures depend on."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

#!/usr/bin/env python3
"""Cut the power at every moment of a run: rebuild what a disk could hold then, look at it, and start the script again.

python3 -m tests.write_replay                                  all cases, some restarts of each; exit status 1 on faults
python3 -m tests.write_replay --cases export "main.py" --restarts 20 --seed 5

Bytes that were not flushed may be there, be missing or be torn, and so may each name made, renamed or removed since its
folder was flushed. On every such disk a record must be readable, a checkpoint whole, a finished run complete. On a
sample of them the script is started again, and must end with the bytes of the undisturbed run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.kill_and_resume import differing
from tests.processes import Script
from tests.tiny import TINY, TINY_ARGS
from utils.errors import UserError
from utils.experiments.artifacts import digest, load_array
from utils.experiments.checkpoints import Checkpoints
from utils.experiments.record import Record

MIXED = 3  # disks at every moment that kept some of what was not flushed, beside the four that kept all or nothing
UNFLUSHED = {"log.txt", ".lock"}  # that may be lost


@dataclass(frozen=True)
class Case:
    """A command below a root, after `before`, which is killed when the file `kill_at` appears ("" = not)."""

    words: list[str]
    before: list[str] = field(default_factory=list)
    kill_at: str = ""
    folder: str = "run"  # what must be whole
    restart: list[str] | None = None  # where it is not the same again


def of(script: str, *more: str) -> list[str]:
    return [script, *TINY_ARGS[script], "--experiments_root", "{root}", "--experiment_name", "run", *more]


OF_FOLDER = [
    "parallel.py",
    "--first_stage_data_name",
    "folder",
    "--train_root",
    "{root}/pictures",
    "--image_size",
    "16",
]
OF_FOLDER += [*TINY, "--epoch_1st", "2", "--experiments_root", "{root}", "--experiment_name", "run"]
OTHER_SEED = of("relabel.py", "--seed", "2")
CASES = {
    "checkpoints": Case(["tests.write_replay_sample", "{root}"]),  # a track and three checkpoints, without a training
    "main.py": Case(of("main.py", "--checkpoint_every", "2")),
    "relabel.py": Case(of("relabel.py")),
    "ssl.py": Case(of("ssl.py", "--scores", "{root}/scores.npy")),
    "folder": Case(OF_FOLDER),
    "resumed": Case(of("main.py"), before=of("main.py"), kill_at="loss_track.npy"),  # which is taken back
    "overwrite": Case(of("relabel.py", "--overwrite"), OTHER_SEED, "warm_up.pt", restart=of("relabel.py")),
    "export": Case(
        ["utils.export", "run", "--experiments_root", "{root}", "--p_noisy", "1", "--suspects", "drop", "--copy"]
        + ["--to", "{root}/clean"],
        before=OF_FOLDER,
        folder="clean",
    ),
}


# -- recording ---------------------------------------------------------------------------------------------------------


def record(case: Case, root: Path, trace: Path) -> list[dict]:
    """The moments of a case, whose root is left as it ends."""
    np.save(root / "scores.npy", np.random.default_rng(0).random(455))
    generator = np.random.default_rng(0)
    for k in range(12):
        file = root / "pictures" / ("blue", "red")[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(file)
    if case.before:
        run(case.before, root, trace, case.kill_at)
    run(case.words, root, trace, "")
    return [json.loads(line) for line in (trace / "moments.jsonl").read_text().splitlines()]


def run(words: list[str], root: Path, trace: Path, kill_at: str) -> None:
    process = Script(["tests/recorded_writes.py", str(root), str(trace), kill_at, *filled(words, root)])
    _, errors = process.communicate()
    if process.returncode != (-9 if kill_at else 0):
        raise SystemExit(f"exit status {process.returncode}: {errors}")


def filled(words: list[str], root: Path) -> list[str]:
    return [word.replace("{root}", str(root)) for word in words]


# -- what a disk could hold --------------------------------------------------------------------------------------------

Tree = dict[str, str | None]  # {path: digest of its bytes; None = a folder}


@dataclass
class Disk:
    """What is known to be on it, and what may be, at one moment."""

    trace: Path
    names: dict[str, dict[str, int]] = field(default_factory=dict)  # of folders: flushed
    changes: dict[str, list[tuple]] = field(default_factory=dict)  # of folders: since
    bytes: dict[str, str] = field(default_factory=dict)  # of files: flushed
    now: dict = field(default_factory=dict)  # the moment, as the system sees it

    def advance(self, moment: dict) -> None:
        for folder, names in moment["names"].items():
            if not self.now:  # what was there at the start is on the disk
                self.names[folder] = dict(names)
            changes = self.changes.setdefault(folder, [])
            changes += changes_between(self.now.get("names", {}).get(folder, {}) if self.now else names, names)
            self.names.setdefault(folder, {})
        if not self.now:
            self.bytes |= moment["bytes"]
        self.now = moment
        for one in (*moment["names"], *moment["bytes"]):
            if moment["flushed"] in ("all", int(one)):
                if one in moment["names"]:
                    self.names[one], self.changes[one] = dict(moment["names"][one]), []
                else:
                    self.bytes[one] = moment["bytes"][one]

    def possible(self, chance: random.Random) -> Iterator[Tree]:
        """Trees that it may hold after a power cut now."""
        for names, content in ((0, 0), (1, 0), (0, 1), (1, 1)):
            yield self.tree(lambda share=names: share, lambda share=content: ("old", "new")[share])
        for _ in range(MIXED):
            yield self.tree(lambda: chance.random() < 0.5, lambda: chance.choice(["old", "new", "torn", "cut"]))

    def tree(self, happened, kept) -> Tree:
        """`happened()`: whether a change of names did; `kept()`: what there is of unflushed bytes."""
        found: Tree = {}
        folders = [("", "0")]
        contents: dict[str, str] = {}
        while folders:
            path, folder = folders.pop()
            names = dict(self.names[folder])
            for old, new, one in self.changes[folder]:
                if happened():
                    names.pop(old, None)
                    if new is not None:
                        names[new] = one
            for name, one in names.items():
                below = f"{path}{name}"
                if str(one) in self.names:
                    found[below] = None
                    folders.append((f"{below}/", str(one)))
                else:
                    if str(one) not in contents:
                        contents[str(one)] = self.content(str(one), kept())
                    found[below] = contents[str(one)]
        return found

    def content(self, one: str, kept: str) -> str:
        """The digest of what is left of a file."""
        old = self.bytes.get(one) or self.keep(b"")
        new = self.now["bytes"].get(one, old)  # of a removed one that is there again: what was flushed
        if old == new or kept in ("old", "new"):
            return new if kept == "new" else old
        a, b = ((self.trace / of).read_bytes() for of in (old, new))
        half = len(b) // 2
        if kept == "cut":  # where it grew: bytes that are overwritten in their place shorten no file
            return self.keep(b[:half] + a[half : len(b)])
        return self.keep(b[:half] + a[half:].ljust(len(b) - half, b"\0"))

    def keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()[:24]
        (self.trace / digest).write_bytes(content)
        return digest


def changes_between(before: dict[str, int], after: dict[str, int]) -> list[tuple]:
    """(name that goes or None, name that comes or None, id) of each change in a folder, in an order they can have."""
    came = {name: one for name, one in after.items() if before.get(name) != one}
    found = []
    for name, one in before.items():
        if name in after and name not in came:
            continue
        new = next((other for other, same in came.items() if same == one), None)
        if new is not None:
            del came[new]
        if new is not None or name not in after:
            found.append((name, new, one))
    return found + [(None, name, one) for name, one in came.items()]


def build(tree: Tree, trace: Path, root: Path) -> None:
    for path, content in sorted(tree.items()):
        if content is None:
            (root / path).mkdir(exist_ok=True)
        else:
            shutil.copyfile(trace / content, root / path)


# -- what must hold ----------------------------------------------------------------------------------------------------


def fault(root: Path, final: Path, case: Case) -> str | None:
    """What is wrong with a disk, of which the undisturbed run is `final`; None = nothing."""
    folder = root / case.folder
    if case.folder != "run":  # appears whole or not at all
        return None if not folder.exists() else missing_or_other(folder, final / case.folder)
    if not (folder / "run.json").exists():
        return None  # it starts anew
    try:
        record = Record.read(folder)
        if record["command"] != Record.read(final / "run")["command"]:
            return None  # of the run before
        if record.finished:
            return missing_or_other(folder, final / "run")
        _, damaged = Checkpoints(folder).load()
        if damaged is not None:
            return damaged
        for name, known in record.get("digests", {}).items():
            file = folder / f"{name}.npy"
            if not file.exists() and not (folder / f"{name}.npy.part").exists():
                return f"{name}.npy is recorded and gone"
            if file.exists() and digest(load_array(file)) != known:
                return f"{name}.npy is not what was recorded"
    except UserError as error:
        return str(error)
    return None


def missing_or_other(folder: Path, final: Path) -> str | None:
    for file in sorted(final.rglob("*")):
        same = folder / file.relative_to(final)
        if file.is_dir() or file.name in UNFLUSHED:
            continue
        if not same.exists():
            return f"finished, and {file.name} is gone"
        if same.read_bytes() != file.read_bytes():
            return f"finished, and {file.name} is not whole"
    return None


def restarted(root: Path, final: Path, case: Case) -> tuple[str, str | None]:
    """("same", "refused" or "fault", what is wrong) after the command was typed again."""
    words = case.restart or case.words
    process = Script([*(["-m"] if not words[0].endswith(".py") else []), *filled(words, root)])
    _, said = process.communicate()
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if process.returncode == 2 and len(errors) == 1:
        foreseen = "holds a run with other settings" in errors[0] if case.before else False
        return ("refused", None) if foreseen or case.folder != "run" else ("fault", errors[0])
    if process.returncode:
        return "fault", said[-1000:]
    if case.folder != "run":
        return (
            ("same", None) if missing_or_other(root / case.folder, final / case.folder) is None else ("fault", "other")
        )
    return ("fault", ", ".join(different)) if (different := differing(final / "run", root / "run")) else ("same", None)


def replay(name: str, restarts: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """({what: how many}, faults) of a case."""
    case, chance, faults = CASES[name], random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        root, final, trace = (Path(place) / folder for folder in ("root", "final", "trace"))
        root.mkdir()
        trace.mkdir()
        moments = record(case, root, trace)
        shutil.move(root, final)  # the disks stand where the run stood, which its settings name
        disk, seen, trees = Disk(trace), set(), []
        for number, moment in enumerate(moments):
            disk.advance(moment)
            for tree in disk.possible(chance):
                if (key := hash(frozenset(tree.items()))) not in seen:
                    seen.add(key)
                    trees.append((number, tree))
        whole = disk.tree(lambda: True, lambda: "new")
        if (lost := whole_as(final, trace, whole)) is not None:
            raise SystemExit(f"{name}: the trace does not lead to what is there: {lost}")
        # Once the script has ended nothing may be lost, whatever was flushed last.
        ends = [tree for number, tree in trees if number == len(moments) - 1] or [trees[-1][1]]
        sample = {id(tree) for _, tree in chance.sample(trees, min(restarts, len(trees)))}
        counts = {"moments": len(moments), "disks": len(trees), "restarts": 0, "same bytes": 0, "refused": 0}
        for number, tree in trees:
            root.mkdir()
            build(tree, trace, root)
            at = f"{name}, moment {number} of {len(moments)}"
            wrong = fault(root, final, case)
            if wrong is None and any(tree is one for one in ends):
                wrong = missing_or_other(root / case.folder, final / case.folder)
            if wrong is not None:
                faults.append(f"{at}: {wrong.replace(str(root), '')}")
            elif id(tree) in sample:
                shutil.rmtree(root)
                root.mkdir()
                build(tree, trace, root)  # the look at it may have tidied up
                result, wrong = restarted(root, final, case)
                counts["restarts"] += 1
                counts["same bytes"] += result == "same"
                counts["refused"] += result == "refused"
                if result == "fault":
                    faults.append(f"{at}, started again: {wrong}")
            shutil.rmtree(root)
    return counts, faults


def whole_as(final: Path, trace: Path, tree: Tree) -> str | None:
    """The first path that differs between a folder and the tree that the whole trace leads to."""
    there = {str(path.relative_to(final)): None if path.is_dir() else path.read_bytes() for path in final.rglob("*")}
    traced = {path: None if content is None else (trace / content).read_bytes() for path, content in tree.items()}
    return next((path for path in sorted(there | traced) if there.get(path, 0) != traced.get(path, 0)), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--restarts", type=int, default=8, help="of each case, on disks drawn at random")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    print(f"{'case':<14}  moments   disks  restarts  same bytes  refused  faults  seconds")
    failed = []
    for name in args.cases:
        start = time.monotonic()
        counts, faults = replay(name, args.restarts, args.seed)
        failed += faults
        columns = zip(counts.values(), (9, 8, 10, 12, 9), strict=True)
        row = "".join(f"{count:>{width}}" for count, width in columns)
        print(f"{name:<14}{row}{len(faults):>8}{time.monotonic() - start:>9.1f}", flush=True)
    for line in failed[:20]:
        print(line)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Kill the scripts, half of the time just when they write, start them again until they finish, and compare all bytes.

They come out of a process that has imported torch once (tests/processes.py), and their figures stay empty: of a kill
during these seconds nothing is learnt.

python3 -m tests.kill_and_resume --kills 25        25 kills over the cases; exit status 1 on any difference
python3 -m tests.kill_and_resume --kills 0 --log kills.txt
                                                   until Ctrl-C or SIGTERM, with a table every --every kills
"""

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import Script
from tests.tiny import ROOT, TINY, TINY_ARGS

Process = Script | subprocess.Popen
BACKBONE = "shufflenet_v2_x0_5"  # the smallest
FOLDER = ["--first_stage_data_name", "folder", "--train_root", "{root}/pictures-{name}"]
SPLIT = ["--scores", "{root}/scores.npy", "--double_run", "--swa", "--swa_start", "1", "--labeled_batch_size", "20"]
MORE = {  # what else has a state of its own; "SCRIPT-WAY" is another way of a script
    "main.py": [
        *("--checkpoint_every", "2", "--save_best_AUC_model"),
        *("--freeze_earlySecondStage", "--unfreeze_secondStage", "2"),
    ],
    "ssl.py": [*SPLIT, "--epoch_begin", "2"],
    "main.py-auto": ["--checkpoint_every", "2", "--track_every", "auto", "--lr_2nd", "0.001"],
    "relabel.py-prediction": ["--relabel_by", "prediction"],
    "relabel.py-passes": ["--track_from", "passes"],
    "relabel.py-seeds": ["--seeds", "1", "2"],
    "ssl.py-posterior": ["--runs", "2", "--relabel", "relabel.py-calm"],  # that of the undisturbed run
    "main.py-first_stage": ["--checkpoint_every", "2", "--first_stage_from", "main.py-calm"],
}
WHOLE = {  # with none of a script's TINY_ARGS
    "parallel.py-folder": [*FOLDER, *TINY, "--image_size", "16", "--epoch_1st", "2"],
    "parallel.py-features": [
        *FOLDER,
        *("--features", BACKBONE, "--weights", "{root}/weights.pt", "--cuda_dev", "-1", "--precision", "fp32"),
        *("--eval_batch_size", "6", "--threads", "1"),
    ],
}
CASES = tuple(dict.fromkeys((*TINY_ARGS, *MORE, *WHOLE)))
NEEDED = {"ssl.py-posterior": "relabel.py", "main.py-first_stage": "main.py"}  # whose undisturbed run they read
IN_A_LIFE = 4  # kills of one run at most, before it may finish
SOON = 0.02  # seconds after something was written
POLL = 0.004  # seconds; looking takes one


# -- runs --------------------------------------------------------------------------------------------------------------


def command(case: str, root: Path, name: str) -> list[str]:
    script = case.partition("-")[0]
    flags = WHOLE[case] if case in WHOLE else [*TINY_ARGS[script], *MORE.get(case, [])]
    flags = [flag.replace("{root}", str(root)).replace("{name}", name) for flag in flags]
    return [sys.executable, str(ROOT / script), *flags, "--experiments_root", str(root), "--experiment_name", name]


def start(case: str, root: Path, name: str, ranks: int = 1) -> Process:
    """In a session of its own: Ctrl-C is for this program. `ranks`: processes that torchrun starts."""
    words, quiet = command(case, root, name), subprocess.DEVNULL
    if ranks == 1:
        return Script(words[1:])
    words[:1] = [str(Path(sys.executable).with_name("torchrun")), "--nproc_per_node", str(ranks)]
    return subprocess.Popen(words, stdout=quiet, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: Process) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {errors}")


@contextlib.contextmanager
def killed_at_the_end(process: Process) -> Iterator[Process]:
    """Whatever happens meanwhile, no process is left behind."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if isinstance(process, subprocess.Popen):
            process.stderr.close()


def inputs(root: Path) -> None:
    """Scores, weights, and for the folders of every case that has one pictures of two colours."""
    import numpy as np
    import torch
    import torchvision
    from PIL import Image

    np.save(root / "scores.npy", np.random.default_rng(0).random(455))
    torch.manual_seed(0)
    network = torchvision.models.get_model(BACKBONE, num_classes=2)
    network.train()(torch.rand(8, 3, 64, 64))  # batch norm knows the size of what it sees
    torch.save(network.state_dict(), root / "weights.pt")
    generator = np.random.default_rng(0)
    for k in range(60):
        pixels = generator.integers(0, 60, (200, 260, 3), dtype=np.uint8)
        pixels[..., 2 - 2 * (k % 2)] += 150
        for name in (f"{case}-{kind}" for case in WHOLE for kind in ("calm", "killed")):
            file = root / f"pictures-{name}" / ("blue", "red")[k % 2] / f"{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)


def folders(root: Path, name: str) -> list[Path]:
    """Where a run writes: its experiment, those of its seeds, its cache of images."""
    return [root / name, *sorted(root.glob(f"{name}_[0-9]*")), root / f"pictures-{name}" / ".cache"]


class Watch:
    """Counts what appears in the folders of a run: new files, and old names of new ones."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.count, self.seen = 0, self._look()

    def _look(self) -> set[tuple[str, int]]:
        found = set()
        for folder in folders(self.root, self.name):
            with contextlib.suppress(OSError):  # not yet there
                for file in folder.iterdir():
                    with contextlib.suppress(OSError):  # gone meanwhile
                        found.add((file.name, file.stat().st_ino))
        return found

    def wait(self, process: Process, count: int) -> None:
        """Until so many have appeared, or the process has ended."""
        while self.count < count and process.poll() is None:
            time.sleep(POLL)
            now = self._look()
            self.count, self.seen = self.count + len(now - self.seen), now


@dataclass
class Calm:
    """How an undisturbed run went, from its first file on."""

    seconds: float
    files: int  # that were seen to appear


def undisturbed(case: str, root: Path, ranks: int = 1) -> Calm:
    name = f"{case}-calm"
    with killed_at_the_end(start(case, root, name, ranks)) as process:
        watch = Watch(root, name)
        watch.wait(process, 1)
        begun = time.monotonic()
        watch.wait(process, sys.maxsize)
        finish(process)
    return Calm(time.monotonic() - begun, watch.count)


def kill(case: str, root: Path, calm: Calm, part: float, chance: random.Random) -> bool:
    """Go on with a run and kill it, half of the time soon after a file has appeared; whether it was still running.

    `part`: of an undisturbed run's work, within which it happens.
    """
    name = f"{case}-killed"
    if chance.random() < 0.5:  # so that the next process decodes anew
        shutil.rmtree(root / f"pictures-{name}" / ".cache", ignore_errors=True)
    watch = Watch(root, name)
    with killed_at_the_end(start(case, root, name)) as process:
        if chance.random() < 0.5:
            watch.wait(process, chance.randint(1, max(1, round(part * calm.files))))
            time.sleep(chance.uniform(0, SOON))
        else:
            watch.wait(process, 1)
            time.sleep(chance.uniform(0, part * calm.seconds))
        return process.poll() is None


def differences(case: str, root: Path) -> list[str]:
    calm, killed = (folders(root, f"{case}-{kind}")[:-1] for kind in ("calm", "killed"))
    if len(calm) != len(killed):
        return [f"{case}: {len(killed)} experiments, not {len(calm)}"]
    assert any(any(folder.glob("*.npy")) for folder in calm), f"{case}: nothing to compare"
    return [f"{case}: {name}" for pair in zip(calm, killed, strict=True) for name in differing(*pair)]


def differing(calm: Path, other: Path) -> list[str]:
    """Every array, weight and table that is not byte for byte the undisturbed run's, or that only one of the two has.

    With what an unfinished run leaves: parts of files, and temporary ones.
    """

    def held(folder: Path) -> dict[str, bytes]:
        patterns = ("*.npy", "*.pt", "*.csv", "*.part", ".*.tmp")
        return {file.name: file.read_bytes() for pattern in patterns for file in folder.glob(pattern)}

    one, two = held(calm), held(other)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def life(case: str, root: Path, kills: int, calm: Calm, chance: random.Random) -> tuple[int, int, list[str]]:
    """A run from its beginning to its end, killed so often at most; (kills, which met it running, what differs)."""
    part = min(1.0, 1.5 / max(kills, 1))  # of its work, so that some is left to the kills after this one
    tried = met = 0
    while tried == met < kills:  # one that has ended is not killed again
        tried += 1
        met += kill(case, root, calm, part, chance)
    try:
        with killed_at_the_end(start(case, root, f"{case}-killed")) as process:
            finish(process)
        different = differences(case, root)
    except SystemExit as error:
        different = [f"{case}: {error}"]
    for folder in folders(root, f"{case}-killed"):
        if folder.exists():
            shutil.move(folder, root / f"{folder.name}-{time.time_ns()}") if different else shutil.rmtree(folder)
    return tried, met, different


# -- all of them -------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What has happened so far, by case."""

    kills: Counter = field(default_factory=Counter)
    met: Counter = field(default_factory=Counter)
    lives: Counter = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"{'case':<24}{'kills':>8}{'met':>8}{'runs compared':>15}"]
        counts = (self.kills, self.met, self.lives)
        rows += [f"{case:<24}{self.kills[case]:>8}{self.met[case]:>8}{self.lives[case]:>15}" for case in self.kills]
        rows.append(f"{'all':<24}{counts[0].total():>8}{counts[1].total():>8}{counts[2].total():>15}")
        return "\n".join([*rows, f"differences: {'; '.join(self.different) or 'none'}"])


def lives(kills: int, cases: Sequence[str]) -> Iterator[tuple[str, int]]:
    """(case, kills) of one run after the other: `kills` spread over the cases, each once at least; 0 = endless."""
    left = {case: len(range(k, kills, len(cases))) for k, case in enumerate(cases)}
    for round in range(sys.maxsize):
        for case in cases:
            of_life = min(IN_A_LIFE, left[case]) if kills else IN_A_LIFE
            if of_life or round == 0:
                yield case, of_life
            left[case] -= of_life
        if kills and not any(left.values()):
            return


def kill_and_resume(
    kills: int,
    seed: int,
    root: Path,
    cases: Sequence[str] = CASES,
    every: int = sys.maxsize,
    say: Callable[[str], None] = print,
    tally: Tally | None = None,
) -> tuple[int, list[str]]:
    """(Kills that met a running process, what differs); `say` gets a line for each run and a table `every` kills."""
    chance, calm, tally = random.Random(seed), {}, tally or Tally()
    inputs(root)
    for case, of_life in lives(kills, cases):
        for one in (NEEDED.get(case, case), case):
            if one not in calm:
                calm[one] = undisturbed(one, root)
                say(f"{one}: {calm[one].seconds:.1f} s of work undisturbed, {calm[one].files} files seen to appear")
        tried, met, different = life(case, root, of_life, calm[case], chance)
        before = tally.kills.total()
        tally.kills[case] += tried
        tally.met[case] += met
        tally.lives[case] += 1
        tally.different += different
        say(f"{case}: {met} of {tried} kills met it running, {'; '.join(different) or 'same bytes'}")
        if tally.kills.total() // every > before // every:
            say(f"seed {seed}\n{tally}")
    return tally.met.total(), tally.different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25, help="over all cases; 0 = until it is told to stop")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--log", type=Path, metavar="FILE", help="add what is printed to FILE too, with times")
    parser.add_argument("--every", type=int, default=100, metavar="KILLS", help="kills from one table to the next")
    args = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)
        if args.log is not None:
            with args.log.open("a", encoding="utf-8") as handle:
                handle.write(f"{time.strftime('%F %T')} {text}\n")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root, tally = Path(tempfile.mkdtemp(prefix="kills_")), Tally()
    try:
        kill_and_resume(args.kills, args.seed, root, args.cases, args.every, say, tally)
    except KeyboardInterrupt:
        say("told to stop")
    finally:
        say(f"seed {args.seed}\n{tally}")
        if tally.different:
            say(f"what differs is kept in {root}")
        else:
            shutil.rmtree(root)
    sys.exit(bool(tally.different))


if __name__ == "__main__":
    main()

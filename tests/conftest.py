"""How tests share the cores, and fixtures that those of whole scripts share."""

import contextlib
import functools
import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import ROOT, TINY_ARGS, load_script, without_pixels
from utils.experiments.phase import Phase
from utils.separations import SEPARATIONS


def pytest_configure() -> None:
    """Each of several processes has its own cores: threads that wait for one another's would take ten times as long."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if processes > 1:
        threads = max(1, (os.cpu_count() or 1) // processes)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the scripts that tests start


@pytest.fixture
def run(request, tmp_path, capsys):
    """run("main.py", "--flag", ...) -> what the script printed; experiments go to tmp_path.

    Figures stay empty but in tests marked `figures`. At the end: whether utils/README.md says of every file that a run
    wrote what it holds.
    """
    drawing = contextlib.nullcontext if request.node.get_closest_marker("figures") else without_pixels

    def run_script(name: str, *args: str) -> str:
        with drawing():
            load_script(name).main([*map(str, args), "--experiments_root", str(tmp_path)])
        return capsys.readouterr().out

    yield run_script
    written = set()
    for record in tmp_path.glob("*/run.json"):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a test may have damaged it
            written.update(json.loads(record.read_text())["files"])
    unknown = sorted(name for name in written if not documented_files().fullmatch(name))
    assert not unknown, f"utils/README.md does not say what {', '.join(unknown)} hold"


@functools.cache
def documented_files() -> re.Pattern:
    """Of the names in the table "What is written"."""
    text = (ROOT / "utils" / "README.md").read_text().partition("## What is written")[2].partition("\n## ")[0]
    names = [name for row in re.findall(r"^\|(.*?)\|", text, re.MULTILINE) for name in re.findall("`(.*?)`", row)]
    keys = "|".join([*SEPARATIONS, "ssl"])
    patterns = "|".join(map(re.escape, names)).replace(r"\*", ".*").replace("KEY", f"({keys})")
    prefixes = "|".join(prefix for separation in SEPARATIONS.values() for prefix in separation.prefixes)
    patterns = patterns.replace("PREFIX", f"(own|ssl|{prefixes})")
    return re.compile(re.sub(r"_run\d", r"_run\\d+", patterns))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[..., Path]:
    """made_once("main.py", "--flag", ...) -> the folder of a finished tiny run with these flags."""
    root, made = tmp_path_factory.mktemp("made_once"), {}

    def folder(script: str, *flags: str) -> Path:
        command = (script, *flags)
        if command not in made:
            name = f"run{len(made)}"
            words = [*TINY_ARGS[script], *flags, "--experiments_root", str(root), "--experiment_name", name]
            with without_pixels(), contextlib.redirect_stdout(io.StringIO()):
                load_script(script).main(words)
            made[command] = root / name
        return made[command]

    return folder


@pytest.fixture
def finished(made_once, tmp_path):
    """finished("main.py", "a", "--flag", ...) -> tmp_path / "a", as a tiny run with these flags would leave it now.

    A copy of one that is made once for all tests: where the run is what a test is about, it takes `run`.
    """

    def copied(script: str, name: str, *flags: str) -> Path:
        return Path(shutil.copytree(made_once(script, *flags), tmp_path / name))

    return copied


@pytest.fixture
def stop_at(monkeypatch):
    """stop_at(3, "stage2"): as if a signal came at the third step of that phase, once; without a name of any phase."""

    def patch(count: int, phase: str | None = None) -> None:
        asked = []

        def stop_if_asked(self):
            if phase in (None, self._name):
                asked.append(self._name)
                if len(asked) == count:
                    self._experiment.stop.signum = signal.SIGTERM
                    self.checkpoint()

        monkeypatch.setattr(Phase, "stop_if_asked", stop_if_asked)

    return patch


@pytest.fixture
def image_folder(tmp_path):
    """20 pictures of 12x9 pixels in two classes told apart by colour; no test set."""
    root, generator = tmp_path / "pictures", np.random.default_rng(0)
    for c, name in enumerate(("blue", "red")):
        (root / "train" / name).mkdir(parents=True)
        for k in range(10):
            pixels = generator.integers(0, 60, (9, 12, 3), dtype=np.uint8)
            pixels[..., 2 - 2 * c] += 150
            Image.fromarray(pixels).save(root / "train" / name / f"{k}.png")
    return root

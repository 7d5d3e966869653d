"""Fixtures that the tests of whole scripts share."""

import contextlib
import functools
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.tiny import ROOT, load_script
from utils.separations import SEPARATIONS


@pytest.fixture
def run(tmp_path, capsys):
    """run("main.py", "--flag", ...) -> what the script printed; experiments go to tmp_path.

    At the end: whether utils/README.md says of every file that a run wrote what it holds.
    """

    def run_script(name: str, *args: str) -> str:
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
    patterns = patterns.replace("PREFIX", f"(stage1|{keys})")
    return re.compile(re.sub(r"_run\d", r"_run\\d+", patterns))


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

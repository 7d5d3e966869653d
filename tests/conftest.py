"""Fixtures that the tests of whole scripts share."""

import numpy as np
import pytest
from PIL import Image

from tests.tiny import load_script


@pytest.fixture
def run(tmp_path, capsys):
    """run("main.py", "--flag", ...) -> what the script printed; experiments go to tmp_path."""

    def run_script(name: str, *args: str) -> str:
        load_script(name).main([*map(str, args), "--experiments_root", str(tmp_path)])
        return capsys.readouterr().out

    return run_script


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

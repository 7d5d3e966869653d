"""How tests share the cores, and fixtures that those of whole scripts share."""

import os
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import load_script, without_pixels


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

    Figures stay empty but in tests marked `figures`.
    """
    drawing = nullcontext if request.node.get_closest_marker("figures") else without_pixels

    def run_script(name: str, *args: str) -> str:
        with drawing():
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

"""From a folder with wrong labels to a cleaned one, and a training on that: with real scores, not made-up ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils import export

CLASSES, N, MOVED = 3, 90, 18
REDS = (40, 120, 200)  # of each class, and up to 9 more; green and blue are noise


@pytest.fixture
def photos(tmp_path):
    """Ninety pictures whose red tells their class, of which each fifth lies in the folder of the next one."""
    rng = np.random.default_rng(0)
    for k in range(N):
        true = k % CLASSES
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[..., 0] = REDS[true] + k % 10
        folder = (true + 1) % CLASSES if k % 5 == 0 else true
        path = tmp_path / "photos" / f"class_{folder}" / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def wrong_labels(run, tmp_path, name, photos, *flags, epochs=2):
    """(How many are wrong, of how many) of the labels that relabel.py learns from in the experiment `name`."""
    sizes = ["--width", "0.1", "--image_size", "8", "--epoch_1st", epochs, "--batch_size", "16", "--cuda_dev", "-1"]
    run("relabel.py", "--dataset", "folder", "--train_root", photos, *flags, *sizes, "--experiment_name", name)
    with (tmp_path / name / "suspects.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    return sum(int(Path(row["file"]).stem) % CLASSES != int(row["label"][-1]) for row in rows), len(rows)


@pytest.mark.slow
def test_what_is_exported_has_fewer_wrong_labels_and_is_trained_on_again(run, tmp_path, photos):
    before = {file.relative_to(photos): file.read_bytes() for file in sorted(photos.rglob("*.png"))}
    assert wrong_labels(run, tmp_path, "first", photos, epochs=40) == (MOVED, N)
    chosen = [str(tmp_path / "first"), "--p_noisy", "0.5", "--suspects"]
    export.main([*chosen, "drop", "--to", str(tmp_path / "clean")])
    export.main([*chosen, "relabel", "--labels_csv", str(tmp_path / "labels.csv")])

    wrong, number = wrong_labels(run, tmp_path, "by_folder", tmp_path / "clean")
    assert wrong < MOVED / 2 and N - 2 * MOVED < number < N
    wrong, number = wrong_labels(run, tmp_path, "by_file", photos, "--labels", tmp_path / "labels.csv")
    assert wrong < MOVED / 2 and number == N
    assert {file.relative_to(photos): file.read_bytes() for file in sorted(photos.rglob("*.png"))} == before

"""The newcomer's round: what is laid out and counted, by hand; and whole on a tiny set."""

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks import moved_files
from utils.experiments.experiment import Experiment


@pytest.fixture
def photos(tmp_path):
    """Three classes of 20 images of one brightness each, and the cache of a script that read them."""
    (tmp_path / "photos" / ".cache").mkdir(parents=True)
    (tmp_path / "photos" / ".cache" / "images.npy").write_bytes(b"")
    for number, name in enumerate("abc"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for image in range(20):
            pixels = np.full((8, 8, 3), 40 + 80 * number + image, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{image}.png")
    return tmp_path / "photos"


def test_files_are_moved_and_nothing_else_changes(photos, tmp_path):
    true = moved_files.lay_out(photos, tmp_path / "work", per_class=10, share=0.2, seed=1)
    files = [file.relative_to(tmp_path / "work").as_posix() for file in (tmp_path / "work").glob("*/*")]
    assert len(files) == 30 and set(files) == set(true)
    assert moved_files.is_wrong(list(true), true).sum() == 6
    for file, name in true.items():  # brightness tells the true class
        brightness = int(np.asarray(Image.open(tmp_path / "work" / file))[0, 0, 0])
        assert "abc"[(brightness - 40) // 80] == name


def test_hits_by_hand(capsys):
    wrong = np.zeros(400, dtype=bool)
    wrong[[0, 50, 150, 350]] = True
    moved_files.found("x", wrong, print)
    assert capsys.readouterr().out == (
        "x: moved 2 of the first 100, 3 of the first 300; precision at their number 4: 0.250\n"
    )


def test_what_p_noisy_means_by_hand(tmp_path, capsys):
    with Experiment(tmp_path, "run").open("relabel.py", "relabel", {}) as run:
        run.begin({"images": "abc"})
        run.finish({"noise_ratio_estimated": 0.25})
    p_noisy, wrong = np.array([0.95, 0.95, 0.5, 0.0, 0.0]), np.array([True, False, True, False, False])
    moved_files.meant("x", run.path, p_noisy, wrong, print)
    assert capsys.readouterr().out == (  # two are 0.45 away, one 0.5, two 0
        "x: estimated share 0.250 (0.400); calibration error 0.280; moved 1 of 2 called wrong with 0.9 or more, "
        "0 of 2 with less than 0.05\n"
    )


@pytest.mark.slow
def test_the_round_is_whole(photos, tmp_path, capsys):
    command = [str(photos), "--per_class", "20", "--work", str(tmp_path / "work"), "--cuda_dev", "-1"]
    moved_files.main([*command, "--separation", "--epoch_1st 2"])
    printed = capsys.readouterr().out
    for words in (
        "60 images in 3 classes, 12 of them moved",
        "relabel.py: moved",
        "relabel.py: estimated share",
        "parallel.py: moved",
        "relabelled: ",
    ):
        assert words in printed
    assert len(list((tmp_path / "work" / "relabelled").glob("*/*.png"))) == 60


@pytest.mark.slow
def test_parallel_alone_exports_nothing(photos, tmp_path, capsys):
    command = [str(photos), "--per_class", "20", "--work", str(tmp_path / "work"), "--cuda_dev", "-1"]
    moved_files.main([*command, "--only", "parallel", "--separation", "--epoch_1st 2"])
    printed = capsys.readouterr().out
    assert "parallel.py: moved" in printed and "relabel" not in printed
    assert sorted(folder.name for folder in (tmp_path / "work").iterdir()) == ["parallel", "photos"]

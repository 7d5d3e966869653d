"""The set that is larger than the memory, in small: the same results wherever the images lie."""

import pytest

from tests.benchmarks import large_set


@pytest.mark.slow
def test_results_are_the_same_bytes_wherever_the_images_lie(capsys):
    large_set.main(["--images", "60", "--side", "16", "--width", "0.1", "--trained", "50", "--share", "1e6"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [line[0] for line in lines] == ["auto:", "host", "device", "device"]
    assert lines[0][1] == "device"  # there is room for them
    results = {line[-1] for line in lines}
    assert len(results) == 1 and len(results.pop()) == 8


def test_what_does_not_fit_is_said_in_place_of_figures():
    line = large_set.line("device", 2_500_000_000, {"refused": "the images take 2.8 GB", "peak": 1.0})
    assert line.split() == ["device", "2.50", "GB", "refused:", "the", "images", "take", "2.8", "GB"]


def test_files_of_the_set_are_empty_and_its_images_those_of_the_cache(tmp_path):
    large_set.make_set(tmp_path, images=20, side=8)
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 20 and not any(file.stat().st_size for file in files)
    images = large_set.load_folder(tmp_path, "train", 8)
    assert images.images.shape == (20, 3, 8, 8) and images.labels.tolist() == sorted(images.labels.tolist())
    darkest = [int(images.images[images.labels == label].min()) for label in range(10)]
    assert darkest == sorted(darkest) and darkest[-1] - darkest[0] in range(80, 100)  # 10 brighter by class

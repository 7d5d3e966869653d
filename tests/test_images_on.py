"""--images_on host and device end with the same bytes, and what cannot lie on the device is refused in one line."""

import pytest

from tests.tiny import TINY_ARGS
from utils.data import device_images, noisy_data
from utils.errors import Stopped, UserError

FOLDER = ["--epoch_1st", "2", "--warmup_e", "1", "--width", "0.1", "--batch_size", "6", "--cuda_dev", "-1"]
RUNS = {  # {script: its flags}; the folder's images are large enough to be cropped, and mirrored
    "main.py": TINY_ARGS["main.py"],
    "parallel.py": TINY_ARGS["parallel.py"],
    "relabel.py": ["--dataset", "folder", "--image_size", "16", *FOLDER, "--train_root"],
}


def contents(folder):
    """{name: bytes} of every array, weight and table."""
    return {
        file.name: file.read_bytes() for pattern in ("*.npy", "*.pt", "*.csv") for file in sorted(folder.glob(pattern))
    }


@pytest.mark.parametrize("script", RUNS)
def test_every_byte_is_the_same(run, tmp_path, image_folder, script):
    flags = RUNS[script] + ([image_folder] if script == "relabel.py" else [])
    read = f"--{script.removesuffix('.py').replace('main', 'forget')}"
    ssl = [*TINY_ARGS["ssl.py"], "--epoch", "2", "--runs", "2", "--swa", read]
    for place in ("device", "host"):
        run(script, *flags, "--images_on", place, "--experiment_name", place)
        if script == "parallel.py":
            run("ssl.py", *ssl, place, "--images_on", place, "--experiment_name", f"ssl_{place}")
    for prefix in ("", "ssl_") if script == "parallel.py" else ("",):
        device, host = (contents(tmp_path / f"{prefix}{place}") for place in ("device", "host"))
        assert len(device) > 10 and device.keys() == host.keys()
        assert [name for name in device if device[name] != host[name]] == []
    said = (tmp_path / "host" / "log.txt").read_text()
    assert ("in the file of their cache" if script == "relabel.py" else "in the memory of the host") in said
    assert "--images_on" not in (tmp_path / "device" / "log.txt").read_text()


def test_a_run_goes_on_with_its_images_elsewhere(run, finished, tmp_path, monkeypatch, stop_at):
    places = []

    def stay_on_host(*of):
        places.append(device_images.stay_on_host(*of))
        return places[-1]

    monkeypatch.setattr(noisy_data, "stay_on_host", stay_on_host)
    command = ["relabel.py", *TINY_ARGS["relabel.py"], "--experiment_name", "e"]
    stop_at(14, "relabelling")
    with pytest.raises(Stopped):
        run(*command, "--images_on", "host")
    run(*command, "--images_on", "device")
    assert places == [True, False]
    assert contents(tmp_path / "e") == contents(finished("relabel.py", "whole"))


def test_auto_goes_by_what_is_free_and_the_estimate_says_so(run, tmp_path, monkeypatch):
    flags = [*TINY_ARGS["relabel.py"], "--estimate"]
    assert "stay on the host" not in run("relabel.py", *flags)
    size = 3 * 64 * 538  # the digits 0, 1 and 2: 430 images of 8x8 for training, 108 for testing
    monkeypatch.setattr(device_images, "free_memory", lambda compute: size)
    assert "; 0.0 GB of images stay on the host" in run("relabel.py", *flags)
    monkeypatch.setattr(device_images, "free_memory", lambda compute: 1)
    with pytest.raises(UserError, match="--images_on host"):
        run("relabel.py", *flags, "--images_on", "device")


def test_where_images_would_make_room_they_are_part_of_the_remedy(run, monkeypatch):
    monkeypatch.setattr("utils.training.expectation.free_memory", lambda compute: 10**5)
    monkeypatch.setattr("utils.training.expectation.memory_of_weights", lambda *of: 10**5 + 100)
    for place, said in (("device", True), ("host", False)):
        with pytest.raises(UserError) as error:
            run("relabel.py", *TINY_ARGS["relabel.py"], "--estimate", "--images_on", place)
        assert ("--images_on host" in str(error.value)) == said

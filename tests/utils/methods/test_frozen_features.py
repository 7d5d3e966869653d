"""parallel.py --features on a handful of pictures: features, what owes nothing to a label, resuming, refusals."""

import json

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from tests.tiny import SCORE_FILES, load_script
from tests.torchvision_files import write_cifar10
from utils import export
from utils.errors import Stopped, UserError
from utils.experiments.phase import Phase
from utils.methods import frozen_features

NAME = "shufflenet_v2_x0_5"  # the smallest
NOISE = ["--first_stage_noise_type", "random_in_noise", "--first_stage_noise_ratio", "0.2"]


@pytest.fixture
def own(tmp_path):
    """A random network of NAME whose features can be told apart, and its state dict in a file."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(NAME, num_classes=2)
    network.train()(torch.rand(8, 3, 64, 64))  # batch norm knows the size of what it sees
    torch.save(network.state_dict(), tmp_path / "own.pt")
    return network.eval()


@pytest.fixture
def flags(tmp_path, image_folder, own):
    """Of a run on the pictures in full precision, six at a time."""
    return [
        *("--first_stage_data_name", "folder", "--train_root", image_folder, "--cuda_dev", "-1"),
        *("--features", NAME, "--weights", tmp_path / "own.pt", "--precision", "fp32", "--eval_batch_size", "6"),
    ]


def load(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def with_test_set(root):
    """Four pictures of the training set as the test set."""
    for name in ("blue/0", "blue/1", "red/0", "red/1"):
        file = root / "test" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((root / "train" / f"{name}.png").read_bytes())


def test_a_run_leaves_what_a_training_leaves_and_others_go_on_from_it(run, tmp_path, flags, image_folder, own):
    with_test_set(image_folder)
    turned = Image.open(image_folder / "train" / "red" / "3.png").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned back, clockwise
    turned.save(image_folder / "train" / "red" / "3.png", exif=exif)
    printed = run("parallel.py", *flags, *NOISE, "--plant", "0.1", "--experiment_name", "e")
    folder = tmp_path / "e"
    for name in SCORE_FILES["parallel.py"]:
        if name.startswith(("own_", "exchange_")):  # there is no model of a sample's own half, and none to exchange
            continue
        assert load(folder, name).dtype == np.float32 and len(load(folder, name)) == 20
    np.testing.assert_allclose(load(folder, "cross_probs").sum(axis=1), 1, atol=1e-5)
    assert sorted(load(folder, "permutation")) == list(range(20))
    assert (load(folder, "trained_labels") != load(folder, "labels")).sum() == 2  # 10 % of 20, planted
    assert "planted: 2 labels changed for the training" in printed
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished" and list(record["seconds"]) == ["extraction", "regression"]
    assert record["features"]["network"] == NAME and 0 <= record["figures"]["auc_parallel_score"] <= 1
    assert record["figures"]["test_accuracy"] > 0.5  # blue and red
    assert "are mirrored at random" not in printed
    assert {"suspects.csv", "suspects.html", "scores.png", "roc.png", "transition_estimated.csv"} <= set(
        record["files"]
    )
    assert not [file for pattern in ("*.part", ".*tmp", "checkpoint*") for file in folder.glob(pattern)]

    # The plain way, picture by picture. Batches add up in another order: float32 keeps 7 digits, 50 layers lose some.
    transforms = torchvision.models.get_model_weights(NAME).DEFAULT.transforms()
    own.fc = torch.nn.Identity()
    for i, file in ((0, "blue/0"), (7, "blue/7"), (13, "red/3")):
        pixels = np.asarray(Image.open(image_folder / "train" / f"{file}.png").convert("RGB"))
        if i == 13:
            pixels = np.rot90(pixels, -1)
        with torch.inference_mode():
            plain = own(transforms(Image.fromarray(np.ascontiguousarray(pixels)))[None]).numpy()[0]
        np.testing.assert_allclose(load(folder, "features")[i], plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())
    np.testing.assert_array_equal(load(folder, "test_features").shape, (4, 1024))

    ssl = ["--parallel", "e", "--dataset", "folder", "--train_root", image_folder, "--epoch", "1", "--width", "0.1"]
    ssl += ["--noise_type", "random_in_noise", "--noise_ratio", "0.2", "--batch_size", "10", "--cuda_dev", "-1"]
    assert "ssl_score" in run("ssl.py", *ssl, "--experiment_name", "s")
    to = ["--p_noisy", "1", "--suspects", "drop", "--labels_csv", str(tmp_path / "cleaned.csv")]
    export.main(["e", "--experiments_root", str(tmp_path), *to])
    kept = (load(folder, "p_noisy").round(4) < 1).sum()  # as suspects.csv says it
    rows = (tmp_path / "cleaned.csv").read_text().splitlines()[1:]
    assert len(rows) == 20 and sum(not row.endswith(",") for row in rows) == kept  # an empty label: removed


def test_an_estimate_ends_before_the_work_and_leaves_nothing(run, tmp_path, flags):
    before = set(tmp_path.iterdir())
    assert "expected: about" in run("parallel.py", *flags, "--estimate")
    assert set(tmp_path.iterdir()) == before


def test_the_probabilities_of_a_fold_owe_nothing_to_its_labels(run, tmp_path, flags, image_folder):
    names = [f"train/{c}/{k}.png" for c in ("blue", "red") for k in range(10)]
    labels = ["blue"] * 10 + ["red"] * 10
    probs = []
    for experiment in "ab":
        table = "".join(f"{name},{label}\n" for name, label in zip(names, labels, strict=True))
        (tmp_path / "labels.csv").write_text(f"file,label\n{table}")
        more = ["--labels", tmp_path / "labels.csv", "--plant", "0", "--experiment_name", experiment]
        run("parallel.py", *flags, *more)
        probs.append(load(tmp_path / experiment, "cross_probs"))
        fold = load(tmp_path / experiment, "permutation")[:4]
        labels[fold[0]] = "red" if labels[fold[0]] == "blue" else "blue"  # for the second run
    np.testing.assert_array_equal(probs[0][fold], probs[1][fold])
    others = np.setdiff1d(np.arange(20), fold)
    assert (probs[0][others] != probs[1][others]).any(axis=1).all()  # all of them learnt from that label


def test_the_regressions_learn_the_planted_errors(run, tmp_path, flags, monkeypatch):
    learnt, fit = [], frozen_features.Regression.fit

    def see(self, inputs, labels):
        learnt.append(labels)
        return fit(self, inputs, labels)

    monkeypatch.setattr(frozen_features.Regression, "fit", see)
    run("parallel.py", *flags, "--plant", "0.3", "--experiment_name", "e")
    trained, labels = load(tmp_path / "e", "trained_labels"), load(tmp_path / "e", "labels")
    assert (trained != labels).sum() == 6
    folds = frozen_features.folds_of(load(tmp_path / "e", "permutation"))
    for place, of_others in enumerate(learnt):
        np.testing.assert_array_equal(of_others, trained[np.concatenate([*folds[:place], *folds[place + 1 :]])])
    assert len(learnt) == len(folds)


def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_bytes(run, tmp_path, flags, image_folder, monkeypatch):
    with_test_set(image_folder)
    run("parallel.py", *flags, "--experiment_name", "whole")
    seen, features_of = [], frozen_features.features_of

    def counted(*arguments):
        for rows in features_of(*arguments):
            seen.append(len(rows))
            yield rows

    monkeypatch.setattr(frozen_features, "features_of", counted)
    monkeypatch.setattr(frozen_features, "expect_extraction", lambda *of, short: None)  # whose batches are not counted
    # Of 4 batches of the training images and one of the test images: stopped after two, killed after one more, which is
    # lost, and stopped after two again.
    for last, killed in ((2, False), (1, True), (2, False)):
        with monkeypatch.context() as patch:
            calls = iter(range(1, 100))

            def end(phase, calls=calls, last=last, killed=killed):
                if next(calls) == last:
                    if killed:
                        raise ZeroDivisionError
                    phase._experiment.stop.signum = 15
                    phase.checkpoint()

            patch.setattr(Phase, "stop_if_asked", end)
            with pytest.raises(ZeroDivisionError if killed else Stopped):
                run("parallel.py", *flags, "--experiment_name", "stopped")
    with monkeypatch.context() as patch:  # and once between the features and the scores
        patch.setattr(frozen_features, "cross_fit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("parallel.py", *flags, "--experiment_name", "stopped")
    run("parallel.py", *flags, "--experiment_name", "stopped")
    assert seen == [6, 6, 6, 6, 2, 4]
    files = [file.name for pattern in ("*.npy", "*.csv") for file in (tmp_path / "whole").glob(pattern)]
    assert {"features.npy", "test_features.npy", "parallel_score.npy", "history.csv"} <= set(files)
    for name in files:
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_run_goes_on_with_the_weights_that_it_began_with_alone(run, tmp_path, flags, own, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(frozen_features, "cross_fit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("parallel.py", *flags, "--experiment_name", "e")
    own.fc.weight.data += 1
    torch.save(own.state_dict(), tmp_path / "own.pt")
    with pytest.raises(UserError, match="has changed: .*weights"):
        run("parallel.py", *flags, "--experiment_name", "e")


def test_sets_without_files_give_their_arrays(run, tmp_path, monkeypatch, own):
    for name, value in write_cifar10(tmp_path, n_train=50, n_test=10).items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)
    flags = ["--first_stage_data_name", "cifar10", "--train_root", tmp_path, "--first_stage_noise_type", "none"]
    flags += ["--features", NAME, "--weights", tmp_path / "own.pt", "--cuda_dev", "-1", "--precision", "fp32"]
    classes = ["--first_stage_subset", "0", "1", "2"]  # images 0, 1, 2, 10, 11, 12, ...
    run("parallel.py", *flags, *classes, "--no-track_CE", "--experiment_name", "e")
    transforms = torchvision.models.get_model_weights(NAME).DEFAULT.transforms()
    own.fc = torch.nn.Identity()
    image, _ = torchvision.datasets.CIFAR10(str(tmp_path))[11]
    with torch.inference_mode():
        plain = own(transforms(image)[None]).numpy()[0]
    np.testing.assert_allclose(load(tmp_path / "e", "features")[4], plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())
    assert not (tmp_path / "e" / "parallel_ce.npy").exists()


def test_too_few_images_for_the_folds(run, tmp_path, flags, image_folder):
    for file in sorted(image_folder.rglob("*.png"))[1:10] + sorted(image_folder.rglob("*.png"))[-2:]:
        file.unlink()
    with pytest.raises(UserError, match="9 samples make no 5 folds"):
        run("parallel.py", *flags)


FLAGS = {
    "a rate": (["--features", NAME, "--lr", "0.2"], "--lr does nothing with --features"),
    "epochs": (["--features", NAME, "--epoch_1st", "3"], "--epoch_1st does nothing with --features"),
    "a milestone": (["--features", NAME, "--M", "3"], "--M does nothing with --features"),
    "a width": (["--features", NAME, "--width", "0.5"], "--width does nothing with --features"),
    "an exchange": (["--features", NAME, "--exchange", "5"], "--exchange does nothing with --features"),
    "networks to keep": (["--features", NAME, "--keep_models"], "--keep_models does nothing with --features"),
    "no mixup": (["--features", NAME, "--mixup", "0"], "--mixup does nothing with --features"),
    "weights of nothing": (["--weights", "own.pt"], "--weights does nothing without --features"),
}


@pytest.mark.parametrize("flags, line", FLAGS.values(), ids=FLAGS)
def test_flags_that_do_nothing_are_refused(flags, line):
    with pytest.raises(UserError, match=f"^{line}"):
        load_script("parallel.py").main(flags)

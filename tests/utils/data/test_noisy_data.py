"""A data set as the methods see it: what is planted among its labels, and what stays as it was."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import datasets
from utils.compute import Compute
from utils.data.choice import DataChoice, OutOfDistribution
from utils.data.noisy_data import prepare
from utils.errors import UserError
from utils.methods.frozen_features import FEATURES, pictures_of

CPU = Compute(torch.device("cpu"), bf16=False, compile=False, threads=1)
DIGITS = DataChoice("digits", None, [0, 1, 2], None, None, "random_in_noise", 0.2, 1)


@pytest.mark.parametrize("noise", ["random_in_noise", "none"])
@pytest.mark.parametrize("share", [0.03, 0.5])
def test_errors_are_planted_among_exactly_that_share_of_the_labels(noise, share):
    data = prepare(replace(DIGITS, noise_type=noise), CPU, plant=share)
    ids, trained = data.planted.ids, data.training_labels.numpy()
    np.testing.assert_array_equal(data.trained, trained)
    np.testing.assert_array_equal(data.with_planted(data.labels).trained, data.labels)
    assert len(ids) == round(share * len(data)) and (np.diff(ids) > 0).all()
    np.testing.assert_array_equal(np.flatnonzero(trained != data.labels), ids)
    assert trained.dtype == ids.dtype == np.int64 and set(trained) == {0, 1, 2}


def test_how_many_errors_are_planted_by_default_depends_on_the_size_of_the_set():
    data = prepare(DIGITS, CPU, plant=None)
    assert len(data) < 1_000 and len(data.planted.ids) == round(len(data) / 10)


def test_planting_touches_neither_observed_nor_true_nor_test_labels():
    plain, planted = prepare(DIGITS, CPU), prepare(DIGITS, CPU, plant=0.1)
    for name in ("labels", "clean_labels", "is_noisy", "test_labels", "device_labels"):
        np.testing.assert_array_equal(getattr(planted, name), getattr(plain, name))
    assert planted.fingerprint() == plain.fingerprint() and planted.noise_ratio == plain.noise_ratio
    np.testing.assert_array_equal(plain.test_labels, datasets.load("digits", None, "test", [0, 1, 2], None).labels)


def test_the_seed_alone_decides_what_is_planted():
    def planted(**changes):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        return prepare(replace(DIGITS, **changes), CPU, plant=0.1).planted

    first = planted()
    np.testing.assert_array_equal(planted().ids, first.ids)
    assert torch.equal(planted().labels, first.labels)
    assert not np.array_equal(planted(seed=2).ids, first.ids)
    np.testing.assert_array_equal(planted(noise_ratio=0.4).ids, first.ids)  # which ones does not depend on the noise


@pytest.mark.parametrize("share", [0.0, 0.0001])
def test_where_nothing_is_planted_training_is_given_the_observed_labels(share):
    data = prepare(DIGITS, CPU, plant=share)
    assert data.planted is None and data.training_labels is data.device_labels
    np.testing.assert_array_equal(data.device_labels, data.labels)


def test_the_prior_is_the_share_of_each_class_among_the_observed_labels():
    data = replace(prepare(DIGITS, CPU, plant=0.5), labels=np.array([0, 2, 2, 0, 0]))
    assert data.prior.dtype == torch.float32
    np.testing.assert_allclose(data.prior, [0.6, 0, 0.4])


# -- labels from a file, images of one's own -------------------------------------------------------------------------


@pytest.fixture
def swapped(tmp_path):
    """Labels of all digits, where every third 0 is called 1 and nothing else is wrong."""
    labels = datasets.load("digits").labels.copy()
    labels[np.flatnonzero(labels == 0)[::3]] = 1
    np.save(tmp_path / "swapped.npy", labels)
    return str(tmp_path / "swapped.npy")


def given(file, **changes) -> DataChoice:
    return replace(DIGITS, noise_type="none", noise_ratio=0.0, labels=file, **changes)


def test_labels_from_a_file_are_observed_and_those_of_a_known_set_stay_the_truth(swapped):
    plain, data = prepare(replace(DIGITS, noise_type="none"), CPU), prepare(given(swapped), CPU)
    truth = datasets.load("digits", classes=[0, 1, 2]).labels
    np.testing.assert_array_equal(data.clean_labels, truth)
    wrong = np.flatnonzero(data.is_noisy)
    np.testing.assert_array_equal(wrong, np.flatnonzero(truth == 0)[::3])
    assert (data.labels[wrong] == 1).all() and data.noise_ratio == len(wrong) / len(truth)
    assert plain.clean_labels is None
    assert f"label noise: as {swapped} has it, realised {data.noise_ratio:.4f}" in data.describe()
    np.testing.assert_array_equal(data.test_labels, plain.test_labels)


def test_the_labels_file_is_part_of_what_scores_belong_to(swapped, tmp_path):
    plain, data = prepare(replace(DIGITS, noise_type="none"), CPU), prepare(given(swapped), CPU)
    assert "labels_file" not in plain.fingerprint() and len(data.fingerprint()["labels_file"]) == 16
    labels = np.load(swapped)
    np.save(tmp_path / "copy.npy", labels)
    labels[np.flatnonzero(labels == 9)[0]] = 8  # not of the classes that are kept
    np.save(tmp_path / "other.npy", labels)
    assert prepare(given(str(tmp_path / "copy.npy")), CPU).fingerprint() == data.fingerprint()
    other = prepare(given(str(tmp_path / "other.npy")), CPU).fingerprint()
    assert [key for key in other if other[key] != data.fingerprint()[key]] == ["labels_file"]


def test_errors_are_planted_among_labels_from_a_file_too(swapped):
    data = prepare(given(swapped), CPU, plant=0.1)
    assert len(data.planted.ids) == round(0.1 * len(data))
    np.testing.assert_array_equal(np.flatnonzero(data.training_labels.numpy() != data.labels), data.planted.ids)


@pytest.fixture
def pictures(tmp_path):
    """Two classes of two grey pictures without a train/, and one that is none."""
    for grey, name in enumerate(("cat/a", "cat/b", "dog/a", "dog/b")):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 10 * grey).save(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "pictures/cat/broken.png").write_text("not an image")
    for name in ("1.heic", "2.HEIC", "notes"):
        (tmp_path / "pictures/cat" / name).write_text("not an image")
    return DataChoice("folder", str(tmp_path / "pictures"), None, None, 16, "none", 0.0, 1, skip_broken=True)


def test_images_of_ones_own_are_taken_as_they_are_and_the_broken_ones_left_out(pictures):
    with pytest.raises(UserError, match="cat/broken.png does not decode"):
        prepare(replace(pictures, skip_broken=False), CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none about memory that cannot be written to
        data = prepare(pictures, CPU)
    assert data.labels.tolist() == [0, 0, 1, 1] and data.clean_labels is None
    assert data.left_out == {"cat/broken.png": "does not decode as an image (of no known format)"}
    lines = data.describe()
    assert "passed over: 3 files that do not count as images (.heic 2, without an ending 1)" in lines
    assert "left out: 1 images, listed in skipped.csv" in lines
    assert "labels: taken as they are, none made wrong on purpose (noise type none); the truth is unknown" in lines
    assert data.images.pixels[:, 0, 0, 0].tolist() == [0, 10, 20, 30]


def test_test_images_and_those_of_a_second_set_are_seen_as_the_training_set_is(pictures):
    digits = prepare(DIGITS, CPU)
    alone, like = prepare(pictures, CPU), prepare(pictures, CPU, like=digits.images)
    of_digits = torch.stack(digits.images.statistics)
    for images in (digits.test_images, like.images):
        assert images.side == digits.images.side
        torch.testing.assert_close(torch.stack(images.statistics), of_digits)
    assert alone.images.side != digits.images.side
    assert (torch.stack(alone.images.statistics) - of_digits).abs().max() > 0.1


def test_noise_is_added_to_images_of_ones_own_where_that_is_asked_for(pictures):
    data = prepare(replace(pictures, noise_type="random_in_noise", noise_ratio=0.5), CPU)
    assert data.clean_labels.tolist() == [0, 0, 1, 1] and data.is_noisy.sum() == 2


def test_labels_of_images_of_ones_own_leave_the_truth_unknown(pictures, tmp_path):
    np.save(tmp_path / "mine.npy", [1, 0, 0, 1])
    data = prepare(replace(pictures, labels=str(tmp_path / "mine.npy")), CPU)
    assert data.labels.tolist() == [1, 0, 0, 1] and data.clean_labels is None
    assert f"labels: taken as {tmp_path}/mine.npy has them, none made wrong" in data.describe()


# -- images of another set -------------------------------------------------------------------------------------------

OOD = OutOfDistribution(0.1, "patches", None, None)


def test_replaced_images_keep_their_labels_and_belong_to_no_class():
    plain, data = prepare(DIGITS, CPU), prepare(replace(DIGITS, ood=OOD), CPU)
    replaced = data.replaced
    assert len(replaced) == round(0.1 * len(data)) and data.images.side == plain.images.side
    for name in ("labels", "sample_ids", "test_labels"):
        np.testing.assert_array_equal(getattr(data, name), getattr(plain, name))
    changed = (data.images.pixels != plain.images.pixels).flatten(1).any(1).numpy()
    np.testing.assert_array_equal(np.flatnonzero(changed), replaced)
    assert (data.clean_labels[replaced] == -1).all() and data.is_noisy[replaced].all()
    others = np.delete(np.arange(len(data)), replaced)
    np.testing.assert_array_equal(data.clean_labels[others], plain.clean_labels[others])
    wrong = plain.is_noisy[others].sum()
    assert data.noise_ratio == (wrong + len(replaced)) / len(data)
    assert f"({wrong} of {len(others)} labels)" in data.describe()
    assert f"10 % images of patches, {len(replaced)} of {len(data)}, in place" in data.describe()


def test_what_was_put_in_is_part_of_what_scores_belong_to():
    def entry(**changes):
        return prepare(replace(DIGITS, ood=replace(OOD, **changes)), CPU).fingerprint()["ood"]

    plain = prepare(DIGITS, CPU).fingerprint()
    assert "ood" not in plain and plain == {
        key: value for key, value in prepare(replace(DIGITS, ood=OOD), CPU).fingerprint().items() if key != "ood"
    }
    assert entry() == entry() and len(entry()["images"]) == 16
    assert entry(ratio=0.2) != entry() != entry(subset=[0, 1])
    digits = entry(name="digits", subset=[3, 4])  # other classes of the same set
    assert digits["images"] != entry()["images"]


def test_images_put_in_need_a_truth_to_be_measured_by(pictures):
    for choice in (replace(DIGITS, noise_type="none"), pictures):
        with pytest.raises(UserError, match="truth of the others is unknown — with noise type random_in_noise and"):
            prepare(replace(choice, ood=OOD), CPU)
    as_right = replace(pictures, noise_type="random_in_noise", noise_ratio=0.0, ood=replace(OOD, ratio=0.5))
    data = prepare(as_right, CPU)
    assert data.is_noisy.sum() == 2 == (data.clean_labels == -1).sum()
    read = pictures_of(data)[FEATURES]
    for i in range(4):  # the files of replaced ones show other images
        pixels = np.asarray(read.read(i, 16))
        assert (pixels == data.images.pixels[i].numpy()).all() and (pixels.std() > 0) == (i in data.replaced)

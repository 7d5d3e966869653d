"""Image folders: their two layouts, the order of images, and everything that can be wrong with them."""

import os

import pytest

from datasets import load
from datasets.folder import HIDDEN
from tests.datasets.folders import TEST, TRAIN, reds, write_image, write_noise
from utils.errors import UserError

# -- layout ----------------------------------------------------------------------------------------------------------


def test_classes_and_images_come_sorted_by_name(root):
    train = load("folder", root)
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 0, 1, 1]
    assert train.file_names == TRAIN and train.left_out == {}
    assert reds(train) == [0, 1, 2, 3] and train.sample_ids.tolist() == [0, 1, 2, 3]
    assert train.images.shape == (4, 3, 32, 32) and train.images.dtype == "uint8" and train.mirrored
    test = load("folder", str(root), "test")
    assert reds(test) == [50, 51] and test.file_names == TEST


def test_order_is_that_of_torchvision_even_in_sub_folders(root):
    from torchvision.datasets import ImageFolder

    for red, name in enumerate(["cat/a2/x.png", "cat/a/y.png", "cat/a/b/z.JPG", "Zebra/1.jpeg", "Zebra/10.bmp"]):
        write_image(root / "train" / name, (100 + red, 0, 0))
    train = load("folder", root)
    expected = ImageFolder(str(root / "train"))
    assert train.class_names == tuple(expected.classes)
    assert [str(root / name) for name in train.file_names] == [path for path, _ in expected.samples]
    assert train.labels.tolist() == expected.targets


def test_subset_of_classes_keeps_positions_and_file_names(root):
    write_image(root / "train/ant/a.png", (9, 0, 0))
    subset = load("folder", root, classes=[2, 0])
    assert subset.class_names == ("dog", "ant")
    assert subset.labels.tolist() == [1, 0, 0] and subset.sample_ids.tolist() == [0, 3, 4]
    assert subset.file_names == ("train/ant/a.png", "train/dog/a.png", "train/dog/b.png")


def test_without_a_test_folder_there_is_no_test_split(root):
    os.rename(root / "test", root / "unused")
    assert load("folder", root, "test") is None


def test_hidden_files_other_extensions_and_loose_files_are_skipped(root):
    for name in ["train/cat/.hidden.png", "train/cat/.thumbs/x.png", "train/.ipynb_checkpoints/x.png"]:
        write_image(root / name)
    for name in ["train/cat/notes.txt", "train/readme.png", "train/dog/Thumbs.db"]:
        (root / name).write_text("not an image")
    train = load("folder", root)
    assert len(train) == 4 and train.passed_over == {".txt": 1, ".db": 1, HIDDEN: 2}


@pytest.fixture
def flat(root):
    """The same without a train/ and a test/: ROOT/<class>/*."""
    for name in ("cat", "dog"):
        os.rename(root / "train" / name, root / name)
    os.rename(root / "test", root / ".unused")
    (root / "train").rmdir()
    return root


def test_class_folders_may_lie_in_the_root_itself(flat):
    train = load("folder", flat)
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 0, 1, 1]
    assert train.file_names == ("cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png") and reds(train) == [0, 1, 2, 3]
    assert load("folder", flat, "test") is None
    assert load("folder", flat).fingerprint() == train.fingerprint()  # the cache is no class


def test_a_class_may_be_called_train_and_another_test(flat):
    write_image(flat / "train/a.png", (7, 0, 0))
    write_image(flat / "test/a.png", (8, 0, 0))
    train = load("folder", flat)
    assert train.class_names == ("cat", "dog", "test", "train") and reds(train) == [0, 1, 2, 3, 8, 7]
    assert load("folder", flat, "test") is None


def test_folders_beside_train_and_test_are_left_aside(root):
    write_image(root / "originals/a.png")
    write_image(root / "val/cat/a.png")
    assert load("folder", root).file_names == TRAIN and load("folder", root, "test").file_names == TEST


@pytest.mark.parametrize("link", ["train", "test"])
def test_train_and_test_may_be_links_to_anywhere(root, tmp_path, link):
    os.rename(root / link, tmp_path / "elsewhere")
    (root / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/dog/z.png").symlink_to(
        tmp_path / "elsewhere/cat/" / ("a.png" if link == "train" else "c.png")
    )
    train, test = load("folder", root), load("folder", root, "test")
    assert reds(train) == [0, 1, 2, 3, 0][: len(train)] and reds(test) == [50, 51, 50][: len(test)]
    assert len(train) + len(test) == 7 and os.listdir(root / ".cache")


def test_image_size_is_taken(root):
    assert load("folder", root, image_size=8).images.shape == (4, 3, 8, 8)


def test_image_size_of_zero(root):
    with pytest.raises(UserError, match="image size of 0"):
        load("folder", root, image_size=0)


# -- what can be wrong -----------------------------------------------------------------------------------------------


def refused(root, *words, split="train"):
    with pytest.raises(UserError) as caught:
        load("folder", root, split)
    message = str(caught.value)
    assert " — " in message and "\n" not in message
    for word in words:
        assert str(word) in message


def test_missing_root(tmp_path):
    refused(tmp_path / "nowhere", "there is no folder", tmp_path / "nowhere", "ROOT/<class>")


def test_test_folder_with_classes_but_no_train_folder(root):
    os.rename(root / "train", root / "training")
    refused(root, root / "test", "has sub-folders, but there is no", root / "train")


@pytest.mark.parametrize("train, test", [("Train", "Test"), ("training", "testing")])
def test_splits_under_other_names_are_no_classes(root, train, test):
    os.rename(root / "train", root / train)
    os.rename(root / "test", root / test)
    refused(root, "has sub-folders, but there is no", root / "train")


@pytest.mark.parametrize("splits", [("Train", "Test"), ("train", "Test"), ("training",)])
def test_splits_of_images_without_classes_are_no_classes(tmp_path, splits):
    for split in splits:
        write_image(tmp_path / split / "a.png", 0)
    refused(tmp_path, tmp_path / "train")


def test_a_link_in_a_circle_is_no_class(flat):
    (flat / "x.jpg").symlink_to(flat / "x.jpg")
    assert load("folder", flat).class_names == ("cat", "dog")


def test_a_name_that_is_too_long_is_there_no_folder(tmp_path):
    refused(tmp_path / ("x" * 300), "there is no folder")


def test_train_folder_with_images_but_no_classes(root):
    for name in ("train", "test"):
        for folder in ("cat", "dog"):
            os.rename(root / name / folder, root / f".{name}{folder}")
        write_image(root / name / "a.png")
    refused(root, root / "train", "has no class folders")


def test_root_with_images_but_no_classes(tmp_path):
    write_image(tmp_path / "a.png")
    refused(tmp_path, tmp_path, "has no class folders", "ROOT/<class>")


def test_root_one_folder_too_high(flat):
    refused(flat.parent, flat.parent, "has a single class", "at least two")


@pytest.mark.parametrize("split", ["train", "test"])
def test_train_or_test_that_is_a_link_to_nothing(root, split):
    os.rename(root / split, root / "unused")
    (root / split).symlink_to("/nowhere/images")
    refused(root, root / split, "is a link to /nowhere/images, which is not there", split=split)


def test_train_folder_without_classes(tmp_path):
    (tmp_path / "train").mkdir()
    refused(tmp_path, tmp_path / "train", "no class folders")


def test_single_class(tmp_path):
    write_image(tmp_path / "train/cat/a.png")
    refused(tmp_path, "single class", "at least two")


def test_empty_class_folder(root):
    (root / "train/eel").mkdir()
    refused(root, root / "train/eel", "has no images")


def test_class_folder_without_images(root):
    (root / "train/eel").mkdir()
    (root / "train/eel/notes.txt").write_text("nothing to see")
    refused(root, root / "train/eel", "has no images")


def test_test_class_unknown_to_train(root):
    write_image(root / "test/eel/a.png")
    refused(root, root / "test/eel", "train/ does not have", split="test")


def test_train_class_missing_in_test(root):
    write_image(root / "train/eel/a.png")
    refused(root, root / "test", "lacks the class eel", split="test")


def test_test_folder_without_classes(root):
    os.rename(root / "test", root / "unused")
    (root / "test").mkdir()
    refused(root, root / "test", "no class folders", "ROOT/test/<class>", split="test")


def test_file_link_out_of_the_root(root, tmp_path):
    write_image(tmp_path / "secret.png")
    (root / "train/cat/link.png").symlink_to(tmp_path / "secret.png")
    refused(root, "1 of 5 images", "train/cat/link.png", tmp_path / "secret.png", "outside", "not followed")


def test_folder_link_out_of_the_root(root, tmp_path):
    write_image(tmp_path / "outside/a.png")
    (root / "train/eel").symlink_to(tmp_path / "outside")
    refused(root, root / "train/eel", tmp_path / "outside", "not followed")


def test_class_folder_of_the_root_that_is_a_link_out(flat, tmp_path):
    write_image(tmp_path / "outside/a.png")
    (flat / "eel").symlink_to(tmp_path / "outside")
    refused(flat, flat / "eel", tmp_path / "outside", "not followed")


def test_link_out_of_a_train_folder_that_is_a_link(root, tmp_path):
    write_image(tmp_path / "secret.png")
    os.rename(root / "train", tmp_path / "elsewhere")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/cat/link.png").symlink_to(tmp_path / "secret.png")
    refused(root, "train/cat/link.png", tmp_path / "secret.png", "not followed")


def test_class_folder_that_is_a_link_to_nothing(flat):
    (flat / "eel").symlink_to(flat / "unmounted")
    refused(flat, flat / "eel", "a link to", flat / "unmounted", "not there", "mend or remove it")


def test_class_folder_that_is_a_link_to_itself(flat):
    (flat / "eel").symlink_to(flat / "eel")
    refused(flat, flat / "eel", "a link to", "not there")


def test_links_to_nothing_that_are_no_classes_are_left_aside(flat):
    for name in (".hidden", "picture.JPG", "notes.txt"):
        (flat / name).symlink_to(flat / "unmounted")
    assert load("folder", flat).class_names == ("cat", "dog")


def test_link_to_a_sibling_whose_name_starts_like_the_root(root, tmp_path):
    write_image(tmp_path / "root2/a.png")
    (root / "train/cat/link.png").symlink_to(tmp_path / "root2/a.png")
    refused(root, "train/cat/link.png", "outside")


def test_links_inside_the_root_are_followed(root):
    (root / "train/cat/c.png").symlink_to(root / "train/dog/b.png")
    (root / "train/eel").symlink_to(root / "test/dog")
    train = load("folder", root)
    assert reds(train) == [0, 1, 3, 2, 3, 51] and train.class_names == ("cat", "dog", "eel")


def test_root_may_itself_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert reds(load("folder", tmp_path / "link")) == [0, 1, 2, 3]


def test_link_to_a_folder_inside_a_class(root):
    (root / "train/cat/loop").symlink_to(root / "train")
    refused(root, "train/cat/loop", "link to a folder")


# -- images that cannot be used --------------------------------------------------------------------------------------


@pytest.fixture
def broken(root):
    """Beside the four: text, nothing, half an image, a link to nothing and a pipe, each called an image."""
    cats = root / "train/cat"
    (cats / "text.png").write_text("not an image")
    (cats / "nothing.jpg").write_bytes(b"")
    write_noise(cats / "half.png")
    os.truncate(cats / "half.png", 5000)
    (cats / "link.png").symlink_to(cats / "gone.png")
    os.mkfifo(cats / "pipe.png")
    return root


def test_all_broken_images_are_named_in_one_error(broken):
    refused(
        broken,
        f"5 of 9 images in {broken} cannot be used: train/cat/half.png does not decode as an image (",
        "; train/cat/link.png cannot be read (No such file or directory); train/cat/nothing.jpg does not decode",
        "; train/cat/pipe.png is not a regular file; train/cat/text.png does not decode as an image (of no known ",
        "replace or remove them, or leave them out with --skip_broken",
    )


def test_broken_images_are_left_out_where_that_is_asked_for(broken):
    train = load("folder", broken, skip_broken=True)
    assert train.file_names == TRAIN and reds(train) == [0, 1, 2, 3] and train.labels.tolist() == [0, 0, 1, 1]
    assert train.sample_ids.tolist() == [0, 1, 2, 3]
    assert list(train.left_out) == [
        f"train/cat/{name}" for name in ("half.png", "link.png", "nothing.jpg", "pipe.png", "text.png")
    ]
    assert train.left_out["train/cat/pipe.png"] == "is not a regular file"
    for name in train.left_out:
        os.remove(broken / name)
    assert load("folder", broken).fingerprint() == train.fingerprint()  # as if they had never been there


def test_a_class_subset_keeps_what_is_known_of_broken_images(broken):
    subset = load("folder", broken, classes=[1, 0], skip_broken=True)
    assert reds(subset) == [0, 1, 2, 3] and subset.labels.tolist() == [1, 1, 0, 0] and len(subset.left_out) == 5


def test_a_class_of_broken_images_alone(root):
    for name in TRAIN[:2]:
        (root / name).write_text("not an image")
    with pytest.raises(UserError, match="train/cat has no image that decodes — add some or remove it"):
        load("folder", root, skip_broken=True)


def many(root):
    for k in range(25):
        (root / f"train/cat/{k:02}.png").write_text("not an image")
    with pytest.raises(UserError) as caught:
        load("folder", root)
    return str(caught.value)


def test_many_broken_images_are_listed_in_a_file(root):
    message, file = many(root), root / ".cache/unreadable.txt"
    assert "train/cat/19.png" in message and "train/cat/20.png" not in message and "\n" not in message
    assert f"; and 5 more, all listed in {file} — " in message
    lines = file.read_text().splitlines()
    assert lines[24] == "train/cat/24.png does not decode as an image (of no known format)" and len(lines) == 25


def test_the_list_lies_elsewhere_where_the_root_cannot_be_written(root, tmp_path, monkeypatch):
    (root / ".cache").write_text("a file where the folder should be")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    many(root)
    [file] = tmp_path.glob("unreadable_*.txt")
    assert len(file.read_text().splitlines()) == 25

"""Image folders: layout, decoding, the array cache, and everything that can be wrong with them."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datasets import folder as folder_module
from datasets import load
from utils.errors import UserError


def write_image(path, colour=(10, 20, 30), size=(32, 32), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def root(tmp_path):
    """Two classes, two train images and one test image each; the red channel tells the images apart."""
    root = tmp_path / "root"
    for red, name in enumerate(["train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "train/dog/b.png"]):
        write_image(root / name, (red, 100, 200))
    for red, name in enumerate(["test/cat/c.png", "test/dog/c.png"]):
        write_image(root / name, (50 + red, 100, 200))
    return root


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, so that a test can tell reading the cache from decoding."""
    paths = []
    decode = folder_module.decode

    def record(path, image_size):
        paths.append(path)
        return decode(path, image_size)

    monkeypatch.setattr(folder_module, "decode", record)
    return paths


def reds(image_set) -> list[int]:
    return image_set.images[:, 0, 0, 0].tolist()


# ---- layout ----------------------------------------------------------------------------------------------


def test_classes_and_images_come_sorted_by_name(root):
    train = load("folder", root)
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 0, 1, 1]
    assert train.file_names == ("train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "train/dog/b.png")
    assert reds(train) == [0, 1, 2, 3] and train.sample_ids.tolist() == [0, 1, 2, 3]
    assert train.images.shape == (4, 3, 32, 32) and train.images.dtype == np.uint8 and train.mirrored
    test = load("folder", str(root), "test")
    assert reds(test) == [50, 51] and test.file_names == ("test/cat/c.png", "test/dog/c.png")


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
    assert len(load("folder", root)) == 4


# ---- decoding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode, colour, rgb",
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (1, 2, 3, 4), (1, 2, 3)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(root, mode, colour, rgb):
    write_image(root / "train/cat/a.png", colour, mode=mode)
    assert tuple(load("folder", root).images[0, :, 5, 5]) == rgb


def test_wide_image_loses_its_sides_and_tall_image_its_ends(root):
    for name, size in (("a", (64, 32)), ("b", (32, 64))):
        image = Image.new("RGB", size, (255, 0, 0))
        left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
        ImageDraw.Draw(image).rectangle((left, top, left + 31, top + 31), fill=(0, 255, 0))
        image.save(root / f"train/cat/{name}.png")
    cats = load("folder", root).images[:2]
    assert (cats[:, 0] == 0).all() and (cats[:, 1] == 255).all()


@pytest.mark.parametrize("size", [(100, 75), (31, 47), (500, 32), (33, 33), (7, 5)])
def test_resize_and_crop_are_those_of_torchvision(root, size):
    from torchvision.transforms import CenterCrop, Compose, Resize

    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image.save(root / "train/cat/a.png")
    expected = np.asarray(Compose([Resize(32), CenterCrop(32)])(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(load("folder", root).images[0], expected)


def test_image_size_is_taken(root):
    assert load("folder", root, image_size=8).images.shape == (4, 3, 8, 8)


def test_image_size_of_zero(root):
    with pytest.raises(UserError, match="image size of 0"):
        load("folder", root, image_size=0)


# ---- cache -----------------------------------------------------------------------------------------------


def test_second_load_reads_the_cache_only(root, decoded):
    first = load("folder", root)
    assert len(decoded) == 4 and (root / ".cache/train_32.npz").is_file()
    second = load("folder", root)
    assert len(decoded) == 4 and second.fingerprint() == first.fingerprint()
    assert os.listdir(root / ".cache") == ["train_32.npz"]  # no temporary file is left


def test_each_split_and_size_has_its_cache(root, decoded):
    for split, size in (("train", None), ("test", None), ("train", 8), ("train", None), ("test", None)):
        load("folder", root, split, image_size=size)
    assert len(decoded) == 4 + 2 + 4
    assert sorted(os.listdir(root / ".cache")) == ["test_32.npz", "train_32.npz", "train_8.npz"]


def test_cache_is_remade_when_a_file_is_added(root):
    load("folder", root)
    write_image(root / "train/cat/c.png", (99, 0, 0))
    assert reds(load("folder", root)) == [0, 1, 99, 2, 3]


def test_cache_is_remade_when_a_file_is_removed(root):
    load("folder", root)
    os.remove(root / "train/cat/a.png")
    assert reds(load("folder", root)) == [1, 2, 3]


def test_cache_is_remade_when_a_file_of_the_same_size_is_written_over(root):
    load("folder", root)
    path = root / "train/cat/a.png"
    before = path.stat()
    write_image(path, (1, 100, 200))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert path.stat().st_size == before.st_size and reds(load("folder", root)) == [1, 1, 2, 3]


def test_cache_is_remade_when_two_files_swap_names(root):
    load("folder", root)
    cats = root / "train/cat"
    os.utime(cats / "b.png", ns=(1, 1))
    for old, new in (("a.png", "t"), ("b.png", "a.png"), ("t", "b.png")):
        os.rename(cats / old, cats / new)
    assert reds(load("folder", root)) == [1, 0, 2, 3]


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped byte", "no zip", "pickle inside", "wrong shape"])
def test_damaged_cache_is_remade(root, decoded, damage):
    expected = load("folder", root).fingerprint()
    path = root / ".cache/train_32.npz"
    content = bytearray(path.read_bytes())
    key = np.load(path)["key"]
    if damage == "empty":
        content.clear()
    elif damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "flipped byte":
        content[len(content) // 2] ^= 255  # in the middle of the pixels
    elif damage == "no zip":
        content[:] = b"something else altogether"
    path.write_bytes(content)
    if damage == "pickle inside":
        np.savez(path, key=np.array("x", dtype=object), images=np.zeros(1))
    elif damage == "wrong shape":
        np.savez(path, key=key, images=np.zeros((3, 3, 32, 32), dtype=np.uint8))
    assert load("folder", root).fingerprint() == expected and len(decoded) == 8
    load("folder", root)
    assert len(decoded) == 8  # and what was remade is whole


def test_root_that_cannot_be_written_goes_without_a_cache(root, monkeypatch, caplog):
    def refuse(path, write):
        raise UserError(f"cannot write {path} (Read-only file system)", "choose a writable folder")

    monkeypatch.setattr(folder_module, "write_atomically", refuse)
    assert reds(load("folder", root)) == [0, 1, 2, 3]
    [record] = caplog.records
    assert "no image cache" in record.message and "\n" not in record.message


def test_cache_folder_that_cannot_be_made(root, caplog):
    (root / ".cache").write_text("a file where the folder should be")
    assert reds(load("folder", root)) == [0, 1, 2, 3]
    assert "no image cache" in caplog.text


def test_cache_folder_that_is_a_link_is_left_alone(root, tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    (root / ".cache").symlink_to(tmp_path / "elsewhere")
    assert reds(load("folder", root)) == [0, 1, 2, 3]
    assert os.listdir(tmp_path / "elsewhere") == [] and "no image cache" in caplog.text


# ---- what can be wrong -----------------------------------------------------------------------------------


def refused(root, *words, split="train"):
    with pytest.raises(UserError) as caught:
        load("folder", root, split)
    message = str(caught.value)
    assert " — " in message and "\n" not in message
    for word in words:
        assert str(word) in message
    assert not (root / ".cache" / f"{split}_32.npz").exists()


def test_missing_root(tmp_path):
    refused(tmp_path / "nowhere", "there is no folder", tmp_path / "nowhere", "ROOT/train/<class>")


def test_root_without_a_train_folder(root):
    os.rename(root / "train", root / "training")
    refused(root, "there is no folder", root / "train")


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


def test_text_file_with_an_image_extension(root):
    (root / "train/dog/b.png").write_text("not an image")
    refused(root, root / "train/dog/b.png", "does not decode", "replace or remove")


def test_empty_image_file(root):
    (root / "train/dog/b.png").write_bytes(b"")
    refused(root, root / "train/dog/b.png", "does not decode")


@pytest.mark.parametrize("name", ["b.png", "b.jpg"])
def test_truncated_image(root, name):
    path = root / "train/dog" / name
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(root, path, "does not decode")


@pytest.mark.parametrize("limit", [1000, 400], ids=["warned of by Pillow", "refused by Pillow"])
def test_decompression_bomb(root, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # 32 x 32 = 1024 pixels: above it, or above its double
    refused(root, root / "train", "too large to decode", "shrink or remove")


def test_image_so_thin_that_resizing_it_would_fill_the_memory(root, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    write_image(root / "train/cat/a.png", size=(100, 1))  # 100 pixels, but 3200 x 32 once resized
    refused(root, root / "train/cat/a.png", "too large to decode")


def test_warning_filters_are_put_back(root):
    before = list(warnings.filters)
    load("folder", root)
    assert list(warnings.filters) == before


def test_file_link_out_of_the_root(root, tmp_path):
    write_image(tmp_path / "secret.png")
    (root / "train/cat/link.png").symlink_to(tmp_path / "secret.png")
    refused(root, root / "train/cat/link.png", tmp_path / "secret.png", "outside", "not followed")


@pytest.mark.parametrize("link", ["train/eel", "test"])
def test_folder_link_out_of_the_root(root, tmp_path, link):
    write_image(tmp_path / "outside/cat/a.png")
    if link == "test":
        os.rename(root / "test", root / "unused")
    (root / link).symlink_to(tmp_path / "outside")
    refused(root, root / link, tmp_path / "outside", "not followed", split=link.split("/")[0])


def test_link_to_a_sibling_whose_name_starts_like_the_root(root, tmp_path):
    write_image(tmp_path / "root2/a.png")
    (root / "train/cat/link.png").symlink_to(tmp_path / "root2/a.png")
    refused(root, root / "train/cat/link.png", "outside")


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
    refused(root, root / "train/cat/loop", "link to a folder")


def test_link_to_nothing(root):
    (root / "train/cat/link.png").symlink_to(root / "train/cat/gone.png")
    refused(root, root / "train/cat/link.png", "cannot read")


def test_pipe_with_an_image_extension(root):
    os.mkfifo(root / "train/cat/pipe.png")
    refused(root, root / "train/cat/pipe.png", "not a regular file")

"""Labels from a file: what they replace, what stays the truth, and every way in which such a file can be wrong."""

import numpy as np
import pytest

from datasets import load
from datasets.label_file import with_labels
from tests.datasets.folders import TRAIN, reds
from utils.errors import UserError

DIGITS = 1438  # training images


@pytest.fixture
def csv_file(tmp_path):
    """csv_file("line", "line") -> the path of a csv."""

    def write(*lines, encoding="utf-8"):
        (tmp_path / "mine.csv").write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        return str(tmp_path / "mine.csv")

    return write


@pytest.fixture
def array_file(tmp_path):
    """array_file(array) -> the path of a .npy."""

    def write(array, **options):
        np.save(tmp_path / "mine.npy", array, **options)
        return str(tmp_path / "mine.npy")

    return write


def rows(*labels):
    """A csv of the four training images of `root`."""
    return "file,label", *(f"{name},{label}" for name, label in zip(TRAIN, labels, strict=True))


# -- of a folder -----------------------------------------------------------------------------------------------------


def test_a_csv_replaces_the_folder_names_and_nothing_is_known_of_the_truth(root, csv_file):
    plain = load("folder", root)
    labelled = load("folder", root, labels=csv_file(*rows("dog", "cat", "cat", "dog")))
    assert labelled.labels.tolist() == [1, 0, 0, 1] and labelled.labels.dtype == np.int64
    assert labelled.clean_labels is None and labelled.class_names == ("cat", "dog")
    assert reds(labelled) == [0, 1, 2, 3] and labelled.file_names == TRAIN
    assert labelled.fingerprint() != plain.fingerprint()
    assert len(labelled.labels_digest) == 16 and plain.labels_digest is None


def test_order_of_rows_and_columns_quotes_empty_lines_and_a_byte_order_mark_do_not_matter(root, csv_file):
    lines = ["label,file", "dog,train/dog/b.png", "", '"cat","train/cat/b.png"', "cat,train/dog/a.png"]
    labelled = load("folder", root, labels=csv_file(*lines, "dog,train/cat/a.png", "", encoding="utf-8-sig"))
    assert labelled.labels.tolist() == [1, 0, 0, 1]


def test_names_that_hold_commas_quotes_or_other_bytes(root, csv_file):
    odd = ['train/cat/a,"b".png', b"train/cat/caf\xe9.png".decode(errors="surrogateescape")]
    for name in odd:
        (root / name).write_bytes((root / TRAIN[0]).read_bytes())
    file = csv_file(*rows("dog", "cat", "cat", "dog"), '"train/cat/a,""b"".png",dog', "LATIN,dog")
    with open(file, "rb") as handle:
        content = handle.read()
    with open(file, "wb") as handle:
        handle.write(content.replace(b"LATIN", b"train/cat/caf\xe9.png"))
    labelled = load("folder", root, labels=file)
    assert {labelled.file_names[i] for i in np.flatnonzero(labelled.labels == 1)} == {*odd, TRAIN[0], TRAIN[3]}


def test_a_truth_may_come_with_the_labels(root, csv_file):
    lines = ["file,label,true_label", "train/cat/a.png,dog,cat", "train/cat/b.png,cat,cat"]
    labelled = load("folder", root, labels=csv_file(*lines, "train/dog/a.png,dog,", "train/dog/b.png,dog,dog"))
    assert labelled.labels.tolist() == [1, 0, 1, 1]
    assert labelled.clean_labels.tolist() == [0, 0, -1, 1]  # the third belongs to no class


def test_an_image_without_a_label_is_left_out(root, csv_file):
    file = csv_file(*rows("cat", "", "dog", "dog"))
    labelled = load("folder", root, labels=file)
    assert reds(labelled) == [0, 2, 3] and labelled.labels.tolist() == [0, 1, 1]
    assert labelled.sample_ids.tolist() == [0, 2, 3] and labelled.file_names == (TRAIN[0], *TRAIN[2:])
    assert labelled.left_out == {TRAIN[1]: f"has no label in {file}"}


def test_broken_images_may_but_need_not_stand_in_the_csv(root, csv_file):
    (root / TRAIN[1]).write_text("not an image")
    all_rows = rows("cat", "dog", "cat", "dog")
    for lines in (all_rows, [line for line in all_rows if TRAIN[1] not in line]):
        labelled = load("folder", root, labels=csv_file(*lines), skip_broken=True)
        assert reds(labelled) == [0, 2, 3] and labelled.labels.tolist() == [0, 0, 1]
        assert labelled.sample_ids.tolist() == [0, 1, 2] and list(labelled.left_out) == [TRAIN[1]]


def test_the_test_images_keep_their_own_labels(root, csv_file):
    test = load("folder", root, "test", labels=csv_file(*rows("dog", "cat", "cat", "dog")))
    assert test.labels.tolist() == [0, 1] and test.labels_digest is None


def test_an_array_of_class_numbers(root, array_file):
    labelled = load("folder", root, labels=array_file(np.array([1, 0, 0, 1], dtype=np.uint8)))
    assert labelled.labels.tolist() == [1, 0, 0, 1] and labelled.labels.dtype == np.int64
    assert labelled.clean_labels is None


def test_one_array_of_several(root, tmp_path):
    np.savez(tmp_path / "people.npz", ann=[1, 0, 0, 1], bob=[0, 1, 0, 1])
    ann, bob = (load("folder", root, labels=f"{tmp_path}/people.npz:{name}") for name in ("ann", "bob"))
    assert ann.labels.tolist() == [1, 0, 0, 1] and bob.labels.tolist() == [0, 1, 0, 1]
    assert ann.labels_digest != bob.labels_digest
    with pytest.raises(UserError, match="holds no 'ann:bob'"):
        load("folder", root, labels=f"{tmp_path}/people.npz:ann:bob")


# -- of a set whose labels are known ---------------------------------------------------------------------------------


def shifted(by: int = 1) -> np.ndarray:
    return (load("digits").labels + by) % 10


def test_the_own_labels_of_a_known_set_stay_the_truth(array_file):
    plain, labelled = load("digits"), load("digits", labels=array_file(shifted()))
    np.testing.assert_array_equal(labelled.labels, shifted())
    np.testing.assert_array_equal(labelled.clean_labels, plain.labels)
    np.testing.assert_array_equal(labelled.images, plain.images)


def test_a_csv_names_the_images_of_other_sets_by_sample_id(csv_file, array_file):
    lines = ["sample_id,label", *(f"{i},{label}" for i, label in enumerate(shifted()))]
    by_name, by_number = load("digits", labels=csv_file(*lines)), load("digits", labels=array_file(shifted()))
    np.testing.assert_array_equal(by_name.labels, by_number.labels)
    assert by_name.fingerprint() == by_number.fingerprint()


def test_a_class_subset_goes_by_the_labels_given_and_a_truth_outside_it_is_no_class(array_file):
    """Class 3 becomes 0 and 5 becomes 1; an image given as 3 that is a 2 belongs to none of them."""
    own = load("digits").labels
    given = own.copy()
    given[own == 2] = 3
    subset = load("digits", classes=[3, 5], labels=array_file(given))
    np.testing.assert_array_equal(subset.sample_ids, np.flatnonzero(np.isin(own, [2, 3, 5])))
    truth = {2: -1, 3: 0, 5: 1}
    assert subset.clean_labels.tolist() == [truth[c] for c in own[subset.sample_ids]]
    assert subset.labels.tolist() == [max(truth[c], 0) for c in own[subset.sample_ids]]


# -- what can be wrong -----------------------------------------------------------------------------------------------


def refused(root, file, *words):
    with pytest.raises(UserError) as caught:
        load("folder", root, labels=file)
    message = str(caught.value)
    assert " — " in message and "\n" not in message
    for word in words:
        assert word in message


RIGHT = rows("cat", "cat", "dog", "dog")
TABLES = {
    "empty": ([], "begins with '', not with a header", "make the first line file,label"),
    "no header": (RIGHT[1:], "begins with 'train/cat/a.png,cat', not with a header"),
    "header of another kind of set": (["sample_id,label", "0,cat"], "make the first line file,label"),
    "unknown column": (["file,label,true_labels"], "begins with 'file,label,true_labels'"),
    "column twice": (["file,label,label"], "begins with 'file,label,label'"),
    "unknown file": ([*RIGHT, "train/cat/z.png,cat"], "line 6: there is no image 'train/cat/z.png'"),
    "missing rows": (RIGHT[:3], "lacks 2 of 4 images, the first 'train/dog/a.png'"),
    "repeated row": ([*RIGHT, "train/cat/b.png,cat"], "line 6: 'train/cat/b.png' again, after line 3"),
    "unknown class": (rows("cat", "kat", "dog", "dog"), "line 3: there is no class 'kat' — choose from cat, dog"),
    "class number": (rows("0", "0", "1", "1"), "line 2: there is no class '0'"),
    "short row": ([*RIGHT[:4], "train/dog/b.png"], "line 5: 1 fields, not 2"),
    "comma in a name": (["file,label", "train/cat/a,b.png,cat"], "line 2: 3 fields, not 2 — quote names"),
    "open quote": (["file,label", '"train/cat/a.png,cat'], "line 2: unexpected end of data"),
    "class without images": (rows("cat", "cat", "cat", ""), "labels no image as dog — label some"),
    "nothing labelled": (rows("", "", "", ""), "labels no image as cat, dog"),
}  # fmt: skip


@pytest.mark.parametrize("lines, words", [(case[0], case[1:]) for case in TABLES.values()], ids=TABLES)
def test_wrong_tables(root, csv_file, lines, words):
    refused(root, csv_file(*lines), *words)


def test_of_a_subset_of_classes_a_table_need_not_name_the_others(root, csv_file):
    """As utils.export leaves it of a run with --subset."""
    file = csv_file("sample_id,label", "0,0", "1,3", "2,")  # whose own labels are 0, 1 and 2
    found = load("digits", None, classes=[0, 3], labels=file)
    assert found.sample_ids.tolist() == [0, 1] and found.labels.tolist() == [0, 1]
    with pytest.raises(UserError, match="lacks 1435 of 1438 images"):
        load("digits", None, labels=file)


def test_binary_file_called_csv(root, tmp_path):
    (tmp_path / "mine.csv").write_bytes(bytes(range(256)) * 4)
    refused(root, f"{tmp_path}/mine.csv", "mine.csv")


ARRAYS = {
    "too few": (np.zeros(3, int), "holds 3 labels for 4 images"),
    "too many": (np.zeros(5, int), "holds 5 labels for 4 images"),
    "of another shape": (np.zeros((4, 1), int), "holds an array of shape (4, 1) for 4 images"),
    "a single number": (np.array(4), "holds an array of shape () for 4 images"),
    "no whole numbers": (np.array([0.0, 1, 1, 0]), "holds float64, not whole numbers"),
    "truth values": (np.array([True, False, True, False]), "holds bool, not whole numbers"),
    "names": (np.array(["cat", "dog", "cat", "dog"]), "holds <U3, not whole numbers"),
    "too large": (np.array([0, 1, 2, 2]), "holds 2 labels outside 0 to 1, the first 2 of image 2"),
    "negative": (np.array([0, -1, 1, 0]), "holds 1 labels outside 0 to 1, the first -1 of image 1"),
    "larger than int64": (np.array([0, 1, 1, 2**64 - 1], dtype=np.uint64), "the first 18446744073709551615 of image 3"),
    "class without images": (np.zeros(4, int), "labels no image as dog"),
}


@pytest.mark.parametrize("array, line", ARRAYS.values(), ids=ARRAYS)
def test_wrong_arrays(root, array_file, array, line):
    refused(root, array_file(array), line)


def test_pickled_arrays_are_never_loaded(root, array_file, tmp_path):
    objects = np.array([0, 1, 1, None], dtype=object)
    refused(root, array_file(objects, allow_pickle=True), "is not a readable array", "save numbers, no Python objects")
    np.savez(tmp_path / "mine.npz", labels=objects)
    refused(root, f"{tmp_path}/mine.npz:labels", "is not a readable array", "save numbers, no Python objects")


def test_files_that_are_not_what_their_name_says(root, tmp_path):
    for name in ("mine.npy", "mine.npz"):
        (tmp_path / name).write_bytes(b"something else")
        refused(root, f"{tmp_path}/{name}", "is not a readable array")


def test_arrays_are_chosen_by_name(root, tmp_path):
    np.savez(tmp_path / "people.npz", ann=[1, 0, 0, 1], bob=[0, 1, 0, 1])
    file = f"{tmp_path}/people.npz"
    refused(root, file, "holds several arrays", f"name one as {file}:KEY, of ann, bob")
    refused(root, f"{file}:eve", "holds no 'eve'", "name one of its arrays: ann, bob")


@pytest.mark.parametrize("name", ["mine.txt", "mine", "", "mine.pt", "mine.npy:key"])
def test_other_kinds_of_files(root, tmp_path, name):
    refused(root, str(tmp_path / name), "is no .csv, .npy or .npz")


@pytest.mark.parametrize("name", ["gone.csv", "gone.npy", "gone.npz:key"])
def test_missing_file(root, tmp_path, name):
    refused(root, str(tmp_path / name), f"there is no labels file {tmp_path / name.split(':')[0]}")


def test_a_folder_called_like_a_file(root, tmp_path):
    (tmp_path / "mine.csv").mkdir()
    refused(root, f"{tmp_path}/mine.csv", "cannot read", "Is a directory")


def test_many_classes_are_not_all_listed(csv_file):
    digits = load("digits")
    with pytest.raises(UserError, match="there is no class 'ten' — choose from 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"):
        with_labels(digits, csv_file("sample_id,label", "0,ten"), True)

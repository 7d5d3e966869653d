"""The rows of history.csv."""

import numpy as np
import pytest

from utils.errors import UserError
from utils.experiments.history import History, history_columns, read_stage


def history(*rows):
    made = History()
    for row in rows:
        made.add(**row)
    return made


def test_floats_are_rounded_to_six_digits_and_nothing_else():
    row = {"epoch": 1, "step": "", "loss": 1 / 3, "big": 1234567.12345678, "small": 1 / 3e6, "auc": None}
    assert history(row).rows == [row | {"loss": 0.333333, "big": 1234567.123457, "small": 3.33333e-7}]


def test_the_table_has_a_column_for_whatever_came(tmp_path):
    history({"epoch": 1, "loss": 0.5}, {"epoch": 2, "auc": None}, {"epoch": 3, "auc": 0.75}).write(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,auc\n1,0.5,\n2,,\n3,,0.75\n"


def test_the_latest_row_in_words_is_its_floats():
    rows = {"epoch": 1, "loss": 2.0}, {"epoch": 2, "step": "", "lr": 0.1, "loss": 12.34567, "auc": None}
    assert history(*rows).latest() == "lr 0.1, loss 12.35"


def test_the_highlights_are_the_newest_loss_and_aucs():
    rows = {"train_loss": 9.0}, {"epoch": 2, "lr": 0.1, "train_loss": 0.5, "auc_a": 0.98765, "auc_b": None}
    assert history(*rows).highlights() == {"train_loss": "0.500", "auc_a": "0.988"}
    assert history({"step": 1, "mean_loss": 1.0, "test_accuracy": 0.5}).highlights() == {"mean_loss": "1.000"}


def test_columns_are_floats_with_nan_for_blanks():
    rows = [{"a": 1, "b": "0.5", "c": None}, {"a": 2.5, "b": "", "c": ""}, {"a": "3"}]  # "" and text: from a file
    columns = history_columns(rows, {"first": "a", "second": "b", "blank": "c", "absent": "d"})
    assert list(columns) == ["first", "second"]
    np.testing.assert_array_equal(columns["first"], [1, 2.5, 3])
    np.testing.assert_array_equal(columns["second"], [0.5, np.nan, np.nan])


def test_the_rows_of_a_stage_are_read_again(tmp_path):
    history({"stage": 1, "loss": 0.5}, {"stage": 1, "auc": None}, {"stage": 2, "loss": 1.5}).write(tmp_path / "h.csv")
    assert read_stage(tmp_path / "h.csv", "1", "train anew") == [
        {"stage": "1", "loss": "0.5", "auc": ""}, {"stage": "1", "loss": "", "auc": ""}
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"stage,loss\n1,0x5\n", b"epoch\n1\n", b"stage,loss\n1\n", b"stage\n\xff\n"])
def test_a_damaged_history_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "h.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"h\.csv is damaged \(.*\) — train anew"):
        read_stage(tmp_path / "h.csv", "1", "train anew")

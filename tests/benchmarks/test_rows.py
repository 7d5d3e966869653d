"""The row of the results table: whole on a tiny set, and its comparisons by hand."""

import pytest

from tests.benchmarks import rows
from tests.benchmarks.measuring import device_flags


@pytest.mark.slow
def test_a_row_is_whole_and_used_again(tmp_path, capsys):
    command = ["--first_stage_subset", "0", "1", "2", "--seeds", "1", "--root", str(tmp_path), "--cuda_dev", "-1"]
    command += ["--width", "0.1", "--separation", "--epoch_1st 4", "--training", "--epoch 2", "--epochs", "3"]
    rows.main(command)
    first = capsys.readouterr().out
    for row in (
        "AUC: relabel.py, default score",
        "share wrong: truth",
        "gap closed by ssl.py",
        "above the best peer's",
    ):
        assert row in first
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.json")}
    rows.main(command)
    assert table(capsys.readouterr().out) == table(first)
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.json")}


@pytest.mark.slow
def test_a_row_without_noise_has_no_auc(tmp_path, capsys):
    command = ["--first_stage_subset", "0", "1", "2", "--seeds", "1", "--first_stage_noise_type", "none"]
    command += ["--width", "0.1", "--separation", "--epoch_1st 4", "--training", "--epoch 2", "--epochs", "3"]
    rows.main([*command, "--root", str(tmp_path), "--cuda_dev", "-1"])
    printed = capsys.readouterr().out
    assert "AUC: relabel.py" not in printed and "share wrong: truth" not in printed
    assert "above cross-entropy's best epoch" in printed


def test_flags_of_the_device_reach_the_scripts():
    assert device_flags(rows.make_parser().parse_args(["--seeds", "1"])) == []
    typed = ["--cuda_dev=-1", "--precision=fp32", "--compile", "--eval_batch_size=7", "--images_on=host", "--threads=1"]
    assert device_flags(rows.make_parser().parse_args([*typed, "--seeds", "1"])) == typed


def test_margins_by_hand(capsys):
    ours = "AUC: relabel.py, default score"
    seeds = [
        {ours: 0.9, "AUC: AUM": 0.8, "AUC: last loss": 0.7, rows.OURS: 0.6, rows.BEST: 0.5},
        {
            "AUC: relabel.py, default score": 0.8,
            "AUC: AUM": 0.6,
            "AUC: last loss": 0.78,
            rows.OURS: 0.6,
            rows.BEST: 0.7,
        },
    ]
    rows.compare(seeds, print)
    assert capsys.readouterr().out.splitlines() == [
        "relabel.py's AUC above the best peer's: +0.0600, worst seed +0.0200",
        "ssl.py's test above cross-entropy's best epoch: +0.0000, worst seed -0.1000",
    ]


def table(text: str) -> list[str]:  # its rows
    return text.splitlines()[-16:]

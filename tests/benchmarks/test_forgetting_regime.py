"""Forgetting of what was memorised: every second set and rate goes on from the same stage 1."""

from tests.benchmarks import forgetting_regime
from tests.tiny import without_pixels

FEW = ["--epochs", "1", "--steps", "2", "--track_every", "2", "--seeds", "1", "--first_stage_subset", "0", "1", "2"]


def test_second_sets_and_rates_share_stage_1(tmp_path, capsys):
    command = [*FEW, "--second", "patches", "digits", "--rates", "0.001", "0.1", "--root", str(tmp_path)]
    with without_pixels():
        forgetting_regime.main([*command, "--width", "0.1", "--cuda_dev", "-1"])
    lines = capsys.readouterr().out.splitlines()
    names = lines[-5].removeprefix("second set, rate: ").split("; ")
    rows = {name: cells.split("; ") for name, cells in (line.split(": ") for line in lines[-4:])}
    assert list(rows) == ["patches, 0.001", "patches, 0.1", "digits, 0.001", "digits, 0.1"]
    before, after = ({row[names.index(name)] for row in rows.values()} for name in ("loss before", "loss at the end"))
    assert len(before) == 1 < len(after)

"""The chain over seeds, as a researcher types it: each seed reads its own, and the summary sees one group."""

import json

from tests.tiny import TINY_ARGS
from utils import summary


def test_a_chain_over_seeds_is_one_row(run, tmp_path, capsys):
    seeds, once = ("--seeds", 11, 12), (*TINY_ARGS["ssl.py"], "--runs", 1, "--epoch", 1)
    run("parallel.py", *TINY_ARGS["parallel.py"], "--epoch_1st", 1, *seeds, "--experiment_name", "sep")
    printed = run("ssl.py", *once, *seeds, "--parallel", "sep", "--experiment_name", "e")
    assert "ssl.py, seeds 11 12: mean ± sd (n)" in printed and "(2)" in printed.splitlines()[-1]
    assert "test_accuracy_best (oracle)" in printed
    records = {seed: json.loads((tmp_path / f"e_{seed}" / "run.json").read_text()) for seed in (11, 12)}
    for seed, record in records.items():
        assert record["settings"]["parallel"] == record["sources"]["parallel"]["experiment"] == f"sep_{seed}"
        assert record["sources"]["parallel"]["settings"]["seed"] == seed
    again = run("ssl.py", *once, *seeds, "--parallel", "sep", "--experiment_name", "e")
    assert again.count("is finished") == 2 and again.splitlines()[-1] == printed.splitlines()[-1]

    summary.main([str(tmp_path)])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["script", "parallel.py", "ssl.py"]

    # The same with the flags of the record, but for the seed: nothing is left to do.
    file = tmp_path / "e_11" / "run.json"
    more = ("--seed", 12, "--parallel", "sep_12", "--experiment_name", "e_12")
    assert f"{tmp_path / 'e_12'} is finished" in run("ssl.py", "--settings", file, *more)

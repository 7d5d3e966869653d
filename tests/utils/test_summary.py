"""Tables over seeds of hand-made run.json files: what is grouped, what is shown, what a reader is warned of."""

import json

import pytest

from utils import summary
from utils.command_line.running import run_script

VERSIONS = {"python": "3.11.7", "torch": "2.14.1"}


def record(
    root, name, script="relabel.py", method="relabel", figures=None, status="finished", entries=None, **settings
):
    """A run.json under root/name."""
    data_flag = "data_name" if script == "ssl.py" else "first_stage_data_name"
    settings = {"seed": 1, "experiment_name": name, data_flag: "digits", "lr": 0.1} | settings
    written = {
        "script": script,
        "method": method,
        "command": script,
        "status": status,
        "settings": settings,
        "data": {"images": "a"},
        "seconds": {},
        "figures": {"test_accuracy": 0.5} if figures is None else figures,
        "versions": VERSIONS,
        "resolved_precision": "fp32",
    } | (entries or {})
    (root / name).mkdir(parents=True)
    (root / name / "run.json").write_text(json.dumps(written))


def ssl(root, name, accuracy=0.5, **more):
    record(root, name, "ssl.py", "ssl", {"test_accuracy": accuracy}, **more)


def summarised(capsys, root, *flags):
    """The lines that the command prints."""
    summary.main([str(root), *flags])
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def refused(capsys, *flags):
    with pytest.raises(SystemExit) as end:
        run_script(summary.main, [str(flag) for flag in flags])
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_runs_that_differ_by_seed_name_and_device_are_one_row(tmp_path, capsys):
    for seed, accuracy in enumerate((0.5, 0.75, 1.0)):
        figures = {"test_accuracy": accuracy, "auc_relabel_score": 0.75, "score": "relabel_prediction"}
        device = {"cuda_dev": seed, "threads": seed, "compile": seed == 1}
        record(tmp_path, f"r{seed}", figures=figures, seed=seed, experiments_root=str(seed), **device)
    assert summarised(capsys, tmp_path) == [
        "test_accuracy        auc_score",
        "0.7500 ± 0.2500 (3)  0.7500 ± 0.0000 (3)",
    ]


def test_runs_that_differ_by_what_they_leave_beside_the_rest_are_one_row(tmp_path, capsys):
    for seed in (1, 2, 3):
        more = {"keep_models": seed == 1, "save_best_AUC_model": seed == 2, "report": seed}
        record(tmp_path, f"r{seed}", "main.py", "forget", seed=seed, **more)
    assert summarised(capsys, tmp_path) == ["test_accuracy", "0.5000 ± 0.0000 (3)"]


def test_a_default_that_was_not_spelt_out_makes_no_group_of_its_own(tmp_path, capsys):
    for seed, source in ((1, None), (2, "passes"), (3, "batches")):
        record(tmp_path, f"r{seed}", seed=seed, track_from=source)
    assert [line.split()[0] for line in summarised(capsys, tmp_path)] == ["track_from", "batches", "passes"]


def test_only_what_differs_is_shown_in_the_order_of_its_values(tmp_path, capsys):
    for lr, accuracies in ((0.1, (0.5, 0.7)), (0.02, (0.3, 0.5))):
        for seed, accuracy in enumerate(accuracies):
            record(tmp_path, f"{lr}_{seed}", figures={"test_accuracy": accuracy}, seed=seed, lr=lr, wd=0.5, M=[4, 8])
    assert summarised(capsys, tmp_path) == [
        "lr    test_accuracy",
        "0.02  0.4000 ± 0.1414 (2)",
        "0.1   0.6000 ± 0.1414 (2)",
    ]


def test_settings_of_one_script_do_not_tell_scripts_apart_but_data_do(tmp_path, capsys):
    record(tmp_path, "a", epoch_1st=120)
    record(tmp_path, "b", "main.py", "forget", epoch_1st=40, lr_2nd=0.5)
    assert summarised(capsys, tmp_path)[0].split() == ["script", "test_accuracy"]
    ssl(tmp_path, "c", data_name="cifar10")
    assert [line.split()[:2] for line in summarised(capsys, tmp_path)] == [
        ["script", "dataset"],
        ["main.py", "digits"],
        ["relabel.py", "digits"],
        ["ssl.py", "cifar10"],
    ]


def test_a_flag_that_came_later_makes_a_group_of_its_own_and_is_shown(tmp_path, capsys):
    record(tmp_path, "old", figures={"test_accuracy": 0.25})
    record(tmp_path, "new", seed=2, plant=0.5)
    assert summarised(capsys, tmp_path) == ["plant  test_accuracy", "       0.2500 (1)", "0.5    0.5000 (1)"]


def test_chained_runs_are_grouped_by_the_settings_of_what_they_read(tmp_path, capsys):
    for seed in (11, 12):
        record(tmp_path, f"relabel_{seed}", seed=seed, epoch_1st=40)
        ssl(tmp_path, f"ssl_{seed}", 0.5 if seed == 11 else 1.0, seed=seed, relabel=f"relabel_{seed}")
    found = summarised(capsys, tmp_path, "--by", "script")
    assert found[2] == "ssl.py      0.7500 ± 0.3536 (2)" and len(found) == 3  # and no note of mixed settings
    record(tmp_path, "other_13", seed=13, epoch_1st=80)
    ssl(tmp_path, "ssl_13", 0.25, seed=13, relabel="other_13")
    header, *rows = summarised(capsys, tmp_path)
    assert header.split()[:3] == ["script", "epoch_1st", "relabel.epoch_1st"]
    assert [row.split("  ")[-1].strip() for row in rows] == [
        "0.5000 ± 0.0000 (2)",
        "0.5000 (1)",
        "0.7500 ± 0.3536 (2)",
        "0.2500 (1)",
    ]


def test_what_was_recorded_of_the_source_counts_and_a_lost_one_goes_by_its_name(tmp_path, capsys):
    for seed in (1, 2):
        settings = {"lr": 0.3, "seed": seed, "experiment_name": f"gone_{seed}"}
        source = {"relabel": {"experiment": f"gone_{seed}", "settings": settings}}
        ssl(tmp_path, f"recorded_{seed}", seed=seed, relabel="", entries={"sources": source})
        ssl(tmp_path, f"lost_{seed}", seed=seed, relabel=f"lost_{seed}_source")
    rows = [line.split()[0] for line in summarised(capsys, tmp_path)[1:]]
    assert rows == ["yes", "lost_1_source", "lost_2_source"]


def test_a_file_of_another_experiment_goes_by_its_settings(tmp_path, capsys):
    for seed in (1, 2):
        record(tmp_path / "all", f"relabel_{seed}", seed=seed)
        file = f"{tmp_path}/{'all' if seed == 1 else 'moved'}/relabel_{seed}/relabel_aum.npy"
        ssl(tmp_path / "all", f"ssl_{seed}", seed=seed, scores=file)
    assert summarised(capsys, tmp_path / "all")[-1].split() == ["ssl.py", "0.5000", "±", "0.0000", "(2)"]


def test_what_names_no_file_and_no_experiment_goes_by_what_it_is(tmp_path, capsys):
    """Of a damaged record."""
    ssl(tmp_path, "file", scores=True)
    ssl(tmp_path, "experiment", relabel=7)
    assert len(summarised(capsys, tmp_path)) == 3


def test_by_some_settings_only(tmp_path, capsys):
    for k, (ratio, lr) in enumerate([(0.2, 0.1), (0.2, 0.2), (0.4, 0.1)]):
        record(tmp_path, str(k), seed=k, first_stage_noise_ratio=ratio, lr=lr)
    for name in ("noise_ratio", "first_stage_noise_ratio"):
        assert summarised(capsys, tmp_path, "--by", name) == [
            "noise_ratio  test_accuracy        note",
            "0.2          0.5000 ± 0.0000 (2)  [1]",
            "0.4          0.5000 (1)",
            "[1] mixed settings: lr",
        ]


def test_by_the_seed_where_that_is_asked_for(tmp_path, capsys):
    for name, seed, accuracy in (("a", 2, 0.25), ("b", 1, 0.5), ("c", 1, 1.0)):
        record(tmp_path, name, figures={"test_accuracy": accuracy}, seed=seed)
    assert [line[:26].rstrip() for line in summarised(capsys, tmp_path, "--by", "seed")] == [
        "seed  test_accuracy",
        "1     0.7500 ± 0.3536 (2)",
        "2     0.2500 (1)",
        "[1] more than one run of s",
    ]


def test_without_the_usual_figures_all_there_are_are_shown(tmp_path, capsys):
    record(tmp_path, "a", figures={"purity": 0.25, "clean_set_size": 12})
    assert summarised(capsys, tmp_path) == ["clean_set_size  purity", "12.0 (1)        0.2500 (1)"]


def test_what_is_hard_to_compare_has_a_note(tmp_path, capsys):
    record(tmp_path, "a", choose="oracle")
    record(tmp_path, "b", seed=2, choose="oracle", entries={"versions": VERSIONS | {"torch": "2.15"}})
    record(tmp_path, "c", seed=2, choose="oracle", entries={"resolved_precision": "bf16", "data": {"images": "b"}})
    assert summarised(capsys, tmp_path)[1:] == [
        "0.5000 ± 0.0000 (3)  [1] [2] [3] [4] [5]",
        "[1] mixed torch: 2.14.1, 2.15",
        "[2] mixed precision: bf16, fp32",
        "[3] mixed images",
        "[4] more than one run of seed 2",
        "[5] oracle: score and moment chosen by the true labels",
    ]


def test_versions_and_digests_of_any_kind_are_compared(tmp_path, capsys):
    for seed, strange in enumerate(({"resolved_precision": 3}, {"versions": {"torch": {}}}, {"data": {"images": []}})):
        record(tmp_path, f"r{seed}", seed=seed, entries=strange)
    assert "mixed images" in " ".join(summarised(capsys, tmp_path))


def test_figures_by_name_and_only_of_finished_runs(tmp_path, capsys):
    record(tmp_path, "a", figures={"test_accuracy_best": 0.5, "clean_set_size": 1000})
    record(tmp_path, "b", seed=2, figures={"test_accuracy_best": 1.0})
    record(tmp_path, "c", seed=3, figures={"test_accuracy_best": 9.0}, status="running")
    assert summarised(capsys, tmp_path, "--figures", "test_accuracy_best", "clean_set_size") == [
        "test_accuracy_best (oracle)  clean_set_size",
        "0.7500 ± 0.3536 (2)          1000.0 (1)",
    ]


def test_into_a_file(tmp_path, capsys):
    record(tmp_path, "a")
    out = tmp_path / "table.csv"
    assert summarised(capsys, tmp_path, "--format", "csv", "--out", str(out)) == [str(out)]
    assert out.read_text() == "test_accuracy mean,test_accuracy sd,test_accuracy n\n0.5,,1\n"


def test_what_cannot_be_summarised_is_one_line(tmp_path, capsys):
    assert "no finished experiment" in refused(capsys, tmp_path / "nowhere")
    record(tmp_path, "a", figures={"test_accuracy": 0.5, "score": "relabel_loss"})
    record(tmp_path, "damaged", entries={"settings": ["lr"]})  # is passed over
    assert "the setting seeds — take one of dataset, experiment_name, lr, script, seed" in refused(
        capsys, tmp_path, "--by", "seeds"
    )
    assert "the figure score — take some of test_accuracy" in refused(capsys, tmp_path, "--figures", "score")
    assert "cannot write" in refused(capsys, tmp_path, "--out", tmp_path / "none" / "table")

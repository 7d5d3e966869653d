"""One run for each seed, and runs with the flags of an earlier one."""

import argparse
import json
import signal
import sys

import pytest

from tests.tiny import load_script
from utils.command_line.flags import add_output, add_repetition, experiment_name, resolve
from utils.command_line.parser import SEED, Parser
from utils.command_line.repetition import beside, one_after_the_other, parse, run_each, with_seed
from utils.command_line.running import run_script
from utils.data.choice import SSL, add_data
from utils.errors import Diverged, Stopped, UserError
from utils.experiments.experiment import Experiment
from utils.experiments.stop_request import StopRequest

FLAGS = {
    "main.py": [
        [],
        ["--seed", "7", "--M", "3", "--M", "5", "--no-track_CE", "--second_stage_subset", "0", "5", "--M_2nd", "1"],
        ["--first_stage_data_name", "folder", "--train_root", "a b", "--no-mirror", "--image_size", "64"],
        ["--freeze_earlySecondStage", "--freeze_epochWise", "--lr_2nd", "1e-7", "--cuda_dev", "-1"],
    ],
    "parallel.py": [
        [],
        ["--first_stage_noise_type", "none", "--schedule", "steps"],
        ["--labels=-x.csv"],
        ["--features", "resnet50"],
    ],
    "relabel.py": [[], ["--relabel_by", "prediction"], ["--reg_term1", "0.5", "--M", "3"], ["--model_type", "13-CNN"]],
    "ssl.py": [
        ["--forget"],
        ["--relabel"],  # one run, whose default networks are two
        ["--relabel", "--network", "PR18"],
        ["--relabel", "a", "--parallel", "--agree_on_clean", "--runs", "3", "--epoch", "9", "--swa"],
        ["--forget", "--targets", "split"],
        ["--forget", "--f_l", "--use_bmm", "--double_run", "--epoch", "9"],
        ["--forget", "--parallel", "--f_FND", "--threshold", "0.2"],
    ],
}


def recorded(script, words, monkeypatch):
    """What the script would record of these words: (settings, the flags that were given)."""
    module, found = load_script(script), []
    monkeypatch.setattr("utils.command_line.script.run_experiment", lambda *of: found.append(of[3:]))
    module.main(words)
    ((args, given),) = found
    return json.loads(json.dumps(vars(args))), json.loads(json.dumps(given))


def settings_of(script, words, monkeypatch):
    return recorded(script, words, monkeypatch)[0]


def write_record(path, script, given):
    path.write_text(json.dumps({"script": script, "given": given}))
    return str(path)


@pytest.mark.parametrize(("script", "words"), [(script, words) for script in FLAGS for words in FLAGS[script]])
def test_recorded_flags_make_the_same_settings_again(tmp_path, monkeypatch, script, words):
    settings, given = recorded(script, words, monkeypatch)
    assert not {"settings", "seeds"} & (settings.keys() | given.keys())
    file = write_record(tmp_path / "run.json", script, given | {"experiment_name": "old", "overwrite": True})
    assert recorded(script, ["--settings", file], monkeypatch) == (settings, given)


def test_flags_given_by_hand_take_the_place_of_the_recorded_ones(tmp_path, monkeypatch):
    old = ["--M", "3", "--M", "5", "--seed", "7", "--no-track_CE", "--lr", "0.5", "--first_stage_subset", "0", "1", "2"]
    file = write_record(tmp_path / "run.json", "main.py", recorded("main.py", old, monkeypatch)[1])
    new = ["--M", "4", "--seed=8", "--track_CE", "--subset", "3", "4"]
    found = settings_of("main.py", [*new, "--settings", file], monkeypatch)
    assert found == settings_of("main.py", [*new, "--lr", "0.5"], monkeypatch)


@pytest.mark.parametrize(
    ("script", "old", "new"),
    [
        ("main.py", [], ["--dataset", "folder", "--train_root", "x"]),  # whose labels are taken as they are
        ("main.py", [], ["--step_number", "10"]),
        ("main.py", ["--epoch_1st", "7"], ["--M", "3"]),
        ("parallel.py", ["--plant", "0"], ["--features", "resnet50"]),
        ("relabel.py", [], ["--relabel_by", "prediction", "--model_type", "13-CNN"]),
        ("relabel.py", ["--compare_to_forgetting"], ["--lr", "0.05"]),
        ("ssl.py", ["--forget"], ["--relabel"]),
        ("ssl.py", ["--forget"], ["--use_bmm"]),
    ],
)
def test_defaults_of_an_earlier_run_are_no_flags(tmp_path, monkeypatch, script, old, new):
    file = write_record(tmp_path / "run.json", script, recorded(script, old, monkeypatch)[1])
    assert settings_of(script, ["--settings", file, *new], monkeypatch) == settings_of(
        script, [*old, *new], monkeypatch
    )


def test_seeds_with_the_settings_of_one_seed_read_what_is_their_own(tmp_path, monkeypatch):
    for name in ("sep_1", "sep_2", "other"):
        (tmp_path / name).mkdir()
    chain = ["--relabel", "sep_1", "--parallel", "other", "--experiments_root", str(tmp_path)]
    file = write_record(tmp_path / "run.json", "ssl.py", recorded("ssl.py", chain, monkeypatch)[1])
    script = load_script("ssl.py")
    args = parse(script.parser(), ["--settings", file, "--seeds", "1", "2"])
    found = [with_seed(args, seed) for seed in (1, 2)]
    assert [(one.relabel, one.parallel, one.seed) for one in found] == [("sep_1", "other", 1), ("sep_2", "other", 2)]


def test_one_file_of_scores_is_of_one_seed():
    with pytest.raises(UserError, match="--scores are of the labels of one seed"):
        load_script("ssl.py").main(["--scores", "mine.npy", "--seeds", "1", "2"])


def test_one_file_of_scores_is_of_all_seeds_where_the_labels_hold_still(tmp_path):
    words = ["--scores", str(tmp_path / "mine.npy"), "--noise_seed", "1", "--experiments_root", str(tmp_path)]
    with pytest.raises(UserError, match="mine.npy"):  # which is not there
        load_script("ssl.py").main([*words, "--seeds", "1", "2"])


def test_what_does_nothing_is_said_once(tmp_path, monkeypatch, capsys):
    file = write_record(tmp_path / "run.json", "main.py", {})
    recorded("main.py", ["--settings", file, "--relearn_freq", "3"], monkeypatch)
    assert capsys.readouterr().out == "has no effect here, nor in the original: --relearn_freq\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is no run.json"),
        ("[]", "is no run.json"),
        ("[" * 100_000, "is no run.json"),
        ('{"script": "parallel.py", "given": 3}', "is no run.json"),
        ('{"script": "parallel.py", "settings": {"lr": 0.1}}', "an earlier version wrote it"),
        ('{"script": "main.py", "given": {}}', "is of main.py, not of parallel.py"),
        ('{"script": "parallel.py", "given": {"lr": 0.1, "new": 1}}', "does not know: new"),
        ('{"script": "parallel.py", "given": {"lr": "fast"}}', "'fast' is not a number"),
        ('{"script": "parallel.py", "given": {"M": [3], "schedule": "cosine"}}', "--M does nothing"),
    ],
)
def test_records_that_give_no_flags_are_one_line(tmp_path, capsys, content, message):
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as end:
        run_script(load_script("parallel.py").main, ["--settings", str(file)])
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and message in err and err.count("\n") == 1


# Seeds.


def parser():
    parser = Parser("ssl.py", "a script")
    add_data(parser, SSL)
    parser.add_argument("--seed", type=SEED, default=1)
    for flag in ("--width", "--relabel"):
        parser.add_argument(flag)
    parser.set_defaults(default_schedule="cosine", schedule=None, M=None, gamma_scheduler=0.1)
    add_output(parser)
    add_repetition(parser)
    return parser


def train(args, stopped_by=None, runs=None):
    """A run that takes no time; its accuracy is a tenth of its seed."""
    args = resolve(args)
    settings = dict(vars(args))
    with Experiment(args.experiments_root, experiment_name("ssl.py", args)).open(
        "ssl.py", "ssl", settings, args.overwrite
    ) as experiment:
        if experiment.finished:
            return
        if runs is not None:
            runs.append(args.seed)
        experiment.begin({"images": "abc"})
        if args.seed == stopped_by:
            signal.raise_signal(signal.SIGTERM)
            experiment.stop.raise_if_asked()
        experiment.finish({"test_accuracy": args.seed / 10})


def test_every_seed_has_its_own_experiment_and_the_table_comes_last(tmp_path, capsys):
    words = ["--seeds", "1", "2", "3", "--experiments_root", str(tmp_path), "--experiment_name", "mine"]
    run_each(parser(), train, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine_1", "mine_2", "mine_3"]
    assert [json.loads((tmp_path / f"mine_{k}" / "run.json").read_text())["settings"]["seed"] for k in (1, 2, 3)] == [
        1, 2, 3
    ]  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "ssl.py, seeds 1 2 3: mean ± sd (n)",
        "test_accuracy",
        "0.2000 ± 0.1000 (3)",
    ]


def test_an_estimate_is_that_of_the_first_seed(tmp_path, capsys):
    runs = []
    words = ["--seeds", "1", "2", "3", "--estimate", "--experiments_root", str(tmp_path), "--experiment_name", "mine"]
    run_each(parser(), lambda args: runs.append((args.seed, args.experiment_name)), words)
    assert runs == [(1, "mine_1")] and capsys.readouterr().out.startswith("one of 3 runs")


def test_a_default_name_holds_the_seed_already(tmp_path):
    run_each(parser(), train, ["--seeds", "4", "5", "--experiments_root", str(tmp_path)])
    names = [f"ssl_digits_random_in_noise_0.4_seed{seed}" for seed in (4, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_signal_ends_all_and_the_same_command_goes_on_with_the_one_that_was_cut_off(tmp_path, monkeypatch):
    words = ["--seeds", "1", "2", "3", "--experiments_root", str(tmp_path), "--experiment_name", "mine"]
    monkeypatch.setattr(sys, "argv", ["ssl.py", *words])
    runs = []
    with pytest.raises(Stopped, match="go on with: python3 ssl.py --seeds 1 2 3 ") as stopped:
        run_each(parser(), lambda args: train(args, 2, runs), words)
    assert stopped.value.exit_status == 143 and runs == [1, 2]
    run_each(parser(), lambda args: train(args, runs=runs), words)
    assert runs == [1, 2, 2, 3]


def test_a_signal_that_comes_too_late_for_its_run_stops_those_after_it(tmp_path, monkeypatch):
    words = ["--seeds", "1", "2", "--experiments_root", str(tmp_path), "--experiment_name", "late"]
    monkeypatch.setattr(sys, "argv", ["ssl.py", *words])
    before = signal.getsignal(signal.SIGTERM)

    def late(args):
        with Experiment(args.experiments_root, args.experiment_name).open("ssl.py", "ssl", {}) as experiment:
            experiment.begin({})
            experiment.finish({})
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="go on with: python3 ssl.py --seeds 1 2 "):
        run_each(parser(), late, words)
    assert [path.name for path in tmp_path.iterdir()] == ["late_1"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_experiments_that_a_run_reads_are_those_of_its_seed_where_there_are_any(tmp_path):
    (tmp_path / "sep_2").mkdir()
    flags = {"experiments_root": str(tmp_path), "experiment_name": None, "seed": 1}
    args = argparse.Namespace(relabel="sep", parallel="", forget=None, first_stage_from="sep", compare="other", **flags)
    expected = {"relabel": "sep_2", "parallel": "", "forget": None, "first_stage_from": "sep_2", "compare": "other"}
    assert vars(with_seed(args, 2)) == flags | expected | {"seed": 2}
    assert with_seed(args, 3).relabel == args.relabel == "sep"


def test_default_names_of_a_chain_are_those_of_each_seed(tmp_path):
    for name in ("relabel_digits_none_seed1", "relabel_digits_none_seed2", "main_digits_none_seed2_noiseseed3"):
        (tmp_path / name).mkdir()
    root = str(tmp_path)
    assert beside(root, "relabel_digits_none_seed1", 2) == "relabel_digits_none_seed2"
    assert beside(root, "main_digits_none_seed1_noiseseed3", 2) == "main_digits_none_seed2_noiseseed3"
    assert beside(root, "relabel_digits_none_seed1", 3) == "relabel_digits_none_seed1"  # there is none


def test_a_seed_that_diverges_leaves_the_others_and_is_named_in_the_end(tmp_path, capsys):
    words = ["--seeds", "1", "2", "3", "--experiments_root", str(tmp_path), "--experiment_name", "mine"]

    def diverging(args):
        if args.seed == 2:
            raise Diverged("the loss is nan at epoch 1, step 1", "lower the learning rate")
        train(args)

    with pytest.raises(UserError, match="1 of 3 seeds diverged: 2"):
        run_each(parser(), diverging, words)
    printed = capsys.readouterr().out
    assert "seed 2: the loss is nan" in printed
    assert printed.splitlines()[-3:] == ["ssl.py, seeds 1 3: mean ± sd (n)", "test_accuracy", "0.2000 ± 0.1414 (2)"]


def test_what_is_to_be_typed_after_a_stop_overwrites_no_seed_twice_and_leaves_none_out(tmp_path, monkeypatch):
    words = ["--seeds", "1", "2", "3", "--overwrite", "--experiments_root", str(tmp_path), "--experiment_name", "mine"]
    monkeypatch.setattr(sys, "argv", ["ssl.py", *words])
    run_each(parser(), train, words)
    rest = rf"--experiments_root {tmp_path} --experiment_name mine, then the same with --seeds 3 --overwrite$"
    with pytest.raises(Stopped, match=f"go on with: python3 ssl.py --seeds 1 2 {rest}"):
        run_each(parser(), lambda args: train(args, 2), words)
    with pytest.raises(Stopped, match=r"go on with: python3 ssl.py --seeds 1 2 3 .*mine$"):
        run_each(parser(), lambda args: train(args, 3), words)


def test_one_of_several_processes_says_that_older_runs_of_the_others_seeds_stay():
    args = parser().parse_args(["--overwrite", "--experiment_name", "mine"])
    with StopRequest("ssl.py --seeds 1 2") as stop:
        one_after_the_other("ssl.py", args, [2], [1, 2], lambda args: None, stop)
    assert stop.command == "ssl.py --seeds 1 2  (older runs of seeds that had not begun stay: --overwrite those)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "1", "--seed", "1"], "contradict"),
        (["--seed=1", "--seeds", "1"], "contradict"),
        (["--spread", "seeds"], "--spread does nothing without --seeds"),
        (["--seeds", "1", "2", "--spread", "seeds"], "--spread does nothing without torchrun"),
        (["--seeds", "1", "2", "1"], "more than once"),
        (["--seeds"], "expected at least one argument"),
        (["--seeds", "-1"], "outside"),
    ],
)
def test_seeds_that_contradict_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        run_each(parser(), lambda args: pytest.fail("it ran"), words)


def test_seeds_take_the_place_of_a_recorded_seed(tmp_path):
    file = write_record(tmp_path / "run.json", "ssl.py", {"seed": 9, "width": "3"})
    words, seeds = ["--settings", file, "--seeds", "1", "2", "--experiment_name", "mine"], []
    with pytest.raises(UserError, match="no experiment folder"):
        run_each(parser(), lambda args: seeds.append((args.seed, args.width)), words)
    assert seeds == [(1, "3"), (2, "3")]
    assert parse(parser(), ["--settings", file]).seed == 9

"""The command line: defaults, the documented commands, and one line for every mistake."""

import argparse
import itertools
import os
import re
import subprocess
import sys

import pytest

from tests.benchmarks.measuring import documented
from tests.tiny import ROOT, load_script
from utils.command_line.flags import USUAL, default_name, resolve
from utils.command_line.parser import default_with
from utils.command_line.running import run_script
from utils.data.choice import SECOND, SSL, data_choice
from utils.errors import UserError
from utils.experiments.record import NAME_PATTERN
from utils.methods.relabelling_flags import resolve_epochs
from utils.training.optimisation import schedule_of

SCRIPTS = ("main.py", "parallel.py", "relabel.py")


def arguments(name, *flags):
    """The resolved flags of a script."""
    script = load_script(name)
    args = script.parser().parse_args([str(flag) for flag in flags])
    args = script.resolved(args)
    if name == "relabel.py":
        resolve_epochs(args, 5000)
    return args


def typed(capsys, name, *flags):
    """What a script answers to wrong flags: (exit status, stdout, stderr)."""
    with pytest.raises(SystemExit) as end:
        run_script(load_script(name).main, [str(flag) for flag in flags])
    return end.value.code, *capsys.readouterr()


# Help and defaults.


def help_entries(name, monkeypatch, capsys):
    """{dest of a flag: its help, flags included, in one line}."""
    monkeypatch.setenv("COLUMNS", "10000")
    parser = load_script(name).parser()
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--help_all"])
    assert end.value.code == 0
    entries = re.findall(r"^  (--.*\n(?: {3,}.*\n)*)", capsys.readouterr().out, re.MULTILINE)
    dests = {flag: action.dest for action in parser._actions for flag in action.option_strings}
    entries = {dests[re.match(r"--\w+", entry)[0]]: " ".join(entry.split()) for entry in entries}
    return {dest: entry for dest, entry in entries.items() if dest != argparse.SUPPRESS}  # of --help_all itself


@pytest.mark.parametrize("name", [*SCRIPTS, "ssl.py"])
def test_help_prints_every_default_once(name, monkeypatch, capsys):
    entries = help_entries(name, monkeypatch, capsys)
    defaults = vars(load_script(name).parser().parse_args([]))
    assert entries.keys() <= defaults.keys()
    printed = {flag for flag, entry in entries.items() if f"(default: {defaults[flag]})" in entry}
    assert printed == {flag for flag in entries if defaults[flag] is not None and defaults[flag] is not False}
    assert not [entry for entry in entries.values() if entry.count("default:") > 1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_defaults_that_depend_on_other_flags_are_printed_right(name, monkeypatch, capsys):
    entries, resolved = help_entries(name, monkeypatch, capsys), vars(arguments(name))
    noise_type = entries["first_stage_noise_type"]
    assert f"(default: {resolved['first_stage_noise_type']}; none for 'folder' and with --labels)" in noise_type
    for flag in ("first_stage_noise_ratio", "second_stage_noise_ratio"):
        if flag in entries:
            assert f"(default: {resolved[flag]})" in entries[flag]
    if name != "relabel.py":  # there it depends on the way
        assert f"(default: {resolved['schedule']}; steps with --M)" in entries["schedule"]
    assert "for digits 0.25" in entries["width"] and resolved["width"] == 0.25
    assert "default: 1," in entries["width"] and arguments(name, "--first_stage_data_name", "cifar10").width == 1


@pytest.mark.parametrize("name", [*SCRIPTS, "ssl.py"])
def test_help_says_something_about_every_flag_and_documents_every_flag(name, monkeypatch, capsys):
    entries = help_entries(name, monkeypatch, capsys)
    undocumented = vars(load_script(name).parser().parse_args([])).keys() - entries.keys()
    # set_defaults, not flags
    assert {flag.split("_")[-1] for flag in undocumented} <= {"ratio", "schedule"}
    assert not [entry for entry in entries.values() if len(entry.split()) < 4]


@pytest.mark.parametrize("name", [*SCRIPTS, "ssl.py"])
@pytest.mark.parametrize("help_flag", ["--help", "--help_all"])
def test_help_answers_without_torch_from_any_folder(name, help_flag, tmp_path):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / name), help_flag],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert result.returncode == 0 and result.stdout.startswith(f"usage: python3 {name}")
    assert "utils.command_line.flags" in imported  # so the list is what it should be
    assert not imported & {"torch", "torchvision", "sklearn", "matplotlib"}


@pytest.mark.parametrize("name", [*SCRIPTS, "ssl.py"])
def test_the_short_help_fits_a_screen_and_names_flags_by_their_first_name(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for flag in ("--help", "-h", "--help_all"):
        with pytest.raises(SystemExit):
            load_script(name).parser().parse_args([flag])
    short, same, whole = capsys.readouterr().out.split("usage: ")[1:]
    assert short == same and len(short.splitlines()) < 60 < len(whole.splitlines())
    shown = set(re.findall(r"^  (--\w+)", short, re.MULTILINE))
    assert {"--help", "--help_all", "--dataset", "--noise_type", "--seed", "--width", "--overwrite"} <= shown < USUAL
    assert "--first_stage" not in short.split("the flags that")[1] and "--first_stage_noise_ration" in whole


def test_the_short_help_says_where_a_value_may_be_missing_and_where_there_may_be_several(capsys):
    with pytest.raises(SystemExit):
        load_script("ssl.py").parser().parse_args(["--help"])
    short = capsys.readouterr().out
    assert "--relabel [EXPERIMENT]" in short and "--seeds SEED ..." in short and "--runs K " in short


def test_every_usual_flag_is_the_first_name_of_a_flag():
    first = {
        next(flag for flag in action.option_strings if flag.startswith("--"))
        for name in (*SCRIPTS, "ssl.py")
        for action in load_script(name).parser()._actions
    }
    assert first >= USUAL


# Flags that parse.


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_documented_commands_parse(name):
    flags = documented()[name]
    resolved = vars(arguments(name, *flags))
    for flag, value in zip(flags, flags[1:], strict=False):
        if flag.startswith("--") and not value.startswith("--") and flag not in ("--M", "--second_stage_subset"):
            assert str(resolved[flag[2:]]) == value
    assert resolved["M"] == ([75, 110] if name == "relabel.py" else [40, 80])
    assert resolved["first_stage_noise_ratio"] == 0.4
    if name == "main.py":
        assert resolved["second_stage_subset"] == [2, 14, 23, 35, 48, 51, 69, 74, 87, 90]
        assert resolved["second_stage_noise_ratio"] == 0.0
        assert resolved["save_best_AUC_model"] and resolved["track_CE"]


@pytest.mark.parametrize("spelling", ["ratio", "ration"])
def test_the_noise_ratio_has_two_spellings(spelling):
    for name, flag in itertools.product(SCRIPTS, [f"--first_stage_noise_{spelling}", f"--noise_{spelling}"]):
        assert arguments(name, flag, 0.25).first_stage_noise_ratio == 0.25
    assert arguments("main.py", f"--second_stage_noise_{spelling}", 0.1).second_stage_noise_ratio == 0.1


def test_the_data_are_named_alike_in_all_scripts():
    usual = "--dataset svhn --subset 3 1 --num_classes 2 --noise_type asymmetric --noise_ratio 0.2 --noise_seed 7"
    historical = usual.replace("--", "--first_stage_").replace("first_stage_dataset", "first_stage_data_name")
    short, long = usual.split(), historical.replace("first_stage_noise_seed", "noise_seed").split()
    choices = []
    for name, flags in itertools.product(SCRIPTS, (short, long)):
        choices.append(data_choice(arguments(name, *flags)))
    for flags in (short, long):
        choices.append(data_choice(resolve(load_script("ssl.py").parser().parse_args(["--forget", *flags])), SSL))
    first, *rest = choices
    assert (first.name, first.subset, first.num_classes) == ("svhn", [3, 1], 2)
    assert (first.noise_type, first.noise_ratio, first.seed, first.noise_seed) == ("real_in_noise", 0.2, 1, 7)
    assert all(choice == first for choice in rest)


def test_noise_has_short_names_that_are_recorded_under_the_long_ones():
    assert arguments("main.py", "--noise_type", "symmetric").first_stage_noise_type == "random_in_noise"
    assert arguments("main.py", "--second_stage_noise_type", "asymmetric").second_stage_noise_type == "real_in_noise"


def test_the_noise_seed_is_that_of_seed_unless_given():
    for flags, seed, noise_seed in ((["--seed", 3], 3, 3), (["--noise_seed", 3], 1, 3), (["--noise_seed", 1], 1, 1)):
        choice = data_choice(arguments("main.py", *flags))
        assert (choice.seed, choice.seed_of_labels) == (seed, noise_seed)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ("", (150, None)),
        ("--steps_total 30", (30, None)),
        ("--step_number 30", (None, 30)),
        ("--step_number 30 --steps_total 100", (100, 30)),
        ("--epoch_2nd 3", (None, None)),
        ("--epoch_2nd 3 --steps_total 100", (100, None)),
    ],
)
def test_steps_are_counted_in_all_or_of_an_epoch(flags, settings):
    args = arguments("main.py", *flags.split())
    assert (args.steps_total, args.step_number) == settings


def test_flags_of_a_freezing_that_is_not_asked_for_are_taken_back_and_named(capsys):
    args = arguments("main.py", "--unfreeze_secondStage", 3, "--freeze_epochWise")
    assert (args.unfreeze_secondStage, args.freeze_epochWise) == (None, False)
    said = "does nothing without --freeze_earlySecondStage: --unfreeze_secondStage, --freeze_epochWise"
    assert capsys.readouterr().out.strip() == said
    assert arguments("main.py", "--freeze_earlySecondStage").unfreeze_secondStage == 11


def test_overwriting_has_the_name_of_the_original_too():
    for flags, overwrite in (("", False), ("--repeat", True), ("--repeat True", True), ("--repeat False", False)):
        assert arguments("parallel.py", *flags.split()).overwrite is overwrite


def test_a_ratio_of_zero_is_kept():
    assert arguments("parallel.py", "--first_stage_noise_ratio", 0).first_stage_noise_ratio == 0


def test_noise_type_none_has_ratio_zero():
    assert arguments("parallel.py", "--first_stage_noise_type", "none").first_stage_noise_ratio == 0
    zero = ("--first_stage_noise_type", "none", "--first_stage_noise_ratio", 0)
    assert arguments("parallel.py", *zero).first_stage_noise_ratio == 0


FOLDER = ("--first_stage_data_name", "folder", "--train_root", "a")


@pytest.mark.parametrize(
    "flags, noise",
    [
        ([], ("random_in_noise", 0.4)),
        (["--first_stage_data_name", "cifar10"], ("random_in_noise", 0.4)),
        (FOLDER, ("none", 0)),
        ([*FOLDER, "--first_stage_noise_ratio", 0], ("none", 0)),
        ([*FOLDER, "--first_stage_noise_type", "random_in_noise"], ("random_in_noise", 0.4)),
        (
            [*FOLDER, "--first_stage_noise_type", "real_in_noise", "--first_stage_noise_ratio", 0.2],
            ("real_in_noise", 0.2),
        ),
        (["--labels", "mine.csv"], ("none", 0)),
        (["--labels", "mine.csv", "--first_stage_noise_type", "none"], ("none", 0)),
        ([*FOLDER, "--labels", "mine.csv"], ("none", 0)),
    ],
)
@pytest.mark.parametrize("name", SCRIPTS)
def test_labels_that_may_be_wrong_already_are_taken_as_they_are(name, flags, noise):
    args = arguments(name, *flags)
    assert (args.first_stage_noise_type, args.first_stage_noise_ratio) == noise


def test_so_it_is_with_ssl_and_with_a_second_stage():
    args = resolve(load_script("ssl.py").parser().parse_args(["--forget", "--dataset", "folder", "--train_root", "a"]))
    assert (args.noise_type, args.noise_ratio) == ("none", 0)
    args = arguments("main.py", "--second_stage_data_name", "folder", "--second_stage_root", "b")
    assert (args.first_stage_noise_type, args.second_stage_noise_type) == ("random_in_noise", "none")
    assert arguments("main.py").second_stage_noise_type == "random_in_noise"  # with ratio 0


def test_labels_are_those_of_the_first_stage_and_broken_images_those_of_any_folder():
    flags = ["--labels", "mine.csv", "--second_stage_data_name", "folder", "--second_stage_root", "b", "--skip_broken"]
    args = arguments("main.py", *flags)
    first, second = data_choice(args), data_choice(args, SECOND)
    assert (first.labels, first.skip_broken) == ("mine.csv", False)
    assert (second.labels, second.skip_broken) == (None, True)


def test_milestones_are_sorted_and_replace_the_default():
    assert arguments("main.py", "--M", 80, "--M", 40).M == [40, 80]
    args = arguments("main.py", "--schedule", "steps")
    assert args.M == [] and schedule_of(args, 40).milestones == [30, 35]  # 3/4 and 7/8
    assert schedule_of(arguments("main.py", "--M", 7), 40).milestones == [7]
    assert not schedule_of(arguments("main.py"), 40).milestones


def test_the_factor_at_milestones_needs_some_and_may_be_the_default_anywhere():
    assert arguments("main.py", "--gamma_scheduler", 0.1).schedule == "cosine"
    assert arguments("main.py", "--M", 5, "--gamma_scheduler", 0.5).gamma_scheduler == 0.5
    assert arguments("main.py", "--M_2nd", 5, "--gamma_scheduler", 0.5).gamma_scheduler == 0.5  # of stage 2


def test_schedules_in_words():
    def words(*flags, **later):
        return schedule_of(arguments("parallel.py", *flags), 40, **later).in_words()

    assert words() == "cosine, rate 0.1, falling to 0 over 40 epochs"
    assert words("--schedule", "steps") == "steps, rate 0.1, times 0.1 after epochs 30 and 35"
    assert words("--M", 7, "--gamma_scheduler", 0.5, "--lr", 1) == "steps, rate 1, times 0.5 after epochs 7"
    assert words("--schedule", "constant") == "constant, rate 0.1"
    later = dict(later_base=0.05, later_from=20)
    assert words("--schedule", "constant", **later) == "constant, rate 0.1 and from epoch 21 on 0.05"


def test_milestones_mean_the_schedule_of_steps_and_cosine_has_none():
    for flags, schedule, milestones in (
        ([], "cosine", []),
        (["--M", 7], "steps", [7]),
        (["--schedule", "steps", "--M", 7], "steps", [7]),
        (["--schedule", "constant"], "constant", []),
    ):
        args = arguments("parallel.py", *flags)
        assert (args.schedule, args.M) == (schedule, milestones)


@pytest.mark.parametrize("name", SCRIPTS)
def test_networks_are_kept_from_memorising_by_default(name):
    args = arguments(name)
    assert (args.mixup, args.ema, args.balance) == (1.0, 0.99, 0.8)
    augment = {"main.py": "strong", "parallel.py": "standard", "relabel.py": None}  # strong once these two go on
    assert args.augment == augment[name]
    assert (args.choose, args.plant, args.wd) == ("proxy", None, 5e-4)


def test_a_weight_of_zero_means_its_way_too():
    args = arguments("relabel.py", "--reg_term1", 0)
    assert (args.relabel_by, args.reg_term1) == ("prediction", 0)


@pytest.mark.parametrize(
    "flags", [["--relabel_by", "prediction"], ["--lr_2nd", 0.1], ["--ce_loss_inWarmup"], ["--reg_term1", 0.8]]
)
def test_a_flag_of_joint_optimisation_means_it_and_its_defaults(flags):
    args = arguments("relabel.py", *flags)
    assert (args.relabel_by, args.epoch_1st, args.warmup_e, args.schedule) == ("prediction", 40, 20, "steps")
    assert (args.M, args.mixup, args.ema, args.track_from) == ([], 0, 0, None)  # None: passes
    assert (args.lr_2nd, args.reg_term1, args.reg_term2) == (0.1, 0.8, 0.4)
    assert (args.epoch_update, args.dropout, args.input_noise) == (1, 0, 0)  # nothing blurs what is recorded


def test_relabelling_by_the_posterior_has_defaults_of_its_own():
    args = arguments("relabel.py")
    assert (args.relabel_by, args.epoch_1st, args.warmup_e, args.schedule) == ("posterior", 120, 60, "cosine")
    assert (args.M, args.reg_term2, args.lr_2nd, args.reg_term1) == ([], 0, None, None)
    assert args.track_from == "batches"
    assert (args.epoch_update, args.dropout, args.input_noise) == (None, None, None)  # as is usual for each network
    assert arguments("relabel.py", "--epoch_1st", 11).warmup_e == 5
    with pytest.raises(UserError, match="--warmup_e 60 leaves no epoch of --epoch_1st 60"):
        arguments("relabel.py", "--epoch_1st", 60, "--warmup_e", 60)
    with pytest.raises(UserError, match="--epoch_1st 1 leaves no epoch to relabel in"):
        arguments("relabel.py", "--epoch_1st", 1)


def test_what_stage_1_has_fitted_is_seen_by_passes_where_it_is_to_stop_by_that():
    assert arguments("main.py").track_from == "batches"
    assert arguments("main.py", "--memorise_until", 0.99).track_from == "passes"
    assert arguments("main.py", "--memorise_until", 0.99, "--track_from", "batches").track_from == "batches"


def test_predictions_of_mixed_batches_never_become_labels():
    by_prediction = ("--relabel_by", "prediction", "--mixup", 1)
    assert arguments("relabel.py", *by_prediction).mixup == 1
    with pytest.raises(UserError, match="--track_from batches goes without --mixup"):
        arguments("relabel.py", *by_prediction, "--track_from", "batches")


def test_the_choice_of_data_reads_the_flags_of_its_stage():
    flags = ("--train_root", "a", "--second_stage_root", "b", "--first_stage_data_name", "folder", "--image_size", 64,
             "--first_stage_noise_type", "random_in_noise", "--second_stage_data_name", "folder",
             "--second_stage_noise_type", "random_in_noise", "--second_stage_noise_ratio", 0.1,
             "--second_stage_subset", 3, 1, "--seed", 5)  # fmt: skip
    args = arguments("main.py", *flags)
    first, second = data_choice(args), data_choice(args, SECOND)
    assert (first.name, first.root, first.subset, first.image_size, first.noise_ratio) == ("folder", "a", None, 64, 0.4)
    assert (second.name, second.root, second.subset, second.image_size) == ("folder", "b", [3, 1], None)
    assert (second.noise_ratio, first.seed, second.seed) == (0.1, 5, 5)


# Flags that are refused: one line on stderr, exit status 2.


WRONG_EVERYWHERE = {
    "unknown data set": (["--first_stage_data_name", "cifar11"], "cifar11"),
    "unknown noise": (["--first_stage_noise_type", "some"], "some"),
    "unknown precision": (["--precision", "fp8"], "fp8"),
    "unknown flag": (["--epochs", "5"], "--epochs"),
    "abbreviated flag": (["--epoch_1", "5"], "--epoch_1"),
    "abbreviated flag with =": (["--experiment_n=a"], "--experiment_n"),
    "stray word": (["digits"], "digits"),
    "missing value": (["--lr"], "--lr"),
    "ratio of one": (["--first_stage_noise_ratio", "1"], r"1 is outside \[0, 1\)"),
    "ratio above one": (["--first_stage_noise_ratio", "40"], r"40 is outside \[0, 1\)"),
    "negative ratio": (["--first_stage_noise_ratio", "-0.1"], r"-0.1 is outside \[0, 1\)"),
    "ratio NaN": (["--first_stage_noise_ratio", "nan"], "nan is outside"),
    "ratio no number": (["--first_stage_noise_ratio", "many"], "'many' is not a number"),
    "rate zero": (["--lr", "0"], r"0 is outside \(0, inf\)"),
    "rate infinite": (["--lr", "inf"], r"inf is outside \(0, inf\)"),
    "rate NaN": (["--lr", "NaN"], "NaN is outside"),
    "negative epochs": (["--epoch_1st", "-5"], "-5 is outside"),
    "no epochs": (["--epoch_1st", "0"], "0 is outside"),
    "half an epoch": (["--epoch_1st", "1.5"], "'1.5' is not a whole number"),
    "negative milestone": (["--M", "-1"], "-1 is outside"),
    "milestone of the cosine": (["--schedule", "cosine", "--M", "3"], "--M does nothing with --schedule cosine"),
    "factor without milestones": (
        ["--gamma_scheduler", "0.5"],
        "--gamma_scheduler does nothing with --schedule cosine",
    ),
    "factor of a constant": (
        ["--schedule", "constant", "--gamma_scheduler", "0.2"],
        "nothing with --schedule constant",
    ),
    "negative noise seed": (["--noise_seed", "-1"], "-1 is outside"),
    "unknown schedule": (["--schedule", "linear"], "linear"),
    "unknown augmentation": (["--augment", "weak"], "weak"),
    "negative mixup": (["--mixup", "-1"], "-1 is outside"),
    "average that never moves": (["--ema", "1"], r"1 is outside \[0, 1\)"),
    "all labels planted": (["--plant", "1"], r"1 is outside \[0, 1\)"),
    "unknown choice": (["--choose", "best"], "best"),
    "batch of one": (["--batch_size", "1"], "1 is outside"),
    "negative seed": (["--seed", "-1"], "-1 is outside"),
    "seed too large": (["--seed", str(2**32)], "is outside"),
    "negative class": (["--first_stage_subset", "0", "-1"], "-1 is outside"),
    "one class": (["--first_stage_num_classes", "1"], "1 is outside"),
    "gpu -2": (["--cuda_dev", "-2"], "-2 is outside"),
    "ratio without noise": (["--first_stage_noise_type", "none", "--first_stage_noise_ratio", "0.4"], "no effect"),
    "ratio without a type for folder": (
        [*FOLDER, "--first_stage_noise_ratio", "0.3"],
        "ratio 0.3 has no effect on the labels of 'folder'.* on purpose with --noise_type random_in_noise",
    ),
    "ratio on given labels": (
        ["--labels", "mine.npy", "--first_stage_noise_ratio", "0.3"],
        "on the labels of --labels",
    ),
    "noise on given labels": (
        ["--labels", "mine.npy", "--first_stage_noise_type", "random_in_noise"],
        "would change the labels of --labels",
    ),
    "images of no set put in": (["--ood_ratio", "0.2"], "add --ood_data NAME"),
    "no share to put in": (["--ood_data", "svhn"], "--ood_data does nothing without --ood_ratio"),
    "classes to put in, but no share": (["--ood_ratio", "0", "--ood_subset", "1"], "--ood_subset does nothing without"),
    "root of bundled images": (["--ood_ratio", "0.2", "--ood_data", "patches", "--ood_root", "a"], "--ood_root does"),
    "no root to put in from": (["--ood_ratio", "0.2", "--ood_data", "folder"], "add --ood_root FOLDER"),
    "the very images put in": (
        ["--ood_ratio", "0.2", "--ood_data", "digits", "--ood_subset", "1", "--first_stage_subset", "0", "1"],
        "the very classes that are learnt",
    ),
    "nothing to skip": (["--skip_broken"], "--skip_broken is for 'folder'"),
    "folder without root": (["--first_stage_data_name", "folder"], "--train_root"),
    "size of digits": (["--image_size", "64"], "--image_size is for 'folder', not digits"),
    "size too small": (["--first_stage_data_name", "folder", "--train_root", "a", "--image_size", "4"], "4 is outside"),
}
WRONG_IN_ONE = {
    "folder without second root": ("main.py", ["--second_stage_data_name", "folder"], "--second_stage_root"),
    "second ratio": ("main.py", ["--second_stage_noise_ratio", "1.5"], "1.5 is outside"),
    "second ratio without noise": (
        "main.py", ["--second_stage_noise_type", "none", "--second_stage_noise_ration", "0.1"], "no effect"
    ),
    "memorised beyond all": ("main.py", ["--memorise_until", "1.1"], "1.1 is outside"),
    "weight of the other way": ("relabel.py", ["--relabel_by", "posterior", "--reg_term1", "1"], "nothing with"),
    "a weight of 0 of the other way": ("relabel.py", ["--relabel_by", "posterior", "--reg_term1", "0"], "nothing with"),
    "mirroring of what is never mirrored": ("parallel.py", ["--no-mirror"], "--no-mirror does nothing"),
    "no neighbours": ("parallel.py", ["--no-track_CE", "--NN_k", "50"], "do nothing with --no-track_CE"),
    "second stage elsewhere": ("parallel.py", ["--second_stage_root", "a"], "--second_stage_root"),
    "neither true nor false": ("parallel.py", ["--repeat", "maybe"], "'maybe' is neither True nor False"),
    "two to compare with": ("relabel.py", ["--compare", "a", "--compare_to_forgetting"], "name two experiments"),
    "no noise in a ResNet": ("relabel.py", ["--model_type", "preactResNet18", "--input_noise", "0.1"], "does nothing"),
    "mean by the posterior": ("relabel.py", ["--relabel_by", "posterior", "--epoch_update", "3"], "nothing with"),
    "unknown network": ("relabel.py", ["--model_type", "resnet50"], "resnet50"),
    "dropout of one": ("relabel.py", ["--dropout", "1"], r"outside \[0, 1\)"),
    "negative weight": ("relabel.py", ["--reg_term1", "-0.8"], "outside"),
    "only warm-up": ("relabel.py", ["--epoch_1st", "20", "--warmup_e", "20"], "leaves no epoch"),
}  # fmt: skip
WRONG = {key: ("parallel.py", *case) for key, case in WRONG_EVERYWHERE.items()} | WRONG_IN_ONE


def check_refusal(answer, message):
    status, out, err = answer
    assert status == 2 and out == ""
    assert re.fullmatch(r"error: .+ — .+\n", err)  # `.` stops at a line's end
    assert re.search(message, err)


@pytest.mark.parametrize(("name", "flags", "message"), WRONG.values(), ids=WRONG)
def test_wrong_flags_end_with_one_line(capsys, name, flags, message):
    check_refusal(typed(capsys, name, *flags), message)


@pytest.mark.parametrize("name", ["main.py", "relabel.py"])
def test_the_other_scripts_refuse_alike(capsys, name):
    for flags, message in WRONG_EVERYWHERE.values():
        check_refusal(typed(capsys, name, *flags), message)


def test_the_message_points_to_the_help(capsys):
    assert "see python3 relabel.py --help" in typed(capsys, "relabel.py", "--lr", "x")[2]


def test_a_script_refuses_in_a_process_of_its_own(tmp_path):
    result = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--first_stage_noise_ratio", "2"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    check_refusal((result.returncode, result.stdout, result.stderr), "2 is outside")
    assert list(tmp_path.iterdir()) == []


def test_defaults_of_flags_that_belong_to_another():
    off, on = argparse.Namespace(bmm=False, th=None, mode=None), argparse.Namespace(bmm=True, th=0.3, mode=None)
    for args in (off, on):
        default_with(args, "bmm", th=0.05, mode="a")
    assert (off.th, off.mode, on.th, on.mode) == (None, None, 0.3, "a")
    with pytest.raises(UserError, match="^--th does nothing without --bmm"):
        default_with(argparse.Namespace(bmm=False, th=0.3), "bmm", th=0.05)


# Names of experiments.


def test_the_default_name_tells_what_ran():
    args = arguments("main.py")
    assert default_name("main.py", args) == "main_digits_random_in_noise_0.4_seed1"
    args = arguments("relabel.py", "--first_stage_subset", 3, 1, "--first_stage_noise_type", "none", "--seed", 2)
    assert default_name("relabel.py", args) == "relabel_digits_classes3-1_none_seed2"
    args = arguments("relabel.py", "--labels", "some/where/human labels.npz:worst")
    assert default_name("relabel.py", args) == "relabel_digits_labels-human-labels.npz-worst_seed1"
    args = arguments("main.py", "--seed", 2, "--noise_seed", 1)
    assert default_name("main.py", args) == "main_digits_random_in_noise_0.4_seed2_noiseseed1"
    args = arguments("parallel.py", "--features", "resnet50")
    assert default_name("parallel.py", args) == "parallel_resnet50_digits_random_in_noise_0.4_seed1"
    args = arguments("main.py", "--ood_ratio", 0.2, "--ood_data", "svhn", "--ood_subset", 3, 1)
    assert default_name("main.py", args) == "main_digits_random_in_noise_0.4_ood0.2-svhn-3-1_seed1"


def test_the_default_name_of_many_classes_is_short_and_their_own():
    flags = ["--dataset", "cifar100", "--ood_ratio", "0.2", "--ood_data", "svhn", "--subset"]
    few, many, others = (
        default_name("main.py", arguments("main.py", *flags, *map(str, range(start, stop))))
        for start, stop in ((0, 20), (0, 99), (1, 100))
    )
    assert "classes0-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16-17-18-19_" in few
    assert max(map(len, (many, others))) < 100 and "classes99of" in many and many != others


@pytest.mark.parametrize("ratio", [0, 0.4, 1e-7, 0.123456])
def test_default_names_are_usable(ratio):
    args = arguments("main.py", "--first_stage_subset", 3, 1, "--first_stage_noise_ratio", ratio)
    assert NAME_PATTERN.fullmatch(default_name("main.py", args))

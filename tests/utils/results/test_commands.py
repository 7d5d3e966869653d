"""The commands that people are told to type are those that work."""

import itertools
import json
import shlex
from pathlib import Path

import pytest

from tests.tiny import load_script
from utils import export
from utils.command_line import repetition
from utils.command_line.flags import resolve
from utils.data.choice import SSL, DataChoice, OutOfDistribution, data_choice
from utils.errors import UserError
from utils.experiments.record import Record
from utils.results.commands import (
    classify_command,
    export_command,
    honest_command,
    separation_command,
    ssl_command,
    training_flags,
)
from utils.separations import FORGET, RELABEL, SEPARATIONS

CHOICE = DataChoice("folder", "my images", [2, 0], None, 64, "real_in_noise", 0.3, 5, mirror=False, noise_seed=7)
AS_GIVEN = DataChoice("folder", "my images", None, None, None, "none", 0.0, 5, labels="my labels.csv", skip_broken=True)
FOREIGN = OutOfDistribution(0.2, "folder", "other images", [1, 3])
MIXED = DataChoice("digits", None, [0, 1], None, None, "random_in_noise", 0.3, 5, ood=FOREIGN)
UNKNOWN = DataChoice("digits", None, None, None, None, "none", 0.0, 1)


def test_the_training_command_names_the_same_data():
    assert shlex.split(ssl_command(FORGET, "run", CHOICE, {"--width": 0.5}, "elsewhere")) == [
        "python3", "ssl.py", "--forget", "run", "--dataset", "folder", "--train_root", "my images",
        "--subset", "2", "0", "--image_size", "64", "--no-mirror", "--noise_type", "real_in_noise",
        "--noise_ratio", "0.3", "--noise_seed", "7", "--seed", "5", "--width", "0.5", "--experiments_root", "elsewhere",
    ]  # fmt: skip


def test_the_training_command_names_the_labels_file_and_leaves_out_the_same_images():
    command = ssl_command(RELABEL, "r", AS_GIVEN, {}, "experiments")
    assert "--train_root 'my images' --skip_broken --labels 'my labels.csv' --noise_type none --seed 5" in command


def test_what_was_not_set_is_left_out():
    assert ssl_command(RELABEL, "r", UNKNOWN, {}, "experiments") == (
        "python3 ssl.py --relabel r --dataset digits --noise_type none --seed 1"
    )


@pytest.mark.parametrize("separation", SEPARATIONS.values(), ids=SEPARATIONS)
@pytest.mark.parametrize("choice", [CHOICE, AS_GIVEN, UNKNOWN, MIXED])
def test_every_command_parses_back_to_the_same_data(separation, choice):
    _, script, *flags = shlex.split(separation_command(separation, choice, "experiments"))
    assert data_choice(resolve(load_script(script).parser().parse_args(flags))) == choice
    _, script, *flags = shlex.split(ssl_command(separation, "e", choice, {}, "experiments"))
    assert data_choice(resolve(load_script(script).parser().parse_args(flags)), SSL) == choice


def test_how_a_separation_trained_is_taken_over_where_it_was_said_by_hand():
    settings = {"width": 0.25, "epoch_1st": 40, "schedule": "steps", "M": [30, 35]}
    assert training_flags({"given": {"data_name": "digits"}, "settings": settings}, 40, 160) == {}
    given = {"M": [35, 30], "width": 0.25, "schedule": "steps", "epoch_1st": 40, "gamma_scheduler": 0.5}
    taken = training_flags({"given": given, "settings": settings, "data": {"samples": 1438}}, 40, 160)
    steps = {"--schedule": "steps", "--M": [30, "--M", 35], "--gamma_scheduler": 0.5}
    assert taken == {"--width": 0.25, "--epoch": 40} | steps
    _, script, *flags = shlex.split(ssl_command(FORGET, "e", UNKNOWN, taken, "experiments"))
    args = resolve(load_script(script).parser().parse_args(flags))
    assert (args.width, args.epoch, args.schedule, args.M, args.gamma_scheduler) == (0.25, 40, "steps", [30, 35], 0.5)


def test_the_next_training_gets_what_the_machine_was_given_and_milestones_their_epochs():
    record = {"settings": {"M": [30]}, "data": {"samples": 1438}}
    given = {"cuda_dev": -1, "images_on": "host", "batch_size": 50, "eval_batch_size": 100, "M": [30]}
    assert training_flags(record | {"given": given}, 40, 110) == {
        "--cuda_dev": -1, "--images_on": "host", "--batch_size": 50, "--eval_batch_size": 100, "--epoch": 40,
        "--M": [30],
    }  # fmt: skip


@pytest.mark.parametrize(
    "given, usual, samples, expected",
    [
        (60, 120, 1438, 80),  # half of 120: half of 160
        (1, 40, 1438, 4),
        (1, 120, 100_000, 2),  # a clean set and what follows need one each
        (30, 120, 100_000, 40),  # half of 60: half of 80
        (40, 40, 1438, None),
        (150, 40, 1438, None),  # to memorise takes longer than to learn
    ],
)
def test_of_its_usual_epochs_ssl_gets_the_share_that_the_separation_had(given, usual, samples, expected):
    record = {"settings": {"epoch_1st": given, "M": []}, "data": {"samples": samples}}
    assert training_flags(record | {"given": {"epoch_1st": given}}, usual, 160).get("--epoch") == expected
    assert training_flags(record | {"given": {}}, usual, 160).get("--epoch") is None


RATES = [[], ["--schedule", "cosine"], ["--schedule", "steps"], ["--schedule", "constant"], ["--M", "3"]]
WAYS = {"main.py": ["--M_2nd", "3"], "parallel.py": [], "relabel.py": ["--relabel_by", "prediction"]}


@pytest.mark.parametrize("separation", SEPARATIONS.values(), ids=SEPARATIONS)
def test_however_a_separation_was_trained_the_next_command_is_taken(separation):
    script, ssl, taken = load_script(separation.script), load_script("ssl.py"), 0
    either = ([[], words] for words in (["--gamma_scheduler", "0.5"], ["--epoch_1st", "9"], WAYS[separation.script]))
    for parts in itertools.product(RATES, *either):
        try:
            args = script.parser().parse_args([word for words in parts for word in words])
            given = script.parser().given(args)
            args = script.resolved(args)
        except UserError:  # of the separation's own flags
            continue
        record = {"given": given, "settings": vars(args), "data": {"samples": 1438}}
        command = ssl_command(separation, "e", UNKNOWN, training_flags(record, separation.epochs, 160), "experiments")
        next_args = ssl.resolved(ssl.parser().parse_args(shlex.split(command)[2:]))
        if args.schedule == "steps":  # a rate that falls by another factor does so in both
            assert next_args.gamma_scheduler == args.gamma_scheduler
        taken += 1
    assert taken > 20


def test_an_oracles_separation_is_made_once_more_without_the_truth(tmp_path):
    words = ["--choose", "oracle", "--width", "0.5", "--seed", "3", "--experiments_root", str(tmp_path)]
    script = load_script("parallel.py")
    given = script.parser().given(script.parser().parse_args(words))
    entries = {"script": "parallel.py", "command": shlex.join(["parallel.py", *words])}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text(json.dumps(entries | {"given": given}))
    for record in (Record(tmp_path / "mine", entries | {"given": given}), Record(tmp_path / "mine", entries)):
        python, name, *flags = shlex.split(honest_command(record))
        args = script.resolved(repetition.parse(script.parser(), flags))
        assert (python, name, args.choose, args.experiment_name) == ("python3", "parallel.py", "proxy", "mine_proxy")
        assert (args.width, args.seed, args.experiments_root) == (0.5, 3, str(tmp_path))


def test_a_model_is_used_by_its_path():
    command = classify_command(Path("experiments/my run/model.pt"))
    assert command == "python3 -m utils.classifier 'experiments/my run/model.pt' FOLDER_OF_IMAGES"


@pytest.mark.parametrize("with_folder", [True, False])
def test_the_command_that_takes_a_review_away_parses(with_folder):
    words = shlex.split(export_command(Path("my experiments/mine"), with_folder))
    assert words[:3] == ["python3", "-m", "utils.export"]
    args = export.parser().parse_args(words[3:])
    export.check(args)
    assert (args.experiment, args.experiments_root, args.review) == ("mine", "my experiments", "review.csv")

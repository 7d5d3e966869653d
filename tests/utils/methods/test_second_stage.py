"""Stage 2 of forgetting: which layers may move, and what stage 1 has to have left."""

import pytest
import torch

import models
from tests.tiny import TINY_ARGS, load_script
from utils.command_line.flags import resolve
from utils.errors import UserError
from utils.experiments.artifacts import save_torch
from utils.methods.forgetting import read_stage1
from utils.methods.forgetting_flags import resolve_second_stage
from utils.methods.second_stage import SecondStageSettings, frozen_parameters


@pytest.fixture(scope="module")
def network():
    return models.build(models.PREACT_RESNET18, 3, width=0.1)


def test_patterns_name_parameters_of_the_backbone(network):
    assert frozen_parameters(network, []) == set()
    assert frozen_parameters(network, ["stem.*", "blocks.[01].bn2.*"]) == {
        "stem.weight", "blocks.0.bn2.weight", "blocks.0.bn2.bias", "blocks.1.bn2.weight", "blocks.1.bn2.bias"
    }  # fmt: skip


def test_a_pattern_without_a_match_is_answered_with_the_layers_there_are(network):
    listed = ", ".join(["stem.*", *(f"blocks.{k}.*" for k in range(8)), "bn.*"])
    for pattern in ("layer1.*", "head1.*"):  # head 1 does not move anyway
        with pytest.raises(UserError) as error:
            frozen_parameters(network, ["stem.*", pattern])
        assert str(error.value).startswith(f"--freeze_layers {pattern} matches") and listed in str(error.value)
    with pytest.raises(UserError, match="freezes the whole backbone"):
        frozen_parameters(network, ["[sb]*"])


@pytest.mark.parametrize(
    "flags, steps",
    [
        ("", 150),  # however small the second set is
        ("--steps_total 500", 500),
        ("--epoch_2nd 3", 30),
        ("--step_number 4", 40),  # of ten epochs
        ("--step_number 4 --steps_total 100", 100),
        ("--epoch_2nd 3 --steps_total 20", 20),
        ("--epoch_2nd 3 --steps_total 100", 30),
    ],
)
def test_stage_2_takes_as_many_steps_as_it_is_told_to(flags, steps):
    args = resolve(load_script("main.py").parser().parse_args(flags.split()))
    resolve_second_stage(args)
    assert SecondStageSettings.from_flags(args, second=range(1000)).steps == steps  # of which an epoch has ten


def test_frozen_layers_keep_weights_and_statistics_and_the_others_move(run, tmp_path):
    thawing = ["--freeze_earlySecondStage", "--unfreeze_secondStage", "2", "--batch_eval_preUnfreeze_only"]
    run("main.py", *TINY_ARGS["main.py"], *thawing, "--freeze_layers", "stem.*", "blocks.[0-3].*",
        "--experiment_name", "e")  # fmt: skip
    before, after = (
        torch.load(tmp_path / "e" / f"{stage}.pt", weights_only=True)["weights"] for stage in ("stage1", "stage2")
    )
    assert after.keys() - before.keys() == {"head2.weight", "head2.bias"}
    for name in before:
        frozen = name.startswith(("stem", "head1", *(f"blocks.{k}." for k in range(4))))
        assert torch.equal(before[name], after[name]) == frozen, name


def test_a_stage_1_of_an_earlier_version_is_refused(tmp_path):
    save_torch(tmp_path / "stage1.pt", {"settings": {}, "weights": {}, "evidence": {"learnt": {}, "own": None}})
    assert read_stage1(tmp_path)["evidence"] == {"learnt": {}, "own": None}
    for kept in ("accumulated", "learnt", "own"):  # each alone
        save_torch(tmp_path / "stage1.pt", {"settings": {}, "weights": {}, "evidence": {kept: {}}})
        with pytest.raises(UserError, match="of an earlier version, which kept less .* — run that experiment again"):
            read_stage1(tmp_path)

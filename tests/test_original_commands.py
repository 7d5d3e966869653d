"""Commands as the original's authors could write them parse: every flag of its four scripts.

Parsing and checking only: no script runs, and torch stays out.
"""

import re
import shlex

import pytest

from tests.tiny import ROOT, load_script
from utils.command_line.original import INEFFECTIVE

COMMANDS = {
    "the forgetting of CIFAR-10": "main.py --cuda_dev 0 --lr 0.1 --lr_2nd 0.001 --momentum 0.9 --gamma_scheduler 0.1 "
    "--M 40 --M 80 --M_2nd 5 --batch_size 100 --test_batch_size 100 --epoch_1st 150 --epoch_2nd 10 "
    "--first_stage_num_classes 10 --first_stage_noise_ration 0.4 --first_stage_noise_type random_in_noise "
    "--first_stage_data_name cifar10 --second_stage_num_classes 10 --second_stage_noise_ration 0.0 "
    "--second_stage_noise_type random_in_noise --second_stage_data_name cifar100 "
    "--second_stage_subset 2 14 23 35 48 51 69 74 87 90 --second_stg_max_median_loss 1500 --step_number 1500 "
    "--save_best_AUC_model --track_CE --NN_k 100 --seed 42 --train_root ./data --experiment_name test_CE",
    "half of the classes, frozen at first": "main.py --first_stage_subset 0 1 2 3 4 --first_stage_num_classes 5 "
    "--first_stage_data_name cifar10 --second_stage_data_name svhn --second_stage_num_classes 10 --epoch_2nd 1 "
    "--step_number 30 --freeze_earlySecondStage --unfreeze_secondStage 11 --batch_eval_preUnfreeze_only",
    "frozen by epochs, relearning": "main.py --first_stage_data_name cifar100 --freeze_earlySecondStage "
    "--freeze_epochWise --unfreeze_secondStage 3 --relearn1st_in2nd --relearn_freq 2",
    "parallel tracking": "parallel.py --M 40 --M 80 --epoch_1st 151 --first_stage_data_name cifar10 "
    "--first_stage_noise_type real_in_noise --first_stage_num_classes 10 --experiment_name cifar10real_parallel_4_ssl",
    "parallel tracking with what main.py takes": "parallel.py --cuda_dev 1 --lr 0.1 --lr_2nd 0.1 --momentum 0.9 "
    "--gamma_scheduler 0.1 --M 40 --M_2nd 5 --M_2nd 8 --batch_size 100 --test_batch_size 100 --epoch_1st 1 "
    "--epoch_2nd 11 --first_stage_noise_ration 0.4 --first_stage_subset 0 1 2 --second_stage_num_classes 10 "
    "--second_stage_noise_ration 0.0 --second_stage_noise_type real_in_noise --second_stage_data_name svhn "
    "--second_stage_subset 5 6 7 --unfreeze_secondStage 11 --freeze_epochWise --freeze_earlySecondStage "
    "--batch_eval_preUnfreeze_only --save_best_AUC_model --track_CE --second_stg_max_median_loss 1500 --step_number 16 "
    "--seed 42 --train_root ./data --relearn1st_in2nd --relearn_freq 2 --NN_k 100 --repeat True "
    "--first_stage_data_name cifar10",
    "relabelling of CIFAR-100": "relabel.py --lr_2nd 0.1 --M 75 --M 110 --epoch_1st 130 --warmup_e 70 "
    "--experiment_name cifar100_relabel_4_ssl --first_stage_data_name cifar100 "
    "--first_stage_noise_type random_in_noise --first_stage_num_classes 100",
    "relabelling, all of it": "relabel.py --cuda_dev 0 --lr 0.1 --momentum 0.9 --gamma_scheduler 0.1 --M 75 --M_2nd 5 "
    "--batch_size 100 --test_batch_size 100 --epoch_1st 30 --epoch_2nd 1 --first_stage_noise_ration 0.4 "
    "--first_stage_subset 0 1 2 3 4 --first_stage_data_name cifar10 --model_type 13-CNN --reg_term1 0.8 "
    "--reg_term2 0.4 --compare_to_forgetting True --ce_loss_inWarmup --second_stage_num_classes 4 "
    "--second_stage_noise_ration 0.0 --second_stage_noise_type real_in_noise --second_stage_data_name cifar100 "
    "--second_stage_subset 1 2 3 4 --track_CE --seed 42 --train_root ./data --NN_k 100 --warmup_e 2",
    "relabelling with a ResNet": "relabel.py --model_type preactResNet18 --lr_2nd 0.1 --compare_to_forgetting "
    "--epoch_1st 3 --warmup_e 2",
    "forgetting, run twice": "ssl.py --epoch 400 --epoch_begin 10 --M 250 --M 350 --forget "
    "--experiment_name ssl_cifar10ranForget --train_root ./datasets/cifar10/data --num_classes 10 --dataset cifar10 "
    "--use_bmm --double_run --noise_type random_in_noise",
    "all of ssl.py, by thresholds": "ssl.py --lr 0.1 --batch_size 100 --test_batch_size 100 --epoch 400 --wd 0.0001 "
    "--momentum 0.9 --dataset_type semiSup --train_root ./datasets/cifar10/data --epoch_begin 10 --epoch_update 1 "
    "--labeled_samples 10000 --out ./data/model_data --alpha 0.8 --beta 0.4 --download False --network MT_Net "
    "--seed 42 --seed_val 42 --M 250 --M 350 --experiment_name Proof --label_noise 0.0 --loss_term MixUp_ep "
    "--relab unifRelab --num_classes 10 --gausTF False --dropout 0.1 --initial_epoch 0 --Mixup_Alpha 1 --cuda_dev 0 "
    "--save_checkpoint False --dataset cifar10 --swa True --swa_start 350 --swa_freq 5 --swa_lr -0.01 "
    "--labeled_batch_size 0 --validation_exp False --drop_extra_forward True --val_samples 5000 --DApseudolab False "
    "--DA standard --subset 0 1 2 3 4 5 6 7 8 9 --noise_ratio 0.4 --noise_type real_in_noise --threshold 0.2 "
    "--threshold_2nd 0.2 --agree_on_clean --balanced_set --forget --parallel --relabel --double_run --plot_loss True",
    "all of ssl.py, by mixtures": "ssl.py --dataset cifar10 --epoch 300 --swa False --use_bmm --bmm_th 0.05 "
    "--bmm_th_2nd 0.5 --double_run --relabel --forget --f_FND --fn_th 0.05 --epoch_update 10 --label_noise 0.1 "
    "--labeled_batch_size 16 --plot_loss False",
    "the loss of forgetting": "ssl.py --dataset cifar10 --forget --f_l --threshold 0.2 --epoch 2 --epoch_begin 1",
}

EVERY_FLAG = {
    "main.py": "cuda_dev lr lr_2nd momentum gamma_scheduler M M_2nd batch_size test_batch_size epoch_1st epoch_2nd "
    "first_stage_num_classes first_stage_noise_ration first_stage_noise_type first_stage_data_name first_stage_subset "
    "second_stage_num_classes second_stage_noise_ration second_stage_noise_type second_stage_data_name "
    "second_stage_subset unfreeze_secondStage freeze_epochWise freeze_earlySecondStage batch_eval_preUnfreeze_only "
    "save_best_AUC_model track_CE second_stg_max_median_loss step_number seed train_root experiment_name "
    "relearn1st_in2nd relearn_freq NN_k",
    "parallel.py": "cuda_dev lr lr_2nd momentum gamma_scheduler M M_2nd batch_size test_batch_size epoch_1st epoch_2nd "
    "first_stage_num_classes first_stage_noise_ration first_stage_noise_type first_stage_data_name first_stage_subset "
    "second_stage_num_classes second_stage_noise_ration second_stage_noise_type second_stage_data_name "
    "second_stage_subset unfreeze_secondStage freeze_epochWise freeze_earlySecondStage batch_eval_preUnfreeze_only "
    "save_best_AUC_model track_CE second_stg_max_median_loss step_number seed train_root experiment_name "
    "relearn1st_in2nd relearn_freq NN_k repeat",
    "relabel.py": "cuda_dev lr lr_2nd momentum gamma_scheduler M M_2nd batch_size test_batch_size epoch_1st epoch_2nd "
    "first_stage_num_classes first_stage_noise_ration first_stage_noise_type first_stage_data_name first_stage_subset "
    "model_type reg_term1 reg_term2 compare_to_forgetting ce_loss_inWarmup second_stage_num_classes "
    "second_stage_noise_ration second_stage_noise_type second_stage_data_name second_stage_subset track_CE seed "
    "train_root experiment_name NN_k warmup_e",
    "ssl.py": "lr batch_size test_batch_size epoch wd momentum dataset_type train_root epoch_begin epoch_update "
    "labeled_samples out alpha beta download network seed seed_val M experiment_name label_noise loss_term relab "
    "num_classes gausTF dropout initial_epoch Mixup_Alpha cuda_dev save_checkpoint dataset swa swa_start swa_freq "
    "swa_lr labeled_batch_size validation_exp drop_extra_forward val_samples DApseudolab DA subset noise_ratio "
    "noise_type threshold bmm_th threshold_2nd bmm_th_2nd agree_on_clean balanced_set forget f_l f_FND fn_th "
    "relabel parallel use_bmm double_run plot_loss",
}


def parsed(command):
    """The flags of a command as its method would be given them."""
    script, *flags = shlex.split(command)
    loaded = load_script(script)
    return vars(loaded.resolved(loaded.parser().parse_args(flags)))


def flags_of(command):
    return {word for word in shlex.split(command) if re.fullmatch("--[A-Za-z].*", word)}


@pytest.mark.parametrize("script", EVERY_FLAG)
def test_the_commands_hold_every_flag(script):
    used = set().union(*(flags_of(command) for command in COMMANDS.values() if command.startswith(script)))
    assert used == {f"--{flag}" for flag in EVERY_FLAG[script].split()}


@pytest.mark.parametrize("script", EVERY_FLAG)
def test_what_to_type_for_plain_training_parses(script):
    (row,) = re.findall(r"^\| plain SGD.*", (ROOT / "utils" / "README.md").read_text(), re.MULTILINE)
    (flags,) = re.findall(rf"{re.escape(script)}[^:]*: `([^`]*)`", row)
    args = parsed(f"{script} {'--forget' if script == 'ssl.py' else ''} {flags}")
    assert (args["wd"], args["augment"]) == (1e-4, "standard") and args.get("plant", 0) == args.get("ema", 0) == 0


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_of_the_original_parses_and_names_in_one_line_what_does_nothing(command, capsys):
    args = parsed(command)
    script, *words = shlex.split(command)
    out = capsys.readouterr().out
    ineffective = list(dict.fromkeys(word for word in words if word in INEFFECTIVE[script]))
    line = f"has no effect here, nor in the original: {', '.join(ineffective)}\n" if ineffective else ""
    assert out == line + ("is done in any case: --plot_loss\n" if "--plot_loss" in words else "")
    assert not {flag[2:] for flag in INEFFECTIVE[script]} & args.keys() and "ineffective" not in args


@pytest.mark.parametrize("script", INEFFECTIVE)
def test_flags_without_effect_are_not_in_the_help(script):
    whole = load_script(script).parser().help_on(None)
    assert not set(INEFFECTIVE[script]) & set(re.findall(r"--\w+", whole.split("Results go to")[0]))


def test_flags_mean_what_they_mean_there():
    args = parsed(COMMANDS["the forgetting of CIFAR-10"])
    assert (args["step_number"], args["steps_total"], args["epoch_2nd"]) == (1500, None, 10)
    assert (args["M"], args["M_2nd"], args["schedule"], args["eval_batch_size"]) == ([40, 80], [5], "steps", 100)
    args = parsed(COMMANDS["parallel tracking with what main.py takes"])
    assert args["overwrite"] is True and args["M"] == [40]
    args = parsed(COMMANDS["relabelling, all of it"])
    assert args["compare_to_forgetting"] is True and args["relabel_by"] == "prediction"
    assert parsed(COMMANDS["relabelling with a ResNet"])["compare_to_forgetting"] is True
    args = parsed(COMMANDS["all of ssl.py, by thresholds"])
    assert (args["mixup"], args["swa"], args["targets"]) == (1, True, "split")
    assert (args["labeled_batch_size"], args["label_noise"], args["epoch_update"]) == (0, 0, 1)
    assert args["input_noise"] == 0  # --gausTF was never used
    args = parsed(COMMANDS["all of ssl.py, by mixtures"])
    assert (args["swa"], args["fn_th"], args["epoch_update"]) == (False, 0.05, 10)

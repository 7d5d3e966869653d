"""Flags of the original's scripts that need not be given: ours take them too, so that existing commands run.

https://github.com/MartimChaves/Forgetting-study. Imports no torch.
"""

_OF_SECOND_STAGE = (
    "--second_stage_num_classes", "--second_stage_noise_ration", "--second_stage_noise_type",
    "--second_stage_data_name", "--second_stage_subset",
)  # fmt: skip

# That the original never uses either.
INEFFECTIVE = {
    "main.py": ("--relearn1st_in2nd", "--relearn_freq"),
    "parallel.py": (
        "--lr_2nd", "--M_2nd", "--epoch_2nd", *_OF_SECOND_STAGE, "--unfreeze_secondStage", "--freeze_epochWise",
        "--freeze_earlySecondStage", "--batch_eval_preUnfreeze_only", "--save_best_AUC_model",
        "--second_stg_max_median_loss", "--step_number", "--relearn1st_in2nd", "--relearn_freq",
    ),
    "relabel.py": ("--M_2nd", "--epoch_2nd", *_OF_SECOND_STAGE, "--track_CE", "--NN_k"),
    "ssl.py": (
        "--dataset_type", "--labeled_samples", "--out", "--download", "--seed_val", "--loss_term", "--relab",
        "--gausTF", "--initial_epoch", "--save_checkpoint", "--swa_lr", "--validation_exp", "--drop_extra_forward",
        "--val_samples", "--DApseudolab", "--DA",
    ),
}  # fmt: skip
NO_EFFECT = "has no effect here, nor in the original"
ALWAYS, ALWAYS_DONE = ("--plot_loss",), "is done in any case"

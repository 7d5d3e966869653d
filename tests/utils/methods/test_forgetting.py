"""What the first stage of forgetting goes by."""

from tests.tiny import load_script
from utils.methods.forgetting import STAGE1_SETTINGS

OF_DATA = {  # told by the fingerprint
    "first_stage_data_name", "train_root", "first_stage_subset", "first_stage_num_classes", "image_size", "skip_broken",
    "labels", "first_stage_noise_type", "first_stage_noise_ratio", "ood_ratio", "ood_data", "ood_root", "ood_subset",
}  # fmt: skip
OF_STAGE2 = {
    "second_stage_data_name", "second_stage_root", "second_stage_subset", "second_stage_num_classes",
    "second_stage_noise_type", "second_stage_noise_ratio", "epoch_2nd", "lr_2nd", "M_2nd", "freeze_layers", "track_CE",
    "NN_k", "nn_memory_gb", "steps_total", "step_number", "track_every", "second_stg_max_median_loss",
    "save_best_AUC_model", "freeze_earlySecondStage", "unfreeze_secondStage", "freeze_epochWise",
    "batch_eval_preUnfreeze_only", "first_stage_from",
}  # fmt: skip
OF_RUN = {
    "experiment_name", "experiments_root", "overwrite", "estimate", "report", "checkpoint_every", "compare", "seeds",
    "spread", "settings",
}  # fmt: skip
OF_DEVICE = {"cuda_dev", "precision", "compile", "eval_batch_size", "images_on", "threads"}  # the precision is compared


def test_a_first_stage_is_told_from_others_by_every_flag_that_may_change_it():
    """A new flag belongs into one of these: left out of STAGE1_SETTINGS, stages made otherwise would be taken over."""
    script = load_script("main.py")
    flags = list(vars(script.resolved(script.parser().parse_args([]))))
    assert sorted(flags) == sorted([*STAGE1_SETTINGS, *OF_DATA, *OF_STAGE2, *OF_RUN, *OF_DEVICE])

"""Forgetting: fit the noisy labels, fine-tune on another data set, and rank the samples by how they are forgotten.

    python3 main.py                                     the whole method on scikit-learn's digits, offline
    python3 main.py --first_stage_data_name folder --train_root my_images --first_stage_noise_type none
                                                        which labels of my_images/train/CLASS/* are wrong?

Writes forget_ce.npy and forget_loss.npy, float32 (N,), higher = more likely mislabelled.
"""

from utils import cli

SCRIPT = "main.py"


def parser() -> cli.Parser:
    parser = cli.Parser(SCRIPT, __doc__)
    cli.add_data(parser)
    cli.add_second_stage_data(parser)
    cli.add_label_noise(parser)
    group = cli.add_optimisation(
        parser, epochs_flag="--epoch_1st", epochs=40, milestones=[30], epochs_help="epochs of stage 1"
    )
    group.add_argument("--epoch_2nd", type=cli.COUNT, default=10, metavar="EPOCHS", help="epochs of stage 2, at most")
    group.add_argument("--lr_2nd", type=cli.RATE, default=0.05, metavar="LR", help="learning rate of stage 2")
    group.add_argument(
        "--M_2nd", type=cli.COUNT, action="append", metavar="EPOCH", help="like --M, for stage 2 (default: none)"
    )
    cli.add_network_width(group)
    tracking = cli.add_tracking(parser)
    tracking.add_argument(
        "--step_number", type=cli.COUNT, default=150, metavar="STEPS", help="steps of stage 2, at most"
    )
    tracking.add_argument(
        "--track_every", type=cli.COUNT, default=1, metavar="STEPS", help="track after every STEPS steps of stage 2"
    )
    tracking.add_argument(
        "--second_stg_max_median_loss",
        type=cli.RATE,
        metavar="NATS",
        help="end stage 2 once the MEAN first-stage loss passes this (the name is historical; default: never)",
    )
    tracking.add_argument(
        "--save_best_AUC_model",
        action="store_true",
        help="ORACLE, uses the true labels: also keep model and scores of the step with the best AUC",
    )
    early = parser.add_argument_group("early second stage")
    early.add_argument("--freeze_earlySecondStage", action="store_true", help="train head 2 alone at first")
    early.add_argument("--unfreeze_secondStage", type=cli.COUNT, metavar="STEPS", help="for so many steps (default: 1)")
    early.add_argument("--freeze_epochWise", action="store_true", help="count --unfreeze_secondStage in epochs")
    early.add_argument(
        "--batch_eval_preUnfreeze_only",
        action="store_true",
        help="batch norm in evaluation mode only until the unfreezing (default: throughout stage 2)",
    )
    output = cli.add_output(parser)
    output.add_argument(
        "--first_stage_from", metavar="EXPERIMENT", help="take stage 1 from a finished experiment made alike"
    )
    output.add_argument(
        "--checkpoint_every", type=cli.COUNT, default=50, metavar="STEPS", help="steps of stage 2 between checkpoints"
    )
    cli.add_compare(output)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = cli.resolve(parser().parse_args(argv), ("first_stage_", "second_stage_"))
    if not args.freeze_earlySecondStage:
        cli.refuse(
            args,
            "unfreeze_secondStage",
            "freeze_epochWise",
            "batch_eval_preUnfreeze_only",
            without="--freeze_earlySecondStage",
        )

    from utils.forgetting import forgetting  # here, not above: --help answers without torch
    from utils.running import run

    run(SCRIPT, "forget", forgetting, args)


if __name__ == "__main__":
    cli.run(main)

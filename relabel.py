"""Soft relabelling: the network's own predictions replace the labels; the loss against the original ones is the score.

    python3 relabel.py                                  on scikit-learn's digits, offline

Writes relabel_loss.npy, float32 (N,), higher = more likely mislabelled, and soft_labels.npy, float32 (N, C): the
labels that the network would put instead, with its confidence.
"""

import models
from utils.command_line.flags import add_compare, add_device, add_dropout, add_network_width, add_output, resolve
from utils.command_line.parser import COUNT, RATE, WEIGHT, Parser
from utils.command_line.running import run_experiment, run_script
from utils.data.choice import add_data
from utils.errors import UserError
from utils.scoring.tracking import add_choosing
from utils.separations import RELABEL
from utils.training.optimisation import add_optimisation


def parser() -> Parser:
    parser = Parser(RELABEL.script, __doc__)
    add_data(parser)
    network = parser.add_argument_group("network")
    network.add_argument("--model_type", choices=list(models.MODELS), default=models.CNN13, help="network")
    add_dropout(network)
    add_network_width(network)
    group = add_optimisation(
        parser,
        epochs_flag="--epoch_1st",
        epochs=40,
        milestones=[35],
        epochs_help="epochs, warm-up included",
        schedule="steps",
        mixup=0.0,
        ema=0.0,
        balance=None,
    )
    group.add_argument(
        "--lr_2nd", type=RATE, default=0.1, metavar="LR", help="learning rate once relabelling has begun"
    )
    relabelling = parser.add_argument_group("relabelling")
    relabelling.add_argument(
        "--warmup_e", type=COUNT, default=20, metavar="EPOCHS", help="epochs on the observed labels"
    )
    relabelling.add_argument("--ce_loss_inWarmup", action="store_true", help="plain cross-entropy during the warm-up")
    relabelling.add_argument(
        "--reg_term1", type=WEIGHT, default=0.8, metavar="WEIGHT", help="weight of L_p; 0 switches it off"
    )
    relabelling.add_argument(
        "--reg_term2", type=WEIGHT, default=0.4, metavar="WEIGHT", help="weight of L_e; 0 switches it off"
    )
    add_choosing(parser.add_argument_group("tracking"))
    add_compare(add_output(parser))
    add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = resolve(parser().parse_args(argv))
    if args.warmup_e >= args.epoch_1st:
        raise UserError(
            f"--warmup_e {args.warmup_e} leaves no epoch of --epoch_1st {args.epoch_1st} to relabel in",
            "lower the warm-up",
        )

    from utils.methods.relabelling import relabelling  # here, not above: --help answers without torch

    run_experiment(RELABEL.script, RELABEL.key, relabelling, args)


if __name__ == "__main__":
    run_script(main)

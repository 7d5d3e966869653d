"""From scores to a robust classifier: a clean set from the separations' scores, pseudo-labels for the rest.

    python3 main.py && python3 ssl.py --forget          the whole chain on scikit-learn's digits, offline

Writes model.pt, p_noisy.npy (N,), pseudo_labels.npy (N, C) and ssl_loss.npy (N,), higher = more likely mislabelled.
"""

if __name__ == "ssl":  # imported in place of the standard library's module, whose name this file has: hand that over
    import importlib.machinery
    import importlib.util
    import os
    import sys

    _spec = importlib.machinery.PathFinder.find_spec("ssl", [os.path.dirname(os.__file__)])
    sys.modules["ssl"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["ssl"])
else:
    import models
    from utils import cli

SCRIPT = "ssl.py"


def parser() -> "cli.Parser":
    parser = cli.Parser(SCRIPT, __doc__)
    cli.add_data(parser, prefix="")
    cli.add_label_noise(parser, prefix="")
    cli.add_scores(parser)
    cli.add_clean_set(parser)
    network = parser.add_argument_group("network")
    network.add_argument(
        "--network",
        choices=list(models.ALIASES),
        default="MT_Net",
        help="MT_Net: the 13-layer CNN; PR18: PreAct-ResNet-18",
    )
    cli.add_dropout(network)
    cli.add_network_width(network)
    group = cli.add_optimisation(
        parser, epochs_flag="--epoch", epochs=80, milestones=[60, 70], epochs_help="epochs of each run"
    )
    group.add_argument(
        "--epoch_begin", type=cli.COUNT, default=30, metavar="EPOCHS", help="epochs on the clean set alone"
    )
    group.add_argument(
        "--labeled_batch_size", type=cli.COUNT, metavar="B", help="clean samples in every batch (default: as they come)"
    )
    group.add_argument(
        "--alpha", type=cli.WEIGHT, default=0.8, metavar="WEIGHT", help="weight of L_p; 0 switches it off"
    )
    group.add_argument(
        "--beta", type=cli.WEIGHT, default=0.4, metavar="WEIGHT", help="weight of L_e; 0 switches it off"
    )
    group.add_argument(
        "--colour_jitter",
        type=cli.RATIO,
        default=0.4,
        metavar="STRENGTH",
        help="brightness, contrast and saturation of colour images; 0 switches it off",
    )
    group.add_argument("--swa", action="store_true", help="average the weights of the last epochs")
    group.add_argument(
        "--swa_start", type=cli.COUNT, metavar="EPOCH", help="epochs before the averaging (default: 3/4 of them)"
    )
    group.add_argument(
        "--swa_freq", type=cli.COUNT, metavar="EPOCHS", help="epochs between two averaged ones (default: 1)"
    )
    cli.add_output(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = cli.resolve(parser().parse_args(argv), ("",))
    cli.check_training(args)

    from utils.pseudo_labelling import pseudo_labelling  # here, not above: --help answers without torch
    from utils.running import run

    run(SCRIPT, "ssl", pseudo_labelling, args)


if __name__ == "__main__":
    cli.run(main)

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
    from utils.errors import UserError

SCRIPT = "ssl.py"


def parser() -> "cli.Parser":
    parser = cli.Parser(SCRIPT, __doc__)
    cli.add_data(parser, prefix="")
    cli.add_label_noise(parser, prefix="")
    scores = parser.add_argument_group(
        "scores, of one or more separations (bare: the newest finished one on the same data)"
    )
    for method, script in (("forget", "main.py"), ("parallel", "parallel.py"), ("relabel", "relabel.py")):
        scores.add_argument(
            f"--{method}", nargs="?", const="", metavar="EXPERIMENT", help=f"the scores that {script} left"
        )
    scores.add_argument(
        "--f_l", action="store_true", help="of --forget, take the loss instead of the neighbour cross-entropy"
    )
    scores.add_argument("--scores", metavar="FILE", help="any .npy of N numbers, higher = more likely mislabelled")
    clean = parser.add_argument_group("clean set")
    clean.add_argument("--use_bmm", action="store_true", help="by a beta mixture instead of the threshold rule")
    clean.add_argument("--bmm_th", type=cli.SHARE, default=0.05, metavar="P", help="clean = p_noisy below this")
    clean.add_argument(
        "--threshold", type=cli.SHARE, default=0.20, metavar="SHARE", help="without --use_bmm: the SHARE lowest scores"
    )
    clean.add_argument("--balanced_set", action="store_true", help="as many samples of every class")
    clean.add_argument("--agree_on_clean", action="store_true", help="several scores: intersection instead of union")
    clean.add_argument("--f_FND", action="store_true", help="the forgetting scores only veto, beside another score")
    clean.add_argument(
        "--fn_th", type=cli.SHARE, metavar="SHARE", help="share of samples that --f_FND vetoes (default: 0.05)"
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--network",
        choices=list(models.ALIASES),
        default="MT_Net",
        help="MT_Net: the 13-layer CNN; PR18: PreAct-ResNet-18",
    )
    network.add_argument(
        "--dropout", type=cli.RATIO, default=0.1, metavar="P", help="dropout probability; 0 switches it off"
    )
    cli.add_network_width(network)
    group = cli.add_optimisation(
        parser, epochs_flag="--epoch", epochs=60, milestones=[40, 50], epochs_help="epochs of each run"
    )
    group.add_argument(
        "--epoch_begin", type=cli.COUNT, default=10, metavar="EPOCHS", help="epochs on the clean set alone"
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
    second = parser.add_argument_group("second run")
    second.add_argument(
        "--double_run", action="store_true", help="select again by the trained network's loss, and train once more"
    )
    second.add_argument("--bmm_th_2nd", type=cli.SHARE, metavar="P", help="--bmm_th of the second run (default: 0.5)")
    second.add_argument(
        "--threshold_2nd", type=cli.SHARE, metavar="SHARE", help="--threshold of the second run (default: 0.2)"
    )
    cli.add_output(parser)
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = cli.resolve(parser().parse_args(argv), ("",))
    check(args)

    from utils.pseudo_labelling import pseudo_labelling  # here, not above: --help answers without torch
    from utils.running import run

    run(SCRIPT, "ssl", pseudo_labelling, args)


def check(args: "cli.argparse.Namespace") -> None:
    """Flags against each other; the defaults of those that belong to another flag."""
    voting = [m for m in ("forget", "parallel", "relabel", "scores") if vars(args)[m] is not None]
    if not voting:
        raise UserError("no scores are named", "add --forget, --parallel, --relabel or --scores FILE")
    if args.f_FND and (args.forget is None or len(voting) < 2):
        raise UserError("--f_FND needs --forget to veto and another score to select", "add them")
    cli.default_with(args, "f_FND", fn_th=0.05)
    cli.default_with(args, "swa", swa_start=args.epoch * 3 // 4, swa_freq=1)
    cli.default_with(args, "double_run", bmm_th_2nd=0.5, threshold_2nd=0.2)
    if args.agree_on_clean and len(voting) - args.f_FND < 2:
        raise UserError("--agree_on_clean needs two scores to agree", "name another one")
    if args.f_l and args.forget is None:
        raise UserError("--f_l chooses among the forgetting scores", "add --forget")
    if args.swa and args.swa_start >= args.epoch:
        raise UserError(f"--swa_start {args.swa_start} is not before the end of --epoch {args.epoch}", "lower it")
    if args.epoch_begin >= args.epoch:
        raise UserError(f"--epoch_begin {args.epoch_begin} leaves no epoch of --epoch {args.epoch}", "lower it")
    if args.labeled_batch_size is not None and args.labeled_batch_size >= args.batch_size:
        raise UserError(
            f"--labeled_batch_size {args.labeled_batch_size} fills --batch_size {args.batch_size}", "lower it"
        )


if __name__ == "__main__":
    cli.run(main)

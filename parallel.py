"""Parallel cross tracking: two models, one per half of the data, each scoring the half that it never saw.

    python3 parallel.py                                 on scikit-learn's digits, offline

Writes parallel_ce.npy and parallel_loss.npy, float32 (N,), higher = more likely mislabelled, and cross_probs.npy,
float32 (N, C), out-of-sample class probabilities.
"""

from utils import cli

SCRIPT = "parallel.py"


def parser() -> cli.Parser:
    parser = cli.Parser(SCRIPT, __doc__)
    cli.add_data(parser)
    cli.add_label_noise(parser)
    group = cli.add_optimisation(parser, epochs_flag="--epoch_1st", epochs=40, milestones=[30], epochs_help="epochs")
    cli.add_network_width(group)
    cli.add_tracking(parser)
    cli.add_compare(cli.add_output(parser))
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = cli.resolve(parser().parse_args(argv))

    from utils.cross_tracking import cross_tracking  # here, not above: --help answers without torch
    from utils.running import run

    run(SCRIPT, "parallel", cross_tracking, args)


if __name__ == "__main__":
    cli.run(main)

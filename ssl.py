"""From a separation to a robust classifier: every label counts as far as it can be trusted, predictions for the rest.

    python3 relabel.py && python3 ssl.py --relabel      the whole chain on scikit-learn's digits, offline

Writes model.pt, p_noisy.npy (N,), pseudo_labels.npy (N, C) and ssl_score.npy (N,), higher = more likely mislabelled.
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
    import argparse

    import models
    from utils.command_line.flags import (
        USUAL,
        add_device,
        add_dropout,
        add_input_noise,
        add_network_width,
        add_output,
        add_repetition,
        resolve,
    )
    from utils.command_line.original import ALWAYS, ALWAYS_DONE, INEFFECTIVE, NO_EFFECT
    from utils.command_line.parser import Parser
    from utils.command_line.repetition import run_each
    from utils.command_line.running import run_experiment, run_script
    from utils.data.choice import SSL, add_data
    from utils.methods.pseudo_labelling_flags import (
        add_clean_set,
        add_scores,
        add_targets,
        add_training,
        resolve_pseudo_labelling,
    )
    from utils.scoring.tracking import add_track_from
    from utils.training.optimisation import FEWEST_EPOCHS, MOST_EPOCHS, add_optimisation

SCRIPT = "ssl.py"


def parser() -> "Parser":
    parser = Parser(SCRIPT, __doc__, usual=USUAL)
    add_data(parser, SSL)
    add_scores(parser)
    add_targets(parser)
    add_clean_set(parser)
    network = parser.add_argument_group("network")
    network.add_argument(
        "--network",
        nargs="+",
        choices=list(models.ALIASES),
        help="MT_Net: the 13-layer CNN; PR18: PreAct-ResNet-18; or two: of earlier runs and of the last "
        "(default: MT_Net PR18; with --targets split MT_Net)",
    )
    add_dropout(network)
    add_input_noise(network, off="with --targets split")
    add_network_width(network)
    group = add_optimisation(
        parser,
        epochs_flag="--epoch",
        epochs_help=f"epochs of each run (default: {FEWEST_EPOCHS}; of the last, for small sets, up to {MOST_EPOCHS})",
        augment="strong",
        balance=None,
    )
    add_training(group)
    add_track_from(parser.add_argument_group("tracking"), "each run")
    add_output(parser)
    add_repetition(parser)
    add_device(parser)
    parser.add_ineffective(INEFFECTIVE[SCRIPT], NO_EFFECT)
    parser.add_ineffective(ALWAYS, ALWAYS_DONE)
    return parser


def resolved(args: "argparse.Namespace") -> "argparse.Namespace":
    """The flags with what they leave open filled in, and checked."""
    args = resolve(args)
    resolve_pseudo_labelling(args)
    return args


def run(args: "argparse.Namespace") -> None:
    given = parser().given(args)
    args = resolved(args)

    from utils.methods.pseudo_labelling import pseudo_labelling  # here, not above: --help answers without torch

    run_experiment(SCRIPT, "ssl", pseudo_labelling, args, given)


def main(argv: list[str] | None = None) -> None:
    run_each(parser(), run, argv)


if __name__ == "__main__":
    run_script(main)

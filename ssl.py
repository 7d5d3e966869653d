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

    from utils.command_line.flags import add_network_width, add_output, resolve
    from utils.command_line.original import ALWAYS, ALWAYS_DONE
    from utils.command_line.parser import Parser
    from utils.command_line.running import Method, run_script
    from utils.command_line.script import Script
    from utils.data.choice import SSL, add_data
    from utils.methods.pseudo_labelling_flags import (
        add_clean_set,
        add_networks,
        add_scores,
        add_targets,
        add_training,
        resolve_pseudo_labelling,
    )
    from utils.scoring.tracking import BATCHES, PASSES, add_track_from
    from utils.training.optimisation import EARLIER_EPOCHS, FEWER, FINAL_EPOCHS, add_optimisation


def declare(parser: "Parser") -> None:
    add_data(parser, SSL)
    add_scores(parser)
    add_targets(parser)
    add_clean_set(parser)
    add_network_width(add_networks(parser))
    group = add_optimisation(
        parser,
        epochs_flag="--epoch",
        epochs_help=f"epochs of each run (default: {FINAL_EPOCHS}, of earlier ones {EARLIER_EPOCHS}; {FEWER})",
        augment="strong",
        balance=None,
    )
    add_training(group)
    add_track_from(parser.add_argument_group("tracking"), "each run", f"{BATCHES}; with --targets split {PASSES}")
    add_output(parser)
    parser.add_ineffective(ALWAYS, ALWAYS_DONE)


def resolved(args: "argparse.Namespace") -> "argparse.Namespace":
    """The flags with what they leave open filled in, and checked."""
    args = resolve(args)
    resolve_pseudo_labelling(args)
    return args


def method(args: "argparse.Namespace") -> "Method":
    from utils.methods.pseudo_labelling import pseudo_labelling  # here, not above: --help answers without torch

    return pseudo_labelling


if __name__ != "ssl":
    SCRIPT = Script("ssl.py", "ssl", __doc__, declare, resolved, method)
    parser, main = SCRIPT.parser, SCRIPT.main

if __name__ == "__main__":
    run_script(main)

#!/usr/bin/env python3
"""The whole chain beside plain cross-entropy: how much of the gap between noisy and true labels does each way close?

    python3 -m tests.benchmarks.chain                                        digits, default flags, three seeds
    python3 -m tests.benchmarks.chain --seeds 1 --ways parallel \\
        --separation "--first_stage_data_name folder --train_root R --first_stage_noise_type random_in_noise \\
            --width 0.25 --epoch_1st 30 --M 20" \\
        --training "--dataset folder --train_root R --noise_type random_in_noise \\
            --width 0.25 --epoch 40 --M 30 --use_bmm --double_run"

Every way is scripts and flags that a user types. Cross-entropy is the network of ssl.py with its schedule and its
augmentation, on the noisy labels and on the true ones (the ceiling, which only a benchmark can have); last epochs.
gap closed = (way − noisy) / (true − noisy). Finished runs under --root are used again: other flags need another --root.
"""

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.measuring import run_script
from tests.tiny import load_script
from utils.command_line import running
from utils.command_line.flags import resolve
from utils.compute import choose
from utils.data.choice import SSL, data_choice
from utils.data.noisy_data import prepare
from utils.results.tables import Row, Spread, Table, as_text
from utils.separations import SEPARATIONS
from utils.training.learner import Learner, new_network
from utils.training.optimisation import FINAL_EPOCHS, epochs_for, optimisation_of, schedule_of

WAYS = {
    "forget": ["--forget"],
    "parallel": ["--parallel"],
    "relabel": ["--relabel"],
    "all agree": ["--forget", "--parallel", "--relabel", "--agree_on_clean"],
}


def cross_entropy(flags: list[str], true_labels: bool) -> float:
    """Last-epoch test accuracy of ssl.py's network under plain cross-entropy, on the noisy or on the true labels."""
    args = resolve(load_script("ssl.py").parser().parse_args(flags))
    compute = choose(args.cuda_dev, args.precision, args.compile, args.threads, args.eval_batch_size, args.images_on)
    data = prepare(data_choice(args, SSL), compute)
    epochs = args.epoch or epochs_for(len(data), FINAL_EPOCHS)
    if true_labels:
        data = replace(data, labels=data.clean_labels)
    shape = {"width": args.width, "dropout": args.dropout}
    network = new_network((args.network or ["PR18"])[-1], data.num_classes, compute, **shape, seed=args.seed, counter=1)
    jitter = args.colour_jitter if data.images.coloured else 0.0
    optimisation = optimisation_of(args, schedule_of(args, epochs), jitter)
    optimisation = replace(optimisation, mixup=0.0, ema=0.0, balance=0.0)  # plain
    learner = Learner(network, data, compute, optimisation, stream=1)
    while learner.progress.epoch < epochs:
        learner.train_epoch(learner.cross_entropy)
        learner.progress.next_epoch()
    return learner.test_accuracy()


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, float]:
    """{row: last-epoch test accuracy} for one seed; AUCs are printed on the way."""
    separation, training = ([*shlex.split(f), "--seed", str(seed)] for f in (args.separation, args.training))
    needed = {flag.strip("-") for way in args.ways for flag in WAYS[way]} & SEPARATIONS.keys()
    for method in [m for m in SEPARATIONS if m in needed]:
        more = shlex.split(args.main) if method == "forget" else []
        record = run_script(SEPARATIONS[method].script, separation + more, args.root, f"{method}_{seed}")
        aucs = ", ".join(f"{key} {value:.4f}" for key, value in record["figures"].items() if key.startswith("auc"))
        print(f"seed {seed}: {SEPARATIONS[method].script}: {aucs} ({seconds_of(record):.0f} s)", flush=True)
    rows = {f"cross-entropy, {kind} labels": cross_entropy(training, kind == "true") for kind in ("noisy", "true")}
    for way in args.ways:
        named = [f for flag in WAYS[way] for f in ([flag, f"{flag[2:]}_{seed}"] if flag[2:] in SEPARATIONS else [flag])]
        record = run_script("ssl.py", training + named, args.root, f"ssl_{way.replace(' ', '_')}_{seed}")
        found = record["figures"]
        rows[f"ssl.py, {way}"] = found["test_accuracy"]
        clean = f"estimated noise {found['noise_ratio_estimated']:.4f}"
        if "clean_set_size" in found:  # with --targets split
            clean = f"clean set {found['clean_set_size']}, purity {found['clean_set_purity']:.4f}"
        test = f"test {found['test_accuracy']:.4f}, best epoch (oracle) {found['test_accuracy_best']:.4f}"
        print(f"seed {seed}: ssl.py {way}: {clean}; {test} ({seconds_of(record):.0f} s)", flush=True)
    return rows


def table(seeds: list[dict[str, float]]) -> Table:
    """Over seeds: last-epoch test accuracy of every row, and the share of the gap that it closes."""
    noisy, true = ([s[f"cross-entropy, {kind} labels"] for s in seeds] for kind in ("noisy", "true"))
    rows = []
    for name in seeds[0]:
        values = [s[name] for s in seeds]
        closed = [(v - low) / (high - low) for v, low, high in zip(values, noisy, true, strict=True)]
        rows.append(Row([name], [Spread.of(values), Spread.of(closed)]))
    return Table(["training"], ["test accuracy, last epoch", "gap closed"], rows)


def seconds_of(record: dict) -> float:
    return sum(record["seconds"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--separation", default="", metavar="FLAGS", help="flags of the separation scripts")
    parser.add_argument("--main", default="", metavar="FLAGS", help="more flags of main.py")
    parser.add_argument("--training", default="", metavar="FLAGS", help="flags of ssl.py")
    parser.add_argument("--root", type=Path, default=Path("experiments/chain"), help="where experiments are kept")
    args = parser.parse_args()
    seeds = [one_seed(args, seed) for seed in args.seeds]
    print("\nmean ± sd (n)")
    print(as_text(table(seeds)))


if __name__ == "__main__":
    running.run_script(lambda _: main())

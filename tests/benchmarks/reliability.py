"""Whether p_noisy means what it says: what became of the labels that finished experiments called wrong with about p.

    python3 -m tests.benchmarks.reliability experiments/digits/relabel_0.4_21 experiments/digits/relabel_0.4_22

A row for each experiment, whose true labels are known: the estimated share of wrong labels and the true one, the
calibration error (how far claimed and wrong are apart, in the mean over labels), and of the labels in each tenth of
p_noisy the mean that is claimed > the share that is wrong, and how many they are. With several experiments a row of
all their labels together, in which single errors weigh less.
"""

from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import compute_of
from tests.benchmarks.peers import PeersReport
from utils.command_line import running
from utils.command_line.flags import add_device
from utils.command_line.parser import Parser
from utils.errors import UserError
from utils.experiments.record import read_finished
from utils.scoring.metrics import BINS, reliability


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(p_noisy, whether the label is wrong), both (N,). Raises UserError where the truth is unknown."""
    record = read_finished(folder.parent, folder.name)
    if not record.holds("clean_labels"):
        raise UserError(f"the true labels of {folder} are unknown", "name another experiment")
    p_noisy, labels, clean = (record.read_array(name) for name in ("p_noisy", "labels", "clean_labels"))
    return p_noisy, labels != clean


def row(name: str, p_noisy: np.ndarray, wrong: np.ndarray) -> str:
    found = reliability(p_noisy, wrong)
    bins = "".join(
        f"  {claimed:.2f} > {share:.2f} {count:5}" if count else f"{'':19}"
        for claimed, share, count in zip(found.claimed, found.wrong, found.counts, strict=True)
    )
    return f"{name:54} {p_noisy.mean():.3f} ({wrong.mean():.3f})  {found.error:.3f}{bins}"


def main(argv: list[str] | None = None) -> None:
    parser = Parser("-m tests.benchmarks.reliability", __doc__, epilog=None)
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXPERIMENT", help="folder of a finished one")
    parser.add_argument("--save", metavar="NAME", help="keep what is printed as tests/benchmarks/results/NAME.txt")
    add_device(parser)
    args = parser.parse_args(argv)
    found = [(str(folder), *read(folder)) for folder in args.experiments]
    report = PeersReport(compute_of(args), "p_noisy: claimed > wrong, and labels, in each tenth")
    tenths = "".join(f"{f'{k / BINS:g} - {(k + 1) / BINS:g}':>19}" for k in range(BINS))
    report(f"{'':54} {'share (truth)':13}  error{tenths}")
    for name, p_noisy, wrong in found:
        report(row(name, p_noisy, wrong))
    if len(found) > 1:
        _, *arrays = zip(*found, strict=True)
        report(row("all", *map(np.concatenate, arrays)))
    report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

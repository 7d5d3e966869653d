"""Two finished experiments on the same data side by side, for --compare."""

import itertools

import numpy as np

from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.experiments.record import Record, read_finished, require_same_data
from utils.results.found_scores import title_of
from utils.results.score_figures import overlap_figure
from utils.scoring.agreement import compare_ends, compare_scores, overlap_curve
from utils.separations import SEPARATIONS

SCORES = [name for separation in SEPARATIONS.values() for name in separation.scores]
END_SHARE = 0.2  # share of the samples at either end of a ranking


def read_comparable(root: str, name: str) -> Record:
    """The finished separation to compare with. Raises UserError where there is none of that name."""
    record = read_finished(root, name)
    if record["method"] not in SEPARATIONS:
        raise UserError(f"{name} holds no scores of a separation", "name one of main, parallel or relabel")
    return record


def compare_experiments(experiment: Experiment, other_name: str) -> str:
    """Every score of two finished experiments side by side, as printable tables.

    Raises UserError where the other experiment is unfinished, holds no scores or judged other data or labels.
    """
    own, other = read_both(experiment, other_name)
    ours, theirs = scores_of(own), scores_of(other)
    is_noisy = None
    if own.holds("clean_labels"):
        is_noisy = own.read_array("clean_labels") != own.read_array("labels")
    lines = [
        f"\nscores of {title_of(own)} (A) and {title_of(other)} (B)",
        "  clean = p_noisy < 0.5 under the beta mixture, unless noted below",
        f"  {'A':<15}{'B':<15}{'rank corr.':>10}{'clean A':>9}{'clean B':>9}{'both':>7}{'overlap':>9}"
        f"{'purity A':>10}{'purity B':>10}{'of both':>9}",
    ]
    notes = set()
    for a, b in itertools.product(ours, theirs):
        c = compare_scores(ours[a], theirs[b], is_noisy)
        purities = [share_in_words(p) for p in (c.purity_a, c.purity_b, c.purity_both)]
        lines.append(
            f"  {a:<15}{b:<15}{c.rank_correlation:>10.4f}{c.clean_a:>9}{c.clean_b:>9}{c.clean_both:>7}{c.overlap:>9.4f}"
            f"{purities[0]:>10}{purities[1]:>10}{purities[2]:>9}"
        )
        notes |= {f"  {name}: {note}" for name, note in ((a, c.note_a), (b, c.note_b)) if note}
    lines += [*sorted(notes), *ends_side_by_side(ours, theirs, is_noisy)]
    return "\n".join(lines)


def ends_side_by_side(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], is_noisy: np.ndarray | None
) -> list[str]:
    """The lines of a table of both ends of every pair of scores {name: (N,)}."""
    lines = [
        f"  overlap and purity of the {END_SHARE:.0%} lowest and of the {END_SHARE:.0%} highest scores",
        f"  {'A':<15}{'B':<15}{'lowest':>9}{'purity A':>10}{'purity B':>10}"
        f"{'highest':>10}{'purity A':>10}{'purity B':>10}",
    ]
    for a, b in itertools.product(ours, theirs):
        low, high = compare_ends(ours[a], theirs[b], END_SHARE, is_noisy)
        line = f"  {a:<15}{b:<15}"
        for end, width in ((low, 9), (high, 10)):
            line += f"{end.overlap:>{width}.4f}{share_in_words(end.purity_a):>10}{share_in_words(end.purity_b):>10}"
        lines.append(line)
    return lines


def share_in_words(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.4f}"


def draw_comparison(experiment: Experiment, other_name: str, subject: str) -> None:
    """compare.png: how far the k lowest and the k highest overlap, of scores of a kind (score, ce, loss), for every k.

    `subject`: data, noise and seed.
    """
    own, other = read_both(experiment, other_name)
    ours, theirs = scores_of(own), scores_of(other)
    pairs = [(a, b) for a, b in itertools.product(ours, theirs) if a.rpartition("_")[2] == b.rpartition("_")[2]]
    ends = {
        end: {f"{a}, {b}": overlap_curve(sign * ours[a], sign * theirs[b]) for a, b in pairs}
        for end, sign in {"lowest": 1, "highest": -1}.items()
    }
    title = f"Scores of {title_of(own)} and {title_of(other)}"
    overlap_figure(own.own("compare.png"), ends, title, subject, END_SHARE)


def read_both(experiment: Experiment, other_name: str) -> tuple[Record, Record]:
    """The records of a finished experiment and of another one. Raises UserError as compare_experiments."""
    own, other = experiment.record, read_finished(experiment.path.parent, other_name)
    require_same_data(own["data"], other["data"], other_name)
    return own, other


def scores_of(record: Record) -> dict[str, np.ndarray]:
    """{name: (N,)}"""
    return {name: record.read_array(name) for name in SCORES if record.holds(name)}

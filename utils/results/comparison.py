"""Two finished experiments on the same data side by side, for --compare."""

import itertools

from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.experiments.record import Record, read_finished, require_same_data
from utils.scoring.agreement import compare_scores
from utils.separations import SEPARATIONS

SCORES = [name for separation in SEPARATIONS.values() for name in separation.scores]


def read_comparable(root: str, name: str) -> Record:
    """The finished separation to compare with. Raises UserError where there is none of that name."""
    record = read_finished(root, name)
    if record["method"] not in SEPARATIONS:
        raise UserError(f"{name} holds no scores of a separation", "name one of main, parallel or relabel")
    return record


def compare_experiments(experiment: Experiment, other_name: str) -> str:
    """Every score of two finished experiments side by side, as a printable table.

    Raises UserError where the other experiment is unfinished, holds no scores or judged other data or labels.
    """
    own, other = experiment.record, read_finished(experiment.path.parent, other_name)
    require_same_data(own["data"], other["data"], other_name)
    is_noisy = None
    if own.holds("clean_labels"):
        is_noisy = own.read_array("clean_labels") != own.read_array("labels")
    ours, theirs = ({name: record.read_array(name) for name in SCORES if record.holds(name)} for record in (own, other))
    lines = [
        f"\nscores of {experiment.name} (A) and {other_name} (B)",
        "  clean = p_noisy < 0.5 under the beta mixture, unless noted below",
        f"  {'A':<14}{'B':<14}{'rank corr.':>10}{'clean A':>9}{'clean B':>9}{'both':>7}{'overlap':>9}"
        f"{'purity A':>10}{'purity B':>10}{'of both':>9}",
    ]
    notes = set()
    for a, b in itertools.product(ours, theirs):
        c = compare_scores(ours[a], theirs[b], is_noisy)
        purities = ["unknown" if p is None else f"{p:.4f}" for p in (c.purity_a, c.purity_b, c.purity_both)]
        lines.append(
            f"  {a:<14}{b:<14}{c.rank_correlation:>10.4f}{c.clean_a:>9}{c.clean_b:>9}{c.clean_both:>7}{c.overlap:>9.4f}"
            f"{purities[0]:>10}{purities[1]:>10}{purities[2]:>9}"
        )
        notes |= {f"  {name}: {rule}" for name, rule in ((a, c.rule_a), (b, c.rule_b)) if "half" in rule}
    return "\n".join([*lines, *sorted(notes)])

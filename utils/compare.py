"""Comparison of two score vectors over the same samples: do they rank alike, and do they trust the same ones?"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from utils.commands import SEPARATIONS
from utils.errors import UserError
from utils.experiment import Experiment, differences, load_array, load_recorded, read_finished
from utils.mixture import fit_quietly
from utils.selection import lowest

SCORES = [name for separation in SEPARATIONS.values() for name in separation.scores]


@dataclass(frozen=True)
class Comparison:
    """Two scores side by side. Fractions in [0, 1], plain Python types."""

    rank_correlation: float  # Spearman's, in [-1, 1], ties at their mean rank; NaN where a score is constant
    rule_a: str  # how the clean set of each score was chosen
    rule_b: str
    clean_a: int  # samples in each clean set
    clean_b: int
    clean_both: int
    overlap: float  # intersection over union of the clean sets; NaN where both are empty
    # Rightly labelled share of each clean set; None where the truth is unknown or the set is empty.
    purity_a: float | None
    purity_b: float | None
    purity_both: float | None


def compare_scores(scores_a: np.ndarray, scores_b: np.ndarray, is_noisy: np.ndarray | None = None) -> Comparison:
    """Compare finite scores (N,), higher = more likely mislabelled, of the same samples in the same order.

    What a score calls clean is p_noisy < 0.5 under its own beta mixture: more likely clean than noisy, with no setting
    to choose. Where no mixture fits, the lowest half. `is_noisy` bool (N,), None where the truth is unknown.
    """
    if len(scores_a) != len(scores_b):
        raise ValueError(f"{len(scores_a)} scores cannot be compared with {len(scores_b)}")
    (clean_a, rule_a), (clean_b, rule_b) = _clean_set(scores_a), _clean_set(scores_b)
    both, either = clean_a & clean_b, clean_a | clean_b
    return Comparison(
        rank_correlation=_spearman(scores_a, scores_b),
        rule_a=rule_a,
        rule_b=rule_b,
        clean_a=int(clean_a.sum()),
        clean_b=int(clean_b.sum()),
        clean_both=int(both.sum()),
        overlap=float(both.sum() / either.sum()) if either.any() else math.nan,
        purity_a=_purity(clean_a, is_noisy),
        purity_b=_purity(clean_b, is_noisy),
        purity_both=_purity(both, is_noisy),
    )


def _clean_set(scores: np.ndarray) -> tuple[np.ndarray, str]:
    """What one score calls clean, bool (N,), and by which rule."""
    mixture = fit_quietly(scores)
    if mixture.usable_:
        return mixture.p_noisy(scores) < 0.5, "beta mixture, p_noisy < 0.5"
    return lowest(scores, 0.5), f"lowest half ({mixture.reason_})"


def _spearman(scores_a: np.ndarray, scores_b: np.ndarray) -> float:
    """Pearson correlation of the ranks."""
    if np.ptp(scores_a) == 0 or np.ptp(scores_b) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(scores_a), rankdata(scores_b))[0, 1])


def _purity(clean: np.ndarray, is_noisy: np.ndarray | None) -> float | None:
    if is_noisy is None or not clean.any():
        return None
    return float(1 - is_noisy[clean].mean())


def compare_experiments(experiment: Experiment, other_name: str) -> str:
    """Every score of two finished experiments side by side, as a printable table.

    Raises UserError where the other experiment is unfinished, holds no scores or judged other data or labels.
    """
    other = read_finished(experiment.path.parent, other_name)
    require_same_data(experiment.record["data"], other["data"], other_name)
    is_noisy = None
    if (experiment.path / "clean_labels.npy").exists():
        is_noisy = load_array(experiment.path / "clean_labels.npy") != load_array(experiment.path / "labels.npy")
    ours, theirs = (
        {name: load_recorded(record, name) for name in SCORES if (record["path"] / f"{name}.npy").exists()}
        for record in (experiment.record | {"path": experiment.path}, other)
    )
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


def require_same_data(ours: dict, theirs: dict, name: str) -> None:
    """Raises UserError naming what differs between two data fingerprints."""
    if differing := differences(ours, theirs):
        raise UserError(f"{name} judged other data: {differing}", "use the same data, noise and seed for both")

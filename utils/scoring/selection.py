"""Choosing the clean set from scores: by the beta mixture or by a share of the lowest, alone or from several scores.

Scores are float32 (N,), higher = more likely mislabelled. A clean set is a bool vector (N,), True = taken as clean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from utils.errors import UserError
from utils.scoring.mixture import BetaMixture

MIN_CLEAN = 0.1  # share of the samples that a mixture's clean set keeps at least
MIN_AGREED = 0.5  # of the smallest of several clean sets, what their intersection keeps at least


@dataclass(frozen=True)
class Selected:
    """The clean set of one score, and how it came about."""

    clean: np.ndarray  # bool (N,)
    p_noisy: np.ndarray | None  # float32 (N,) in [0, 1], of a mixture or an estimate; None after a threshold rule
    rule: str  # the rule that chose `clean`, for people
    note: str | None = None  # what went otherwise than asked, for people
    mixture: BetaMixture | None = None  # the fitted mixture behind `p_noisy`, for figures


def select_clean(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    use_bmm: bool,
    bmm_th: float,
    threshold: float,
    balanced: bool,
    estimated: np.ndarray | None = None,
) -> Selected:
    """Clean set of finite scores (N,): `use_bmm` takes p_noisy < `bmm_th`, otherwise the `threshold` share lowest.

    p_noisy is that of a beta mixture. Where none fits the scores, `note` says why, and `estimated` (N,), p_noisy in
    their order as the separations estimated it, takes its place; without one, the threshold rule does. A set by p_noisy
    smaller than a tenth of the samples, or of one class, becomes the tenth of each class with the lowest scores.

    `balanced` goes by the observed labels (N,): the same share of each class. The threshold rule then takes its share
    of every class (see `lowest`); a set by p_noisy is trimmed, keeping the lowest scores, to the smallest share that it
    has of any class with a clean sample.
    """
    notes, mixture, p_noisy = [], None, None
    if use_bmm:
        fitted = BetaMixture().fit(scores)
        if fitted.usable_:
            # Compared as stored, so that whoever reads p_noisy back finds the same set.
            mixture, p_noisy = fitted, fitted.p_noisy(scores).astype(np.float32)
        else:
            p_noisy = estimated
            instead = "threshold rule" if estimated is None else "estimated p_noisy"
            notes.append(f"{fitted.reason_}, so the {instead} takes the place of the beta mixture")
    if p_noisy is None:
        clean = lowest(scores, threshold, labels if balanced else None)
        rule = f"lowest {100 * threshold:g}% of the scores{' of each class' if balanced else ''}"
    else:
        clean, rule = p_noisy < bmm_th, f"{'beta mixture' if mixture else 'estimate'}, p_noisy < {bmm_th:g}"
        of_one_class = len(np.unique(labels[clean])) == 1 < len(np.unique(labels))
        if (few := clean.sum()) < MIN_CLEAN * len(scores) or of_one_class:
            fault = "of one class alone" if of_one_class else "too few to train on"
            notes.append(f"that would be {few} samples, {fault}: the lowest {MIN_CLEAN:.0%} of each class instead")
            clean = lowest(scores, MIN_CLEAN, labels)
        if balanced:
            clean, rule = _trim_classes(clean, scores, labels), f"{rule}, trimmed to the same share of each class"
    return Selected(clean, p_noisy, rule, "; ".join(notes) or None, mixture)


def lowest(scores: np.ndarray, share: float, labels: np.ndarray | None = None) -> np.ndarray:
    """The round(share * N) lowest scores, bool (N,). Of equal scores the earlier position comes first.

    With labels (N,): of each class its round(share * size) lowest.
    """
    clean = np.zeros(len(scores), dtype=bool)
    for members in _classes(labels, len(scores)):
        clean[members[np.argsort(scores[members], kind="stable")[: round(share * len(members))]]] = True
    return clean


def boundary(scores: np.ndarray, called: np.ndarray) -> float | None:
    """The score half-way between the samples `called` wrong, bool (N,), and the others, which all lie lower.

    None where no score tells the two apart, as in a clean set balanced over classes, or where one of them is empty.
    """
    if not called.any() or called.all() or scores[~called].max() > scores[called].min():
        return None
    return (float(scores[~called].max()) + float(scores[called].min())) / 2


def combine(selections: Sequence[np.ndarray], agree: bool) -> np.ndarray:
    """Union of one or more clean sets, each bool (N,); with `agree` their intersection."""
    return np.logical_and.reduce(selections) if agree else np.logical_or.reduce(selections)


def agreed(selections: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> tuple[np.ndarray, bool]:
    """(Intersection of clean sets (N,), each with its scores (N,); whether it had to be enlarged).

    It keeps `MIN_AGREED` of the smallest of them at least: short of that, samples join whose worst rank among the
    scores is lowest, which is what higher thresholds would have let in.
    """
    clean = combine(selections, agree=True)
    missing = round(MIN_AGREED * min(int(one.sum()) for one in selections)) - int(clean.sum())
    if missing <= 0:
        return clean, False
    worst = np.max([rankdata(values) for values in scores], axis=0)
    worst[clean] = np.inf
    clean[np.argsort(worst, kind="stable")[:missing]] = True
    return clean, True


def doubted(scores: np.ndarray, p_noisy: np.ndarray | None, above: float) -> Selected:
    """What scores (N,) that only veto leave in place: `clean` where p_noisy by their mixture is `above` at most.

    Scores that no mixture fits veto by `p_noisy` (N,) in [0, 1], which was estimated along with them, and `note` says
    why. Raises UserError where there is none.
    """
    mixture = BetaMixture().fit(scores)
    if mixture.usable_:
        found = mixture.p_noisy(scores).astype(np.float32)
        return Selected(found <= above, found, f"beta mixture, vetoed where p_noisy > {above:g}", None, mixture)
    if p_noisy is None:
        raise UserError(f"the forgetting scores cannot veto: {mixture.reason_}", "leave --f_FND out")
    note = f"{mixture.reason_}, so the estimated p_noisy takes the place of the beta mixture"
    return Selected(p_noisy <= above, p_noisy, f"vetoed where p_noisy > {above:g}", note)


def require_usable(clean: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    """Raise UserError for a clean set from which no classifier can be trained: empty, or of a single class.

    A class without a clean sample is no error; `summary` names it.
    """
    classes = np.unique(labels[clean])
    if len(classes) > 1:
        return
    what = f"all {len(labels)} samples are taken as noisy, so the clean set is empty"
    if len(classes) == 1:
        what = f"the clean set holds class {classes[0]} only, of {num_classes} classes"
    raise UserError(
        what,
        "raise --bmm_th or --threshold (in the second run --bmm_th_2nd or --threshold_2nd), add --balanced_set without"
        " --use_bmm, leave out --agree_on_clean, or raise --fn_th",
    )


def summary(clean: np.ndarray, labels: np.ndarray, clean_labels: np.ndarray | None, class_names: Sequence[str]) -> dict:
    """Size, purity and classes of a clean set, in plain Python types.

    `clean_set_purity` is the fraction in [0, 1] of the clean set whose observed label is the true one (a true label of
    -1, no class, is never right); None where the truth is unknown or the set is empty. `per_class` counts by observed
    label; `empty_classes` names those without a clean sample.
    """
    counts = np.bincount(labels[clean], minlength=len(class_names)).tolist()
    purity = None
    if clean_labels is not None and clean.any():
        purity = float(np.mean(labels[clean] == clean_labels[clean]))
    return {
        "clean_set_size": int(np.count_nonzero(clean)),
        "clean_set_purity": purity,
        "per_class": dict(zip(class_names, counts, strict=True)),
        "empty_classes": [name for name, count in zip(class_names, counts, strict=True) if count == 0],
    }


def validate_scores(scores: np.ndarray, num_samples: int, source: object) -> np.ndarray:
    """`scores` as float32 (num_samples,), all finite; otherwise UserError naming `source` (a path or a flag)."""
    remedy = "write the scores again by running the method that made them"
    scores = np.asarray(scores)
    if scores.dtype.kind not in "fiu":
        raise UserError(f"{source} holds values of type {scores.dtype}, not real numbers", remedy)
    if scores.ndim != 1:
        raise UserError(f"{source} has shape {scores.shape}, not one score per sample", remedy)
    if len(scores) != num_samples:
        raise UserError(
            f"{source} holds {len(scores)} scores for {num_samples} samples",
            "use scores made from the same data set and class subset",
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes infinite and is refused below
        scores = scores.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise UserError(
            f"{source} holds {bad.size} scores that are not finite float32 numbers, the first at sample {bad[0]}",
            remedy,
        )
    return scores


def _trim_classes(clean: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each class in the clean set the lowest scores, the smallest share that the set holds of any of them."""
    shares = [clean[members].mean() for members in _classes(labels, len(labels)) if clean[members].any()]
    return clean & lowest(np.where(clean, scores, np.inf), min(shares, default=0.0), labels)


def _classes(labels: np.ndarray | None, samples: int) -> list[np.ndarray]:
    """The positions of each class among labels (N,), int64; without labels all of them as one."""
    if labels is None:
        return [np.arange(samples)]
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]

"""The scores that ssl.py begins with, and the clean set that it selects from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.data.noisy_data import NoisyData
from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.results.found_scores import OF_POSTERIOR, Found, read_score_file, read_scores
from utils.results.score_figures import histogram_figure, veto_figure
from utils.scoring.metrics import vetoed
from utils.scoring.planted import in_the_order_of
from utils.scoring.selection import Selected, agreed, boundary, combine, doubted, require_usable, summary
from utils.separations import SEPARATIONS

Selector = Callable[..., Selected]  # from scores (N,), and perhaps `estimated`, of select_clean


# -- 1. scores -----------------------------------------------------------------------------------------------------


def find_scores(
    asked: dict[str, str], root: str, score: str | None, data: NoisyData, experiment: Experiment
) -> dict[str, Found]:
    """What every separation in `asked`, {key: experiment} or {"scores": file}, says.

    `score`: of the scores with this name; None = each separation's default. An interrupted run goes on with the copies
    it began with, whatever has finished since.
    """
    found, width = {}, experiment.record.get("given", {}).get("width")
    for key, name in asked.items():
        if experiment.resuming and experiment.record.holds(f"input_{key}"):
            found[key] = read_copies(key, experiment)
        elif key == "scores":
            found[key] = read_score_file(name, len(data))
        else:
            separation = SEPARATIONS[key]
            names = (score,) if score is not None and separation.leaves(score) else None
            found[key] = read_scores(root, separation, name, data.choice, data.fingerprint(), names, width)
        source = Path(found[key].source)
        if not experiment.resuming and source.resolve().parent == experiment.path.resolve():
            raise UserError(f"{source} lies in this experiment's own folder", "take another --experiment_name")
    return found


def read_copies(key: str, experiment: Experiment) -> Found:
    """What an earlier process of this run found."""
    record = experiment.record
    names = (f"input_{key}_{name}" for name in OF_POSTERIOR)
    more = [record.read_array(name) if record.holds(name) else None for name in names]
    return Found(record.read_array(f"input_{key}"), str(experiment.path / f"input_{key}.npy"), *more)


def keep_scores(found: dict[str, Found], experiment: Experiment) -> None:
    """Copies of what was found in the experiment; where it came from in its log, by which settings in its record."""
    for key, of in found.items():
        if not experiment.record.holds(f"input_{key}"):
            experiment.log(f"{key} scores: {of.source}")
            if of.record is not None:
                source = {"experiment": of.record.path.name, "settings": of.record["settings"]}
                experiment.record.update(sources=experiment.record.get("sources", {}) | {key: source})
            for name, values in ((f"_{n}", getattr(of, n)) for n in OF_POSTERIOR):
                if values is not None:
                    experiment.save_array(f"input_{key}{name}", values)
            experiment.save_array(f"input_{key}", of.scores)  # last: it says that the copies are whole


# -- 2. the clean set ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CleanSet:
    """A choice, of which nothing has been said or written yet."""

    clean: np.ndarray  # bool (N,)
    p_noisy: np.ndarray  # float32 (N,)
    scores: dict[str, np.ndarray]  # {key: (N,)} by which it was made
    selected: dict[str, Selected]  # of each
    note: str | None = None  # what went otherwise than asked, for people
    before_veto: np.ndarray | None = None  # bool (N,): clean by the other scores than those that veto


def select(
    selector: Selector,
    scores: dict[str, np.ndarray],
    estimated: dict[str, np.ndarray | None],
    agree: bool,
    veto: float | None,
    data: NoisyData,
) -> CleanSet:
    """That of the first run: union, intersection or veto of the scores.

    `estimated`: p_noisy (N,) as it was estimated along with each of the scores, in the place of a mixture that does not
    fit. `veto`: the forgetting scores only veto, samples with a p_noisy above this; None = they select like the others.
    Raises UserError where no classifier can be trained from it.
    """
    voting = {key: values for key, values in scores.items() if veto is None or key != "forget"}
    selected = {key: selector(values, estimated=estimated[key]) for key, values in voting.items()}
    sets = [s.clean for s in selected.values()]
    clean, note, before_veto = combine(sets, agree), None, None
    if agree:
        agree_on = int(clean.sum())
        clean, enlarged = agreed(sets, list(voting.values()))
        if enlarged:
            smallest = min(int(s.sum()) for s in sets)
            note = f"sets of {smallest} samples or more agree on {agree_on}: with the next best {clean.sum()}"
    # In the union the most confident score speaks for a sample, in the intersection the least confident one.
    extreme = np.max if agree else np.min
    p_noisy = extreme([p_noisy_of(s) for s in selected.values()], axis=0)
    if veto is not None:
        selected["forget"] = doubted(scores["forget"], estimated["forget"], veto)
        trusted, before_veto = selected["forget"].clean, clean
        clean, p_noisy = clean & trusted, np.where(trusted, p_noisy, 1).astype(np.float32)
    require_usable(clean, data.labels, data.num_classes)
    return CleanSet(clean, p_noisy, scores, selected, note, before_veto)


def select_again(selector: Selector, loss: np.ndarray, estimated: np.ndarray | None, data: NoisyData) -> CleanSet:
    """The same from the loss (N,) of the run before against the original labels, for a later run.

    `estimated`: p_noisy (N,) of the separations, which in the order of the loss replaces a mixture that does not fit.
    """
    selected = selector(loss, estimated=None if estimated is None else in_the_order_of(loss, estimated))
    require_usable(selected.clean, data.labels, data.num_classes)
    return CleanSet(selected.clean, p_noisy_of(selected), {"ssl_loss": loss}, {"ssl_loss": selected})


def p_noisy_of(selected: Selected) -> np.ndarray:
    """p_noisy float32 (N,); where a threshold rule chose, 0 for the clean set and 1 for the rest."""
    return (~selected.clean).astype(np.float32) if selected.p_noisy is None else selected.p_noisy


def report_selection(
    run: str, chosen: CleanSet, veto: float | None, data: NoisyData, experiment: Experiment, figure: str
) -> None:
    """Say, draw and save what was selected."""
    if chosen.note:
        experiment.log(chosen.note)
    if chosen.before_veto is not None:
        write_veto(chosen.before_veto, chosen.selected["forget"].p_noisy, veto, data, experiment)
    mixtures = {key: s.mixture for key, s in chosen.selected.items() if s.mixture is not None}
    thresholds = {key: boundary(chosen.scores[key], ~s.clean) for key, s in chosen.selected.items()}
    path, subject = experiment.record.own(figure), data.choice.in_words()
    label = "this score's clean set ends here"
    histogram_figure(path, chosen.scores, data.is_noisy, subject, mixtures, thresholds, label)
    for key, s in chosen.selected.items():
        experiment.log(f"{run}: {key}: {s.rule}: {s.clean.sum()} of {len(data)} samples")
        if s.note:
            experiment.log(f"{run}: {key}: {s.note}")
    facts = summary(chosen.clean, data.labels, data.clean_labels, data.class_names)
    purity = "unknown" if facts["clean_set_purity"] is None else f"{facts['clean_set_purity']:.4f}"
    experiment.log(f"{run}: clean set: {facts['clean_set_size']} of {len(data)} samples, purity {purity}")
    experiment.log(f"{run}: per class: " + ", ".join(f"{name} {n}" for name, n in facts["per_class"].items()))
    if facts["empty_classes"]:
        experiment.log(f"{run}: no clean sample of {', '.join(facts['empty_classes'])}")
    experiment.save_array(f"clean_set_{run}", chosen.clean)
    experiment.record.update(selection=experiment.record.get("selection", {}) | {run: facts})


def write_veto(clean: np.ndarray, p_noisy: np.ndarray, used: float, data: NoisyData, experiment: Experiment) -> None:
    """veto.csv and veto.png: what a veto by p_noisy (N,) takes out of the clean set bool (N,), for every threshold.

    `used`: the threshold of the run, which has a row of its own. Nothing where the truth is unknown.
    """
    if data.is_noisy is None:
        return
    wrong, right = vetoed(clean, p_noisy, data.is_noisy)
    rows = []
    for above in sorted({*(percent / 100 for percent in range(101)), used}):
        k = int((p_noisy > above).sum())
        left = int(clean.sum() - wrong[k] - right[k])
        purity = f"{(right[-1] - right[k]) / left:.6f}" if left else ""
        rows.append({"fn_th": above, "vetoed": k, "wrong_removed": wrong[k], "right_removed": right[k],
                     "clean_set_size": left, "clean_set_purity": purity})  # fmt: skip
    experiment.write_csv("veto.csv", rows)
    share = float((p_noisy > used).mean())
    veto_figure(experiment.record.own("veto.png"), wrong, right, share, f"--fn_th {used:g}", data.choice.in_words())

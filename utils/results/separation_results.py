"""What the three separation scripts leave behind alike: scores, p_noisy, predictions, suspects, figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.results.drawing import both_kinds
from utils.results.evidence import Evidence
from utils.results.reporting import write_reliability, write_transition
from utils.results.score_figures import histogram_figure, roc_figure
from utils.results.suspect_files import write_suspects
from utils.results.suspects import SUSPECT_FROM
from utils.scoring.metrics import aucs
from utils.scoring.mixture import BetaMixture
from utils.scoring.planted import MIN_PER_CLASS, CalibratedPosterior, in_the_order_of
from utils.scoring.selection import boundary
from utils.separations import Separation


def save_scores(
    experiment: Experiment, data: NoisyData, separation: Separation, evidence: Evidence, scores: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Write the chosen score, the others that the separation promises (N,) as far as they are there, the accumulated
    ones, p_noisy, predictions, the estimated noise, suspects and figures; the numbers auc_<score>,
    noise_ratio_realised, noise_ratio_estimated and p_noisy_calibration_error."""
    choice, posterior = evidence.choice, evidence.posterior()
    score = choice.best.observed
    p_noisy = in_the_order_of(score, posterior.p_noisy_)
    experiment.log(f"score: {choice}")
    scores = {separation.scores[0]: score} | scores
    scores = {name: scores[name] for name in separation.scores if name in scores}  # the first ranks the suspects
    mixtures = {name: mixture for name, values in scores.items() if (mixture := BetaMixture().fit(values)).usable_}
    for name, values in scores.items():
        experiment.save_array(name, values.astype(np.float32))
    figures: dict[str, Any] = {}
    for name, values in scores.items():
        figures |= aucs(name, values, data.labels, data.clean_labels)
    figures |= evidence.save(experiment)
    log_posterior("p_noisy", posterior, evidence, experiment)
    experiment.save_array("p_noisy", p_noisy)
    experiment.save_array(f"{separation.key}_probs", evidence.observed_predictions())
    experiment.save_array(f"{separation.key}_posterior", posterior.posterior_)
    experiment.save_array(f"{separation.key}_transition", posterior.transition_)
    write_transition(experiment, data, posterior.own_transition_, posterior.assumes_symmetric_)
    write_suspects(experiment, data, scores, p_noisy, posterior.posterior_)
    draw_scores(experiment, data, scores, p_noisy, mixtures, round(posterior.noise_rate_ * len(data)))
    errors = write_reliability(experiment, data, p_noisy)
    estimated = {"score": choice.name, "score_moment": choice.moment, "noise_ratio_estimated": posterior.noise_rate_}
    return figures | estimated | errors | {"noise_ratio_realised": data.noise_ratio}


def draw_scores(
    experiment: Experiment,
    data: NoisyData,
    scores: dict[str, np.ndarray],
    p_noisy: np.ndarray,
    mixtures: dict[str, BetaMixture],
    wrong: int,
) -> None:
    """scores.png and roc.png; `wrong`: the estimated number of wrong labels.

    p_noisy follows the first of the scores, so of these two alone a threshold parts the suspects from the rest. The
    score may be a mean of ranks, in which all samples lie evenly; p_noisy shows where they gather.
    """
    subject, first = data.choice.in_words(), next(iter(scores))
    thresholds = {first: boundary(scores[first], p_noisy >= SUSPECT_FROM), "p_noisy": SUSPECT_FROM}
    path = experiment.record.own("scores.png")
    label = f"p_noisy = {SUSPECT_FROM}"
    histogram_figure(path, scores | {"p_noisy": p_noisy}, data.is_noisy, subject, mixtures, thresholds, label)
    draw_roc(experiment, data, scores, wrong)


def draw_roc(experiment: Experiment, data: NoisyData, scores: dict[str, np.ndarray], wrong: int | None) -> None:
    """roc.png, with the point at which the `wrong` highest are called wrong; nothing where the truth is unknown.

    `wrong`: None = nothing has estimated it.
    """
    if both_kinds(data.is_noisy):
        roc_figure(experiment.record.own("roc.png"), scores, data.is_noisy, data.choice.in_words(), wrong)


def log_posterior(what: str, posterior: CalibratedPosterior, evidence: Evidence, experiment: Experiment) -> None:
    """What it finds, and whether to trust it; by what it was calibrated, in the log file alone."""
    said = f"{what}: estimated share of wrong labels {posterior.noise_rate_:.3f}"
    if not posterior.calibrated_:
        experiment.log(f"{said}; not calibrated: too few errors were planted (go by the order, not by p_noisy)")
        return
    if posterior.assumes_symmetric_:
        said += f"; fewer than {MIN_PER_CLASS} images a class: it may be far off (go by the order, not by p_noisy)"
    experiment.log(said)
    factor, temperature = posterior.memorisation_.factor, posterior.temperature_
    experiment.log.quietly(
        f"{what}: calibrated by {len(evidence.data.planted.ids)} errors planted on purpose, most of all by the "
        f"predictions of {evidence.window}: being the label trained on makes a class {factor:.2f} times as probable "
        f"(1 = not memorised), temperature {temperature:.2f}; symmetric noise with {posterior.symmetric_:.2f}, errors "
        f"like the planted ones with {posterior.alike_:.2f}"
    )

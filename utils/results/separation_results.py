"""What the three separation scripts leave behind alike: scores, p_noisy, predictions, suspects, figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.results.evidence import Evidence
from utils.results.figures import histogram_figure, roc_figure
from utils.results.suspect_files import write_suspects
from utils.scoring.metrics import auc
from utils.scoring.mixture import BetaMixture
from utils.scoring.planted import CalibratedPosterior, in_the_order_of
from utils.separations import Separation


def save_scores(
    experiment: Experiment, data: NoisyData, separation: Separation, evidence: Evidence, scores: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Write the chosen score, the others that the separation promises (N,) as far as they are there, the accumulated
    ones, p_noisy, predictions, suspects, ROC and histograms; the figures auc_<score>, noise_ratio_realised and
    noise_ratio_estimated."""
    choice, posterior = evidence.choice, evidence.posterior()
    score = choice.best.observed
    p_noisy = in_the_order_of(score, posterior.p_noisy_)
    experiment.log(f"score: {choice}")
    scores = {separation.scores[0]: score} | scores
    scores = {name: scores[name] for name in separation.scores if name in scores}  # the first ranks the suspects
    mixtures = {name: mixture for name, values in scores.items() if (mixture := BetaMixture().fit(values)).usable_}
    for name, values in scores.items():
        experiment.save_array(name, values.astype(np.float32))
    aucs = {f"auc_{name}": auc(values, data.is_noisy) for name, values in scores.items()} | evidence.save(experiment)
    experiment.log(f"p_noisy: {posterior_in_words(posterior, evidence)}")
    experiment.save_array("p_noisy", p_noisy)
    experiment.save_array(f"{separation.key}_probs", evidence.observed_predictions())
    experiment.save_array(f"{separation.key}_posterior", posterior.posterior_)
    experiment.save_array(f"{separation.key}_transition", posterior.transition_)
    write_suspects(experiment, data, scores, p_noisy, posterior.posterior_)
    histogram_figure(experiment.record.own("scores.png"), scores, data.is_noisy, mixtures)
    roc_figure(experiment.record.own("roc.png"), scores, data.is_noisy)
    estimated = {"score": choice.name, "score_moment": choice.moment, "noise_ratio_estimated": posterior.noise_rate_}
    return aucs | estimated | {"noise_ratio_realised": data.noise_ratio}


def posterior_in_words(posterior: CalibratedPosterior, evidence: Evidence) -> str:
    """What it finds, and by what."""
    said = f"{posterior.noise_rate_:.3f} of the labels wrong, by the predictions of {evidence.window}"
    if not posterior.calibrated_:
        return f"{said}; not calibrated: too few errors were planted"
    factor, temperature = posterior.memorisation_.factor, posterior.temperature_
    return (
        f"{said}; {len(evidence.data.planted.ids)} planted errors show that being the label makes a class {factor:.2f} "
        f"times as probable, and temperature {temperature:.2f}"
    )

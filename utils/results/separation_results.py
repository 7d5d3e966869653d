"""What the three separation scripts leave behind alike: scores, p_noisy, predictions, suspects, figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.results.evidence import Evidence
from utils.results.figures import histogram_figure, roc_figure
from utils.results.suspect_files import write_suspects
from utils.scoring.label_posterior import LabelPosterior, posterior_at_rate, posterior_of
from utils.scoring.metrics import auc
from utils.scoring.mixture import BetaMixture
from utils.scoring.planted import PlantedCalibration
from utils.separations import Separation


def save_scores(
    experiment: Experiment, data: NoisyData, separation: Separation, evidence: Evidence, scores: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Write the chosen score, the others that the separation promises (N,) as far as they are there, the accumulated
    ones, p_noisy, predictions, suspects, ROC and histograms; the figures auc_<score>, noise_ratio_realised and
    noise_ratio_estimated."""
    choice = evidence.choice
    experiment.log(f"score: {choice}")
    scores = {separation.scores[0]: choice.best.observed} | scores
    scores = {name: scores[name] for name in separation.scores if name in scores}  # the first ranks the suspects
    mixtures = {name: mixture for name, values in scores.items() if (mixture := BetaMixture().fit(values)).usable_}
    for name, values in scores.items():
        experiment.save_array(name, values.astype(np.float32))
    aucs = {f"auc_{name}": auc(values, data.is_noisy) for name, values in scores.items()} | evidence.save(experiment)
    doubts = Doubts.from_evidence(evidence)
    p_noisy = doubts.p_noisy
    experiment.log(f"p_noisy: {doubts.words}")
    experiment.save_array("p_noisy", p_noisy)
    experiment.save_array(f"{separation.key}_probs", evidence.observed_predictions())
    experiment.save_array(f"{separation.key}_posterior", doubts.posterior)
    write_suspects(experiment, data, scores, p_noisy, doubts.posterior)
    histogram_figure(experiment.record.own("scores.png"), scores, data.is_noisy, mixtures)
    roc_figure(experiment.record.own("roc.png"), scores, data.is_noisy)
    estimated = {"score": choice.name, "score_moment": choice.moment, "noise_ratio_estimated": float(p_noisy.mean())}
    return aucs | estimated | {"noise_ratio_realised": data.noise_ratio}


@dataclass(frozen=True)
class Doubts:
    """How far each label can be trusted, without the truth."""

    p_noisy: np.ndarray  # float32 (N,)
    posterior: np.ndarray  # float32 (N, C): of the true class, given predictions and label
    words: str  # where p_noisy comes from

    @classmethod
    def from_evidence(cls, evidence: Evidence, trained: bool = False) -> Doubts:
        """Of the observed labels, or of those that the network was `trained` on, planted errors included.

        p_noisy is the higher of two estimates, each of which misses some wrong labels. Planted errors calibrate the
        chosen score, but are drawn uniformly, so that labels which look right because two classes are alike are missed;
        the posterior of the predictions knows such pairs, but not what was memorised.
        """
        data, choice = evidence.data, evidence.choice
        probs = evidence.predictions if trained else evidence.observed_predictions()
        labels = data.training_labels.cpu().numpy() if trained else data.labels
        plain = LabelPosterior().fit(probs, labels)
        p_noisy, rate = plain.p_noisy(labels), plain.noise_rate_
        calibration = PlantedCalibration()
        if data.planted is None or not calibration.fit(*choice.split(choice.best)).usable_:
            reason = "none were planted" if data.planted is None else calibration.reason_
            words = f"by the posterior of the predictions ({rate:.3f} wrong); planted errors: {reason}"
            return cls(p_noisy, plain.posterior_, words)
        planted = calibration.p_noisy(choice.best.trained if trained else choice.best.observed)
        p_noisy = np.maximum(planted, p_noisy).astype(np.float32)
        # Two posteriors that err in different ways: one is calibrated, one knows which labels each class is given.
        matched = posterior_at_rate(probs, labels, float(planted.mean())).posterior_
        words = f"by planted errors ({planted.mean():.3f} wrong) and by the posterior of the predictions ({rate:.3f})"
        return cls(p_noisy, (matched + posterior_of(labels, p_noisy, probs)) / 2, words)

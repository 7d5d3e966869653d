"""What the three separation scripts leave behind alike: scores, suspects, figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.results.figures import histogram_figure, roc_figure
from utils.scoring.metrics import auc
from utils.scoring.mixture import BetaMixture
from utils.separations import Separation


def save_scores(
    experiment: Experiment, data: NoisyData, separation: Separation, scores: dict[str, np.ndarray]
) -> dict[str, float | None]:
    """Write the scores {name: (N,)} that the separation promises, as far as they are there, suspects.csv, ROC and
    histograms; the figures auc_<score> and noise_ratio_realised."""
    scores = {name: scores[name] for name in separation.scores if name in scores}  # the first ranks the suspects
    mixtures = {}
    for name, values in scores.items():
        experiment.save_array(name, values.astype(np.float32))
        mixture = BetaMixture().fit(values)
        if mixture.usable_:
            mixtures[name] = mixture
    save_suspects(experiment, data, scores, mixtures)
    histogram_figure(experiment.record.own("scores.png"), scores, data.is_noisy, mixtures)
    roc_figure(experiment.record.own("roc.png"), scores, data.is_noisy)
    aucs = {f"auc_{name}": auc(values, data.is_noisy) for name, values in scores.items()}
    return aucs | {"noise_ratio_realised": data.noise_ratio}


def save_suspects(
    experiment: Experiment, data: NoisyData, scores: dict[str, np.ndarray], mixtures: dict[str, BetaMixture]
) -> None:
    """suspects.csv: every sample, the most likely mislabelled first by the first score."""
    first = next(iter(scores))
    p_noisy = mixtures[first].p_noisy(scores[first]) if first in mixtures else None
    rows = []
    for i in np.argsort(-scores[first], kind="stable"):
        row: dict[str, Any] = {"sample_id": data.sample_ids[i]}
        if data.file_names is not None:
            row["file"] = data.file_names[i]
        row["label"] = data.class_names[data.labels[i]]
        row |= {name: f"{values[i]:.6g}" for name, values in scores.items()}
        if p_noisy is not None:
            row["p_noisy"] = f"{p_noisy[i]:.4f}"
        rows.append(row)
    experiment.write_csv("suspects.csv", rows)

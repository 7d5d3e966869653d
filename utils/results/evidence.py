"""What one training says about every label, pass after pass: accumulated scores, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.data.noisy_data import NoisyData
from utils.errors import UserError
from utils.experiments.experiment import Experiment
from utils.scoring.accumulated import Accumulated
from utils.scoring.choosing import Candidate, ScoreChoice
from utils.scoring.label_posterior import wrong
from utils.scoring.metrics import auc
from utils.scoring.planted import CalibratedPosterior


class Evidence:
    """Collects the passes of one training; `prefix` names its scores, `PREFIX_mean_loss` and so on.

    `how`: see ScoreChoice. Beside the chosen score it keeps the predictions of the newest moment, unless those of an
    earlier one told the planted errors clearly better. Raises UserError for an oracle without the truth.
    """

    def __init__(self, prefix: str, data: NoisyData, how: str) -> None:
        if how == "oracle" and not 0 < (data.noise_ratio or 0) < 1:
            raise UserError("--choose oracle needs true labels that tell right ones from wrong ones", "leave it out")
        self.prefix, self.data = prefix, data
        self.accumulated = Accumulated(data.training_labels, data.num_classes)
        planted = None if data.planted is None else data.planted.ids
        self.choice = ScoreChoice(how, planted, data.is_noisy)
        self._of_predictions = ScoreChoice("last" if how == "oracle" else how, planted, None)
        self.predictions: np.ndarray | None = None  # float32 (N, C), rows sum to 1

    def add(self, logits: Tensor, moment: str, more: Mapping[str, Candidate] | None = None) -> dict[str, Any]:
        """A pass, logits (N, C); `more` candidates beside the accumulated ones. Columns for the history."""
        self.accumulated.add(logits)
        trained = self.accumulated.scores(self.data.training_labels)
        observed = trained if self.data.planted is None else self.accumulated.scores(self.data.device_labels)
        if self._hides_planted:
            observed["prediction"] = self._without_planted(observed["prediction"])
        candidates = {f"{self.prefix}_{name}": Candidate(observed[name], trained[name]) for name in observed}
        criteria = self.choice.consider(moment, candidates | dict(more or {}))
        name = f"{self.prefix}_prediction"
        self._of_predictions.consider(moment, {name: candidates[name]})
        if self._of_predictions.moment == moment:
            self.predictions = self.accumulated.predictions()
        aucs = {f"auc_{name}": auc(candidate.observed, self.data.is_noisy) for name, candidate in candidates.items()}
        return aucs | criteria

    def posterior(self) -> CalibratedPosterior:
        """Of the kept predictions."""
        planted = None if self.data.planted is None else self.data.planted.ids
        trained = self.data.training_labels.cpu().numpy()
        return CalibratedPosterior().fit(self.predictions, trained, self.data.labels, planted)

    def conclude(self) -> None:
        """A training is over: where its prediction was chosen, p_noisy, which knows other things, votes beside it."""
        if self.choice.name == f"{self.prefix}_prediction" and self.choice.how != "oracle":
            posterior, trained = self.posterior(), self.data.training_labels.cpu().numpy()
            p_noisy = Candidate(posterior.p_noisy_, wrong(posterior.trained_, trained))
            both = self.choice.best.with_rank_of(p_noisy)
            self.choice.take(f"{self.prefix}_prediction_and_p_noisy", self.choice.moment, both)

    @property
    def _hides_planted(self) -> bool:
        """Whether planted classes are taken out of predictions; of two classes that would leave no choice."""
        return self.data.planted is not None and self.data.num_classes > 2

    def _without_planted(self, scores: np.ndarray) -> np.ndarray:
        """Of planted samples the loss of their own label once the planted class is taken out of the prediction.

        The network has been taught the planted label: what it gives to that says nothing about their own.
        """
        ids, planted = self.data.planted.ids, self.data.training_labels.cpu().numpy()
        scores = scores.copy()
        scores[ids] += np.log1p(-np.minimum(self.accumulated.predictions()[ids, planted[ids]], 1 - 1e-6))
        return scores

    def observed_predictions(self) -> np.ndarray:
        """`predictions` without what was planted, float32 (N, C), rows sum to 1."""
        if not self._hides_planted:
            return self.predictions
        ids, planted = self.data.planted.ids, self.data.training_labels.cpu().numpy()
        probs = np.maximum(self.predictions, 1e-8)
        probs[ids, planted[ids]] = 0
        return probs / probs.sum(axis=1, keepdims=True)

    def candidate(self, score: Callable[[Tensor], np.ndarray]) -> Candidate:
        """A score, which gives (N,) for labels (N,), of the observed labels and of those that training is given."""
        return Candidate(score(self.data.device_labels), score(self.data.training_labels))

    def scores(self) -> dict[str, np.ndarray]:
        """{name: (N,)}: the accumulated scores of the observed labels."""
        scores = self.accumulated.scores(self.data.device_labels)
        if self._hides_planted:
            scores["prediction"] = self._without_planted(scores["prediction"])
        return scores

    def save(self, experiment: Experiment) -> dict[str, float | None]:
        """The accumulated scores as files; their AUCs."""
        found = {}
        for name, values in self.scores().items():
            experiment.save_array(f"{self.prefix}_{name}", values)
            found[f"auc_{self.prefix}_{name}"] = auc(values, self.data.is_noisy)
        return found

    def state_dict(self) -> dict:
        return {
            "accumulated": self.accumulated.state_dict(),
            "choice": self.choice.state_dict(),
            "of_predictions": self._of_predictions.state_dict(),
            "predictions": None if self.predictions is None else torch.from_numpy(self.predictions),
        }

    def load_state_dict(self, state: dict) -> None:
        self.accumulated.load_state_dict(state["accumulated"])
        self.choice.load_state_dict(state["choice"])
        self._of_predictions.load_state_dict(state["of_predictions"])
        self.predictions = None if state["predictions"] is None else state["predictions"].numpy()

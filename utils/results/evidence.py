"""What one training says about every label, pass after pass: accumulated scores, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.scoring.accumulated import Accumulated
from utils.scoring.choosing import Candidate, ScoreChoice
from utils.scoring.metrics import auc


class Evidence:
    """Collects the passes of one training; `prefix` names its scores, `PREFIX_mean_loss` and so on.

    `how`: see ScoreChoice. Beside the chosen score it keeps the predictions of the moment at which they told the
    planted errors best.
    """

    def __init__(self, prefix: str, data: NoisyData, how: str) -> None:
        self.prefix, self.data = prefix, data
        self.accumulated = Accumulated(data.training_labels, data.num_classes)
        planted = None if data.planted is None else data.planted.ids
        self.choice = ScoreChoice(how, planted, data.is_noisy)
        self._of_predictions = ScoreChoice(how, planted, data.is_noisy)
        self.predictions: np.ndarray | None = None  # float32 (N, C), rows sum to 1

    def add(self, logits: Tensor, moment: str, more: Mapping[str, Candidate] | None = None) -> dict[str, Any]:
        """A pass, logits (N, C); `more` candidates beside the accumulated ones. Columns for the history."""
        self.accumulated.add(logits)
        observed = self.accumulated.scores(self.data.device_labels)
        trained = observed if self.data.planted is None else self.accumulated.scores(self.data.training_labels)
        candidates = {f"{self.prefix}_{name}": Candidate(observed[name], trained[name]) for name in observed}
        criteria = self.choice.consider(moment, candidates | dict(more or {}))
        name = f"{self.prefix}_prediction"
        self._of_predictions.consider(moment, {name: candidates[name]})
        if self._of_predictions.moment == moment:
            self.predictions = self.accumulated.predictions()
        aucs = {f"auc_{name}": auc(candidate.observed, self.data.is_noisy) for name, candidate in candidates.items()}
        return aucs | criteria

    def go_on(self) -> None:
        """Another training begins: its passes are counted anew, against what was chosen so far."""
        self.accumulated = Accumulated(self.data.training_labels, self.data.num_classes)

    def candidate(self, score: Callable[[Tensor], np.ndarray]) -> Candidate:
        """A score, which gives (N,) for labels (N,), of the observed labels and of those that training is given."""
        return Candidate(score(self.data.device_labels), score(self.data.training_labels))

    def save(self, experiment: Experiment) -> dict[str, float | None]:
        """The accumulated scores of the last pass as files; their AUCs."""
        found = {}
        for name, values in self.accumulated.scores(self.data.device_labels).items():
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

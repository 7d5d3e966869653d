"""What one training says about every label, pass after pass: accumulated scores, the choice among them, dynamics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.data.noisy_data import NoisyData
from utils.errors import Diverged, UserError
from utils.experiments.experiment import Experiment
from utils.scoring.accumulated import SMALLEST, Accumulated, loss_under
from utils.scoring.choosing import Candidate, ScoreChoice
from utils.scoring.dynamics import Streak, learnt
from utils.scoring.label_posterior import wrong
from utils.scoring.metrics import auc, aucs
from utils.scoring.planted import OF_BATCHES, OF_PASSES, CalibratedPosterior
from utils.scoring.tracker import Snapshot


class Evidence:
    """Collects the passes of one training of so many `epochs`; `prefix` names its scores, `PREFIX_mean_loss` and so on.

    `how`: see ScoreChoice. `before`: epochs of the run before this training. `from_batches`: what is added is of the
    training batches. Raises UserError for an oracle without the truth.
    """

    def __init__(
        self, prefix: str, data: NoisyData, how: str, epochs: int, before: int = 0, from_batches: bool = False
    ) -> None:
        if how == "oracle" and not 0 < (data.noise_ratio or 0) < 1:
            raise UserError("--choose oracle needs true labels that tell right ones from wrong ones", "leave it out")
        self.prefix, self.data, self.epochs, self.before, self.from_batches = prefix, data, epochs, before, from_batches
        self.accumulated = Accumulated(data.training_labels, data.num_classes, epochs // 2)
        self.learnt = Streak(len(data.labels), data.device_labels.device)  # by the observed labels
        planted = None if data.planted is None else data.planted.ids
        self.choice = ScoreChoice(how, planted, data.is_noisy)
        self._planted = self._own = None  # ids int64 (P,); what the passes say of these without their planted class
        if data.planted is not None and data.num_classes > 2:  # of two classes that would leave no choice
            self._planted = torch.from_numpy(planted).to(data.device_labels.device)
            self._own = Accumulated(data.device_labels[self._planted], data.num_classes)
        self.predictions: np.ndarray | None = None  # float32 (N, C), rows sum to 1; once the training is over ...
        self.window = ""  # ... and of which epochs they are
        self._concluded: CalibratedPosterior | None = None  # fitted to those of all epochs and of either half

    def require_half(self, before: str) -> None:
        """Raises Diverged where the training, which diverged, had fewer than half of its epochs: too few to judge by.

        `before`: whose evidence stands then, for people.
        """
        if self.accumulated.passes < self.epochs // 2:
            raise Diverged(f"too few epochs to say more than {before}", "lower the learning rate")

    @property
    def last_epoch(self) -> int:
        """Of the run, counted from 1, at which this training is or ended."""
        return self.before + self.accumulated.passes

    def following(self, epochs: int, prefix: str = "") -> Evidence:
        """For the next training, of so many epochs: its scores compete with the best so far.

        Under the same names, and so in place of these, unless a `prefix` of their own is given.
        """
        before = self.before + self.epochs
        following = Evidence(prefix or self.prefix, self.data, self.choice.how, epochs, before, self.from_batches)
        following.choice.load_state_dict(self.choice.state_dict())
        return following

    def add(self, logits: Tensor, moment: str, more: Mapping[str, Candidate] | None = None) -> dict[str, Any]:
        """A pass, logits (N, C); `more` candidates beside the accumulated ones. Columns for the history."""
        self.accumulated.add(logits)
        self._concluded = None
        own = logits
        if self._planted is not None:
            own = logits.clone()
            own[self._planted, self.data.training_labels[self._planted]] = -torch.inf
            self._own.add(own[self._planted])
        self.learnt.update(self.last_epoch, learnt(own, self.data.device_labels))
        trained = self.accumulated.scores(self.data.training_labels)
        observed = trained if self.data.planted is None else self.scores()
        candidates = {f"{self.prefix}_{name}": Candidate(observed[name], trained[name]) for name in observed}
        criteria = self.choice.consider(moment, candidates | dict(more or {}))
        columns = {f"auc_{name}": auc(candidate.observed, self.data.is_noisy) for name, candidate in candidates.items()}
        return columns | criteria

    def conclude(self, window: str = "") -> None:
        """A training is over: keep what the predictions of all its epochs and of either half say of the labels.

        And those that speak best for held-out labels; without such labels those of all epochs. Where the loss under the
        prediction was chosen, of whatever moment, that under these takes its place, with p_noisy, which knows other
        things, beside it. Planted errors have no say in that: they would not miss what p_noisy knows of real ones. And
        where wrong labels are drawn otherwise than they are, it takes the place of whatever they chose, and they choose
        nothing until the next training is over.
        `window`: what the passes were, where they were no epochs.
        """
        words, predictions = zip(*self.accumulated.windows(), strict=True)
        self._concluded = self._posterior(predictions)
        self.window = window or words[self._concluded.window_]
        self.predictions = predictions[self._concluded.window_]
        self.choice.unlike = bool(self._concluded.alike_ < 0.5)  # not so where it is not known, nan
        stands = self.choice.unlike or self.choice.name == f"{self.prefix}_prediction"
        if stands and self.choice.how != "oracle":
            trained = self.data.trained
            p_noisy = Candidate(self._concluded.p_noisy_, wrong(self._concluded.trained_, trained))
            both = self._loss(self.predictions).with_rank_of(p_noisy)
            self.choice.take(f"{self.prefix}_prediction_and_p_noisy", self.window, both)

    def posterior(self) -> CalibratedPosterior:
        """What was concluded. Raises RuntimeError before that."""
        if self.predictions is None:
            raise RuntimeError("nothing was concluded yet")
        if self._concluded is None:  # in another process
            self._concluded = self._posterior([predictions for _, predictions in self.accumulated.windows()])
        return self._concluded

    def _posterior(self, predictions: Sequence[np.ndarray]) -> CalibratedPosterior:
        planted = None if self.data.planted is None else self.data.planted.ids
        trained = self.data.trained
        temperature = OF_BATCHES if self.from_batches else OF_PASSES
        return CalibratedPosterior(temperature).fit(predictions, trained, self.data.labels, planted)

    def _loss(self, predictions: np.ndarray) -> Candidate:
        """Of either kind of labels under predictions (N, C)."""
        losses = [loss_under(predictions, labels) for labels in (self.data.labels, self.data.trained)]
        if self._planted is not None:
            losses[0][self.data.planted.ids] = self._loss_of_planted(predictions)
        return Candidate(*losses)

    def _beside_planted(self, predictions: np.ndarray) -> np.ndarray:
        """Of predictions (N, C) those of the planted samples among the other classes, (P, C), rows sum to 1.

        The network has been taught the planted label: what it gives to that says nothing about their own.
        """
        ids = self.data.planted.ids
        probs = np.maximum(predictions[ids], SMALLEST)  # where nothing is left for the others, all are alike
        probs[np.arange(len(ids)), self.data.trained[ids]] = 0
        return probs / probs.sum(axis=1, keepdims=True)

    def _loss_of_planted(self, predictions: np.ndarray) -> np.ndarray:
        """(P,): of the planted samples' own labels, by `_beside_planted`."""
        return loss_under(self._beside_planted(predictions), self.data.labels[self.data.planted.ids])

    def observed_predictions(self) -> np.ndarray:
        """`predictions` without what was planted, float32 (N, C), rows sum to 1."""
        if self._planted is None:
            return self.predictions
        probs = self.predictions.copy()
        probs[self.data.planted.ids] = self._beside_planted(probs)
        return probs

    def observed(self, now: Snapshot) -> Snapshot:
        """A pass as the observed labels are to be scored by: of planted samples without their planted class.

        The network has been taught that: its logits and the neighbours around it say nothing about their own label.
        """
        if self._planted is None:
            return now
        return now.without(self._planted, self.data.training_labels[self._planted])

    def candidates(self, now: Snapshot, loss: str, ce: str = "") -> dict[str, Candidate]:
        """The neighbour cross-entropy, where it was asked for, and the loss of a pass, by these names.

        Of the observed labels, and of those that training is given.
        """
        observed = self.observed(now).scores(self.data.device_labels, ce, loss)
        trained = now.scores(self.data.training_labels, ce, loss)
        return {name: Candidate(observed[name], trained[name]) for name in trained}

    def scores(self) -> dict[str, np.ndarray]:
        """{name: (N,)}: the accumulated scores of the observed labels."""
        scores = self.accumulated.scores(self.data.device_labels)
        if self._planted is not None:
            ids = self.data.planted.ids
            for name, values in self._own.means(self.data.device_labels[self._planted]).items():
                scores[name][ids] = values
            scores["prediction"][ids] = self._loss_of_planted(self.accumulated.predictions())
        return scores

    def save(self, experiment: Experiment) -> dict[str, float | None]:
        """The accumulated scores as files; their AUCs."""
        found = {}
        for name, values in self.scores().items():
            experiment.save_array(f"{self.prefix}_{name}", values)
            found |= aucs(f"{self.prefix}_{name}", values, self.data.labels, self.data.clean_labels)
        return found

    def state_dict(self) -> dict:
        return {
            "accumulated": self.accumulated.state_dict(),
            "own": None if self._own is None else self._own.state_dict(),
            "learnt": self.learnt.state_dict(),
            "choice": self.choice.state_dict(),
            "window": self.window,
            "predictions": None if self.predictions is None else torch.from_numpy(self.predictions),
        }

    def load_state_dict(self, state: dict) -> None:
        self.accumulated.load_state_dict(state["accumulated"])
        if self._own is not None:
            self._own.load_state_dict(state["own"])
        self.learnt.load_state_dict(state["learnt"])
        self.choice.load_state_dict(state["choice"])
        self.window, self._concluded = state["window"], None
        self.predictions = None if state["predictions"] is None else state["predictions"].numpy()

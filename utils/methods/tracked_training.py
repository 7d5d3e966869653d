"""What trainings of one network have in common: each epoch learns, looks at every sample, and keeps what that says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from utils.experiments.experiment import Experiment
from utils.results.evidence import Evidence
from utils.results.score_tracks import ScoreTracks
from utils.scoring.tracker import Snapshot, Tracker
from utils.scoring.tracking import LOSS_ALONE
from utils.training.learner import Learner
from utils.training.passes import score_samples


@dataclass
class TrackedTraining:
    """The phase `name`, of the epochs that the evidence is of: it goes on where it was cut off.

    `labels` int64 (N,): those that the accuracy of a pass goes by. `losses`: one track, the observed labels' loss.
    """

    name: str
    learner: Learner
    labels: Tensor
    evidence: Evidence
    losses: ScoreTracks
    experiment: Experiment

    @contextlib.contextmanager
    def run(
        self,
        loss_of: Callable[[Tensor], Tensor],
        after_epoch: Callable[[int, Snapshot], dict[str, Any]] = lambda epoch, now: {},
        *,
        first_columns: Mapping[str, Any] | None = None,
        parts: Mapping[str, Any] | None = None,
        batches: Callable[[], Sequence[Tensor] | None] = lambda: None,
        loss_competes: bool = False,
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Train; what stands under the `with` still belongs to the phase: a run that is cut off there does it again.

        loss_of(ids) -> the scalar loss of a batch. after_epoch(epoch, from 0; all samples as they are seen now) ->
        columns of the history beside the usual ones, which begin with `first_columns`. `parts`: what a checkpoint keeps
        beside learner and evidence. `batches`: of the epoch to come, None = all samples in a fresh order.
        `loss_competes`: the loss of an epoch may be chosen, as the accumulated scores may. `enough`: whether to end
        sooner, asked before each epoch. Where the network diverges after a whole epoch the training ends with that
        one; else it raises Diverged.
        """
        learner, evidence, losses = self.learner, self.evidence, self.losses
        (loss,) = losses.scores
        tracker = learner.tracker(self.labels)
        self.experiment.log.quietly(f"{self.name}: {learner.optimisation.schedule.in_words()}")
        parts = learner.parts() | dict(parts or {}) | {"evidence": evidence}
        with self.experiment.phase(self.name, parts) as phase:
            with phase.until_divergence():
                for epoch in phase.epochs(evidence.epochs, learner.progress, before=evidence.before, enough=enough):
                    number = evidence.before + epoch + 1
                    train_loss = learner.train_epoch(loss_of, batches(), after_step=phase.stop_if_asked)
                    now = learner.score(tracker)
                    more = after_epoch(epoch, now)
                    candidates = evidence.candidates(now, loss.name)
                    losses.append({loss.name: candidates[loss.name].observed})
                    phase.add_epoch(
                        **first_columns or {},
                        epoch=number,
                        lr=learner.rate,
                        train_loss=train_loss,
                        train_accuracy=now.accuracy,
                        test_accuracy=learner.test_accuracy(),
                        **more,
                        **losses.aucs(),
                        **evidence.add(now.logits, f"epoch {number}", candidates if loss_competes else None),
                    )
            yield

    def losses_of(self, network: nn.Module) -> np.ndarray:
        """float32 (N,): of every observed label under `network`, which is the trained one, by a pass of its own."""
        data = self.learner.data
        tracker = Tracker(data.device_labels, data.num_classes, LOSS_ALONE)
        where = f"the end of {self.name}"
        last = score_samples(network, data.images, tracker, self.learner.compute, where=where)
        return self.evidence.observed(last).loss(data.device_labels)

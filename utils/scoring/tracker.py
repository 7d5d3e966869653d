"""The per-sample tracker: loss and neighbour cross-entropy of every sample at one moment of training.

It knows neither a model nor a data set, only logits, features, labels and sample positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.ranks import ALONE, Ranks
from utils.scoring.coverage import Coverage
from utils.scoring.neighbours import neighbour_counts
from utils.scoring.tracking import Tracking

NEGLIGIBLE_VARIANCE = 1e-6  # relative to the largest principal direction
TEMPERATURE = 10.0  # h / 10 in the neighbour cross-entropy
EPSILON = 1e-6


@dataclass
class Snapshot:
    """What one complete pass over N samples said of each, on the device."""

    logits: Tensor  # float32 (N, C)
    votes: Tensor | None  # float32 (N, C): the neighbours' softmaxed counts q; None where they were not asked for
    accuracy: float  # share of samples whose prediction is the tracker's label

    def without(self, ids: Tensor, classes: Tensor) -> Snapshot:
        """The same as if, of the samples `ids` int64 (P,), one of the classes int64 (P,) did not exist."""
        logits, votes = self.logits.clone(), None
        logits[ids, classes] = -torch.inf
        if self.votes is not None:
            votes = self.votes.clone()
            votes[ids] += torch.finfo(votes.dtype).tiny  # of a thousand neighbours alike nothing else would be left
            votes[ids, classes] = 0
            votes[ids] /= votes[ids].sum(1, keepdim=True)
        return Snapshot(logits, votes, self.accuracy)

    def loss(self, labels: Tensor) -> np.ndarray:
        """float32 (N,): cross-entropy of the predictions against labels int64 (N,), in nats; higher = worse."""
        return F.cross_entropy(self.logits, labels, reduction="none").cpu().numpy()

    def ce(self, labels: Tensor) -> np.ndarray:
        """float32 (N,): the neighbour cross-entropy of labels int64 (N,); higher = more likely mislabelled."""
        return cross_entropy_of_votes(self.votes, labels).cpu().numpy()

    def scores(self, labels: Tensor, ce: str, loss: str) -> dict[str, np.ndarray]:
        """{name: (N,)} of labels int64 (N,): the neighbour cross-entropy, where it was asked for, and then the loss."""
        return ({} if self.votes is None else {ce: self.ce(labels)}) | {loss: self.loss(labels)}


class Tracker:
    """Collects a pass over the samples batch by batch, in any order, and scores every sample at its end.

    labels: int64 (N,), those that the accuracy and the neighbours' votes go by. settings: whether the neighbour
    cross-entropy is wanted, and its neighbours. ranks: the processes that have collected the same pass, and search for
    the neighbours together.

        tracker = Tracker(labels, num_classes)
        for each batch: tracker.update(logits, sample_ids, features)
        snapshot = tracker.finish()        # and nothing carries over to the next pass
    """

    def __init__(
        self,
        labels: Tensor,
        num_classes: int,
        settings: Tracking = Tracking(),  # noqa: B008 (frozen)
        ranks: Ranks = ALONE,
    ) -> None:
        self.labels, self.num_classes, self.settings, self.ranks = labels, num_classes, settings, ranks
        self._reset()

    def _reset(self) -> None:
        device = self.labels.device
        self._logits = torch.empty(len(self.labels), self.num_classes, device=device)
        self._features = None  # allocated with the first batch, which tells D
        self._coverage = Coverage(len(self.labels), device)

    def update(self, logits: Tensor, sample_ids: Tensor, features: Tensor | None = None) -> None:
        """logits (B, C), sample_ids int64 (B,) positions in `labels`, features (B, D).

        Raises ValueError where the neighbour cross-entropy is wanted and no features come.
        """
        if self.settings.with_ce and features is None:
            raise ValueError("the neighbour cross-entropy needs features")
        self._logits[sample_ids] = logits.float()
        self._coverage.add(sample_ids)
        if self.settings.with_ce:
            if self._features is None:
                self._features = torch.empty(len(self.labels), features.shape[1], device=features.device)
            self._features[sample_ids] = features.float()

    def state_dict(self) -> dict[str, Tensor | None]:
        """Of a pass that is not finished; without features, which only whole passes bring."""
        seen = self._coverage.seen
        return {"logits": self._logits if bool(seen.any()) else None, "seen": seen}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        self._reset()
        self._coverage.seen.copy_(state["seen"])
        if state["logits"] is not None:
            self._logits.copy_(state["logits"])

    def finish(self) -> Snapshot:
        """Scores of all samples.

        Raises ValueError unless every sample was seen exactly once since the last finish, and FloatingPointError where
        logits or features are not finite.
        """
        logits, labels = self._logits, self.labels
        finite = logits.isfinite().all()
        if self._features is not None:
            finite = finite & self._features.isfinite().all()
        hits = (logits.argmax(1) == labels).float().mean()
        complete, finite, accuracy = torch.stack([self._coverage.complete().float(), finite.float(), hits]).tolist()
        if not complete:
            raise ValueError("every sample must be seen exactly once in a pass")
        if not finite:
            raise FloatingPointError("logits or features are not finite")
        votes = None
        if self.settings.with_ce:
            nn_k, memory_gb = self.settings.nn_k, self.settings.memory_gb
            votes = neighbour_votes(logits, self._features, labels, self.num_classes, nn_k, memory_gb, self.ranks)
        self._reset()
        return Snapshot(logits, votes, accuracy)


def neighbour_cross_entropy(
    logits: Tensor, features: Tensor, labels: Tensor, num_classes: int, k: int = 100, memory_gb: float = 1.0
) -> Tensor:
    """float32 (N,): how little the labels around a sample, in two spaces, speak for its own label.

    h(i, c) counts neighbours whose label, of those that training is given, is c: k+1 in logit space plus k in feature
    space, the sample itself included; q = softmax(h / 10); CE(i) = −(1/C)·log(q(i, y_i) + 1e-6). Higher = more likely
    mislabelled.
    """
    votes = neighbour_votes(logits, features, labels, num_classes, k, memory_gb)
    return cross_entropy_of_votes(votes, labels)


def neighbour_votes(
    logits: Tensor,
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    k: int,
    memory_gb: float,
    ranks: Ranks = ALONE,
) -> Tensor:
    """q of `neighbour_cross_entropy`, float32 (N, C), rows sum to 1."""
    # k + 1 in one space and k in the other is no slip: these are the numbers that the original's two searches ask for,
    # and scores are to be comparable with its.
    counts = neighbour_counts(whiten(logits), labels, num_classes, k + 1, memory_gb, ranks)
    counts += neighbour_counts(whiten(features), labels, num_classes, k, memory_gb, ranks)
    return (counts / TEMPERATURE).softmax(1)


def cross_entropy_of_votes(votes: Tensor, labels: Tensor) -> Tensor:
    """−(1/C)·log(q(i, y_i) + 1e-6) of votes q (N, C), float32 (N,)."""
    q = votes.gather(1, labels[:, None]).squeeze(1)
    return -torch.log(q + EPSILON) / votes.shape[1]


def whiten(vectors: Tensor) -> Tensor:
    """float32 (N, D) -> (N, D'): rows L2-normalised, centred, PCA-whitened, L2-normalised again.

    Directions whose variance is under 1e-6 of the largest are dropped, so D' <= D. Never NaN, whatever the rows.
    """
    x = F.normalize(vectors)
    x -= x.mean(0)
    variances, directions = torch.linalg.eigh((x.T @ x).double())  # ascending; the factor 1/N would cancel below
    keep = variances > NEGLIGIBLE_VARIANCE * variances[-1].clamp_min(1e-30)
    return F.normalize(x @ (directions[:, keep] / variances[keep].sqrt()).float())

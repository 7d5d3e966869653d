"""What the passes of one training say together: one loss decays as a score once labels are memorised, this holds.

prediction   cross-entropy of the label under the mean of the softmax outputs over all passes, its class shares brought
             to those of the labels: networks that resist memorising favour some classes over others
mean_loss    mean over the passes of the cross-entropy of the label
aum          −(area under the margin): −mean of the label's logit minus the largest other one (Pleiss et al. 2020,
             https://arxiv.org/abs/2001.10528)
All float32 (N,), higher = more likely mislabelled. Each needs (N, C) numbers, however many passes there were.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from utils.scoring.label_posterior import align

NAMES = ("prediction", "mean_loss", "aum")  # the first holds best where some networks memorise and some do not
SUMS = ("log_probs", "margins", "probs", "marked_probs", "last_marked_probs")
SMALLEST = 1e-8  # probability


class Accumulated:
    """The sums over the passes of one training over N samples.

    labels: int64 (N,), those trained on; the sums, float32, lie on their device. `middle`: after so many passes the
    second half of them is to begin; 0 = they are not told apart. A training may end sooner than it was to: the sums of
    two moments are kept, the middle and powers of two before it, and the one that is nearer to the half of what there
    was counts.
    """

    def __init__(self, labels: Tensor | np.ndarray, num_classes: int, middle: int = 0) -> None:
        labels = torch.as_tensor(labels)
        self.prior = torch.bincount(labels, minlength=num_classes).double().cpu().numpy() / len(labels)
        self.passes, self.middle = 0, middle
        self.marks = [0, 0]  # passes whose sums marked_probs and last_marked_probs are; 0 = none
        self._predictions: np.ndarray | None = None  # until the next pass
        shape = (len(labels), num_classes)
        self.log_probs, self.margins, self.probs, self.marked_probs, self.last_marked_probs = (
            torch.zeros(shape, device=labels.device) for _ in range(5)
        )

    def add(self, logits: Tensor) -> None:
        """A pass: logits (N, C) of any precision and device. Raises ValueError for another shape."""
        if logits.shape != self.probs.shape:
            raise ValueError(f"logits of shape {tuple(logits.shape)} where {tuple(self.probs.shape)} were expected")
        self._predictions = None
        logits = logits.to(self.probs)
        log_probs = logits.log_softmax(1)
        self.log_probs += log_probs
        self.margins += margins(logits)
        self.probs += log_probs.exp()
        self.passes += 1
        power_of_two = self.passes & (self.passes - 1) == 0
        if self.passes == self.middle or (power_of_two and self.passes < self.middle):
            self.marks = [self.marks[1], self.passes]
            self.marked_probs, self.last_marked_probs = self.last_marked_probs, self.marked_probs
            self.last_marked_probs.copy_(self.probs)

    def predictions(self) -> np.ndarray:
        """The mean of the softmax outputs, aligned to the shares of the labels, float32 (N, C), rows sum to 1."""
        if self._predictions is None:
            self._predictions = self._aligned(self.probs / self.passes)
        return self._predictions

    def windows(self) -> Iterator[tuple[str, np.ndarray]]:
        """(words, predictions float32 (N, C)) of all passes and of either half, as far as they are told apart.

        Of a training that ended sooner than it was to, of two parts that are not quite halves.
        """
        yield "all epochs", self.predictions()
        kept = zip(self.marks[::-1], (self.last_marked_probs, self.marked_probs), strict=True)
        halves = [(abs(self.passes - 2 * mark), mark, probs) for mark, probs in kept if 0 < mark < self.passes]
        if halves:
            _, mark, probs = min(halves, key=lambda half: half[0])
            words = ("the first half", "the second half")
            if mark != self.middle:
                words = (f"the first {mark} epochs", f"the epochs from {mark + 1} on")
            yield words[0], self._aligned(probs / mark)
            yield words[1], self._aligned((self.probs - probs) / (self.passes - mark))

    def _aligned(self, probs: Tensor) -> np.ndarray:
        return align(probs.clamp_min(0).cpu().numpy(), self.prior)[0]

    def scores(self, labels: Tensor | np.ndarray) -> dict[str, np.ndarray]:
        """{name of NAMES: (N,)} of labels int64 (N,), which need not be those that the network was trained on."""
        labels = torch.as_tensor(labels, device=self.probs.device)
        return {"prediction": loss_under(self.predictions(), labels.cpu().numpy())} | self.means(labels)

    def means(self, labels: Tensor) -> dict[str, np.ndarray]:
        """Those of the scores that are means over the passes."""
        of_label = labels[:, None]
        return {
            "mean_loss": (-self.log_probs.gather(1, of_label).squeeze(1) / self.passes).cpu().numpy(),
            "aum": (-self.margins.gather(1, of_label).squeeze(1) / self.passes).cpu().numpy(),
        }

    def state_dict(self) -> dict:
        return {name: vars(self)[name] for name in ("passes", *SUMS)} | {"marks": list(self.marks)}

    def load_state_dict(self, state: dict) -> None:
        self.passes, self._predictions = state["passes"], None
        if "first_probs" in state:  # of an earlier version, which kept the middle alone
            state = state | dict.fromkeys(("marked_probs", "last_marked_probs"), state["first_probs"])
            state["marks"] = [0, self.middle if self.passes >= self.middle else 0]
        self.marks = list(state["marks"])
        for name in SUMS:
            vars(self)[name].copy_(state[name])


def margins(logits: Tensor) -> Tensor:
    """(N, C): each class's logit minus the largest of the others."""
    two = logits.topk(2, dim=1)
    largest_other = two.values[:, :1].expand_as(logits).scatter(1, two.indices[:, :1], two.values[:, 1:])
    return logits - largest_other


def loss_under(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy (N,) of labels int (N,) under probabilities (N, C), in nats."""
    return -np.log(np.maximum(probs[np.arange(len(labels)), labels], SMALLEST))

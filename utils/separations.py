"""The three separations: what each is called, which script makes it and which scores it leaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Separation:
    """A method that tells wrong labels from right ones by a score per sample."""

    key: str  # ssl.py's flag --KEY, and the method in run.json
    script: str
    scores: tuple[str, ...]  # names of its score files, the one that ranks the suspects first
    epochs: int  # --epoch_1st by default
    runs: int  # of ssl.py after it, by default
    prefixes: tuple[str, ...]  # of the names of all its scores; the first is that of the accumulated ones

    def leaves(self, score: str) -> bool:
        """Whether a score has a name of this separation's."""
        return score.startswith(tuple(f"{prefix}_" for prefix in self.prefixes))


FORGET = Separation("forget", "main.py", ("forget_score", "forget_ce", "forget_loss"), 40, 2, ("stage1", "forget"))
PARALLEL = Separation(
    "parallel", "parallel.py", ("parallel_score", "parallel_ce", "parallel_loss"), 40, 2, ("parallel", "exchange")
)
RELABEL = Separation("relabel", "relabel.py", ("relabel_score", "relabel_loss"), 120, 1, ("relabel",))

SEPARATIONS = {separation.key: separation for separation in (FORGET, PARALLEL, RELABEL)}

"""dynamics.csv of an experiment: how each sample was learnt and forgotten."""

from __future__ import annotations

from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.results.evidence import Evidence
from utils.scoring.dynamics import NEVER, Streak

FILE = "dynamics.csv"


def write_dynamics(
    experiment: Experiment, data: NoisyData, evidence: Evidence, forgotten: Streak | None = None
) -> None:
    """A row per sample, in the data set's order, of the training that `evidence` is of; moments blank where never.

    `forgotten`: in which steps of fine-tuning each sample was not predicted, 0 = before the first.
    """
    scores = evidence.scores()
    columns = {"sample_id": data.sample_ids.tolist()}
    if data.file_names is not None:
        columns["file"] = data.file_names
    columns["label"] = [data.class_names[label] for label in data.labels]
    columns["learnt_from_epoch"] = _moments(evidence.learnt)
    columns["forgetting_events"] = evidence.learnt.breaks.tolist()
    if forgotten is not None:
        columns["forgotten_from_step"] = _moments(forgotten)
    columns["mean_loss"] = [f"{value:.6g}" for value in scores["mean_loss"]]
    columns["aum"] = [f"{-value:.6g}" for value in scores["aum"]]  # the paper's: low = likely mislabelled
    rows = zip(*columns.values(), strict=True)
    experiment.write_csv(FILE, (dict(zip(columns, row, strict=True)) for row in rows), list(columns))


def _moments(streak: Streak) -> list[int | str]:
    return ["" if moment == NEVER else moment for moment in streak.since.tolist()]

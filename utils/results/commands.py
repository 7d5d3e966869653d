"""The commands that the scripts tell people to type next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from utils.data.choice import DataChoice
from utils.scoring.tracking import CHOOSE
from utils.separations import Separation
from utils.training.optimisation import epochs_for

if TYPE_CHECKING:
    from utils.experiments.record import Record

TAKEN_OVER = ("width", "schedule", "batch_size", "eval_batch_size", "images_on", "cuda_dev")  # by the next training


def separation_command(separation: Separation, choice: DataChoice, root: str | Path, width: float | None = None) -> str:
    """The command that makes the scores of a separation for this data under the experiments root.

    `width`: of its networks, where that was said by hand.
    """
    return _command(separation.script, choice.flags() | {"--width": width} | _root_flag(root))


def honest_command(record: Record) -> str:
    """The command that makes an oracle's separation once more, under another name and without the true labels."""
    other = {"--choose": CHOOSE[0], "--experiment_name": f"{record.path.name}_{CHOOSE[0]}"}
    if record.get("given") is None:  # an early record; of a flag that is typed twice the last one counts
        return f"python3 {record['command']} {shlex.join(word for flag in other.items() for word in flag)}"
    settings = {"--settings": record.path / "run.json"}
    return _command(record["script"], settings | other | _root_flag(record.path.parent))


def ssl_command(
    separation: Separation, experiment_name: str, choice: DataChoice, training: dict[str, object], root: str | Path
) -> str:
    """The command that trains on the scores of a separation's experiment; `training`: {flag: value} of how."""
    scores = {f"--{separation.key}": experiment_name}
    return _command("ssl.py", scores | choice.flags() | training | _root_flag(root))


def training_flags(record: Record, usual: int, usual_of_ssl: int) -> dict[str, object]:
    """{flag of ssl.py: value} of how a separation trained and on what, as far as that was said by hand.

    `usual`: its epochs by default, and those of ssl.py. Of fewer ones that gets the same share of its own, or where
    milestones were said, which are taken over, as many.
    """
    given, settings = record.get("given", {}), record["settings"]
    flags = {f"--{name}": given[name] for name in TAKEN_OVER if name in given}
    if "gamma_scheduler" in given and settings.get("schedule") == "steps":  # which may be that script's default alone
        flags |= {"--schedule": "steps", "--gamma_scheduler": given["gamma_scheduler"]}
    if not given.keys() & {"epoch_1st", "M"}:
        return flags
    samples = record["data"]["samples"]
    default = epochs_for(samples, usual)
    epochs = given.get("epoch_1st", default)
    if "M" in given:
        flags["--epoch"] = epochs
        flags["--M"] = [word for milestone in settings["M"] for word in ("--M", milestone)][1:]
    elif epochs < default:
        flags["--epoch"] = max(2, round(epochs / default * epochs_for(samples, usual_of_ssl)))
    return flags


def classify_command(model: Path) -> str:
    """The command that uses a trained model."""
    return _command("-m", {}, "utils.classifier", str(model), "FOLDER_OF_IMAGES")


def export_command(experiment: Path, with_folder: bool) -> str:
    """The command that takes a review away; `with_folder`: as a folder, since the images are files."""
    flags = {"--review": "review.csv"} | ({"--to": "FOLDER"} if with_folder else {"--labels_csv": "labels.csv"})
    return _command("-m", flags | _root_flag(experiment.parent), "utils.export", experiment.name)


def _root_flag(root: str | Path) -> dict[str, object]:
    return {} if Path(root) == Path("experiments") else {"--experiments_root": root}


def _command(script: str, flags: dict[str, object], *positional: str) -> str:
    words = ["python3", script, *positional]
    for flag, value in flags.items():
        if value is not None:
            words += [flag, *map(str, value if isinstance(value, list | tuple) else [value])]
    return shlex.join(words)

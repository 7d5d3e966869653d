"""The commands that the scripts tell people to type next."""

from __future__ import annotations

import shlex
from pathlib import Path

from utils.data.choice import DataChoice
from utils.separations import Separation


def separation_command(separation: Separation, choice: DataChoice, root: str | Path) -> str:
    """The command that makes the scores of a separation for this data under the experiments root."""
    return _command(separation.script, choice.flags() | _root_flag(root))


def ssl_command(
    separation: Separation, experiment_name: str, choice: DataChoice, training: dict[str, object], root: str | Path
) -> str:
    """The command that trains on the scores of a separation's experiment; `training`: {flag: value} of how."""
    scores = {f"--{separation.key}": experiment_name}
    return _command("ssl.py", scores | choice.flags() | training | _root_flag(root))


def training_flags(settings: dict[str, object], command: str) -> dict[str, object]:
    """{flag of ssl.py: value} of how a separation trained, as far as its command gave that by hand.

    `settings`: its flags, resolved. Where it trains twice, the epochs are those of its second training.
    """
    given = {word.partition("=")[0] for word in shlex.split(command)}
    epochs = settings.get("epoch_1st")  # None = not by hand
    if epochs is not None and settings.get("relabel_by") == "posterior":
        epochs -= settings["warmup_e"]
    milestones = settings.get("M") or []
    taken = {
        "--width": ("--width", settings.get("width")),
        "--epoch_1st": ("--epoch", epochs),
        "--schedule": ("--schedule", settings.get("schedule")),
        "--M": ("--M", [word for m in milestones for word in ("--M", m)][1:]),
    }
    return dict(flag for name, flag in taken.items() if name in given)


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
            words += [flag, *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return shlex.join(words)

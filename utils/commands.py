"""The commands that the scripts tell people to type next, and what each separation script makes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from utils.cli import DataChoice


@dataclass(frozen=True)
class Separation:
    """A separation script and the names of its scores, the preferred one first."""

    script: str
    scores: tuple[str, ...]


SEPARATIONS = {
    "forget": Separation("main.py", ("forget_ce", "forget_loss")),
    "parallel": Separation("parallel.py", ("parallel_ce", "parallel_loss")),
    "relabel": Separation("relabel.py", ("relabel_loss",)),
}


def separation_command(method: str, choice: DataChoice, root: str | Path) -> str:
    """The command that makes the scores of `method` for this data under the experiments root."""
    return _command(SEPARATIONS[method].script, _data_flags(choice, "first_stage_") | _root_flag(root))


def ssl_command(method: str, experiment_name: str, choice: DataChoice, root: str | Path) -> str:
    """The command that trains on the scores of a separation experiment."""
    return _command("ssl.py", {f"--{method}": experiment_name} | _data_flags(choice, "") | _root_flag(root))


def classify_command(model: Path) -> str:
    """The command that uses a trained model."""
    return _command("-m", {}, "utils.classifier", str(model), "FOLDER_OF_IMAGES")


def _data_flags(choice: DataChoice, prefix: str) -> dict[str, object]:
    return {
        f"--{prefix}data_name" if prefix else "--dataset": choice.name,
        "--train_root": choice.root,
        f"--{prefix}subset": choice.subset,
        "--image_size": choice.image_size,
        f"--{prefix}noise_type": choice.noise_type,
        f"--{prefix}noise_ratio": None if choice.noise_type == "none" else choice.noise_ratio,
        "--seed": choice.seed,
    }


def _root_flag(root: str | Path) -> dict[str, object]:
    return {} if Path(root) == Path("experiments") else {"--experiments_root": root}


def _command(script: str, flags: dict[str, object], *positional: str) -> str:
    words = ["python3", script, *positional]
    for flag, value in flags.items():
        if value is not None:
            words += [flag, *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return shlex.join(words)

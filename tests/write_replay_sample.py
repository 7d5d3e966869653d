"""A run without a training, with all that a run writes: for tests/write_replay.py, in a second instead of ten.

python3 -m tests.write_replay_sample ROOT
"""

import sys

import torch

from utils.command_line.running import run_script
from utils.experiments.experiment import Experiment
from utils.training.learner import Progress

STEPS = 3


class Weights:
    """Something that learns."""

    def __init__(self) -> None:
        self.values = torch.zeros(50)

    def state_dict(self) -> dict:
        return {"values": self.values}

    def load_state_dict(self, state: dict) -> None:
        self.values = state["values"]


def main(argv: list[str] | None) -> None:
    root = (sys.argv[1:] if argv is None else argv)[0]
    with Experiment(root, "run").open("main.py", "forget", {"lr": 0.1}) as run:
        if run.finished:
            return
        run.begin({"images": "abc"})
        track = run.tracks.new("loss_track", STEPS, 50)
        for name in ("first", "second"):
            if name == "first" and run.done(name):  # the last phase of a run is always entered: see Experiment.done
                continue
            weights, progress = Weights(), Progress()
            with run.phase(name, {"weights": weights, "progress": progress}) as phase:
                for epoch in phase.epochs(STEPS, progress):
                    weights.values = weights.values * 2 + epoch + 1
                    if name == "first":
                        track.append(weights.values.numpy())
                    run.history.add(epoch=epoch + 1, train_loss=float(weights.values[0]))
                run.save_torch(f"{name}.pt", weights.state_dict())
                run.save_array(f"{name}_score", weights.values.numpy())
        run.tracks.close("loss_track")
        run.finish({"test_accuracy": 0.5})


if __name__ == "__main__":
    run_script(main)

"""Several processes work as one: the same scores, one stop, one line, no process left waiting."""

import os
import signal
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.kill_and_resume import differing
from tests.kill_ranks import kill_ranks
from tests.processes import Processes, results, script
from tests.tiny import TINY_ARGS
from utils import ranks
from utils.command_line.running import run_script
from utils.compute import Compute, seed_torch
from utils.data.device_images import DeviceImages
from utils.errors import UserError
from utils.scoring.neighbours import neighbour_counts
from utils.scoring.tracker import Tracker
from utils.scoring.tracking import Tracking
from utils.training.learner import Learner
from utils.training.losses import LossWeights, joint_loss
from utils.training.optimisation import Optimisation, Schedule
from utils.training.passes import infer, score_samples

SAMPLES, CLASSES = 43, 3


def compute_of() -> Compute:
    ranks.open_ranks()
    return Compute(torch.device("cpu"), bf16=False, compile=False, threads=1, eval_batch_size=10, ranks=ranks.current())


class Net(nn.Module):
    """Without batch norm: what it says of an image does not depend on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3, stride=4), nn.Linear(8, CLASSES)

    def forward(self, images, return_features=False):
        features = self.body(images).relu().mean((2, 3))
        return (self.head(features), features) if return_features else self.head(features)


class Data:
    """As much of NoisyData as a learner needs."""

    def __init__(self, compute: Compute) -> None:
        seed_torch(1, "init")
        pixels = torch.randint(0, 256, (SAMPLES, 3, 12, 12), dtype=torch.uint8).numpy()
        self.images = DeviceImages(pixels, compute, mirrored=True)
        self.training_labels = torch.arange(SAMPLES) % CLASSES
        self.ids, self.num_classes = torch.arange(SAMPLES), CLASSES

    def __len__(self) -> int:
        return SAMPLES


# -- the same as one -----------------------------------------------------------------------------------------------


def passes(rank: int) -> dict[str, np.ndarray]:
    compute = compute_of()
    data = Data(compute)
    network = Net()
    batches = list(infer(network, data.images, compute, features=True))
    tracker = Tracker(data.training_labels, CLASSES, Tracking(nn_k=5), compute.ranks)
    now = score_samples(network, data.images, tracker, compute, where="here")
    unit = F.normalize(batches[0][2].new_tensor(np.random.default_rng(1).normal(size=(200, 9))))
    counts = neighbour_counts(unit, torch.arange(200) % 4, 4, 7, 1e-4, compute.ranks)  # many portions
    found = {
        name: torch.cat([batch[k] for batch in batches]) for k, name in enumerate(("positions", "logits", "feats"))
    }
    found |= {"loss": now.loss(data.training_labels), "ce": now.ce(data.training_labels), "counts": counts}
    return {name: np.asarray(values) for name, values in found.items()}


@pytest.fixture(scope="module")
def one_pass(tmp_path_factory):
    return results(tmp_path_factory.mktemp("one"), 1, passes)[0]


@pytest.mark.parametrize("size", [2, 3])
def test_scores_of_several_processes_are_those_of_one(tmp_path, one_pass, size):
    for found in results(tmp_path, size, passes):
        assert found.keys() == one_pass.keys()
        for name, values in found.items():
            np.testing.assert_allclose(values, one_pass[name], rtol=0, atol=1e-5, err_msg=name)


def steps(rank: int) -> tuple[float, dict[str, np.ndarray], list[int]]:
    """An epoch of a loss whose terms are of the batch as a whole; its batches, one of which is too small to be cut."""
    compute = compute_of()
    data = Data(compute)
    optimisation = Optimisation(Schedule(0.5), 10, 0.9, 1e-4, seed=1, mixup=1.0, ema=0.9)
    learner = Learner(Net(), data, compute, optimisation, 1)
    heard = learner.tracker(data.training_labels)
    learner._listener = heard
    batches = [*data.ids[:40].split(10), data.ids[40:]]

    def loss_of(ids):
        logits, targets = learner.mixed(ids, F.one_hot(data.training_labels[ids], CLASSES).float())
        return joint_loss(logits, targets, LossWeights(0.8, 0.4))

    mean = learner.train_epoch(loss_of, batches)
    weights = {name: value.numpy() for name, value in learner.judge.state_dict().items()}
    return mean, weights, heard._coverage.seen.tolist()


def test_training_steps_of_several_processes_are_those_of_one(tmp_path):
    (loss, weights, seen), *_ = results(tmp_path / "1", 1, steps)
    assert seen == [1] * SAMPLES
    for size in (2, 3):
        for its_loss, its_weights, its_seen in results(tmp_path / f"{size}", size, steps):
            assert its_loss == pytest.approx(loss, abs=1e-5) and its_seen == seen
            for name, values in its_weights.items():
                np.testing.assert_allclose(values, weights[name], rtol=0, atol=1e-5, err_msg=name)


def words(rank: int) -> list:
    whole = ranks.open_ranks()
    halves = whole.halves(torch.device("cpu"))
    own = halves[int(rank >= halves[1].first)]
    return [
        whole.agreed(rank),
        whole.from_first(lambda: f"of {rank}"),
        whole.told(f"of {rank}", 2),
        list(whole.in_turns(lambda item: (item, rank), "abcd")),
        own.rows(torch.full((1 + own.rank, 2), float(rank)), range(1, own.size + 1)).tolist(),
        [group.first for group in halves],
    ]


def test_what_processes_tell_each_other(tmp_path):
    found = results(tmp_path, 3, words)
    turns = [("a", 0), ("b", 1), ("c", 2), ("d", 0)]
    first, second = [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]], [[2.0, 2.0]]
    assert found == [[2, "of 0", "of 2", turns, rows, [0, 2]] for rows in (first, first, second)]


# -- one end -------------------------------------------------------------------------------------------------------


UNANSWERED = "error: a process of this run has not answered for 2 s (RANKS_TIME_LIMIT) — the same command"


def fails(rank: int, how: str) -> None:
    """Process 1 ends or hangs while the others wait for it, or have come to their end."""

    def main(argv):
        sharing = ranks.open_ranks()
        sharing.wait()
        if rank != 1:
            if how == "hangs while the others end":
                return
            sharing.wait()
        if how.startswith("hangs"):
            time.sleep(600)
        if how == "error":
            raise UserError("this is wrong", "mend it")
        if how == "bug":
            raise ZeroDivisionError
        os.kill(os.getpid(), signal.SIGKILL)

    run_script(main, [])


@pytest.mark.parametrize(
    ("how", "size", "status", "line"),
    [
        ("error", 2, 2, "error: this is wrong — mend it"),
        ("bug", 2, 1, "\nZeroDivisionError\n"),
        ("killed", 2, -9, "error: process 1 of this run (0 to 1) has ended — the same command goes on"),
        ("hangs", 2, None, UNANSWERED),
        ("hangs while the others end", 3, None, UNANSWERED),
    ],
)
def test_whatever_happens_to_one_process_all_end_and_one_says_why(tmp_path, how, size, status, line):
    begun = time.monotonic()
    processes = Processes(tmp_path, size, fails, how, limit=2.0 if status is None else 600.0)
    if status is None:  # it hangs
        for place in (0, *range(2, size)):
            processes.processes[place].join(60)
        processes.processes[1].kill()  # as torchrun does
    first, second, *others = processes.end()
    assert {one.status for one in (first, *others)} == {2} and (second.status == status or status is None)
    said = "".join(one.errors for one in (first, second, *others))
    assert said.count(line) == 1 and said.count("error: ") == (how != "bug")
    assert ("Traceback" in said) == (how == "bug")
    assert time.monotonic() - begun < 100  # far from the limit


def test_a_bad_flag_is_told_once(tmp_path):
    ended = Processes(tmp_path, 2, script, "main.py", "--lr", "0").end()
    assert [one.status for one in ended] == [2, 2]
    assert [one.errors.count("error: --lr") for one in ended] == [1, 0]


def run_of(folder, size, name, *more, **options):
    flags = [*TINY_ARGS[name], "--experiments_root", str(folder), *map(str, more)]
    return Processes(folder / f"said{time.monotonic_ns()}", size, script, name, *flags, **options)


def stopped(folder, size, name, *more, when):
    """The processes of a run, one of which is told to stop once `when` stands in the log; what they say."""
    running = run_of(folder, size, name, "--experiment_name", "run", *more)
    log = folder / "run" / "log.txt"
    while not (log.exists() and when in log.read_text()):
        assert all(process.is_alive() for process in running.processes), [one.errors for one in running.end()]
        time.sleep(0.01)
    os.kill(running.processes[-1].pid, signal.SIGTERM)
    ended = running.end()
    assert [one.status for one in ended] == [143] * size
    assert (folder / "run" / "checkpoint.pt").exists()
    return "".join(one.errors for one in ended)


@pytest.mark.parametrize(
    ("size", "command", "then", "said"),
    [
        (2, "torchrun --nproc_per_node 2", 1, "begun with 2 processes, going on with 1 process"),
        pytest.param(1, "python3", 2, "begun with 1 process, going on with 2 processes", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_one_process_stops_all_after_the_same_step_and_another_number_goes_on(
    tmp_path, size, command, then, said
):
    flags = ["--epoch_1st", 4, "--warmup_e", 1]
    errors = stopped(tmp_path, size, "relabel.py", *flags, when="warm_up")
    assert errors.count("\n") == 1 or size == 1  # which first says that it is stopping
    assert errors.count(f"stopped by SIGTERM; go on with: {command} relabel.py") == 1
    ended = run_of(tmp_path, then, "relabel.py", "--experiment_name", "run", *flags).end()
    assert [one.status for one in ended] == [0] * then, ended[0].errors
    assert f"{said}: the bytes will differ" in ended[0].output


@pytest.mark.slow
def test_an_estimate_of_two_processes_ends_well_and_leaves_nothing(tmp_path):
    first, second = run_of(tmp_path, 2, "relabel.py", "--estimate").end()
    assert (first.status, second.status, second.output) == (0, 0, ""), first.errors + second.errors
    assert first.output.count("expected: about") == 1
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("said")]


# -- the same bytes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "when", "flags"),
    [
        ("main.py", 3, "stage1: epoch 1", []),
        ("parallel.py", 3, "training: epoch 1", []),
        ("parallel.py", 3, "exchange: epoch 4", []),
        ("relabel.py", 2, "warm_up: epoch 1", ["--images_on", "host", "--epoch_1st", 4, "--warmup_e", 2]),
    ],
)
def test_a_run_that_was_stopped_ends_with_the_bytes_of_one_that_was_not(tmp_path, name, size, when, flags):
    ended = run_of(tmp_path, size, name, "--experiment_name", "calm", *flags).end()
    assert [one.status for one in ended] == [0] * size, ended[0].errors
    stopped(tmp_path, size, name, *flags, when=when)
    ended = run_of(tmp_path, size, name, "--experiment_name", "run", *flags).end()
    assert [one.status for one in ended] == [0] * size, ended[0].errors
    assert "going on from the checkpoint" in ended[0].output and "will differ" not in ended[0].output
    assert differing(tmp_path / "calm", tmp_path / "run") == []


@pytest.mark.slow
def test_two_processes_train_the_two_models_of_one(tmp_path):
    for size in (1, 2):
        ended = run_of(tmp_path, size, "parallel.py", "--experiment_name", f"of_{size}", "--keep_models").end()
        assert [one.status for one in ended] == [0] * size, ended[0].errors
    assert differing(tmp_path / "of_1", tmp_path / "of_2") == []


@pytest.mark.slow
def test_torchrun_itself_and_a_process_that_is_killed(tmp_path):
    met, wrong = kill_ranks(kills=1, seed=1, root=tmp_path, cases=("ssl.py",))  # whose name is the standard library's
    assert (met, wrong) == (1, [])


@pytest.mark.slow
def test_of_processes_with_seeds_of_their_own_the_others_say_which_was_killed(tmp_path):
    flags = ["--experiment_name", "run", "--epoch_1st", 200, "--seeds", 1, 2, "--spread", "seeds"]
    running = run_of(tmp_path, 2, "relabel.py", *flags)
    first, second = running.processes
    log = tmp_path / "run_1" / "log.txt"
    while not (log.exists() and "epoch 1," in log.read_text()):
        assert first.is_alive() and second.is_alive()
        time.sleep(0.01)
    second.kill()
    second.join()
    os.kill(first.pid, signal.SIGTERM)  # as torchrun does, once it has noticed
    ended = running.end()
    assert [one.status for one in ended] == [2, -signal.SIGKILL]
    assert ended[0].errors.splitlines() == [
        "error: process 1 of this run (0 to 1) has ended — the same command goes on from the last checkpoint"
    ]
    assert (tmp_path / "run_1" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_what_two_processes_find_each_of_its_own_seeds(tmp_path):
    short = ["--epoch_1st", 2, "--warmup_e", 1]
    of_two = ["--experiment_name", "run", "--seeds", 1, 2, "--spread", "seeds"]
    first, second = run_of(tmp_path, 2, "relabel.py", *short, *of_two).end()
    assert (first.status, second.status, second.output) == (0, 0, ""), first.errors + second.errors
    assert "seeds 1 2: mean ± sd (n)" in first.output
    assert (tmp_path / "run_1" / "relabel_score.npy").exists() and (tmp_path / "run_2" / "relabel_score.npy").exists()
    (ended,) = run_of(tmp_path, 1, "relabel.py", *short, "--experiment_name", "alone", "--seed", 2).end()
    assert ended.status == 0, ended.errors
    assert differing(tmp_path / "alone", tmp_path / "run_2") == []
    assert differing(tmp_path / "alone", tmp_path / "run_1") != []

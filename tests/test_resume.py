"""An interrupted run ends with the same bytes as an undisturbed one."""

import random
import signal
import time

import pytest

from tests.kill_and_resume import CASES, differences, finish, kill_and_resume, start, undisturbed


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_with_the_same_bytes(tmp_path):
    """Of a few cases, others each time; `python3 -m tests.kill_and_resume` goes over all of them."""
    for attempt in range(3):  # of kills that come too late, on a machine that was busier before, nothing is learnt
        seed = time.time_ns()
        cases = random.Random(seed).sample(CASES, 4)
        root = tmp_path / str(attempt)
        root.mkdir()
        met, different = kill_and_resume(kills=2 * len(cases), seed=seed, root=root, cases=cases)
        again = f"python3 -m tests.kill_and_resume --kills {2 * len(cases)} --seed {seed} --cases {' '.join(cases)}"
        assert different == [], again
        if met >= len(cases) // 2:
            return
    pytest.fail("the kills came too late three times")


@pytest.mark.slow
@pytest.mark.parametrize("signum, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_signal_checkpoints_says_how_to_go_on_and_loses_nothing(tmp_path, signum, status):
    script = "parallel.py"
    undisturbed(script, tmp_path)
    process = start(script, tmp_path, f"{script}-killed")
    history = tmp_path / f"{script}-killed" / "history.csv"  # exists once the first epoch is done
    while not history.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signum)
    _, errors = process.communicate()
    assert process.returncode == status
    assert "go on with: python3 parallel.py" in errors and "Traceback" not in errors
    finish(start(script, tmp_path, f"{script}-killed"))
    assert differences(script, tmp_path) == []

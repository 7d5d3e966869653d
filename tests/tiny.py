"""Scripts as modules, and flags that make them run in seconds."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent

# Three classes of digits and a network of a few thousand weights: a whole method in seconds.
TINY = ["--width", "0.1", "--cuda_dev", "-1", "--batch_size", "50"]
TINY_DIGITS = ["--first_stage_subset", "0", "1", "2", *TINY]
TINY_ARGS = {
    "main.py": [*TINY_DIGITS, "--second_stage_subset", "0", "5", "--epoch_1st", "3", "--steps_total", "6"],
    "parallel.py": [*TINY_DIGITS, "--epoch_1st", "3"],
    "relabel.py": [*TINY_DIGITS, "--epoch_1st", "4", "--warmup_e", "2"],
    "ssl.py": ["--subset", "0", "1", "2", *TINY, "--epoch", "4"],
}
SPLIT = ["--targets", "split", "--epoch_begin", "2"]  # of ssl.py, beside its TINY_ARGS
STAGE1_SCORES = ["stage1_loss", "stage1_prediction", "stage1_mean_loss", "stage1_aum"]
SCORE_FILES = {  # the default score first
    "main.py": ["forget_score", "forget_ce", "forget_loss", *STAGE1_SCORES, "forget_probs", "p_noisy"],
    "parallel.py": [
        *("parallel_score", "parallel_ce", "parallel_loss"),
        *("parallel_prediction", "parallel_mean_loss", "parallel_aum"),
        *("own_prediction", "own_mean_loss", "own_aum"),
        *("exchange_prediction", "exchange_mean_loss", "exchange_aum"),
        *("parallel_probs", "cross_probs", "p_noisy"),
    ],
    "relabel.py": [
        *("relabel_score", "relabel_loss", "relabel_prediction", "relabel_mean_loss", "relabel_aum"),
        *("relabel_probs", "soft_labels", "p_noisy"),
    ],
    "ssl.py": ["ssl_score", "ssl_loss", "ssl_prediction", "ssl_mean_loss", "ssl_aum", "p_noisy", "pseudo_labels"],
}


def load_script(name: str):
    """A script as a module, under a name that is nobody else's (ssl.py must not become `ssl`)."""
    spec = importlib.util.spec_from_file_location(f"script_{name.removesuffix('.py')}", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def without_pixels() -> Iterator[None]:
    """Figures are composed and their files appear, empty: drawing takes longer than a tiny training."""
    from matplotlib.figure import Figure

    with mock.patch.object(Figure, "savefig", lambda self, handle, **options: handle.write(b"")):
        yield

"""Scripts as modules, and flags that make them run in seconds."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Three classes of digits and a network of a few thousand weights: a whole method in seconds.
TINY = ["--width", "0.1", "--cuda_dev", "-1", "--batch_size", "50"]
TINY_DIGITS = ["--first_stage_subset", "0", "1", "2", *TINY]
TINY_ARGS = {
    "main.py": [*TINY_DIGITS, "--second_stage_subset", "0", "5", "--epoch_1st", "3", "--step_number", "6"],
    "parallel.py": [*TINY_DIGITS, "--epoch_1st", "3"],
    "relabel.py": [*TINY_DIGITS, "--epoch_1st", "4", "--warmup_e", "2"],
    "ssl.py": ["--subset", "0", "1", "2", *TINY, "--epoch", "4", "--epoch_begin", "2"],
}
SCORE_FILES = {
    "main.py": ["forget_loss", "forget_ce"],
    "parallel.py": ["parallel_loss", "parallel_ce", "cross_probs"],
    "relabel.py": ["relabel_loss", "soft_labels"],
    "ssl.py": ["ssl_loss", "p_noisy", "pseudo_labels"],
}


def load_script(name: str):
    """A script as a module, under a name that is nobody else's (ssl.py must not become `ssl`)."""
    spec = importlib.util.spec_from_file_location(f"script_{name.removesuffix('.py')}", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

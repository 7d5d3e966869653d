"""What all figures share: titles, bytes, files, and what drawing leaves alone."""

import subprocess
import sys

import numpy as np
import pytest

from tests.tiny import ROOT
from tests.utils.results.drawn import IS_NOISY, SAMPLES, SUBJECT, title, track
from utils.errors import UserError
from utils.results.score_figures import histogram_figure, roc_figure

# A user would see them in the terminal, at the end of a long run; deprecations in a library none.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")


def test_the_same_figure_is_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        histogram_figure(tmp_path / name, {"loss": track()[0]}, IS_NOISY, SUBJECT)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_folder_that_is_not_there_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        roc_figure(tmp_path / "missing" / "roc.png", {"loss": np.arange(SAMPLES)}, IS_NOISY, SUBJECT)


def test_a_subject_may_hold_anything_and_be_long(tmp_path):
    """Folder names do: no formula, no line break of theirs, nothing beyond the edges."""
    figure = histogram_figure(tmp_path / "h.png", {"loss": track()[0]}, None, "my $x_{2$\nimages " + 20 * "and more ")
    first, *subject = title(figure).split("\n")
    assert first == "Scores of all samples" and len(subject) > 1 and "$x_{2$" in subject[0]
    assert max(len(line) for line in subject) <= 75


def test_neither_pyplot_nor_torch_is_imported_and_settings_are_put_back():
    code = (
        "import sys, io, matplotlib; from utils.results import class_figures, drawing, score_figures, track_figures;"
        "before = matplotlib.rcParams['legend.frameon'];"
        "drawing.write_atomically = lambda path, write: write(io.BytesIO());"
        "track_figures.accuracy_figure('', [1, 2], {'test': [0.1, 0.2]}, 'epoch', 'Accuracy', '');"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules;"
        "assert matplotlib.rcParams['legend.frameon'] == before"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

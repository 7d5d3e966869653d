"""What the tests of figures share: forty samples, and what can be read off a figure."""

import matplotlib
import numpy as np
from matplotlib.image import imread

SAMPLES, STEPS = 40, 6
IS_NOISY = np.arange(SAMPLES) % 4 == 0  # 10 noisy, 30 clean
SUBJECT = "digits, 40 % random noise, seed 1"


def track(seed=0):
    """(T, N) float32, noisy samples one higher than clean ones."""
    noise = np.random.default_rng(seed).random((STEPS, SAMPLES), dtype=np.float32)
    return noise + IS_NOISY.astype(np.float32)


def legend(figure):
    return [text.get_text() for drawn in figure.legends for text in drawn.get_texts()]


def title(figure):
    return figure.get_suptitle()


def colours(figure):
    """Of all lines and filled areas in the figure, as hex without transparency."""
    drawn = [line.get_color() for axes in figure.axes for line in axes.get_lines()]
    drawn += [c for axes in figure.axes for area in axes.collections for c in area.get_facecolor()]
    drawn += [patch.get_facecolor() for axes in figure.axes for patch in axes.patches]
    return {matplotlib.colors.to_hex(colour).upper() for colour in drawn}


def assert_png(path):
    """It decodes, is not blank, and nothing else was left in its folder."""
    image = imread(path)
    assert image.ndim == 3 and min(image.shape[:2]) > 300
    assert image[..., :3].std() > 0.01
    assert [file.name for file in path.parent.iterdir()] == [path.name]

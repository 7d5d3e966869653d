"""Labels drawn from probabilities, for tests of what is estimated of them."""

import numpy as np


def pick(probs, generator):
    """A class int64 (N,) of each row of `probs` (N, C)."""
    return np.minimum((generator.random((len(probs), 1)) > probs.cumsum(axis=1)).sum(axis=1), probs.shape[1] - 1)


def symmetric(rate, num_classes):
    """The transition matrix (C, C) of labels of which `rate` are wrong, any other class being as probable."""
    matrix = np.full((num_classes, num_classes), rate / (num_classes - 1))
    np.fill_diagonal(matrix, 1 - rate)
    return matrix

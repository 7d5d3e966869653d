"""Label noise: a pure function of (labels, kind, ratio, generator), and what it did to the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.image_set import NO_CLASS

KINDS = ("random_in_noise", "real_in_noise", "none")
# Errors planted by default: this share of the labels, or if that is more so many, up to another share.
PLANTED, ENOUGH_PLANTED, MOST_PLANTED = 0.03, 150, 0.1
FEWEST_PLANTED = 10  # of fewer nothing is asked (utils/scoring/planted.py), and they would only mislead the network

# Class-dependent noise goes from each class to the one people mistake it for, by class name.
CONFUSED_WITH = {
    "cifar10": {"truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse"},
    "digits": {"7": "1", "2": "7", "5": "6", "6": "5", "3": "8"},
}
CONFUSED_WITH["svhn"] = CONFUSED_WITH["digits"]

CIFAR100_SUPERCLASSES = (
    ("beaver", "dolphin", "otter", "seal", "whale"),
    ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    ("orchid", "poppy", "rose", "sunflower", "tulip"),
    ("bottle", "bowl", "can", "cup", "plate"),
    ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    ("clock", "keyboard", "lamp", "telephone", "television"),
    ("bed", "chair", "couch", "table", "wardrobe"),
    ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    ("bear", "leopard", "lion", "tiger", "wolf"),
    ("bridge", "castle", "house", "road", "skyscraper"),
    ("cloud", "forest", "mountain", "plain", "sea"),
    ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    ("fox", "porcupine", "possum", "raccoon", "skunk"),
    ("crab", "lobster", "snail", "spider", "worm"),
    ("baby", "boy", "girl", "man", "woman"),
    ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
)


def share_to_plant(samples: int) -> float:
    """The share of the labels of a set among which errors are planted by default, in [0, 1)."""
    share = min(max(PLANTED, ENOUGH_PLANTED / samples), MOST_PLANTED)
    return share if round(share * samples) >= FEWEST_PLANTED else 0.0


def add_label_noise(
    labels: np.ndarray,
    kind: str,
    ratio: float,
    generator: np.random.Generator,
    *,
    num_classes: int,
    confused_with: Sequence[int] | None = None,
) -> np.ndarray:
    """New labels, int64 (N,); the input is left as it is, and so is all global random state.

    random_in_noise  exactly round(ratio·N) samples get a *different* class, uniform over the other C−1
                     (the true class is never redrawn, so the realised ratio is the requested one).
    real_in_noise    a sample of class c becomes `confused_with[c]` with probability `ratio`;
                     classes with confused_with[c] == c keep their labels.
    none             the labels as they are.

    labels: int64 (N,) in [0, num_classes). ratio in [0, 1). confused_with: (C,) class indices, for real_in_noise.
    Raises ValueError for another kind, and for real_in_noise without `confused_with`.
    """
    labels = np.asarray(labels, dtype=np.int64)
    noisy = labels.copy()
    if kind == "random_in_noise":
        chosen = generator.permutation(len(labels))[: round(ratio * len(labels))]
        noisy[chosen] = (labels[chosen] + generator.integers(1, num_classes, len(chosen))) % num_classes
    elif kind == "real_in_noise":
        if confused_with is None:
            raise ValueError("real_in_noise needs confused_with")
        flips = generator.random(len(labels)) < ratio
        noisy[flips] = np.asarray(confused_with, dtype=np.int64)[labels[flips]]
    elif kind != "none":
        raise ValueError(f"unknown noise {kind!r}; known: {', '.join(KINDS)}")
    return noisy


def confusion_of(data_name: str, class_names: Sequence[str]) -> np.ndarray:
    """(C,) int64: the class that class-dependent noise turns each class into (itself = no noise).

    By class *name*, so that a class subset keeps its meaning; a target outside the subset means no noise.
    CIFAR-100 goes to the next class of its superclass in the subset, a data set without a table to the next class,
    both circular.
    """
    num_classes = len(class_names)
    if data_name == "cifar100":
        target = {}
        for superclass in CIFAR100_SUPERCLASSES:
            present = [name for name in superclass if name in class_names]
            target |= dict(zip(present, present[1:] + present[:1], strict=True))
    elif data_name in CONFUSED_WITH:
        target = CONFUSED_WITH[data_name]
    else:
        return (np.arange(num_classes) + 1) % num_classes
    position = {name: c for c, name in enumerate(class_names)}
    return np.array([position.get(target.get(name, name), c) for c, name in enumerate(class_names)], dtype=np.int64)


def transition_matrix(clean_labels: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float64 (C, C): entry (t, o) is the share of true class t that is labelled o; rows of present classes sum to 1.

    Samples whose truth is −1 (no class) are left out.
    """
    known = clean_labels != NO_CLASS
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (clean_labels[known], labels[known]), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def describe_noise(
    clean_labels: np.ndarray, labels: np.ndarray, class_names: Sequence[str], kind: str, ratio: float | None
) -> str:
    """Requested (None = labels as they came) and realised ratio and the transition matrix in percent (row = true
    class), as printable lines."""
    realised = float(np.mean(clean_labels != labels))
    requested = "" if ratio is None else f"ratio requested {ratio:.4f}, "
    lines = [
        f"label noise: {kind}, {requested}realised {realised:.4f} "
        f"({(clean_labels != labels).sum()} of {len(labels)} labels)"
    ]
    matrix = 100 * transition_matrix(clean_labels, labels, len(class_names))
    if len(class_names) <= 20:
        width = max(6, *(len(name) + 1 for name in class_names))  # 6: " 100.0"
        lines.append("transition matrix, % (row = true class, column = label given)")
        lines.append(" " * width + "".join(f"{name:>{width}}" for name in class_names))
        lines += [
            f"{name:>{width}}" + "".join(f"{p:{width}.1f}" if p else " " * (width - 1) + "." for p in row)
            for name, row in zip(class_names, matrix, strict=True)
        ]
    else:  # too wide for a terminal: where each class mostly goes
        lines.append("transition matrix, % (true class: kept; most frequent wrong label)")
        off = matrix - np.diag(np.diag(matrix))
        lines += [
            f"{name:>16}: {row[c]:5.1f} kept; {off[c].max():5.1f} {class_names[off[c].argmax()]}"
            for c, (name, row) in enumerate(zip(class_names, matrix, strict=True))
        ]
    return "\n".join(lines)

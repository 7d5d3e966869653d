"""A suspects.html of photographs with made-up doubts, for a look at the page without a training.

python3 -m tests.suspects_demo FOLDER OUT.html [--rows N]      FOLDER/<class>/*.jpg, as utils.export makes it
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from datasets.decoding import refusing_bombs
from utils.results import thumbnails
from utils.results.suspects import Suspects
from utils.results.suspects_page import page

WRONG = 0.2  # share of the labels


def made_up(files: list[Path], class_names: list[str], root: Path) -> Suspects:
    """A fifth of the labels wrong, found by a method that is right most of the time and says how sure it is."""
    generator = np.random.default_rng(1)
    n, c = len(files), len(class_names)
    truth = np.array([class_names.index(file.parent.name) for file in files])
    labels = np.where(generator.random(n) < WRONG, generator.integers(0, c, n), truth)
    p_noisy = np.where(labels != truth, generator.beta(4, 1.5, n), generator.beta(1, 9, n)).astype(np.float32)
    posterior = generator.dirichlet(np.full(c, 0.3), n).astype(np.float32)
    posterior += 4 * np.eye(c, dtype=np.float32)[truth] * generator.random((n, 1), dtype=np.float32)
    posterior[np.arange(n), labels] = 0
    posterior *= (p_noisy / posterior.sum(axis=1))[:, None]
    posterior[np.arange(n), labels] = 1 - p_noisy
    return Suspects.ranked(
        class_names=class_names,
        sample_ids=np.arange(n),
        files=[file.relative_to(root).as_posix() for file in files],
        labels=labels,
        true_labels=None,
        scores={"score": p_noisy},
        p_noisy=p_noisy,
        posterior=posterior,
        twin_of=np.full(len(posterior), -1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int)
    args = parser.parse_args()
    files = sorted(args.folder.glob("*/*.*"))
    suspects = made_up(files, sorted({file.parent.name for file in files}), args.folder)
    shown = suspects.shown(args.rows)
    with refusing_bombs():
        pictures = [thumbnails.of_file(files[i]) for i in suspects.positions[shown]]
    command = "python3 -m utils.export photographs --review review.csv --to FOLDER"
    args.out.write_text(page(suspects, shown, pictures, "photographs", "made up", command))
    print(f"{args.out}: {len(shown)} rows, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

"""suspects.csv, suspects.html and duplicates.csv of an experiment, from what a method says of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from datasets.decoding import Undecodable, refusing_bombs
from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.experiments.record import Record
from utils.files import write_atomically
from utils.results import thumbnails
from utils.results.commands import export_command
from utils.results.found_scores import second_opinion, title_of
from utils.results.suspects import SUSPECT_FROM, Suspects
from utils.results.suspects_page import page
from utils.results.twin_files import write_twins
from utils.scoring.twins import Twins

PAGE = "suspects.html"
MOST_PAIRS = 200  # of twins on the page


def write_suspects(
    experiment: Experiment,
    data: NoisyData,
    scores: Mapping[str, np.ndarray],
    p_noisy: np.ndarray,
    posterior: np.ndarray,
) -> None:
    """suspects.csv, ranked by the first of the scores (N,), duplicates.csv, and the page as far as --report asks.

    `p_noisy` (N,); `posterior` (N, C): of the true class, given label and predictions.
    """
    twins = write_twins(experiment, data)
    suspects = suspects_of(data, scores, p_noisy, posterior, twins)
    experiment.write_csv("suspects.csv", suspects.rows(), suspects.columns)
    report = experiment.record["settings"].get("report")
    if report is not None or data.file_names is not None:  # only images of the user's own have a page unasked
        write_page(experiment.record, data, suspects, report, twins, experiment.log)


def posterior_of(record: Record) -> np.ndarray:
    """float32 (N, C): what a finished training says of every sample's true class, by which others are suggested."""
    key = record["method"]
    if key == "ssl":
        return record.read_array("ssl_probs" if record.holds("ssl_probs") else "pseudo_labels")
    return record.read_array(f"{key}_posterior")


def suspects_of(
    data: NoisyData, scores: Mapping[str, np.ndarray], p_noisy: np.ndarray, posterior: np.ndarray, twins: Twins
) -> Suspects:
    """All samples, ranked by the first of the scores; `twins`: pairs of different labels."""
    return Suspects.ranked(
        class_names=data.class_names,
        sample_ids=data.sample_ids,
        files=data.file_names,
        labels=data.labels,
        true_labels=data.clean_labels,
        scores=scores,
        p_noisy=p_noisy,
        posterior=posterior,
        twin_of=twins.nearest(len(data)),
    )


def write_page(
    record: Record,
    data: NoisyData,
    suspects: Suspects,
    report: int | None,
    twins: Twins,
    say: Callable[[str], None],
) -> None:
    """suspects.html, with what `Suspects.shown` says and pairs of `twins`; no page of nothing."""
    shown = suspects.shown(report)
    if not len(shown):
        return
    twin_rows = suspects.rows_of(np.stack([twins.first, twins.second], axis=1)[:MOST_PAIRS])
    shown = np.union1d(shown, twin_rows)
    pictures = thumbnails_of(data, suspects.positions[shown], say)
    known = data.fingerprint()
    command = export_command(record.path, with_folder=data.file_names is not None)
    fingerprint = f"{known['images']}-{known['labels']}"
    text = page(suspects, shown, pictures, title_of(record), fingerprint, command, twin_rows, second_opinion(record))
    write_atomically(record.own(PAGE), lambda handle: handle.write(text.encode()))
    say(
        f"{suspects.is_suspect.sum()} of {len(suspects)} labels are suspects (p_noisy from {SUSPECT_FROM}); to look at "
        f"{len(shown)} samples open {record.path / PAGE} in a browser"
    )


def thumbnails_of(data: NoisyData, positions: np.ndarray, say: Callable[[str], None]) -> list[str]:
    """In base64, of the samples at those positions: of their files, or of the pixels that the networks saw."""
    unreadable: list[int] = []
    foreign = set(data.replaced.tolist())  # their files show other images

    def make(i: int) -> str:
        if data.file_names is not None and i not in foreign:
            try:
                return thumbnails.of_file(Path(data.choice.root) / data.file_names[i])
            except Undecodable:  # hours of training must not end for want of a thumbnail
                unreadable.append(i)
        return thumbnails.of_pixels(data.images.pixels[i].cpu().numpy())

    with refusing_bombs(), ThreadPoolExecutor() as pool:  # decoders work without the interpreter lock
        made = list(pool.map(make, positions.tolist()))
    if unreadable:
        say(f"{len(unreadable)} files could not be read again; the page shows them at the size of training")
    return made

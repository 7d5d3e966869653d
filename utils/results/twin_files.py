"""duplicates.csv of an experiment: near-duplicate pictures, and which of them carry different labels."""

from __future__ import annotations

import numpy as np

from utils.data.host_pixels import portions
from utils.data.noisy_data import NoisyData
from utils.experiments.experiment import Experiment
from utils.scoring.twins import Twins, contents, find_twins

FILE = "duplicates.csv"
COLUMNS = ("sample_id", "file", "label", "twin_id", "twin_file", "twin_label", "distance")
MOST_PICTURES = 200_000  # that are compared, which takes two minutes of a core; time grows with the square


def twins_of(data: NoisyData) -> Twins:
    """All pairs of near-duplicates; none of more than MOST_PICTURES pictures.

    Where the data set is not to be mirrored, mirror images are other pictures.
    """
    if len(data) > MOST_PICTURES:
        return Twins(*(np.empty(0, dtype=kind) for kind in (np.int64, np.int64, np.float32)))
    pixels = data.images.pixels
    pictures = (pixels[part].cpu().numpy() for part in portions(pixels.shape))
    return find_twins(contents(pictures), data.labels, data.images.mirrored)


def contradicting(twins: Twins, data: NoisyData) -> Twins:
    """Those whose labels differ."""
    differ = data.labels[twins.first] != data.labels[twins.second]
    return Twins(*(column[differ] for column in twins))


def write_twins(experiment: Experiment, data: NoisyData) -> Twins:
    """duplicates.csv, the nearest pair first, files blank where images are none; the pairs whose labels differ."""
    if len(data) > MOST_PICTURES:
        experiment.log(f"near-duplicates are not looked for among more than {MOST_PICTURES} pictures")
        return twins_of(data)
    twins = twins_of(data)
    differing = contradicting(twins, data)
    rows = [
        _side(data, i, "sample_id", "file", "label")
        | _side(data, j, "twin_id", "twin_file", "twin_label")
        | {"distance": f"{distance:.4f}"}
        for i, j, distance in zip(*twins, strict=True)
    ]
    experiment.write_csv(FILE, rows, COLUMNS)
    if len(rows):
        said = f"{len(differing.first)} of them with different labels"
        experiment.log(f"{len(rows)} pairs of near-duplicate pictures, {said}: {experiment.path / FILE}")
    return differing


def _side(data: NoisyData, i: int, sample_id: str, file: str, label: str) -> dict[str, object]:
    """One of the two pictures of a row, under those columns."""
    name = "" if data.file_names is None else data.file_names[i]
    return {sample_id: data.sample_ids[i], file: name, label: data.class_names[data.labels[i]]}

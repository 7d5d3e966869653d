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


def write_twins(experiment: Experiment, data: NoisyData) -> Twins:
    """duplicates.csv, the nearest pair first, files blank where images are none; the pairs whose labels differ.

    Where the data set is not to be mirrored, mirror images are other pictures.
    """
    if len(data) > MOST_PICTURES:
        experiment.log(f"near-duplicates are not looked for among more than {MOST_PICTURES} pictures")
        return Twins(*(np.empty(0, dtype=kind) for kind in (np.int64, np.int64, np.float32)))
    pixels = data.images.pixels
    pictures = (pixels[part].cpu().numpy() for part in portions(pixels.shape))
    twins = find_twins(contents(pictures), data.labels, data.images.mirrored)
    rows = [
        _side(data, i, "sample_id", "file", "label")
        | _side(data, j, "twin_id", "twin_file", "twin_label")
        | {"distance": f"{distance:.4f}"}
        for i, j, distance in zip(*twins, strict=True)
    ]
    experiment.write_csv(FILE, rows, COLUMNS)
    differ = data.labels[twins.first] != data.labels[twins.second]
    if len(differ):
        said = f"{differ.sum()} of them with different labels"
        experiment.log(f"{len(differ)} pairs of near-duplicate pictures, {said}: {experiment.path / FILE}")
    return Twins(*(column[differ] for column in twins))


def _side(data: NoisyData, i: int, sample_id: str, file: str, label: str) -> dict[str, object]:
    """One of the two pictures of a row, under those columns."""
    name = "" if data.file_names is None else data.file_names[i]
    return {sample_id: data.sample_ids[i], file: name, label: data.class_names[data.labels[i]]}

"""The chain's table: accuracies and gaps that one can check by hand."""

from tests.benchmarks.chain import table
from utils.results.tables import as_text


def test_the_gap_runs_from_noisy_to_true_labels_in_each_seed():
    rows = ("cross-entropy, noisy labels", "cross-entropy, true labels", "ssl.py, relabel")
    seeds = [dict(zip(rows, values, strict=True)) for values in ((0.5, 1.0, 0.75), (0.25, 0.75, 0.75))]
    assert as_text(table(seeds)).splitlines() == [
        "training                     test accuracy, last epoch  gap closed",
        "cross-entropy, noisy labels  0.3750 ± 0.1768 (2)        0.0000 ± 0.0000 (2)",
        "cross-entropy, true labels   0.8750 ± 0.1768 (2)        1.0000 ± 0.0000 (2)",
        "ssl.py, relabel              0.7500 ± 0.0000 (2)        0.7500 ± 0.3536 (2)",
    ]

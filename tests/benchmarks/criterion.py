"""How well do planted errors rank scores and moments? From the histories of finished separations with known truth.

    python3 -m tests.benchmarks.criterion EXPERIMENT_FOLDER...

Per experiment: of all pairs of a score and a moment the rank correlation (Spearman) between the AUC with which planted
errors were found and that with which wrong labels were; the AUC of the score that was chosen without the truth, and how
much it loses against the best of all pairs (ORACLE).
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

PLANTED, REAL = "planted_auc_", "auc_"


def pairs(rows: list[dict[str, str]]) -> np.ndarray:
    """float64 (M, 2): planted AUC and AUC of every score at every moment where both are known."""
    names = [column.removeprefix(PLANTED) for column in rows[0] if column.startswith(PLANTED)]
    cells = [(row[PLANTED + name], row.get(REAL + name)) for row in rows for name in names]
    return np.array([[float(planted), float(real)] for planted, real in cells if planted and real])


def judge(folder: Path) -> dict[str, float]:
    """{column: value} of one experiment."""
    record = json.loads((folder / "run.json").read_text())
    with (folder / "history.csv").open(newline="") as handle:
        found = pairs(list(csv.DictReader(handle)))
    chosen, best = record["figures"][f"auc_{record['method']}_score"], found[:, 1].max()
    return {
        "rank correlation": spearmanr(found[:, 0], found[:, 1]).statistic,
        "chosen": chosen,
        "ORACLE": best,
        "lost": best - chosen,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", type=Path, metavar="FOLDER", help="finished separations")
    for folder in parser.parse_args().experiments:
        found = judge(folder)
        print(f"{folder.name:<40}" + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))


if __name__ == "__main__":
    main()

"""How well do planted errors rank scores and moments? From the histories of finished separations with known truth.

    python3 -m tests.benchmarks.criterion EXPERIMENT_FOLDER...
    python3 -m tests.benchmarks.criterion EXPERIMENT_FOLDER... --rivals
    python3 -m tests.benchmarks.criterion EXPERIMENT_FOLDER --cross PARALLEL_FOLDER       of the same labels

Per experiment: of all pairs of a score and a moment the rank correlation (Spearman) between the AUC with which planted
errors were found and that with which wrong labels were; the AUC of the score that was chosen without the truth, and how
much it loses against the best of all pairs (ORACLE).
With --rivals other criteria, each of the loss at every tracked moment, beside that by planted errors: rank correlation
with the AUC of that loss (nan: a criterion that says the same of all moments), and what is lost by the moment that
has the highest.
    valley      the depth of the valley between the two modes of the beta mixture
    agreement   rank correlation with the mean loss over all moments
    cross       AUC against a proxy of the truth: whether the network of PARALLEL_FOLDER that never saw a sample
                predicts its label, weighted by how sure it is
"""

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from utils.scoring.mixture import BetaMixture

PLANTED, REAL = "planted_auc_", "auc_"


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def pairs(rows: list[dict[str, str]]) -> np.ndarray:
    """float64 (M, 2): planted AUC and AUC of every score at every moment where both are known."""
    names = [column.removeprefix(PLANTED) for column in rows[0] if column.startswith(PLANTED)]
    cells = [(row[PLANTED + name], row.get(REAL + name)) for row in rows for name in names]
    return np.array([[float(planted), float(real)] for planted, real in cells if planted and real])


def judge(folder: Path) -> dict[str, float]:
    """{column: value} of one experiment."""
    record = json.loads((folder / "run.json").read_text())
    found = pairs(rows_of(folder))
    chosen, best = record["figures"][f"auc_{record['method']}_score"], found[:, 1].max()
    return {
        "rank correlation": spearmanr(found[:, 0], found[:, 1]).statistic,
        "chosen": chosen,
        "ORACLE": best,
        "lost": best - chosen,
    }


def judge_rivals(folder: Path, cross: Path | None) -> dict[str, tuple[float, float]]:
    """{criterion: (rank correlation, AUC lost)} of the losses of the moments that the history holds."""
    method = json.loads((folder / "run.json").read_text())["method"]
    rows = [row for row in rows_of(folder) if row[f"{PLANTED}{method}_loss"]]
    real = np.array([float(row[f"{REAL}{method}_loss"]) for row in rows])
    track = np.load(folder / "loss_track.npy")
    if len(track) != len(rows):
        raise SystemExit(f"{folder}: {len(track)} losses of {len(rows)} moments")
    mean = track.mean(axis=0)
    criteria: dict[str, np.ndarray] = {
        "planted": np.array([float(row[f"{PLANTED}{method}_loss"]) for row in rows]),
        "valley": np.array([depth(losses) for losses in track]),
        "agreement": np.array([spearmanr(losses, mean).statistic for losses in track]),
    }
    if cross is not None:
        proxy = cross_proxy(folder, cross)
        criteria["cross"] = np.array([proxy(losses) for losses in track])
    return {
        name: (
            float(spearmanr(values, real).statistic) if np.ptp(values) else np.nan,
            real.max() - real[values.argmax()],
        )
        for name, values in criteria.items()
    }


def depth(losses: np.ndarray) -> float:
    """In [0, 1]: how far the density of the mixture falls between its modes; 0 = there are no two."""
    mixture = BetaMixture().fit(losses)
    return 1 - mixture.valley() if mixture.usable_ else 0.0


def cross_proxy(folder: Path, cross: Path) -> Callable[[np.ndarray], float]:
    """criterion(losses (N,)): their AUC against what the out-of-sample predictions of `cross` say of the labels."""
    labels, others = (np.load(of / "labels.npy") for of in (folder, cross))
    if not np.array_equal(labels, others):
        raise SystemExit(f"{cross} has other labels than {folder}")
    probs = np.load(cross / "cross_probs.npy")
    return lambda losses: roc_auc_score(probs.argmax(axis=1) != labels, losses, sample_weight=probs.max(axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", type=Path, metavar="FOLDER", help="finished separations")
    parser.add_argument("--rivals", action="store_true", help="other criteria for the moment")
    parser.add_argument("--cross", type=Path, metavar="FOLDER", help="parallel.py on the same labels; with --rivals")
    args = parser.parse_args()
    for folder in args.experiments:
        if args.rivals or args.cross:
            rivals = judge_rivals(folder, args.cross).items()
            said = ", ".join(f"{name} {correlation:.3f} (loses {lost:.3f})" for name, (correlation, lost) in rivals)
        else:
            said = ", ".join(f"{name} {value:.3f}" for name, value in judge(folder).items())
        print(f"{folder.name:<40} {said}")


if __name__ == "__main__":
    main()

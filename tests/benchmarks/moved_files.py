"""A newcomer's round: files of an image folder are moved into wrong classes, found again and put right.

    python3 -m tests.benchmarks.moved_files PHOTOS --work experiments/moved_files
    python3 -m tests.benchmarks.moved_files PHOTOS --only parallel          exports nothing

Of PHOTOS/<class>/* so many images of each class are copied to WORK/photos/<class>/*, a share of them into a wrong
class, drawn uniformly. Then come the README's commands with default flags but for the width, as processes of their own,
timed: relabel.py, parallel.py, and utils.export to a cleaned folder. Which files were moved is read at the end alone:
how many of them are among the first suspects, whether p_noisy means what it says, how many wrong labels the cleaned
folder has left, and, with cleanlab installed, how its find_label_issues on parallel.py's cross_probs.npy compares at
the same number of suspects.
"""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import Report, compute_of, device_flags
from tests.benchmarks.peers import PeersReport, has_cleanlab
from utils.command_line import running
from utils.command_line.flags import add_device
from utils.command_line.parser import COUNT, SEED, SHARE, Parser
from utils.experiments.record import Record
from utils.scoring.metrics import reliability

FIRST = (100, 300, 500)
WIDTH = "0.25"
SEPARATIONS = ("relabel", "parallel")


def lay_out(source: Path, photos: Path, per_class: int, share: float, seed: int) -> dict[str, str]:
    """Copies with some files in wrong classes; {path below `photos`: true class}."""
    classes = sorted(folder.name for folder in source.iterdir() if folder.is_dir() and folder.name[0] != ".")
    files = [(name, file) for name in classes for file in sorted((source / name).iterdir())[:per_class]]
    rng = np.random.default_rng(seed)
    moved = set(rng.choice(len(files), round(share * len(files)), replace=False).tolist())
    true = {}
    for number, (name, file) in enumerate(files):
        given = name
        if number in moved:
            given = str(rng.choice([other for other in classes if other != name]))
        target = photos / given / f"{number:05d}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        true[target.relative_to(photos).as_posix()] = name
    return true


def typed(command: list[str], report: Report) -> None:
    """A command as a user types it; how long it took."""
    report("python3 " + " ".join(command))
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    report(f"    {time.perf_counter() - start:.0f} s; its last lines: {' / '.join(done.stdout.splitlines()[-2:])}")


def suspects(folder: Path) -> list[dict[str, str]]:
    """Rows of suspects.csv, the most likely mislabelled first."""
    with (folder / "suspects.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def is_wrong(files: list[str], true: dict[str, str]) -> np.ndarray:
    """bool (N,): whether each file `CLASS/NAME` lies in a class that is not its own."""
    return np.array([file.split("/")[0] != true[file] for file in files])


def found(what: str, wrong: np.ndarray, report: Report) -> None:
    """Of files in the order of their suspicion: how many wrong ones come first."""
    number = int(wrong.sum())
    hits = ", ".join(f"{wrong[:k].sum()} of the first {k}" for k in FIRST if k <= len(wrong))
    report(f"{what}: moved {hits}; precision at their number {number}: {wrong[:number].mean():.3f}")


def meant(name: str, folder: Path, p_noisy: np.ndarray, wrong: np.ndarray, report: Report) -> None:
    """Whether p_noisy (N,) means what it says: the share of moved files among those it calls wrong, or right."""
    figures = Record.read(folder)["figures"]
    high, low = p_noisy >= 0.9, p_noisy < 0.05
    report(
        f"{name}: estimated share {figures['noise_ratio_estimated']:.3f} ({wrong.mean():.3f}); calibration error "
        f"{reliability(p_noisy, wrong).error:.3f}; moved {wrong[high].sum()} of {high.sum()} called wrong with 0.9 or "
        f"more, {wrong[low].sum()} of {low.sum()} with less than 0.05"
    )


def by_cleanlab(folder: Path, wrong_by_id: np.ndarray, report: Report) -> None:
    """cleanlab's list on the same out-of-sample probabilities."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels, probs = np.load(folder / "labels.npy"), np.load(folder / "cross_probs.npy")
    ranked = find_label_issues(labels, probs, return_indices_ranked_by="self_confidence")
    report(f"cleanlab find_label_issues: {len(ranked)} issues, {wrong_by_id[ranked].mean():.3f} of them moved")
    rest = np.argsort(get_label_quality_scores(labels, probs), kind="stable")  # behind its list, in its order
    order = np.concatenate([ranked, rest[~np.isin(rest, ranked)]])
    found("cleanlab, ranked by self-confidence", wrong_by_id[order], report)


def main(argv: list[str] | None = None) -> None:
    parser = Parser("-m tests.benchmarks.moved_files", __doc__, epilog=None)
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="image folder whose classes are right")
    parser.add_argument("--per_class", type=COUNT, default=300, help="images of each class, the first by name")
    parser.add_argument("--share", type=SHARE, default=0.2, help="of the images that are moved")
    parser.add_argument("--seed", type=SEED, default=1, help="of what is moved, and of the scripts")
    parser.add_argument("--work", type=Path, default=Path("experiments/moved_files"), help="must not exist")
    parser.add_argument("--only", choices=SEPARATIONS, help="one separation alone; relabel.py's is what is exported")
    parser.add_argument("--separation", default="", metavar="FLAGS", help="more flags of the separations")
    parser.add_argument("--save", metavar="NAME", help="keep what is printed as tests/benchmarks/results/NAME.txt")
    add_device(parser)
    args = parser.parse_args(argv)
    compute = compute_of(args)
    report = PeersReport(compute, "Files moved into wrong classes, found again: the README's round")
    work = args.work
    work.mkdir(parents=True)
    true = lay_out(args.photos, work / "photos", args.per_class, args.share, args.seed)
    moved = is_wrong(list(true), true)
    report(f"{len(true)} images in {len(set(true.values()))} classes, {moved.sum()} of them moved\n")

    usual = ["--first_stage_data_name", "folder", "--train_root", str(work / "photos"), "--width", WIDTH]
    usual += ["--seed", str(args.seed), *device_flags(args), "--experiments_root", str(work)]
    separations = [args.only] if args.only else SEPARATIONS
    exported = {"relabelled": "relabel", "dropped": "drop"} if "relabel" in separations else {}
    for name in separations:
        typed([f"{name}.py", *usual, *args.separation.split(), "--experiment_name", name], report)
    for name, what in exported.items():
        how = ["--p_noisy", "0.5", "--suspects", what, "--to", str(work / name)]
        typed(["-m", "utils.export", str(work / "relabel"), *how], report)

    report("")
    for name in separations:
        rows = suspects(work / name)
        wrong = is_wrong([row["file"] for row in rows], true)
        found(f"{name}.py", wrong, report)
        p_noisy = np.array([float(row["p_noisy"]) for row in rows])
        meant(f"{name}.py", work / name, p_noisy, wrong, report)
        called = np.array([row["is_suspect"] == "1" for row in rows])
        suggested = np.array([row["suggested_label"] == true[row["file"]] for row in rows])
        caught = (called & wrong).sum()
        report(
            f"    {called.sum()} suspects (p_noisy from 0.5 on), {caught} of them moved, of {wrong.sum()}; "
            f"the suggested label is right for {suggested[called & wrong].sum()} of the {caught}"
        )
    if "parallel" in separations and has_cleanlab():
        by_id = sorted(suspects(work / "parallel"), key=lambda row: int(row["sample_id"]))
        by_cleanlab(work / "parallel", is_wrong([row["file"] for row in by_id], true), report)
    true_of = {Path(file).name: name for file, name in true.items()}
    for name in exported:
        left = [file for file in (work / name).glob("*/*") if file.is_file()]
        wrong = np.array([file.parent.name != true_of[file.name] for file in left])
        report(f"{name}: {len(left)} images, {wrong.mean():.3f} in a wrong class (before: {moved.mean():.3f})")
    if args.save:
        report.save(args.save, args)


if __name__ == "__main__":
    running.run_script(main)

"""A tracked step: evaluate N samples, their losses and neighbour cross-entropies; this suite beside the plain loop.

    python3 -m tests.benchmarks.tracked_step                                       N = 5,000, 20,000 and 50,000
    python3 -m tests.benchmarks.tracked_step --ours_only --sizes 25000 50000 100000 200000 --rounds 1
    python3 -m tests.benchmarks.tracked_step --memory 50000                        peak memory of one whole step

Neighbours are searched in full at every N. Evaluation, which is linear in N, is measured on --eval_images images and
scaled, except for --memory. Logits (10) and features (512) are drawn around ten centres. Needs faiss-cpu.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch

import models
from tests.benchmarks import plain
from tests.benchmarks.measuring import Report, add_compute_flags, chosen_compute, ratio, side_by_side, timed
from tests.benchmarks.training import evaluate
from utils.data.device_images import DeviceImages
from utils.scoring.neighbours import neighbour_counts
from utils.scoring.tracker import Tracker, neighbour_cross_entropy, whiten
from utils.training.passes import score_samples

CLASSES, FEATURES, K = 10, 512, 100


def random_images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)


def random_outputs(n: int):
    """logits (N, 10), features (N, 512), labels (N,) of a network that has learnt something."""
    torch.manual_seed(0)
    labels = torch.randint(CLASSES, (n,))
    features = torch.relu(0.5 * torch.randn(CLASSES, FEATURES)[labels] + 0.7 * torch.randn(n, FEATURES))
    logits = features @ torch.randn(FEATURES, CLASSES) / 20 + 0.1 * torch.randn(n, CLASSES)
    return logits, features, labels


def evaluation_seconds(args: argparse.Namespace, compute) -> dict[str, list[float]]:
    """Seconds per image of a PreAct-ResNet-18 that returns logits and features, of each round."""
    pixels, labels = random_images(args.eval_images), np.zeros(args.eval_images, dtype=np.int64)
    torch.manual_seed(0)
    ours = compute.prepare(models.build(models.PREACT_RESNET18, CLASSES))
    images = DeviceImages(pixels, compute, mirrored=True)

    device_labels = torch.from_numpy(labels).to(compute.device)
    works = {"ours": lambda: evaluate(ours, images, device_labels, compute)}
    if not args.ours_only:
        model = models.build(models.PREACT_RESNET18, CLASSES).to(compute.device)
        for workers in (0, 2):
            batches = plain.loader(pixels, labels, plain.PLAIN, compute.device, workers, shuffle=False)
            works[f"plain, {workers} workers"] = lambda batches=batches: plain_evaluation(model, batches, compute)
    times = side_by_side(works, args.rounds, compute)
    best = min((name for name in times if name != "ours"), key=lambda name: statistics.median(times[name]), default="")
    return {
        kind: [t / args.eval_images for t in times[name]] for kind, name in (("ours", "ours"), ("plain", best)) if name
    }


def plain_evaluation(model, batches, compute):
    with plain.usual_settings():
        return plain.evaluate(model, batches, compute.device)


@torch.inference_mode()
def neighbour_seconds(n: int, args: argparse.Namespace, compute) -> dict[str, dict[str, list[float]]]:
    """{ours, plain: {part: seconds of each round}} of whitening, searching and counting in both spaces."""
    outputs = [tensor.to(compute.device) for tensor in random_outputs(n)]
    arrays = [tensor.cpu().numpy() for tensor in outputs]
    if n <= 5000 and not args.ours_only:
        require_same_scores(outputs, arrays)
    loops = {"ours": OURS} if args.ours_only else {"ours": OURS, "plain": PLAIN}
    parts = {kind: {part: [] for part in loop} for kind, loop in loops.items()}
    for _ in range(args.rounds):
        for kind, loop in loops.items():
            given = outputs if kind == "ours" else arrays
            made = given[:2]
            for part, work in loop.items():
                made, spent = timed(compute, work, *made, given[2])
                parts[kind][part].append(spent)
    for own in parts.values():
        if "counting" in own:
            both = zip(own["neighbours"], own.pop("counting"), strict=True)
            own["neighbours and counting"] = [sum(pair) for pair in both]
    return parts


# Each takes what the one before made in the two spaces, and the labels.
OURS = {
    "whitening": lambda logits, features, _: (whiten(logits), whiten(features)),
    "neighbours and counting": lambda logits, features, labels: (
        neighbour_counts(logits, labels, CLASSES, K + 1) + neighbour_counts(features, labels, CLASSES, K)
    ),
}
PLAIN = {
    "whitening": lambda logits, features, _: (plain.whitened(logits), plain.whitened(features)),
    "neighbours": lambda logits, features, _: (plain.search(logits, K + 1), plain.search(features, K)),
    "counting": lambda logits, features, labels: sum(
        plain.label_counts(found, labels, CLASSES) for found in (logits, features)
    ),
}


def require_same_scores(outputs, arrays) -> None:
    """Both loops compute the same numbers, but for samples whose last neighbour is a tie."""
    ours = neighbour_cross_entropy(*outputs, CLASSES, K).cpu().numpy()
    theirs = plain.neighbour_cross_entropy(*arrays, CLASSES, K)
    assert np.mean(np.abs(ours - theirs) > 1e-4) < 0.01


def report_size(n: int, evaluation: dict, parts: dict, report: Report) -> None:
    steps = {}
    for kind, own in parts.items():
        own |= {"evaluation (scaled)": [t * n for t in evaluation[kind]]}
        whole = [own[part] for part in ("evaluation (scaled)", "whitening", "neighbours and counting")]
        steps[kind] = own | {"whole step": [sum(each) for each in zip(*whole, strict=True)]}
    ours, theirs = steps["ours"], steps.get("plain", {})
    for part, values in ours.items():
        line = f"N = {n:>7}  {part:<24} ours {statistics.median(values):8.2f} s"
        if part in theirs:
            line += f"   plain {statistics.median(theirs[part]):8.2f} s   {ratio(theirs[part], values)}"
        report(line)
    if "neighbours" in theirs:  # without np.unique for every sample
        alone = theirs["neighbours"]
        compared = ratio(alone, ours["neighbours and counting"])
        report(f"N = {n:>7}  {'faiss-cpu, search alone':<40}   plain {statistics.median(alone):8.2f} s   {compared}")


def peak_memory(n: int, compute, report: Report) -> None:
    """One whole step in this process: how far its memory rises above the images, the network and a first small step."""
    images = DeviceImages(random_images(n), compute, mirrored=True)
    labels = torch.randint(CLASSES, (n,), device=compute.device)
    model = compute.prepare(models.build(models.PREACT_RESNET18, CLASSES))
    few = torch.arange(500, device=compute.device)
    score_samples(model, images, Tracker(labels[:500], CLASSES), compute, where="the first", ids=few)
    forget_peak(compute)
    before = memory_now(compute)
    tracker = Tracker(labels, CLASSES)
    _, spent = timed(compute, lambda: score_samples(model, images, tracker, compute, where="the benchmark"))
    peak = memory_peak(compute)
    report(f"N = {n}, D = {FEATURES}: {peak - before:.2f} GB above the {before:.2f} GB before; {spent:.1f} s, one step")


def forget_peak(compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def memory_now(compute) -> float:
    return torch.cuda.memory_allocated() / 1e9 if compute.device.type == "cuda" else resident("VmRSS")


def memory_peak(compute) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if compute.device.type == "cuda" else resident("VmHWM")


def resident(entry: str) -> float:
    """Gigabytes, from Linux's account of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 20000, 50000], metavar="N")
    parser.add_argument("--eval_images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours_only", action="store_true")
    parser.add_argument("--memory", type=int, metavar="N")
    add_compute_flags(parser)
    args = parser.parse_args()
    compute = chosen_compute(args)
    if args.memory:
        report = Report("Peak memory of a tracked step", compute)
        peak_memory(args.memory, compute, report)
        report.save(f"tracked_step_memory_{compute.device.type}", args)
        return
    report = Report("A tracked step: seconds (median), plain ÷ ours (median, min-max of the rounds)", compute)
    evaluation = evaluation_seconds(args, compute)
    neighbour_seconds(1000, args, compute)  # imports and allocates
    for n in args.sizes:
        report_size(n, evaluation, neighbour_seconds(n, args, compute), report)
    report.save(f"tracked_step{'_growth' if args.ours_only else ''}_{compute.device.type}", args)


if __name__ == "__main__":
    main()

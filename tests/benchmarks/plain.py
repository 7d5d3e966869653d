"""The plain loop: what research code usually does, written to be fair. Only the benchmarks use it.

A DataLoader over PIL images with torchvision transforms, float32, the contiguous layout, evaluation in batches of 100,
neighbours by scikit-learn's PCA and an exact faiss index, np.unique for every sample.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

BATCH = 100
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # CIFAR-10's
PLAIN = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
AUGMENTED = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *PLAIN]
JITTERED = [AUGMENTED[0], AUGMENTED[1], transforms.ColorJitter(0.4, 0.4, 0.4), *PLAIN]


class PILImages(Dataset):
    """uint8 (N, 3, H, W) as PIL images, transformed one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, steps: list) -> None:
        self.images, self.labels = images.transpose(0, 2, 3, 1), labels
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i]), i


def usual_settings() -> contextlib.AbstractContextManager:
    """What such code sets on a GPU, whatever the suite has set in this process."""
    return torch.backends.cudnn.flags(benchmark=True, deterministic=False, allow_tf32=True)


def loader(
    images: np.ndarray, labels: np.ndarray, steps: list, device: torch.device, workers: int, shuffle: bool
) -> DataLoader:
    return DataLoader(
        PILImages(images, labels, steps),
        BATCH,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: DataLoader,
    device: torch.device,
    see: Callable[[Tensor, Tensor, Tensor], None] = lambda logits, labels, ids: None,
) -> float:
    """Cross-entropy; the mean loss. `see` is given logits (B, C), labels (B,) and ids (B,) of every batch."""
    model.train()
    total = 0.0
    for images, labels, ids in batches:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        logits = model(images)
        see(logits.detach(), labels, ids)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def ssl_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader, soft_labels: Tensor, device: torch.device
) -> float:
    """Mixup, L_p and L_e, and a second forward without dropout for the next pseudo-labels; the mean loss."""
    rng = np.random.default_rng()
    model.train()
    total = 0.0
    for images, _, ids in batches:
        images = images.to(device, non_blocking=True)
        targets = soft_labels[ids].to(device)
        with torch.no_grad():
            model.eval()
            soft_labels[ids] = model(images).softmax(1).cpu()
            model.train()
        lam = rng.beta(1.0, 1.0)
        partner = torch.randperm(len(images)).to(device)
        log_p = model(lam * images + (1 - lam) * images[partner]).log_softmax(1)
        mixed = -(lam * targets + (1 - lam) * targets[partner]).mul(log_p).sum(1).mean()
        p = log_p.exp()
        prior = -p.mean(0).log().mean()
        entropy = -(p * log_p).sum(1).mean()
        loss = mixed + 0.8 * prior + 0.4 * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


@torch.no_grad()
def evaluate(model: nn.Module, batches: DataLoader, device: torch.device) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses (N,), logits (N, C) and features (N, D)."""
    model.eval()
    losses, all_logits, all_features = [], [], []
    for images, labels, _ in batches:
        logits, features = model(images.to(device, non_blocking=True), return_features=True)
        losses.append(F.cross_entropy(logits, labels.to(device), reduction="none").cpu().numpy())
        all_logits.append(logits.cpu().numpy())
        all_features.append(features.cpu().numpy())
    return np.concatenate(losses), np.concatenate(all_logits), np.concatenate(all_features)


def neighbours(vectors: np.ndarray, k: int) -> np.ndarray:
    """The k nearest of the L2-normalised, PCA-whitened, L2-normalised rows: positions (N, k)."""
    return search(whitened(vectors), k)


def whitened(vectors: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    return normalize(PCA(whiten=True).fit_transform(normalize(vectors))).astype(np.float32)


def search(unit: np.ndarray, k: int) -> np.ndarray:
    import faiss  # pip install faiss-cpu

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(unit.shape[1])
    index.add(unit)
    return index.search(unit, k)[1]


def label_counts(neighbours: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(N, C): how many of each sample's neighbours have each label."""
    counts = np.zeros((len(neighbours), num_classes))
    for i, row in enumerate(labels[neighbours]):
        found, times = np.unique(row, return_counts=True)
        counts[i, found] = times
    return counts


def neighbour_cross_entropy(
    logits: np.ndarray, features: np.ndarray, labels: np.ndarray, num_classes: int, k: int = 100
) -> np.ndarray:
    """(N,): CE(i) = −(1/C)·log(q(i, y_i) + 1e-6) with q = softmax(counts / 10)."""
    counts = label_counts(neighbours(logits, k + 1), labels, num_classes)
    counts += label_counts(neighbours(features, k), labels, num_classes)
    q = np.exp(counts / 10)
    q /= q.sum(1, keepdims=True)
    return -np.log(q[np.arange(len(labels)), labels] + 1e-6) / num_classes

"""Exact nearest neighbours by cosine and the labels they carry, for all samples at once, in bounded memory."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from utils.compute import has_bf16
from utils.ranks import ALONE, Ranks

SCREEN_FROM = 64  # dimensions from which the products, not the selection, take the time
BF16_ROUNDING = 2.0**-8  # relative, to nearest
FP32_ROUNDING = 2.0**-24
ITSELF = 2.0  # above every cosine


def neighbour_counts(
    unit: Tensor, labels: Tensor, num_classes: int, k: int, memory_gb: float = 1.0, ranks: Ranks = ALONE
) -> Tensor:
    """float32 (N, C): the labels of the exact k nearest rows by cosine, the row itself always among them.

    unit: float32 (N, D) of unit rows; k clamps to N. Rows are searched a few at a time, in `memory_gb` beside `unit`
    and its bfloat16 copy. Of several ranks each searches for some of the rows.
    """
    n, k = len(unit), min(k, len(unit))
    counts = torch.zeros(n, num_classes, device=unit.device)
    ones = torch.ones(1, 1, device=unit.device)
    neighbours = Neighbours(unit, k)
    portions = torch.arange(n, device=unit.device).split(rows_within(memory_gb, n))  # alike for any number of ranks
    shares = [torch.cat([*portions[rank :: ranks.size], portions[0][:0]]) for rank in range(ranks.size)]
    for rows in portions[ranks.rank :: ranks.size]:
        nearest = neighbours.find(rows)
        counts[rows] = counts[rows].scatter_add_(1, labels[nearest], ones.expand(len(rows), k))
    if not ranks.several:
        return counts
    return ranks.rows(counts[shares[ranks.rank]], [len(rows) for rows in shares])[torch.cat(shares).argsort()]


class Neighbours:
    """The k nearest, k <= N, of unit rows float32 (N, D) by float32 cosine.

    `screen`: bfloat16 products choose 2k candidates that are compared in float32, and a row from which the rounding
    could have hidden a neighbour is searched again in float32 alone. None = where that is faster. Where the rounding
    hides most of them, the screen is given up.
    """

    def __init__(self, unit: Tensor, k: int, screen: bool | None = None) -> None:
        self.unit, self.k = unit, k
        self.scratch: dict[torch.dtype, Tensor] = {}
        self.low = None
        if screen is None:
            screen = unit.shape[1] >= SCREEN_FROM and unit.device.type == "cpu" and has_bf16(unit.device)
        if screen and 2 * k <= len(unit):
            self.low = unit.bfloat16()
            pieces = zip(unit.split(4096), self.low.split(4096), strict=True)
            lost = max((whole - low.float()).norm(dim=1).max().item() for whole, low in pieces)
            # Of a product, by Cauchy-Schwarz, before it is rounded itself; and of the sums of D terms behind it.
            self.error = lost * (2 + lost) + 4 * unit.shape[1] * FP32_ROUNDING

    def find(self, rows: Tensor) -> Tensor:
        """int64 (R, k): positions of the neighbours of `rows` (R,), in no order."""
        return self._compare(rows) if self.low is None else self._screen(rows)

    def _compare(self, rows: Tensor) -> Tensor:
        return largest(self._products(self.unit, rows), self.k)[1]

    def _screen(self, rows: Tensor) -> Tensor:
        coarse, screened = largest(self._products(self.low, rows), 2 * self.k)
        screened = screened.sort(1).values
        cosine = paired_products(self.unit[rows], self.unit, screened)
        cosine.masked_fill_(screened == rows[:, None], ITSELF)
        exact, places = cosine.topk(self.k, dim=1, sorted=False)
        nearest = screened.gather(1, places)
        worst = coarse.amin(1).float()  # no other row's product is above
        hidden = (exact.amin(1) < worst + worst.abs() * BF16_ROUNDING + self.error).nonzero().squeeze(1)
        if len(hidden):
            nearest[hidden] = self._compare(rows[hidden])
        if len(hidden) > len(rows) / 2:
            self.low = None
        return nearest

    def _products(self, unit: Tensor, rows: Tensor) -> Tensor:
        """(R, N), each row's product with itself above all others; overwritten by the next call."""
        if len(self.scratch.get(unit.dtype, ())) < len(rows):  # fresh pages for every chunk cost as much as the product
            self.scratch[unit.dtype] = unit.new_empty(len(rows), len(unit))
        products = torch.mm(unit[rows], unit.T, out=self.scratch[unit.dtype][: len(rows)])
        products[torch.arange(len(rows), device=rows.device), rows] = ITSELF
        return products


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row of (R, N), k <= N: (values (R, k), positions int64 (R, k)), in no order.

    Looks for them in the k groups with the largest maxima, which hold them all: torch.topk over all N is several
    times slower.
    """
    n = values.shape[1]
    size = math.isqrt(n // k)  # of a group; equalises the numbers of groups and of candidates
    groups = n // size
    grid = values[:, : size * groups].unflatten(1, (size, groups))
    best = grid.amax(1).topk(k, dim=1, sorted=False).indices[:, None, :].expand(-1, size, -1)
    offsets = groups * torch.arange(size, device=values.device)[None, :, None]
    rest = torch.arange(size * groups, n, device=values.device).expand(len(values), -1)
    candidates = torch.cat([grid.gather(2, best).flatten(1), values[:, size * groups :]], 1)
    positions = torch.cat([(best + offsets).flatten(1), rest], 1)
    found, places = candidates.topk(k, dim=1, sorted=False)
    return found, positions.gather(1, places)


def paired_products(rows: Tensor, others: Tensor, partners: Tensor) -> Tensor:
    """(R, M): dot products of `rows` (R, D), each with its own `partners` (R, M), ascending, among `others` (N, D)."""
    count, m = partners.shape
    starts = torch.arange(0, count * m + 1, m, device=rows.device)
    zeros = torch.zeros(count * m, device=rows.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "sparse CSR is in beta"
        pattern = torch.sparse_csr_tensor(starts, partners.flatten(), zeros, (count, len(others)))
    return torch.sparse.sampled_addmm(pattern, rows, others.T, beta=0.0).values().view(count, m)


def rows_within(memory_gb: float, n: int) -> int:
    """How many rows of n float32 similarities fit, with what their selection needs beside them."""
    return max(1, min(512, int(memory_gb * 1e9 / (4 * n * 2))))

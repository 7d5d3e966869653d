"""Twins: near-duplicate pictures, found by their content without a network; those with different labels are suspect.

A picture's content is its brightness on 16 x 16 fields, without what is the same along a whole row or a whole column of
them (sky above sea looks alike on a thousand photographs that have nothing else in common), brought to length 1: so
other sizes, compression, brightness and contrast make no difference. The distance of two pictures is the L2 distance of
their contents, from 0 (copies) over 1.41 (nothing in common) to 2 (one is the other's negative), or of one of them and
the other's mirror image, where that means the same.

Not the features of a network that was trained on the labels: it is made to take all pictures of a class for the same,
and twins under different labels for different ones.

Mirroring costs nothing: with content = even + odd part under mirroring, the product of two contents is
<even, even'> + <odd, odd'>, and that with the mirrored one <even, even'> - <odd, odd'>.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

FIELDS = 16  # along either side of a picture
BRIGHTNESS = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue (ITU-R BT.601)
LEAST_CONTRAST = 4.0  # standard deviation of a content, of 255; what is flatter is the noise of its compression
MOST_DISTANCE = 0.4  # of twins; of 20,000 CIFAR-10 photographs the nearest that do not show the same are at 0.43
# Where many pictures are like many others, as handwritten digits are, twins have to be nearer than that: at most this
# share of the distance to the TYPICAL-th nearest picture, which DENSE of the pictures have nearer.
SHARE, TYPICAL, DENSE = 0.4, 10, 0.1
PROBES = 200  # pictures from which that is taken
LEAST_DISTANCE = 0.1  # of copies of one file, compressed anew: twins in any set
BLOCK = 1024  # pictures by pictures compared at a time: 4 MiB a matrix
VALUES_AT_A_TIME = 2**24  # of pixels that become float32


class Contents(NamedTuple):
    """Of N pictures, float32 (N, 128) each; together of length 1, or 0 for a picture without content."""

    even: np.ndarray  # what is the same in the mirror
    odd: np.ndarray  # what changes its sign there


class Twins(NamedTuple):
    """P pairs, the nearest first."""

    first: np.ndarray  # int64 (P,), positions in the data set
    second: np.ndarray  # int64 (P,), each larger than its first
    distance: np.ndarray  # float32 (P,), from 0 = the same content

    def nearest(self, n: int) -> np.ndarray:
        """int64 (n,): of each of n pictures the nearest one that it is paired with, -1 = none."""
        found = np.full(n, -1, dtype=np.int64)
        one, other = (np.stack(sides, axis=1).ravel() for sides in (self[:2], self[1::-1]))
        pictures, first = np.unique(one, return_index=True)  # the first place of each, so the nearest
        found[pictures] = other[first]
        return found


def contents(pixels: Iterable[np.ndarray]) -> Contents:
    """Of pictures uint8 (n, H, W, 3), which may come in portions."""
    parts = [_contents(small) for portion in pixels for small in _portions(portion)]
    return Contents(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _portions(pixels: np.ndarray) -> Iterable[np.ndarray]:
    """Of a size that may become float32."""
    step = max(1, VALUES_AT_A_TIME // int(np.prod(pixels.shape[1:])))
    return (pixels[start : start + step] for start in range(0, len(pixels), step))


def _contents(pixels: np.ndarray) -> Contents:
    rows, columns = (_field_means(side) for side in pixels.shape[1:3])
    fields = rows @ (pixels @ BRIGHTNESS) @ columns.T  # (n, FIELDS, FIELDS)
    fields -= fields.mean(axis=1, keepdims=True)
    fields -= fields.mean(axis=2, keepdims=True)
    contrast = fields.std(axis=(1, 2), keepdims=True)
    flat = contrast < LEAST_CONTRAST
    fields = np.where(flat, 0, fields / (FIELDS * np.where(flat, 1, contrast)))  # FIELDS² squares sum to 1
    left, right = fields[:, :, : FIELDS // 2], fields[:, :, : FIELDS // 2 - 1 : -1]
    parts = ((left + right) / np.sqrt(2), (left - right) / np.sqrt(2))
    return Contents(*(part.reshape(len(part), -1).astype(np.float32) for part in parts))


def _field_means(side: int) -> np.ndarray:
    """float32 (FIELDS, side): the share of each pixel in the mean of each field along a side of so many pixels."""
    fields, pixels = np.arange(FIELDS + 1) / FIELDS, np.arange(side + 1) / side
    overlap = np.minimum(fields[1:, None], pixels[None, 1:]) - np.maximum(fields[:-1, None], pixels[None, :-1])
    return (FIELDS * overlap.clip(0)).astype(np.float32)


def find_twins(of: Contents, labels: np.ndarray, mirrored: bool = True) -> Twins:
    """Of every picture its nearest twin with the same label and its nearest one with another label (N,).

    So no group of copies becomes a list of all its pairs, and each picture that contradicts another is in it.
    `mirrored`: a mirror image is a twin too. Time grows with N²: 100,000 pictures take half a minute of one core, and
    a third of a gigabyte beside their contents.
    """
    n = len(labels)
    least = 1 - twin_distance(of, mirrored) ** 2 / 2  # product of two contents
    nearest = np.full((2, n), least, dtype=np.float32)  # products, to the same label and to another one
    twin = np.full((2, n), -1)
    for i in range(0, n, BLOCK):
        for j in range(i, n, BLOCK):
            rows, columns = slice(i, min(i + BLOCK, n)), slice(j, min(j + BLOCK, n))
            products = _products(of, rows, columns, mirrored)
            if i == j:
                np.fill_diagonal(products, -1)
            if products.max() <= least:  # as a rule
                continue
            differs = labels[rows, None] != labels[None, columns]
            for k, mask in enumerate((~differs, differs)):
                wanted = np.where(mask, products, -1)
                _keep_nearer(nearest[k, rows], twin[k, rows], wanted, j)
                _keep_nearer(nearest[k, columns], twin[k, columns], wanted.T, i)
    found = np.nonzero(twin >= 0)
    pairs = np.unique(np.sort(np.stack([found[1], twin[found]], axis=1), axis=1), axis=0)
    distance = _distances(of, *pairs.T, mirrored)
    order = np.argsort(distance, kind="stable")
    return Twins(pairs[order, 0], pairs[order, 1], distance[order])


def twin_distance(of: Contents, mirrored: bool = True) -> float:
    """How far apart two pictures of this set may be to be twins."""
    n = len(of.even)
    if n < 3:  # nobody beside a pair
        return MOST_DISTANCE
    probes = np.unique(np.linspace(0, n - 1, PROBES).astype(int))
    place = n - 1 - min(TYPICAL, n - 2)  # counted from the smallest product; the largest is with itself
    product = np.partition(_products(of, probes, slice(None), mirrored), place, axis=1)[:, place]
    typical = float(np.quantile(np.sqrt((2 - 2 * product).clip(0)), DENSE))
    return float(np.clip(SHARE * typical, LEAST_DISTANCE, MOST_DISTANCE))


def _products(of: Contents, some: slice | np.ndarray, others: slice, mirrored: bool) -> np.ndarray:
    """float32: of the contents of some pictures and others; `mirrored`: or of their mirror images, if that is more."""
    products = of.odd[some] @ of.odd[others].T
    if mirrored:
        np.abs(products, out=products)
    products += of.even[some] @ of.even[others].T
    return products


def _keep_nearer(nearest: np.ndarray, twin: np.ndarray, products: np.ndarray, start: int) -> None:
    """Put the largest product of each row, and its column counted from `start`, where it is larger than `nearest`."""
    at = products.argmax(axis=1)
    largest = products[np.arange(len(products)), at]
    nearer = largest > nearest
    nearest[nearer], twin[nearer] = largest[nearer], start + at[nearer]


def _distances(of: Contents, first: np.ndarray, second: np.ndarray, mirrored: bool) -> np.ndarray:
    """float32 (P,), by differences: exactly 0 for copies."""
    even = np.square(of.even[first] - of.even[second]).sum(axis=1)
    odd = np.square(of.odd[first] - of.odd[second]).sum(axis=1)
    if mirrored:
        odd = np.minimum(odd, np.square(of.odd[first] + of.odd[second]).sum(axis=1))
    return np.sqrt(even + odd)

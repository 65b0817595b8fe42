"""Partitions of the candidates: centroids by k-means, and the candidates laid out in blocks, partition after partition.

A partition is a run of whole blocks, so that a search copies a few long runs of memory and never single rows; the last
block of a partition is filled up with row -1.

Letters: N candidates, D width, P partitions, E blocks, R rows of a block, C sampled candidates.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array, Int32Array

SAMPLED = 32
"""Candidates sampled for each partition to train its centroid by."""
ROUNDS = 8
"""Rounds of Lloyd's algorithm."""
DOUBLINGS = 3
"""How often the first centres are doubled, see `_first_centres`."""
LARGE = 4
"""Partitions of more than this many times the usual size are partitioned again."""
ROWS_IN_BLOCK = 16
"""Long enough to copy fast, short enough that filling up costs little memory."""
CHUNK_BYTES = 16_000_000
"""Bound on each temporary matrix of scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """Where every candidate lies."""

    centroids: Float32Array
    """Mean of each partition [P, D]; none is empty."""
    spreads: Float32Array
    """How far the candidates of each partition lie from its centroid [P]: root of the mean square, per dimension."""
    starts: Int32Array
    """First block of each partition, and behind the last one the number of blocks [P + 1]."""
    rows: Int32Array
    """Candidate row of each place [E, R], ascending within a partition, -1 where it is filled up."""


def partition(values_ND: Float32Array, num_partitions: int, seed: int = 0) -> Partitions:
    """Partition candidates by k-means; the same for the same vectors, seed, and library of matrix products.

    Args:
        values_ND: candidate vectors, N of 1 or more.
        num_partitions: wanted, 1 to N; ones that come out empty are left out, and large ones become several.
        seed: of the sample and of the first centres.
    """
    generator = np.random.default_rng(seed)
    of_N = nearest(values_ND, _trained(values_ND, num_partitions, generator))[0]
    return laid_out(values_ND, _without_large(values_ND, of_N, len(values_ND) / num_partitions, generator))


def nearest(values_ND: Float32Array, centres_PD: Float32Array) -> tuple[Int32Array, Float32Array]:
    """The centre at the least Euclidean distance of each candidate, and that distance squared [N]."""
    half_P = np.einsum("pd,pd->p", centres_PD, centres_PD) / np.float32(2)
    rows_N, squares_N = np.empty(len(values_ND), np.int32), np.empty(len(values_ND), np.float32)
    chunk = max(1, CHUNK_BYTES // (4 * len(centres_PD)))
    for start in range(0, len(values_ND), chunk):
        here = slice(start, start + chunk)
        scores_BP = values_ND[here] @ centres_PD.T
        scores_BP -= half_P
        rows_N[here] = scores_BP.argmax(axis=1)
        best_B = np.take_along_axis(scores_BP, rows_N[here, None], axis=1)[:, 0]
        squares_N[here] = np.einsum("nd,nd->n", values_ND[here], values_ND[here]) - 2 * best_B
    return rows_N, np.maximum(squares_N, 0)


def laid_out(values_ND: Float32Array, partition_N: Int32Array) -> Partitions:
    """Lay candidates out in blocks, given the partition of each."""
    used, of_N, counts_P = np.unique(partition_N, return_inverse=True, return_counts=True)
    order_N, firsts = np.argsort(of_N, kind="stable"), np.cumsum(counts_P) - counts_P
    starts = np.concatenate([[0], np.cumsum(-(-counts_P // ROWS_IN_BLOCK))])
    places_N = np.arange(len(of_N)) + np.repeat(ROWS_IN_BLOCK * starts[:-1] - firsts, counts_P)
    rows_ER = np.full((starts[-1], ROWS_IN_BLOCK), -1, np.int32)
    rows_ER.ravel()[places_N] = order_N
    centroids_PD = _moved(values_ND, of_N, np.zeros((len(used), values_ND.shape[1]), np.float32))
    squares_N = np.empty(len(of_N), np.float32)
    for start in range(0, len(of_N), CHUNK_BYTES // 4_096):
        here = slice(start, start + CHUNK_BYTES // 4_096)
        squares_N[here] = ((values_ND[here] - centroids_PD[of_N[here]]) ** 2).mean(axis=1)
    spreads_P = np.sqrt(np.bincount(of_N, squares_N) / counts_P).astype(np.float32)
    return Partitions(centroids=centroids_PD, spreads=spreads_P, starts=starts.astype(np.int32), rows=rows_ER)


def _trained(values_ND: Float32Array, num_centres: int, generator: np.random.Generator) -> Float32Array:
    """Centres by k-means over a sample [P, D]."""
    num_sampled = min(len(values_ND), SAMPLED * num_centres)
    sample_CD = values_ND[np.sort(generator.choice(len(values_ND), num_sampled, replace=False))]
    centres_PD = _first_centres(sample_CD, num_centres, generator)
    for _ in range(ROUNDS):
        centres_PD = _moved(sample_CD, nearest(sample_CD, centres_PD)[0], centres_PD)
    return centres_PD


def _without_large(
    values_ND: Float32Array, of_N: Int32Array, usual: float, generator: np.random.Generator
) -> Int32Array:
    """Partition by themselves the partitions of more than `LARGE` times the usual size: they make the slow queries."""
    counts_P = np.bincount(of_N)
    parted_N, num_partitions = of_N.copy(), len(counts_P)
    for large in np.flatnonzero(counts_P > LARGE * usual):
        rows = np.flatnonzero(of_N == large)
        centres_PD = _trained(values_ND[rows], math.ceil(len(rows) / usual), generator)
        parted_N[rows] = num_partitions + nearest(values_ND[rows], centres_PD)[0]
        num_partitions += len(centres_PD)
    return parted_N


def _first_centres(sample_CD: Float32Array, num_centres: int, generator: np.random.Generator) -> Float32Array:
    """Draw a share of the centres evenly, then double them, each time drawing far ones the more likely.

    Source: Bahmani et al., Scalable K-Means++, VLDB 2012: a candidate is drawn in proportion to the square of its
    distance from the nearest centre. Here a fixed number is drawn each time, so no centres are merged afterwards.
    """
    first = max(1, num_centres >> DOUBLINGS)
    chosen = generator.choice(len(sample_CD), first, replace=False)
    squares_C = np.full(len(sample_CD), np.inf, np.float32)
    latest = chosen
    while len(chosen) < num_centres:
        squares_C = np.minimum(squares_C, nearest(sample_CD, sample_CD[latest])[1])
        weights_C = squares_C.astype(np.float64) + 1e-12 * max(1.0, float(squares_C.max()))
        weights_C[chosen] = 0
        num_drawn = min(len(chosen), num_centres - len(chosen))
        latest = generator.choice(len(sample_CD), num_drawn, replace=False, p=weights_C / weights_C.sum())
        chosen = np.concatenate([chosen, latest])
    return sample_CD[chosen]


def _moved(values_ND: Float32Array, of_N: NDArray[np.integer], centres_PD: Float32Array) -> Float32Array:
    """Mean of what belongs to each centre; one that nothing belongs to stays."""
    counts_P = np.bincount(of_N, minlength=len(centres_PD))
    full = np.flatnonzero(counts_P)
    order_N, firsts = np.argsort(of_N, kind="stable"), (np.cumsum(counts_P) - counts_P)[full]
    moved_PD = centres_PD.copy()
    for column in range(values_ND.shape[1]):
        sums = np.add.reduceat(values_ND[order_N, column], firsts, dtype=np.float64)
        moved_PD[full, column] = sums / counts_P[full]
    return moved_PD

"""Partitions of the candidates: centroids by k-means, and the candidates laid out in blocks, partition after partition.

A partition is a run of whole blocks, so that a search copies a few long runs of memory and never single rows; the last
block of a partition is filled up with row -1 and zeros.

Letters: N candidates, D width, P partitions, A assignments of a candidate, E blocks, R rows of a block, C sampled ones.
"""

from dataclasses import dataclass

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array

ROUNDS = 10
"""Rounds of Lloyd's algorithm."""
SAMPLED = 64
"""Candidates sampled for each partition to train its centroid by."""
CHUNK_BYTES = 64_000_000
"""Bound on each temporary matrix of scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """Where every candidate lies."""

    centroids: Float32Array
    """Centre of each partition [P, D]; none is empty."""
    starts: Int32Array
    """First block of each partition, and behind the last one the number of blocks [P + 1]."""
    rows: Int32Array
    """Candidate row of each place [E, R], ascending within a partition, -1 where it is filled up."""


def partition(values_ND: Float32Array, num_partitions: int, *, rows_in_block: int, seed: int = 0) -> Partitions:
    """Partition candidates by k-means; deterministic by seed for one machine's matrix products.

    Args:
        values_ND: candidate vectors, N of 1 or more.
        num_partitions: wanted, 1 to N; ones that come out empty are left out.
        rows_in_block: rows R of a block.
        seed: of the sample and of the first centres.
    """
    generator = np.random.default_rng(seed)
    size = len(values_ND)
    num_sampled = min(size, SAMPLED * num_partitions)
    sample_CD = values_ND[np.sort(generator.choice(size, num_sampled, replace=False))]
    centroids_PD = sample_CD[generator.choice(num_sampled, num_partitions, replace=False)]
    for _ in range(ROUNDS):
        centroids_PD = _means(sample_CD, nearest(sample_CD, centroids_PD), centroids_PD)
    return laid_out(nearest(values_ND, centroids_PD), centroids_PD, rows_in_block=rows_in_block)


def nearest(values_ND: Float32Array, centroids_PD: Float32Array) -> Int32Array:
    """The centroid at the least Euclidean distance of each candidate [N]; ties by the smaller one."""
    half_P = 0.5 * np.einsum("pd,pd->p", centroids_PD, centroids_PD)
    nearest_N = np.empty(len(values_ND), np.int32)
    chunk = max(1, CHUNK_BYTES // (4 * len(centroids_PD)))
    for start in range(0, len(values_ND), chunk):
        nearest_N[start : start + chunk] = (values_ND[start : start + chunk] @ centroids_PD.T - half_P).argmax(axis=1)
    return nearest_N


def laid_out(nearest_N: Int32Array, centroids_PD: Float32Array, *, rows_in_block: int) -> Partitions:
    """Lay candidates out in blocks, given the partition of each."""
    counts_P = np.bincount(nearest_N, minlength=len(centroids_PD))
    full = np.flatnonzero(counts_P)
    starts = np.concatenate([[0], np.cumsum(-(-counts_P[full] // rows_in_block))])
    order_N = np.argsort(nearest_N, kind="stable")
    firsts = np.cumsum(counts_P[full]) - counts_P[full]
    places_N = np.arange(len(nearest_N)) + np.repeat(rows_in_block * starts[:-1] - firsts, counts_P[full])
    rows_ER = np.full((starts[-1], rows_in_block), -1, np.int32)
    rows_ER.ravel()[places_N] = order_N
    return Partitions(centroids=centroids_PD[full], starts=starts.astype(np.int32), rows=rows_ER)


def _means(sample_CD: Float32Array, nearest_C: Int32Array, centroids_PD: Float32Array) -> Float32Array:
    """Mean of what is nearest to each centroid; one that nothing is nearest to stays."""
    counts_P = np.bincount(nearest_C, minlength=len(centroids_PD))
    full = np.flatnonzero(counts_P)
    firsts = np.cumsum(counts_P[full]) - counts_P[full]
    means_PD = centroids_PD.copy()
    sums = np.add.reduceat(sample_CD[np.argsort(nearest_C, kind="stable")], firsts, axis=0)
    means_PD[full] = sums / counts_P[full, None]
    return means_PD

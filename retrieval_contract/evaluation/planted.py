"""Brute-force answers and small matrices for this room's tests."""

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import Float32Array, Int64Array


def exact_scores(query_vectors: Float32Array, candidate_vectors: Float32Array) -> Float32Array:
    """Inner products in float64, rounded to float32, pair by pair, the largest of a query with several [Q, N]."""
    wide = query_vectors.astype(np.float64), candidate_vectors.astype(np.float64)
    products = (wide[0][..., None, :] * wide[1]).sum(axis=-1).astype(np.float32)
    return products if query_vectors.ndim == 2 else products.max(axis=1)


def full_ranking(scores: Float32Array, excluded: scipy.sparse.csr_matrix | None = None) -> list[list[int]]:
    """Candidate rows of each query, best first, by sorting everything in plain Python."""
    rankings = []
    for query, row in enumerate(scores.tolist()):
        out = set() if excluded is None else set(excluded[query].indices.tolist())
        kept = [candidate for candidate in range(len(row)) if candidate not in out]
        rankings.append(sorted(kept, key=lambda candidate: (-row[candidate], candidate)))
    return rankings


def ranks_in(rankings: list[list[int]], relevant: scipy.sparse.csr_matrix) -> Int64Array:
    """Rank of every stored place, looked up."""
    coordinates = relevant.tocoo()
    pairs = zip(coordinates.row.tolist(), coordinates.col.tolist(), strict=True)
    return np.array([rankings[query].index(candidate) + 1 for query, candidate in pairs], np.int64)


def draw_pairs(
    generator: np.random.Generator,
    num_queries: int,
    num_candidates: int,
    share: float,
    *,
    without: scipy.sparse.csr_matrix,
) -> scipy.sparse.csr_matrix:
    """Random pairs, none of which is in `without`."""
    drawn = generator.random((num_queries, num_candidates)) < share
    return scipy.sparse.csr_matrix(drawn & ~without.toarray())


def nothing(num_queries: int, num_candidates: int) -> scipy.sparse.csr_matrix:
    """No pairs."""
    return scipy.sparse.csr_matrix((num_queries, num_candidates), dtype=np.bool_)

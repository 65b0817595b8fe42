"""Ranking metrics by brute force: one query at a time, one candidate at a time, from the definitions.

Source: numerics, metrics per query. Ranking: descending score, ties by the smaller candidate row.
"""

import math
from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def ranking(scores_N: Array, excluded: Set[int] = frozenset()) -> list[int]:
    """Candidate rows, best first, excluded ones left out."""
    allowed = [row for row in range(len(scores_N)) if row not in excluded]
    return sorted(allowed, key=lambda row: (-float(scores_N[row]), row))


def recall(ranked: Sequence[int], relevant: Set[int], k: int) -> float:
    """Share of the relevant that stand in the first k."""
    return _hits(ranked, relevant, k) / len(relevant)


def hit_rate(ranked: Sequence[int], relevant: Set[int], k: int) -> float:
    """1 where any relevant one stands in the first k."""
    return float(_hits(ranked, relevant, k) > 0)


def precision(ranked: Sequence[int], relevant: Set[int], k: int) -> float:
    """Share of the first k places that hold a relevant one."""
    return _hits(ranked, relevant, k) / k


def mrr(ranked: Sequence[int], relevant: Set[int]) -> float:
    """1 over the rank of the first relevant one, over the whole ranking; 0 where none is ranked."""
    return next((1 / rank for rank, row in enumerate(ranked, start=1) if row in relevant), 0.0)


def ndcg(ranked: Sequence[int], relevant: Set[int], k: int) -> float:
    """Discounted gain 1 / log2(rank + 1) over that of the best possible order."""
    gained = sum(1 / math.log2(rank + 1) for rank, row in enumerate(ranked[:k], start=1) if row in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return gained / ideal


def average_precision(ranked: Sequence[int], relevant: Set[int], k: int) -> float:
    """Sum of the precision at each relevant rank up to k, over min(k, number of relevant)."""
    ranks = [rank for rank, row in enumerate(ranked[:k], start=1) if row in relevant]
    return sum(_hits(ranked, relevant, rank) / rank for rank in ranks) / min(k, len(relevant))


def accuracy(rankings: Sequence[Sequence[int]], held_out: Sequence[tuple[int, int]], k: int) -> float:
    """Share of held-out (query position, candidate row) pairs whose candidate stands in the query's first k."""
    return sum(row in rankings[query][:k] for query, row in held_out) / len(held_out)


def coverage(rankings: Sequence[Sequence[int]], num_candidates: int, k: int) -> float:
    """Share of the catalogue that stands in anyone's first k."""
    return len({row for ranked in rankings for row in ranked[:k]}) / num_candidates


def popularity_percentiles(counts: Sequence[int]) -> list[float]:
    """Share of the catalogue that is less popular, plus half of the share that is as popular, itself included."""
    size = len(counts)
    return [(sum(other < own for other in counts) + sum(other == own for other in counts) / 2) / size for own in counts]


def mean_percentile(ranked: Sequence[int], percentiles: Sequence[float], k: int) -> float:
    """Mean popularity percentile of the first k."""
    return sum(percentiles[row] for row in ranked[:k]) / len(ranked[:k])


def gini(rankings: Sequence[Sequence[int]], num_candidates: int, k: int) -> float:
    """Inequality of exposure in the first k: mean absolute difference of all pairs, over twice the mean."""
    exposures = [sum(row in ranked[:k] for ranked in rankings) for row in range(num_candidates)]
    differences = sum(abs(one - other) for one in exposures for other in exposures)
    return differences / (2 * num_candidates * sum(exposures))


def _hits(ranked: Sequence[int], relevant: Set[int], k: int) -> int:
    return sum(row in relevant for row in ranked[:k])

"""Exact evaluation and exact search over a large catalogue against the matrix product that neither can do without.

The bound is the product alone: NumPy's BLAS on all cores, one thread each, in blocks that were measured fastest
(1,024 queries x 512 candidates, so that what it writes stays in the cache), the result thrown away. Beside it stands
the product as one would first write it: blocks of queries times all candidates, BLAS left to its own threads.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from benchmarks import record
from benchmarks.serving_vectors import unit
from retrieval_contract.arrays import Float32Array, Int32Array, Int64Array
from retrieval_contract.evaluation.ranking import rank_relevant
from retrieval_contract.evaluation.scorers import VectorScorer
from retrieval_contract.evaluation.threads import in_threads
from retrieval_contract.indexes.brute_force import exact_top_k
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.stored import StoredVectors

K = 100
BLOCK_QUERIES, BLOCK_CANDIDATES = 1_024, 512
PLAIN_QUERIES = 256
"""Of the plain product: its block of scores of 1,000,000 candidates is a gigabyte."""
SAMPLE = 20
"""Queries whose ranks and best are computed straightforwardly."""
LEAST_TURNS = 3
BOUND, PLAIN, EVALUATION, SEARCH = (
    "matrix product",
    "matrix product, whole rows",
    "ranks and top 100",
    "exact search, top 100",
)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Unit vectors; each query leans towards its relevant candidate."""

    queries: Float32Array
    """[Q, D]."""
    candidates: Float32Array
    """[N, D]."""
    positives: Int64Array
    """[Q]."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What evaluation and search found."""

    ranks: Int64Array
    """[Q]."""
    best: Int32Array
    """Evaluation's best candidates [Q, K]."""
    searched: Int32Array
    """Search's [Q, K]."""


def draw(num_queries: int, num_candidates: int, dim: int, *, seed: int) -> Catalogue:
    """Draw a catalogue."""
    generator = np.random.default_rng(seed)
    candidates = unit(generator.standard_normal((num_candidates, dim), np.float32))
    positives = generator.integers(0, num_candidates, num_queries)
    noise = unit(generator.standard_normal((num_queries, dim), np.float32))
    queries: Float32Array = (candidates[positives] / 2 + noise).astype(np.float32, copy=False)
    return Catalogue(unit(queries), candidates, positives)


def multiply(case: Catalogue) -> None:
    """The product alone, in tiles."""
    size = len(case.candidates)

    def block(queries: Float32Array) -> None:
        scores = np.empty((len(queries), BLOCK_CANDIDATES), np.float32)
        for first in range(0, size, BLOCK_CANDIDATES):
            last = min(first + BLOCK_CANDIDATES, size)
            np.matmul(queries, case.candidates[first:last].T, out=scores[:, : last - first])

    in_threads(block, _blocks(case.queries, BLOCK_QUERIES))


def multiply_whole_rows(case: Catalogue) -> None:
    """The product alone, as one would first write it."""
    scores = np.empty((PLAIN_QUERIES, len(case.candidates)), np.float32)
    for queries in _blocks(case.queries, PLAIN_QUERIES):
        np.matmul(queries, case.candidates.T, out=scores[: len(queries)])


def evaluate(case: Catalogue) -> tuple[Int64Array, Int32Array]:
    """The rank of every relevant candidate and every query's best, as `evaluate` finds them."""
    num_queries = len(case.queries)
    relevant = scipy.sparse.csr_matrix(
        (np.ones(num_queries, np.bool_), case.positives.astype(np.int32), np.arange(num_queries + 1)),
        shape=(num_queries, len(case.candidates)),
    )
    best = np.empty((num_queries, K), np.int32)

    def visit(positions: Int64Array, best_BK: Int32Array) -> None:
        best[positions] = best_BK

    return rank_relevant(VectorScorer(case.queries, case.candidates), relevant, num_best=K, visit=visit), best


def search(case: Catalogue, stored: StoredVectors) -> Int32Array:
    """Every query's best, as the exact index finds them."""
    nothing = Excluded.from_rows(None, num_queries=len(case.queries), size=stored.size)
    return exact_top_k(stored, case.queries, K, nothing).rows


def verify(case: Catalogue, answers: Answers, *, sample: int = SAMPLE) -> int:
    """Compute some queries' ranks and best by sorting all their scores.

    Returns:
        How many were compared.

    Raises:
        AssertionError: an answer is wrong, or evaluation and search differ anywhere.
    """
    assert np.array_equal(answers.best, answers.searched), "evaluation and search differ"
    places = np.linspace(0, len(case.queries) - 1, sample).astype(int)
    for place in places:
        products = case.candidates.astype(np.float64) @ case.queries[place].astype(np.float64)
        order = np.argsort(-products.astype(np.float32), kind="stable")
        rank = 1 + int(np.flatnonzero(order == case.positives[place])[0])
        assert np.array_equal(order[:K], answers.best[place]), f"the best of query {place} are others"
        assert rank == answers.ranks[place], f"query {place}: rank {answers.ranks[place]}, by sorting {rank}"
    return len(places)


def measure(case: Catalogue, *, turns: int, seconds: float) -> tuple[dict[str, record.Times], int]:
    """Verify, then take turns until they are done or the time is up.

    Returns:
        Raw times by case, and how many queries were verified.

    Raises:
        AssertionError: a wrong answer.
    """
    stored = StoredVectors.keep(case.candidates, "float32")
    # The first runs warm up, and are what is verified.
    verified = verify(case, Answers(*evaluate(case), search(case, stored)))
    runs: dict[str, Callable[[], object]] = {
        BOUND: lambda: multiply(case),
        EVALUATION: lambda: evaluate(case),
        SEARCH: lambda: search(case, stored),
        PLAIN: lambda: multiply_whole_rows(case),
    }
    times = {name: record.Times() for name in runs}
    until = time.monotonic() + seconds
    for turn in range(turns):
        if turn >= LEAST_TURNS and time.monotonic() > until:
            break
        for name in sorted(runs, key=list(runs).index, reverse=bool(turn % 2)):
            times[name].take(runs[name])
    return times, verified


def _blocks(queries: Float32Array, size: int) -> list[Float32Array]:
    return [queries[start : start + size] for start in range(0, len(queries), size)]

"""What an exported model finds of the truth, on held-out queries: it travels in the version's manifest.

An export may search by another structure than the index that was tuned (ScaNN's TensorFlow ops have no SOAR), so the
recall of that index says nothing of it.

Letters: Q queries, K results.
"""

from collections.abc import Callable
from typing import Any

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, Int32Array
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.tuning import found_of, recall_of
from retrieval_contract.runs.held_out import held_out_queries
from retrieval_contract.runs.opened import OpenedRun

MOST_QUERIES = 1_000
K = 100
"""Results that are compared, or all candidates where there are fewer."""

Search = Callable[[Float32Array, int], Int32Array]
"""Query vectors [Q, D] or [Q, I, D] and K -> rows [Q, K], -1 where there is none."""


def export_recall(opened: OpenedRun, search: Search) -> dict[str, Any]:
    """Measure the search of an export against exact search.

    Args:
        opened: the run that is exported.
        search: what the exported model does with query vectors.

    Returns:
        `{"recall": {value, low, high, k, num_queries, queries}}` for the manifest; nothing where no query can be asked.
    """
    queries, what = held_out_queries(opened, MOST_QUERIES)
    if not len(queries):
        return {}
    vectors = opened.candidate_vectors()
    k = min(K, len(vectors.ids))
    exact = ExactIndex.build(vectors, config.Index())
    truth = exact.search(queries, k, weights_digest=vectors.weights_digest)
    recall = recall_of(
        found_of(search(queries, k), truth.rows),
        k,
        num_samples=opened.config.evaluation.bootstrap_samples,
        seed=opened.config.split.seed % 2**63,
    )
    figures = {"value": recall.value, "low": recall.low, "high": recall.high}
    return {"recall": {**figures, "k": k, "num_queries": recall.num_queries, "queries": what}}

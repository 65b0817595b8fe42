"""What an evaluation asks of every scorer alike: which queries, what is relevant, what is left out, where to cut.

Letters: P queries of the part, Q of them with something relevant, R relevant pairs, H held-out rows, N candidates, C
cutoffs.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import Int32Array, Int64Array
from retrieval_contract.config import Evaluation
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.errors import UserError
from retrieval_contract.evaluation.metrics import Float64Array, popularity_percentiles

NOT_RANKED = np.iinfo(np.int64).max
"""Rank of a held-out row whose candidate the ranking leaves out: in the top K of no K."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The part's held-out positives, as every scorer is asked about them."""

    cutoffs: tuple[int, ...]
    """K of the metrics at K [C], ascending."""
    max_bytes: int
    """Bound on the memory of a chunk of scores."""
    query_rows: Int64Array
    """Entity rows of the ranked queries [Q], ascending; a scorer's position is a place in here."""
    ranked: Int64Array
    """Places of the ranked queries among those of the part [Q]."""
    num_part_queries: int
    """P: queries with a held-out positive, relevant or not."""
    relevant: scipy.sparse.csr_matrix
    """Relevant pairs [Q, N], R stored, sorted."""
    excluded: scipy.sparse.csr_matrix | None
    """Left out of the ranking [Q, N], or None."""
    row_queries: Int64Array
    """Each held-out row's query among those of the part [H]."""
    row_pairs: Int64Array
    """Each held-out row's place among the relevant pairs, or -1 where its candidate is left out [H]."""
    percentiles: Float64Array
    """Popularity percentile of each candidate [N]."""

    @property
    def pair_queries(self) -> Int64Array:
        """The query, 0 to Q - 1, of each relevant pair [R]."""
        return np.repeat(np.arange(len(self.query_rows)), np.diff(self.relevant.indptr))

    def row_ranks(self, ranks: Int64Array) -> Int64Array:
        """Ranks of the relevant pairs [R] -> ranks of the held-out rows [H]."""
        return np.where(self.row_pairs >= 0, ranks[self.row_pairs], NOT_RANKED)


def ask(settings: Evaluation, prepared: PreparedData) -> Question:
    """Gather what is asked about the configured part.

    Raises:
        UserError: a cutoff beyond the catalogue, or nothing relevant left.
    """
    counts = prepared.candidate_counts()
    cutoffs = checked_cutoffs(settings.cutoffs, len(counts))
    row_queries, row_candidates = prepared.held_out_rows(settings.part)
    relevant = prepared.relevant(settings.part, exclude_seen=settings.exclude_seen)
    part_rows, row_places = np.unique(row_queries, return_inverse=True)
    ranked = np.flatnonzero(np.diff(relevant.indptr)[part_rows])
    if ranked.size == 0:
        raise UserError(
            f"nothing to evaluate: every one of the {len(row_queries):,} held-out positives was seen in training",
            where=f"{settings.part} part",
            todo="set evaluation.exclude_seen=false, or change the split",
        )
    query_rows = part_rows[ranked].astype(np.int64)
    relevant = relevant[query_rows]
    relevant.sort_indices()
    return Question(
        cutoffs=cutoffs,
        max_bytes=settings.max_bytes,
        query_rows=query_rows,
        ranked=ranked,
        num_part_queries=len(part_rows),
        relevant=relevant,
        excluded=prepared.seen(settings.part)[query_rows] if settings.exclude_seen else None,
        row_queries=row_places.astype(np.int64),
        row_pairs=_row_pairs(relevant, query_rows, row_queries, row_candidates),
        percentiles=popularity_percentiles(counts),
    )


def checked_cutoffs(cutoffs: tuple[int, ...], num_candidates: int) -> tuple[int, ...]:
    """Sort the cutoffs and leave repeats out.

    Raises:
        UserError: there is none, or one is larger than the catalogue.
    """
    beyond = [k for k in cutoffs if k > num_candidates]
    if beyond:
        raise UserError(
            f"cutoffs {', '.join(map(str, beyond))} are larger than the catalogue of {num_candidates:,} candidates",
            where="evaluation.cutoffs",
            todo=f"keep them at {num_candidates} or below",
        )
    if not cutoffs:
        raise UserError("no cutoff to evaluate at", where="evaluation.cutoffs", todo="for example [10, 100]")
    return tuple(sorted(set(cutoffs)))


def _row_pairs(
    relevant: scipy.sparse.csr_matrix, query_rows: Int64Array, row_queries: Int32Array, row_candidates: Int32Array
) -> Int64Array:
    """Find each held-out row's relevant pair, -1 where there is none [H]."""
    row_places = np.searchsorted(query_rows, row_queries)
    num_candidates = relevant.shape[1]
    pair_queries = np.repeat(np.arange(len(query_rows)), np.diff(relevant.indptr))
    pairs = pair_queries * num_candidates + relevant.indices
    ranked = query_rows[np.minimum(row_places, len(query_rows) - 1)] == row_queries
    wanted = row_places * num_candidates + row_candidates
    places = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    return np.where(ranked & (pairs[places] == wanted), places, -1)

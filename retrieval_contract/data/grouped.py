"""Candidates side by side for each query: known positives, impressions, mined negatives.

Letters: Q queries, N candidates, M pairs, B queries asked for (repeated as may be), P places to fill.
"""

import numpy as np

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array
from retrieval_contract.data.histories import NOBODY
from retrieval_contract.sampling.streams import Float64Array


class GroupedCandidates:
    """A list of candidates for every query, empty for some; a candidate may stand in a list several times."""

    def __init__(
        self, query_rows_M: Int32Array | Int64Array, candidate_rows_M: Int32Array, *, num_queries: int
    ) -> None:
        """Sort pairs by query; within a query they keep the order given.

        Args:
            query_rows_M: entity rows of the queries.
            candidate_rows_M: entity rows of their candidates.
            num_queries: queries Q that may be asked for.
        """
        self._rows_M = candidate_rows_M[np.argsort(query_rows_M, kind="stable")].astype(np.int32)
        self._sizes_Q = np.bincount(query_rows_M, minlength=num_queries)
        self._starts_Q = np.cumsum(self._sizes_Q) - self._sizes_Q

    @property
    def num_pairs(self) -> int:
        """Candidates in all lists."""
        return len(self._rows_M)

    @property
    def empty(self) -> BoolArray:
        """[Q] True for queries whose list is empty [Q]."""
        return self._sizes_Q == 0

    def pairs(self, query_rows_B: Int32Array, counts_B: Int64Array | None = None) -> tuple[Int32Array, Int32Array]:
        """Write out the lists of some queries.

        Args:
            query_rows_B: entity rows of the queries.
            counts_B: how many of each list, from its start, at most its length; none means all.

        Returns:
            Place in `query_rows_B`, ascending, and entity row of each of their candidates.
        """
        sizes_B = self._sizes_Q[query_rows_B] if counts_B is None else counts_B
        ends_B = np.cumsum(sizes_B)
        places = np.repeat(np.arange(len(query_rows_B), dtype=np.int32), sizes_B)
        begins_B = self._starts_Q[query_rows_B] - (ends_B - sizes_B)
        return places, self._rows_M[np.repeat(begins_B, sizes_B) + np.arange(len(places))]

    def drawn(self, query_rows_P: Int32Array, uniforms_P: Float64Array) -> Int32Array:
        """Draw one place of each query's list evenly.

        Args:
            query_rows_P: entity rows of the queries.
            uniforms_P: numbers in [0, 1), one for each draw.

        Returns:
            Entity rows [P], -1 where the list is empty.
        """
        if not self.num_pairs:
            return np.full(len(query_rows_P), NOBODY, np.int32)
        sizes_P = self._sizes_Q[query_rows_P]
        places_P = self._starts_Q[query_rows_P] + (uniforms_P * sizes_P).astype(np.int64)
        # Behind the last list starts nobody's: an empty one there would look up one place too far.
        rows_P = self._rows_M[np.minimum(places_P, self.num_pairs - 1)]
        return np.where(sizes_P > 0, rows_P, np.int32(NOBODY))

    def probability(self, num_examples_Q: Int64Array, *, num_candidates: int) -> Float64Array:
        """Chance that `drawn` gives a candidate, over training examples drawn evenly [N].

        Exact: `q(j) = sum_q (T_q / T) (times j stands in q's list / length of q's list)`. It sums to the share of
        examples whose query has a list that is not empty.

        Args:
            num_examples_Q: training examples T_q of each query, not all 0.
            num_candidates: N.
        """
        share_Q = num_examples_Q / num_examples_Q.sum() / np.maximum(self._sizes_Q, 1)
        weights_M = np.repeat(share_Q, self._sizes_Q)
        return np.bincount(self._rows_M, weights=weights_M, minlength=num_candidates).astype(np.float64)

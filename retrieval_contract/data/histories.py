"""What a query met before a moment: the last candidates, oldest first, never one at or after that moment.

Letters: B targets, L history length, R rows, E queries.
"""

import numpy as np

from retrieval_contract.arrays import Int32Array, Int64Array

NOBODY = -1
"""Stands in a history's padded places instead of a candidate's entity row."""


class Histories:
    """Rows grouped by query and sorted by time, so that the history before any moment is a slice.

    Rows of one query and one moment keep the order in which they were given. A target's own row is never in its
    history, nor is any other row of its moment: the comparison is strict.
    """

    def __init__(
        self, query_rows: Int32Array, candidate_rows: Int32Array, times: Int64Array, *, num_queries: int
    ) -> None:
        """Sort the rows.

        Args:
            query_rows: entity row of the query [R].
            candidate_rows: entity row of the candidate [R].
            times: when, or in what order [R].
            num_queries: queries E that may be asked for.
        """
        by_time = np.argsort(times, kind="stable")
        self._times = times[by_time]
        order = by_time[np.argsort(query_rows[by_time], kind="stable")]
        # One place more than there are rows, so that padding is looked up like the rest.
        self._candidate_rows = np.append(candidate_rows[order], np.int32(NOBODY))
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(query_rows, minlength=num_queries))])
        ranks = np.empty(len(order), np.int64)
        ranks[by_time] = _first_equal(self._times)
        self._keys = self._key(query_rows[order], ranks[order])
        self._own_ends = np.empty(len(order), np.int64)
        self._own_ends[order] = _first_equal(self._keys)

    def _key(self, query_rows: Int32Array, ranks: Int64Array) -> Int64Array:
        """One number that sorts by query, then by the number of rows, anybody's, with a smaller time."""
        return query_rows.astype(np.int64) * (len(self._times) + 1) + ranks

    @property
    def own_ends(self) -> Int64Array:
        """What `ends_before` says of the rows that the histories were built from, in the order given [R]."""
        return self._own_ends

    def ends_before(self, query_rows: Int32Array, times: Int64Array) -> Int64Array:
        """Where each history ends among the sorted rows: behind the last row of the query with time < times[b].

        Args:
            query_rows: entity rows [B].
            times: moments of the targets [B].

        Returns:
            Ends [B], for `window`.
        """
        ranks = np.searchsorted(self._times, times, "left")
        return np.searchsorted(self._keys, self._key(query_rows, ranks), "left")

    def ends(self, query_rows: Int32Array) -> Int64Array:
        """Where each query's rows end: the history after everything [B]."""
        return self._starts[query_rows + 1]

    def window(self, query_rows: Int32Array, ends: Int64Array, max_length: int) -> Int32Array:
        """Cut the last rows before the ends.

        Args:
            query_rows: entity rows [B].
            ends: from `ends_before` or `ends` [B].
            max_length: L, 1 or more.

        Returns:
            Candidate entity rows [B, L], oldest first, padded with -1 behind; all padding for an empty history.
        """
        begins = np.maximum(self._starts[query_rows], ends - max_length)
        places_BL = begins[:, None] + np.arange(max_length)
        places_BL[places_BL >= ends[:, None]] = len(self._keys)
        return self._candidate_rows[places_BL]

    def before(self, query_rows: Int32Array, times: Int64Array, max_length: int) -> Int32Array:
        """History of each target.

        Args:
            query_rows: entity rows [B].
            times: moments of the targets [B]; only rows with a smaller time are in the history.
            max_length: L, 1 or more.

        Returns:
            Candidate entity rows [B, L], oldest first, padded with -1 behind.
        """
        return self.window(query_rows, self.ends_before(query_rows, times), max_length)


def _first_equal(ascending: Int64Array) -> Int64Array:
    """Place of the first number equal to each one [R]."""
    changes = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
    firsts = np.zeros(len(ascending), np.int64)
    firsts[changes] = changes
    return np.maximum.accumulate(firsts)

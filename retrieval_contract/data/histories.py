"""What a query met before a moment: the last candidates, oldest first, never one at or after that moment.

Letters: B targets, L history length, R rows, E queries.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array

NOBODY = -1
"""Stands in a history's padded places instead of a candidate's entity row."""
ROOM = 64
"""Places kept free behind the sorted rows, so that a window of this length may begin at any of them."""
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Where the histories of some targets lie among the sorted rows."""

    begins: Int64Array
    """First place of each [B]."""
    max_length: int
    """L."""
    real: BoolArray
    """True where there is an item [B, L]."""

    def of(self, laid_out: NDArray[Number], *, zeros: bool = True) -> NDArray[Number]:
        """Cut the windows out of something that every sorted row has.

        Args:
            laid_out: from `Histories.laid_out`, with room for L.
            zeros: set padded places to 0; they hold other rows' values otherwise.

        Returns:
            [B, L], oldest first, padded behind.
        """
        cut: NDArray[Number] = self._every(laid_out)[self.begins]
        return np.multiply(cut, self.real, out=cut) if zeros else cut  # type: ignore[call-overload, no-any-return]

    def places(self, laid_out: Int32Array) -> Int64Array:
        """Cut rows out, 1 added to each, 0 at padded places [B, L]: where they stand behind a value for nobody."""
        cut = self._every(laid_out)[self.begins].astype(np.int64)
        cut += 1
        cut *= self.real
        return cut

    def _every(self, laid_out: NDArray[Number]) -> NDArray[Number]:
        """A view of every window there is: a row of it is copied in one go, and no place is computed."""
        # As NumPy's sliding_window_view, in a hundredth of the time, which counts here.
        shape = len(laid_out) - self.max_length + 1, self.max_length
        return np.ndarray(shape, laid_out.dtype, laid_out, 0, laid_out.strides * 2)


class PastRows(Protocol):
    """What is known of the rows that windows are cut out of, one after the other, with room behind."""

    @property
    def candidate_rows(self) -> Int32Array:
        """Entity row of each one's candidate."""
        ...

    @property
    def times(self) -> Int64Array:
        """When each was."""
        ...

    @property
    def weights(self) -> Float32Array:
        """Weight of each."""
        ...


class Histories:
    """Rows grouped by query and sorted by time, so that the history before any moment is a slice.

    Rows of one query and one moment keep the order in which they were given. A target's own row is never in its
    history, nor is any other row of its moment: the comparison is strict.
    """

    def __init__(
        self,
        query_rows: Int32Array,
        candidate_rows: Int32Array,
        times: Int64Array,
        *,
        num_queries: int,
        weights: Float32Array | None = None,
        room: int = ROOM,
    ) -> None:
        """Sort the rows.

        Args:
            query_rows: entity row of the query [R].
            candidate_rows: entity row of the candidate [R].
            times: when, or in what order [R].
            num_queries: queries E that may be asked for.
            weights: of the rows [R]; none means 1 for each.
            room: largest L that windows will have.
        """
        self._room = room
        by_time = np.argsort(times, kind="stable")
        self._times = times[by_time]
        order = by_time[np.argsort(query_rows[by_time], kind="stable")]
        self.order: Int64Array = order
        """Which of the rows given stands at each place [R]: sorted by query, then by time."""
        self.candidate_rows = self.laid_out(candidate_rows[order])
        """Entity row of the candidate at each place, with room behind."""
        self._given = times, weights
        self._of_places: dict[str, NDArray[np.generic]] = {}
        self.starts: Int64Array = np.concatenate([[0], np.cumsum(np.bincount(query_rows, minlength=num_queries))])
        """First place of each query, and the number of rows at the end [E + 1]."""
        ranks = np.empty(len(order), np.int64)
        ranks[by_time] = _first_equal(self._times)
        self._keys = self._key(query_rows[order], ranks[order])
        self.firsts: Int64Array = _first_equal(self._keys)
        """For each place, the first one of the same query and moment [R]."""

    def _key(self, query_rows: Int32Array, ranks: Int64Array) -> Int64Array:
        """One number that sorts by query, then by the number of rows, anybody's, with a smaller time."""
        return query_rows.astype(np.int64) * (len(self._times) + 1) + ranks

    def laid_out(self, values: NDArray[Number]) -> NDArray[Number]:
        """Put room behind what every place has [R], so that windows can be cut out of it [R + room]."""
        return np.concatenate([values, np.zeros(self._room, values.dtype)])

    @property
    def times(self) -> Int64Array:
        """When each place's row was, with room behind."""
        if "times" not in self._of_places:
            self._of_places["times"] = self.laid_out(self._given[0][self.order])
        return self._of_places["times"]  # type: ignore[return-value]

    @property
    def weights(self) -> Float32Array:
        """Weight of each place's row, with room behind."""
        if "weights" not in self._of_places:
            weights = self._given[1]
            given = np.ones(len(self.order), np.float32) if weights is None else weights[self.order]
            self._of_places["weights"] = self.laid_out(given)
        return self._of_places["weights"]  # type: ignore[return-value]

    @property
    def last_time(self) -> int:
        """The latest time of all rows; 0 where there is none."""
        return int(self._times[-1]) if len(self._times) else 0

    @property
    def own_ends(self) -> Int64Array:
        """What `ends_before` says of the rows that the histories were built from, in the order given [R]."""
        ends = np.empty(len(self.order), np.int64)
        ends[self.order] = self.firsts
        return ends

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
        return self.starts[query_rows + 1]

    def windows(self, query_rows: Int32Array, ends: Int64Array, max_length: int) -> Windows:
        """Find the last rows before the ends.

        Args:
            query_rows: entity rows [B].
            ends: from `ends_before` or `ends` [B].
            max_length: L, from 1 to the room.
        """
        assert 1 <= max_length <= self._room, f"windows of {max_length} need room"
        begins = np.maximum(self.starts[query_rows], ends - max_length)
        real_BL = np.arange(max_length) < (ends - begins)[:, None]
        return Windows(begins=begins, max_length=max_length, real=real_BL)

    def window(self, query_rows: Int32Array, ends: Int64Array, max_length: int) -> Int32Array:
        """Cut the last candidates before the ends.

        Args:
            query_rows: entity rows [B].
            ends: from `ends_before` or `ends` [B].
            max_length: L, from 1 to the room.

        Returns:
            Candidate entity rows [B, L], oldest first, padded with -1 behind; all padding for an empty history.
        """
        windows = self.windows(query_rows, ends, max_length)
        rows_BL = windows.of(self.candidate_rows, zeros=False)
        rows_BL[~windows.real] = NOBODY
        return rows_BL

    def before(self, query_rows: Int32Array, times: Int64Array, max_length: int) -> Int32Array:
        """History of each target.

        Args:
            query_rows: entity rows [B].
            times: moments of the targets [B]; only rows with a smaller time are in the history.
            max_length: L, from 1 to the room.

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

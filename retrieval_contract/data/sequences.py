"""Examples of training.positions=all: one whole sequence for each query, predicted at every place.

Letters: Q queries, S sequences of a batch, L its longest one, P places predicted, T train positives.
"""

from dataclasses import dataclass

import numpy as np

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array
from retrieval_contract.data.histories import Histories
from retrieval_contract.sampling.streams import stream


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSequences:
    """Some sequences, ready to become a batch."""

    query_rows: Int32Array
    """Entity rows of the queries [S]."""
    history_ends: Int64Array
    """Where the inputs of each sequence end, for `Histories.window` [S]."""
    max_length: int
    """Inputs L of the longest."""
    targets: Int64Array
    """The train positive, 0 to T - 1, that each predicted place predicts [P]."""
    places: Int32Array
    """sequence * L + place of each [P], ascending."""


class Sequences:
    """The last L + 1 train positives of each query: all but the last are inputs, each but the first is predicted.

    Of the items x_1 .. x_n in the order (time, source), the place l holds x_l and predicts x_(l+1), unless both are of
    the same moment: the history of a target ends before its time. A query none of whose places predicts anything is no
    example.
    """

    def __init__(self, histories: Histories, max_length: int) -> None:
        """Find the queries that are examples.

        Args:
            histories: of the train positives.
            max_length: L of the configured history.
        """
        self._histories = histories
        ends_Q = histories.starts[1:]
        begins_Q = np.maximum(histories.starts[:-1], ends_Q - max_length - 1)
        is_target_T = _is_first_of_its_moment(histories)
        # A query's first kept item is never predicted: only what lies behind it counts.
        before_T = np.concatenate([[0], np.cumsum(is_target_T)])
        num_targets_Q = before_T[ends_Q] - before_T[np.minimum(begins_Q + 1, ends_Q)]
        self._query_rows = np.flatnonzero(num_targets_Q).astype(np.int32)
        self._begins, self._ends = begins_Q[self._query_rows], ends_Q[self._query_rows]
        self._is_target_T = is_target_T

    @property
    def num_examples(self) -> int:
        """Sequences there are."""
        return len(self._query_rows)

    @property
    def query_rows(self) -> Int32Array:
        """Entity row of each sequence's query, ascending [num_examples]."""
        return self._query_rows

    @property
    def lengths(self) -> Int64Array:
        """Inputs of each sequence, 1 or more [num_examples]."""
        return self._ends - self._begins - 1

    @property
    def targets(self) -> Int64Array:
        """Every train positive that is predicted, once, sequence by sequence."""
        return self.cut(np.arange(self.num_examples)).targets

    def cut(self, examples_S: Int64Array) -> CutSequences:
        """Lay some sequences side by side.

        Args:
            examples_S: which, 0 to num_examples - 1, at least one.
        """
        lengths_S, begins_S = self.lengths[examples_S], self._begins[examples_S]
        longest = int(lengths_S.max())
        sequences = np.repeat(np.arange(len(examples_S)), lengths_S)
        starts_S = np.cumsum(lengths_S) - lengths_S
        within = np.arange(len(sequences)) - starts_S[sequences]
        predicted = begins_S[sequences] + within + 1
        kept = self._is_target_T[predicted]
        return CutSequences(
            query_rows=self._query_rows[examples_S],
            history_ends=self._ends[examples_S] - 1,
            max_length=longest,
            targets=self._histories.order[predicted[kept]],
            places=(sequences * longest + within)[kept].astype(np.int32),
        )


def _is_first_of_its_moment(histories: Histories) -> BoolArray:
    """True for places that no other one of the same query and moment precedes [T]."""
    is_first: BoolArray = histories.firsts == np.arange(len(histories.firsts))
    return is_first


def order_by_length(
    order: Int64Array, lengths: Int64Array, *, batch_size: int, num_batches: int, draws: np.random.Philox
) -> Int64Array:
    """Sort the examples of every so many batches by length, and put the batches into another random order.

    Args:
        order: examples of an epoch in random order, a whole number of batches.
        lengths: of every example.
        batch_size: examples in a batch.
        num_batches: batches that are sorted together; the last ones may be fewer.
        draws: random numbers for the order of the batches.

    Returns:
        The same examples; equal lengths within a group keep their random order.
    """
    groups = np.arange(len(order)) // (batch_size * num_batches)
    by_length = order[np.lexsort((lengths[order], groups))]
    batches = by_length.reshape(-1, batch_size)
    return batches[np.argsort(draws.random_raw(len(batches)), kind="stable")].reshape(-1)


def epoch_order(num_examples: int, *keys: int) -> tuple[Int64Array, np.random.Philox]:
    """Random order of the examples, and the stream that it was drawn from, for more draws of the same epoch."""
    draws = stream(*keys)
    # Raw Philox output is fixed by the algorithm; NumPy's own shuffles may change from version to version.
    return np.argsort(draws.random_raw(num_examples), kind="stable"), draws

"""Cross-batch negatives: candidate vectors of earlier batches, first in, first out, without gradient.

Letters: S places of the bank, N entries, D vector width.
"""

import tensorflow as tf

from tfrs_models.negatives.columns import Columns


class NegativeBank(tf.Module):
    """A ring of S places; entry number n, counted from the first ever enqueued, lies in place `n mod S`."""

    def __init__(self, num_places: int, dim: int, has_bias: bool) -> None:
        """Make an empty bank; places that were never filled hold zeros.

        Args:
            num_places: entries S that it holds.
            dim: width D of a vector, without the bias dimension.
            has_bias: whether the model has a candidate bias.
        """
        super().__init__()
        self.num_places = num_places
        self.vectors = tf.Variable(tf.zeros([num_places, dim]), trainable=False)
        self.rows = tf.Variable(tf.zeros([num_places], tf.int32), trainable=False)
        self.log_q = tf.Variable(tf.zeros([num_places]), trainable=False)
        self.bias = tf.Variable(tf.zeros([num_places]), trainable=False) if has_bias else None
        self.enqueued = tf.Variable(0, dtype=tf.int64, trainable=False)

    def columns(self) -> Columns:
        """What it holds, in the order of its places; no columns while it is empty."""
        filled = tf.minimum(self.enqueued, self.num_places)
        return Columns(*(None if ring is None else ring[:filled] for ring in self._rings()))

    def enqueue(self, columns: Columns) -> None:
        """Put columns in, over the oldest entries.

        Args:
            columns: at most S of them; with a bias where the bank has one.
        """
        num_columns = tf.shape(columns.rows_N, tf.int64)[0]
        places_N = (self.enqueued + tf.range(num_columns)) % self.num_places
        for ring, values in zip(self._rings(), columns, strict=True):
            if ring is not None:
                ring.scatter_update(tf.IndexedSlices(tf.stop_gradient(values), places_N))
        self.enqueued.assign_add(num_columns)

    def _rings(self) -> Columns:
        return Columns(self.vectors, self.rows, self.log_q, self.bias)

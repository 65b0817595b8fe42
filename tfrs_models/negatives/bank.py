"""Cross-batch negatives: candidate vectors of earlier batches, first in, first out, without gradient.

Letters: B queries in the batch, S places of the bank, N entries, C columns of a block, D vector width.
"""

from collections.abc import Callable

import tensorflow as tf

from tfrs_models.negatives.columns import Columns

_BLOCK_COLUMNS = 1_024
"""Columns of the bank that are scored together: a block's logits stay in the cache, and their memory is used again."""


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


def log_sum(
    scaled_BD: tf.Tensor, vectors_SD: tf.Tensor, added_S: tf.Tensor, gone: tuple[tf.Tensor, tf.Tensor] | None
) -> tf.Tensor:
    """Log-sum-exp of each row's logits of the bank: all that a softmax has to know of them.

    `x_i = log sum_j exp(<q_i, v_j> + a_j)`, block of columns by block of columns. The gradient on `q_i` is the mean of
    the vectors under the softmax of the row, and is found on the way, while a block's logits are at hand: the logits
    are neither kept nor computed twice, and the bank, which has no gradient, costs two products instead of three.

    Args:
        scaled_BD: query vectors over the temperature q [B, D].
        vectors_SD: vectors of the bank v [S, D].
        added_S: what a column adds to its logits a [S].
        gone: entity rows of the positives [B] and of the columns [S], which are left out where they are equal; none
            leaves out nothing.

    Returns:
        Log-sum-exp [B]; -inf, and no gradient, for a row that no column is left to.
    """

    @tf.custom_gradient
    def find(scaled_BD: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        highest_B, sum_B, weighted_BD = _in_blocks(scaled_BD, vectors_SD, added_S, gone)

        def gradient(upstream_B: tf.Tensor) -> tf.Tensor:
            # A row without weight may hold NaN, a row without columns a sum of 0: times 0 is 0 here.
            scale_B = tf.math.multiply_no_nan(tf.math.reciprocal_no_nan(sum_B), upstream_B)
            return tf.math.multiply_no_nan(weighted_BD, scale_B[:, None])

        return tf.math.log(sum_B) + highest_B, gradient

    return find(scaled_BD)


def _in_blocks(
    scaled_BD: tf.Tensor, vectors_SD: tf.Tensor, added_S: tf.Tensor, gone: tuple[tf.Tensor, tf.Tensor] | None
) -> tuple[tf.Tensor, ...]:
    """Highest logit h of each row [B], `sum_j exp(s_ij - h_i)` [B], and `sum_j exp(s_ij - h_i) v_j` [B, D].

    The highest of a row without columns is given as 0.
    """
    num_columns, out = tf.shape(added_S)[0], tf.constant(float("-inf"), scaled_BD.dtype)

    def block(
        first: tf.Tensor, highest_B: tf.Tensor, sum_B: tf.Tensor, weighted_BD: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        columns = slice(first, first + _BLOCK_COLUMNS)
        vectors_CD = vectors_SD[columns]
        logits_BC = tf.matmul(scaled_BD, vectors_CD, transpose_b=True) + added_S[columns]
        if gone is not None:
            logits_BC = tf.where(gone[0][:, None] == gone[1][columns], out, logits_BC)
        higher_B = tf.maximum(highest_B, tf.reduce_max(logits_BC, axis=1))
        at_B = _or_zero(higher_B)
        exp_BC, kept_B = tf.exp(logits_BC - at_B[:, None]), tf.exp(highest_B - at_B)
        sum_B = sum_B * kept_B + tf.reduce_sum(exp_BC, axis=1)
        return first + _BLOCK_COLUMNS, higher_B, sum_B, weighted_BD * kept_B[:, None] + tf.matmul(exp_BC, vectors_CD)

    zeros_B = tf.zeros_like(scaled_BD[:, 0])
    start = (0, tf.fill(tf.shape(zeros_B), out), zeros_B, tf.zeros_like(scaled_BD))
    found = tf.while_loop(lambda first, *_: first < num_columns, block, start, parallel_iterations=1)
    return _or_zero(found[1]), found[2], found[3]


def _or_zero(highest_B: tf.Tensor) -> tf.Tensor:
    """0 for a row that is -inf throughout: -inf less -inf is NaN."""
    return tf.where(highest_B == float("-inf"), tf.zeros_like(highest_B), highest_B)

"""Cross-batch negatives: candidate vectors of earlier batches, first in, first out, without gradient.

Letters: B queries in the batch, S places of the bank, N entries, C columns of a block, D vector width.
"""

from collections.abc import Callable

import tensorflow as tf

from tfrs_models.negatives.columns import Columns

_BLOCK_LOGITS = 2**22
"""Logits of the bank that are computed together: fewer make small products, more ask the system for fresh memory."""


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
        log_sum_B, mean_BD = _in_blocks(scaled_BD, vectors_SD, added_S, gone)
        # A row without weight may hold NaN: times 0 is 0 here.
        return log_sum_B, lambda upstream_B: tf.math.multiply_no_nan(mean_BD, upstream_B[:, None])

    return find(scaled_BD)


def _in_blocks(
    scaled_BD: tf.Tensor, vectors_SD: tf.Tensor, added_S: tf.Tensor, gone: tuple[tf.Tensor, tf.Tensor] | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Log-sum-exp of each row's logits [B], and mean of the vectors under the row's softmax [B, D]."""
    num_rows, num_columns = tf.shape(scaled_BD)[0], tf.shape(added_S)[0]
    size = tf.maximum(1, tf.minimum(_BLOCK_LOGITS // tf.maximum(num_rows, 1), num_columns))
    out = tf.constant(float("-inf"), scaled_BD.dtype)
    out_BC = tf.fill([num_rows, size], out)

    def block(first: tf.Tensor, log_sum_B: tf.Tensor, mean_BD: tf.Tensor) -> tuple[tf.Tensor, ...]:
        columns = slice(first, first + size)
        vectors_CD, added_C = vectors_SD[columns], added_S[columns]
        logits_BC = tf.matmul(scaled_BD, vectors_CD, transpose_b=True) + added_C
        if gone is not None:
            same_BC = gone[0][:, None] == gone[1][columns]
            # Select wants one shape of all, and takes half the time of `tf.where`, which spreads its arguments.
            logits_BC = tf.raw_ops.Select(condition=same_BC, x=out_BC[:, : tf.shape(added_C)[0]], y=logits_BC)
        block_sum_B, block_mean_BD = _of_block(logits_BC, vectors_CD)
        both_B2 = tf.stack([log_sum_B, block_sum_B], axis=1)
        total_B = tf.reduce_logsumexp(both_B2, axis=1)
        share_B2 = tf.exp(both_B2 - _or_zero(total_B)[:, None])
        return first + size, total_B, mean_BD * share_B2[:, :1] + block_mean_BD * share_B2[:, 1:]

    start = (0, tf.fill([num_rows], out), tf.zeros_like(scaled_BD))
    found = tf.while_loop(lambda first, *_: first < num_columns, block, start, parallel_iterations=1)
    return found[1], found[2]


def _of_block(logits_BC: tf.Tensor, vectors_CD: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Log-sum-exp of a block's logits [B], and mean of its vectors [B, D]; -inf and 0 for a row without columns."""
    # The softmax is one operation: its largest value is exp(highest - log_sum), which gives the log-sum back.
    softmax_BC, highest_B = tf.nn.softmax(logits_BC), tf.reduce_max(logits_BC, axis=1)
    empty_B = highest_B == float("-inf")
    log_sum_B = tf.where(empty_B, highest_B, highest_B - tf.math.log(tf.reduce_max(softmax_BC, axis=1)))
    mean_BD = tf.matmul(softmax_BC, vectors_CD)
    return log_sum_B, tf.where(empty_B[:, None], tf.zeros_like(mean_BD), mean_BD)


def _or_zero(log_sum_B: tf.Tensor) -> tf.Tensor:
    """0 for a row without columns: -inf less -inf is NaN."""
    return tf.where(log_sum_B == float("-inf"), tf.zeros_like(log_sum_B), log_sum_B)

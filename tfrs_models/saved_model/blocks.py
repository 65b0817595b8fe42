"""Many queries, some at a time, so that no array is larger than a bound.

Letters: B queries, K results.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfrs_models.saved_model.ordering import Found

CHUNK_BYTES = 256_000_000
"""Bound on an array with a number for every query and candidate."""


def in_blocks(search: Callable[[list[tf.Tensor]], Found], given: Sequence[tf.Tensor], *, bytes_each: int) -> Found:
    """Search, at once where all queries fit under the bound, else block after block.

    Args:
        search: answers some queries.
        given: what it takes, every tensor with leading dimension B.
        bytes_each: of the largest array that it makes, for one query.
    """
    most = max(1, CHUNK_BYTES // bytes_each)
    num_queries = tf.shape(given[0])[0]
    return tf.cond(num_queries <= most, lambda: search(list(given)), lambda: _one_by_one(search, given, most))


def _one_by_one(search: Callable[[list[tf.Tensor]], Found], given: Sequence[tf.Tensor], most: int) -> Found:
    num_blocks = -(-tf.shape(given[0])[0] // most)
    shape = tf.TensorShape([None, None])
    arrays = [
        tf.TensorArray(dtype, num_blocks, infer_shape=False, element_shape=shape) for dtype in (tf.int32, tf.float32)
    ]

    def answer(block: tf.Tensor, rows: Any, scores: Any) -> tuple[Any, ...]:
        found = search([tensor[block * most : (block + 1) * most] for tensor in given])
        return block + 1, rows.write(block, found[0]), scores.write(block, found[1])

    _, rows, scores = tf.while_loop(lambda block, *_: block < num_blocks, answer, [0, *arrays], parallel_iterations=1)
    return rows.concat(), scores.concat()

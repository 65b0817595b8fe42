"""Values to rows of embedding tables, in the graph: by vocabulary, by hash, by edges, and crosses of rows.

Letters: B examples.
"""

from collections.abc import Sequence
from typing import Any, final

import tensorflow as tf

from retrieval_contract.data.hashing import HASH_KEYS
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW

MISSING_TEXT = b"\xff"
"""Stands for a missing value of a text input: no UTF-8 text is this byte, so no value is mistaken for it. In JSON for
TensorFlow Serving it is `{"b64": "/w=="}`. An empty string is a value like any other."""


@final
class VocabularyTable(tf.Module):
    """Rows of the values that training kept; unknown and missing ones have row 1.

    A module, so that `tf.saved_model.save` finds the table wherever the object is an attribute.
    """

    def __init__(self, values: Sequence[str]) -> None:
        """Fill the table.

        Args:
            values: the vocabulary, distinct, in row order from row 2.
        """
        super().__init__()
        # With the missing value among the keys there is always one: TensorFlow refuses a table of none.
        keys = tf.constant([MISSING_TEXT, *(value.encode() for value in values)], tf.string)
        rows = tf.range(UNKNOWN_ROW, FIRST_ROW + len(values), dtype=tf.int32)
        self._table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, rows), UNKNOWN_ROW)

    def __call__(self, values: Any) -> Any:
        """Text -> rows int32 of the same shape; a ragged tensor gives a ragged one."""
        return self._table.lookup(values)


@final
class HashedRows(tf.Module):
    """Rows of hashed values: 2 + SipHash-2-4 of the UTF-8 bytes modulo the number of buckets; 1 of missing ones."""

    def __init__(self, num_buckets: int) -> None:
        """Remember the number of buckets."""
        super().__init__()
        self._num_buckets = num_buckets

    def __call__(self, values: Any) -> Any:
        """Text -> rows int32 of the same shape; a ragged tensor gives a ragged one."""
        if isinstance(values, tf.RaggedTensor):
            return values.with_flat_values(self(values.flat_values))
        buckets = tf.strings.to_hash_bucket_strong(values, self._num_buckets, key=HASH_KEYS)
        rows = tf.cast(buckets, tf.int32) + FIRST_ROW
        return tf.where(values == MISSING_TEXT, UNKNOWN_ROW, rows)


def cross_rows(parts_B: Sequence[tf.Tensor], num_buckets: int) -> tf.Tensor:
    """Rows of a cross: the parts' rows in decimal with an `x` between, hashed.

    Args:
        parts_B: rows int32 [B] of two features or more.
        num_buckets: rows behind the first two.

    Returns:
        Rows int32 [B], 2 or more: an unknown part is a part like any other.
    """
    joined_B = tf.strings.join([tf.strings.as_string(part_B) for part_B in parts_B], separator="x")
    return tf.cast(tf.strings.to_hash_bucket_strong(joined_B, num_buckets, key=HASH_KEYS), tf.int32) + FIRST_ROW


def bucket_rows(values_B: tf.Tensor, present_B: tf.Tensor, edges: Sequence[float]) -> tf.Tensor:
    """Rows of numbers: 2 + the number of edges at or below each; 1 where missing.

    Compared are whole numbers that stand in the floats' order: TensorFlow takes floats below 2.2e-308 for 0 where it
    compares, and -5e-324 would lie at an edge of 0.

    Args:
        values_B: float64 [B], infinities allowed.
        present_B: True where there is a number [B].
        edges: rising; none puts every number into row 2.
    """
    edges_in_order = _in_order(tf.constant(list(edges), tf.float64))
    places_B = tf.searchsorted(edges_in_order, _in_order(values_B), side="right")
    return tf.where(present_B, places_B + FIRST_ROW, UNKNOWN_ROW)


def _in_order(values: tf.Tensor) -> tf.Tensor:
    """int64 that compare as the float64 do, -0 as 0; NaN lies beyond the infinities."""
    bits = tf.bitcast(values, tf.int64)
    # Negative floats fall as their bits rise; the bits of -0 are the least int64.
    return tf.where(bits < 0, tf.where(bits == tf.int64.min, tf.zeros_like(bits), bits ^ tf.int64.max), bits)

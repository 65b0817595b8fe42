"""Lists of any length, in the graph: how they come in, what is kept of them, and how they are padded.

Few ops, because a single request spends its time on their number. Letters: B examples, M values of a list, L history
length.
"""

from typing import Any

import tensorflow as tf

from retrieval_contract.data.multivalent import SEPARATOR
from tfrs_models.preprocessing.rows import MISSING_TEXT

EMPTY_TEXT = ""
"""Pads lists of text that come as a rectangle [B, M]."""
EMPTY_NUMBER = -1
"""Pads lists of token ids that come as a rectangle [B, M]; so does every negative number."""


def ragged_lists(values: Any, *beside: Any) -> tuple[Any, ...]:
    """Lists in any of their forms, as ragged tensors.

    Args:
        values: a ragged tensor of one value or none a place, taken as it is; a rectangle [B, M], of which empty texts
            and negative numbers are left out wherever they stand; or texts [B] with values between `|`, of which
            empty ones are left out; a missing text is an empty list.
        beside: other lists of the same lengths, or None. Beside a rectangle they are rectangles of its shape, or
            ragged tensors as long as what is left.

    Returns:
        Ragged tensors, `values` first; None stays None. Lists of other lengths fail when the graph runs.
    """
    if isinstance(values, tf.RaggedTensor):
        return values, *(None if other is None else _alike(other, values) for other in beside)
    if values.shape.rank == 1:
        values = tf.strings.split(tf.where(values == MISSING_TEXT, EMPTY_TEXT, values), SEPARATOR)
        values = tf.ragged.boolean_mask(values, values != EMPTY_TEXT)
        return values, *(None if other is None else _alike(other, values) for other in beside)
    kept_BM = values != EMPTY_TEXT if values.dtype == tf.string else values > EMPTY_NUMBER
    places, lengths_B = tf.where(kept_BM), tf.reduce_sum(tf.cast(kept_BM, tf.int64), axis=1)
    ragged = tf.RaggedTensor.from_row_lengths(tf.gather_nd(values, places), lengths_B, validate=False)
    return ragged, *(None if other is None else _kept(other, places, ragged) for other in beside)


def padded(lists: Any, max_length: int) -> tf.Tensor:
    """The first values of each list [B, M], padded with 0 behind; M is the longest kept, at least 1."""
    longest = tf.clip_by_value(tf.reduce_max(lists.row_lengths()), 1, max_length)
    table_BM = lists.to_tensor(shape=tf.stack([tf.constant(-1, tf.int64), longest]))
    return tf.ensure_shape(table_BM, [None, None])


def windows(lists: Any, max_length: int) -> tf.Tensor:
    """Where the last values of each list lie among all values [B, L], counted from 1; 0 at padded places, behind.

    Args:
        lists: any ragged tensor of the row lengths.
        max_length: L.
    """
    ends_B1 = lists.row_splits[1:, None]
    begins_B1 = tf.maximum(lists.row_splits[:-1, None], ends_B1 - max_length)
    places_BL = begins_B1 + tf.range(max_length, dtype=tf.int64)
    return tf.where(places_BL < ends_B1, places_BL + 1, 0)


def at_windows(flat: tf.Tensor, windows_BL: tf.Tensor) -> tf.Tensor:
    """Values of the windows [B, L], 0 at padded places.

    Args:
        flat: values of all lists, end to end.
        windows_BL: from `windows`.
    """
    return tf.gather(tf.pad(flat, [[1, 0]]), windows_BL)


def _kept(other: Any, places: tf.Tensor, values: Any) -> Any:
    if isinstance(other, tf.RaggedTensor):
        return _alike(other, values)
    return values.with_flat_values(tf.gather_nd(other, places))


def _alike(other: Any, values: Any) -> Any:
    """The other lists, on the row lengths of the values: an operation on both then needs no proof of its own."""
    other = other if isinstance(other, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(other)
    same = tf.debugging.assert_equal(other.row_splits, values.row_splits, "lists that belong together differ")
    with tf.control_dependencies([same] if same is not None else []):
        return values.with_flat_values(tf.identity(other.flat_values))

"""Each distinct row of a batch encoded once: a candidate that many took stands in it as often as it was taken.

Letters: B entity rows as the batch holds them, U distinct ones, D vector width.
"""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

_Features = Mapping[str, tf.Tensor]


def encode_once(
    encode: Callable[[_Features], Sequence[tf.Tensor]], features: _Features, rows: tf.Tensor
) -> list[tf.Tensor]:
    """Encode the first of each row's copies, and give what comes out to all of them.

    Values are the encoder's own, and the gradients of copies add up before they enter it. Right where a row decides all
    of its features, and where the encoder neither draws nor looks at other rows (`combinations` refuses the others).

    Args:
        encode: features of some rows -> what they are encoded to, leading dimension theirs.
        features: by name, leading dimension B.
        rows: entity rows [B].

    Returns:
        What `encode` gives, leading dimension B.
    """
    first_U, places_B = distinct(rows)
    once = encode({name: tf.gather(values, first_U) for name, values in features.items()})
    return [tf.gather(part, places_B) for part in once]


def distinct(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each distinct row first stands [U], and which of these each row is, 0 to U - 1 [B]; both int32."""
    found_U, places_B = tf.unique(rows)
    return tf.math.unsorted_segment_min(tf.range(tf.size(rows)), places_B, tf.size(found_U)), places_B

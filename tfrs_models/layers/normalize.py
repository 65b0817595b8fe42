"""L2 normalisation."""

import tensorflow as tf

SMALLEST_SQUARE = 1e-24
"""Floor of the squared norm, so that the zero vector stays zero instead of becoming NaN."""


def l2_normalize(x_BD: tf.Tensor) -> tf.Tensor:
    """Scale each row to length 1: `x / sqrt(max(sum x^2, 1e-24))`.

    Args:
        x_BD: vectors [B, D].

    Returns:
        Vectors [B, D] of length 1; a row shorter than 1e-12 keeps its direction and is divided by 1e-12, so the zero
        vector stays zero (its gradient is then 1e12 times the incoming one).
    """
    squared_B1 = tf.reduce_sum(tf.square(x_BD), axis=-1, keepdims=True)
    # Not tf.math.l2_normalize, which multiplies by rsqrt: another rounding than the definition's.
    return x_BD / tf.sqrt(tf.maximum(squared_B1, SMALLEST_SQUARE))

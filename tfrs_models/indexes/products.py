"""Inner products of one query with all rows of a stored matrix, decoded a part at a time."""

import tensorflow as tf

CHUNK_BYTES = 16_000_000
"""Bound on the decoded part."""


def products(codes: tf.Variable, query_D: tf.Tensor) -> tf.Tensor:
    """Multiply every stored vector with a query.

    Args:
        codes: rows of one vector of width D each, or of several behind one another; of any number type.
        query_D: float32.

    Returns:
        float32, one number a stored vector.
    """
    width, dim = codes.shape[1], query_D.shape[0]
    if codes.dtype == tf.float32:
        return tf.linalg.matvec(tf.reshape(codes, [-1, dim]), query_D)
    chunk = max(1, CHUNK_BYTES // (4 * width))
    num_chunks = -(-codes.shape[0] // chunk)
    parts = tf.TensorArray(tf.float32, num_chunks, infer_shape=False, element_shape=[None])

    def add(place: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        values_SD = tf.reshape(tf.cast(codes[place * chunk : (place + 1) * chunk], tf.float32), [-1, dim])
        return place + 1, parts.write(place, tf.linalg.matvec(values_SD, query_D))

    return tf.while_loop(lambda place, _: place < num_chunks, add, [0, parts], parallel_iterations=1)[1].concat()
